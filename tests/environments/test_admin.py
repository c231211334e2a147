"""The administration of targets: what it shows, what it does, and that it never shows a credential."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import NoReverseMatch, reverse
from django.utils import timezone

from environments.models import BuildStatus, ComputeTarget, Lease
from runs.models import Run
from studio.accounts.models import Token, User
from studio.models import AuditEvent
from studio.workspaces.models import Membership, Role, Secret, Workspace
from tests.runs.factory import make_build, make_run, make_target, make_version

LIST = "/admin/environments/computetarget/"
KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nplanted-key\n-----END OPENSSH PRIVATE KEY-----\n"
PLANTED = ("planted-password", "planted-key", "planted-phrase", "planted-next", "planted-value")


@pytest.fixture
def root(db: None) -> User:
    return User.objects.create_superuser("root@example.test", "x")


@pytest.fixture
def admin(root: User, client_of: Any) -> Client:
    return client_of(root)


@pytest.fixture
def remote(workspace: Workspace) -> ComputeTarget:
    options = {"root": "~/.runstead", "ssh": {"host": "203.0.113.7", "port": 22, "user": "ml", "host_key": ""}}
    target = make_target(workspace, "gpu-box", transport="ssh", options=options, slots=2, facts={"gpus": [{}, {}]})
    target.set_credentials(
        {"password": "planted-password", "private_key": KEY, "passphrase": "planted-phrase", "next_private_key": "planted-next"}
    )  # fmt: skip
    target.save()
    return target


def do(client: Client, target: ComputeTarget, name: str) -> Any:
    return client.post(f"{LIST}{target.pk}/do/{name}/", follow=True)


def text(response: Any) -> str:
    return response.content.decode()


def test_a_row_says_how_a_target_is_and_links_to_its_page(admin: Client, remote: ComputeTarget) -> None:
    make_run(remote.workspace, target=remote, status="Running", launched=True, granted={"gpus": ["0"]}, gpus=1)
    make_run(remote.workspace, target=remote, status="Queued")
    page = text(admin.get(LIST))
    for words in ("gpu-box", "Online", "Remote machine (ssh × process)", "1 of 2 busy", "/vision/compute/gpu-box"):
        assert words in page
    ComputeTarget.objects.update(quarantined_at=timezone.now(), quarantine_reason="5 runs failed there")
    assert "Quarantined" in text(admin.get(LIST))
    assert "5 runs failed there" in text(admin.get(f"{LIST}{remote.pk}/change/"))


def test_drafts_and_detached_targets_are_not_listed(admin: Client, remote: ComputeTarget) -> None:
    for fields in ({"attached_at": None}, {"detached_at": timezone.now()}):
        ComputeTarget.objects.filter(pk=remote.pk).update(**fields)
        assert "gpu-box" not in text(admin.get(LIST))
        assert do(admin, remote, "drain").status_code == 404
        ComputeTarget.objects.filter(pk=remote.pk).update(attached_at=timezone.now(), detached_at=None)


def test_drain_and_resume_are_done_noted_and_lift_a_quarantine(
    admin: Client, remote: ComputeTarget, root: User
) -> None:
    do(admin, remote, "drain")
    remote.refresh_from_db()
    assert not remote.enabled
    ComputeTarget.objects.update(quarantined_at=timezone.now(), quarantine_reason="why", failures=[{}])
    admin.post(LIST, {"action": "resume_all", "_selected_action": [remote.pk]})
    remote.refresh_from_db()
    assert remote.enabled and remote.quarantined_at is None and remote.failures == []
    said = [(event.user, event.action, event.subject) for event in AuditEvent.objects.order_by("pk")]
    assert said == [(root, "target.drain", "gpu-box"), (root, "target.resume", "gpu-box")]


def test_what_changes_something_needs_a_post_a_token_and_the_permission(
    admin: Client, root: User, remote: ComputeTarget, client_of: Any, person: Any
) -> None:
    address = f"{LIST}{remote.pk}/do/drain/"
    assert admin.get(address).status_code == 405
    strict = client_of(root, enforce_csrf_checks=True)
    assert strict.post(address).status_code == 403
    staff = client_of(person(None, "staff@example.test", is_staff=True))
    assert staff.post(address).status_code == 403
    owner = client_of(person(Role.OWNER))
    assert owner.post(address).status_code in {302, 403, 404}
    remote.refresh_from_db()
    assert remote.enabled and not AuditEvent.objects.exists()


def test_a_target_is_neither_added_changed_nor_deleted_here(admin: Client, remote: ComputeTarget) -> None:
    assert admin.get(f"{LIST}add/").status_code == 403
    assert admin.post(f"{LIST}{remote.pk}/change/", {"name": "other"}).status_code == 403
    assert admin.post(f"{LIST}{remote.pk}/delete/").status_code == 403
    assert ComputeTarget.objects.get().name == "gpu-box"


def test_an_owner_is_led_to_the_wizard(admin: Client, root: User, workspace: Workspace) -> None:
    make_target(workspace)
    assert "/vision/compute/attach" not in text(admin.get(LIST))
    Membership.objects.create(workspace=workspace, user=root, role=Role.OWNER)
    assert "/vision/compute/attach" in text(admin.get(LIST))


def test_the_test_says_what_failed_and_what_to_do(admin: Client, workspace: Workspace) -> None:
    target = make_target(workspace, "away", transport="ssh", options={
        "root": "~/.runstead", "ssh": {"host": "127.0.0.1", "port": 1, "user": "ml", "host_key": ""},
    })  # fmt: skip
    page = text(do(admin, target, "test"))
    assert "away: Connection:" in page


def test_rotating_shows_the_public_line_first_and_keeps_the_old_key_when_the_new_one_is_refused(
    admin: Client, workspace: Workspace
) -> None:
    target = make_target(workspace, "away", transport="ssh", options={
        "root": "~/.runstead", "ssh": {"host": "127.0.0.1", "port": 1, "user": "ml", "host_key": ""},
    })  # fmt: skip
    target.set_credentials({"password": "planted-password"})
    target.save()
    page = text(do(admin, target, "rotate"))
    assert "ssh-ed25519 AAAA" in page and "Use the new key" in page
    assert "PRIVATE KEY" not in page
    page = text(do(admin, target, "rotate"))
    assert "The old key stays in use." in page
    target.refresh_from_db()
    assert target.get_credentials()["password"] == "planted-password"


def test_builds_are_retried_and_cancelled(admin: Client, remote: ComputeTarget) -> None:
    failed = make_build(remote, make_version(None, "a"), BuildStatus.FAILED, error="no wheel")
    waits = make_build(remote, make_version(None, "b"), BuildStatus.WAITING)
    address = "/admin/environments/build/"
    admin.post(address, {"action": "retry_all", "_selected_action": [failed.pk]})
    admin.post(address, {"action": "cancel_all", "_selected_action": [waits.pk]})
    failed.refresh_from_db()
    waits.refresh_from_db()
    assert (failed.status, waits.status) == (BuildStatus.WAITING, BuildStatus.FAILED)


def test_the_first_page_says_what_needs_attention(admin: Client, remote: ComputeTarget) -> None:
    assert "Every target answers" in text(admin.get("/admin/"))
    make_target(remote.workspace, "full", facts={"disk": {"total": 10**12, "free": 10**9}})
    make_target(remote.workspace, "gone", unreachable_since=timezone.now(), last_error="no route to host")
    make_target(remote.workspace, "bad", quarantined_at=timezone.now(), quarantine_reason="5 runs failed there")
    make_build(remote, make_version(None, "torch"), BuildStatus.FAILED, error="no wheel")
    page = text(admin.get("/admin/"))
    for words in ("nearly full", "Not reachable: no route to host", "Quarantined: 5 runs failed there",
                  "torch:1 on gpu-box", "The build failed: no wheel", "/vision/compute/gone"):  # fmt: skip
        assert words in page


def pages() -> list[str]:
    """Every list and form of the administration."""
    from django.contrib import admin as site

    found = ["/admin/"]
    for model in site.site._registry:
        base = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        found.append(reverse(f"{base}_changelist"))
        for row in model._default_manager.all()[:3]:
            found += [reverse(f"{base}_{what}", args=[row.pk]) for what in ("change", "history")]
        for what in ("add",):
            try:
                found.append(reverse(f"{base}_{what}"))
            except NoReverseMatch:
                continue
    return found


def test_no_page_of_the_administration_shows_a_credential_and_nobody_but_staff_opens_one(
    admin: Client, root: User, remote: ComputeTarget, owner: User, client_of: Any
) -> None:
    secret = Secret(workspace=remote.workspace, name="TOKEN", created_by=root)
    secret.seal("planted-value")
    secret.save()
    _, token = Token.issue(user=root, workspace=remote.workspace, name="planted")
    make_build(remote, make_version(None))
    run: Run = make_run(remote.workspace, target=remote)
    Lease.objects.create(target=remote, owner="here", token=1, expires_at=timezone.now() + timedelta(seconds=5))
    AuditEvent.objects.create(workspace=remote.workspace, user=owner, action="run.cancel", subject=str(run))
    addresses = pages()
    assert len(addresses) > 30
    visitors = [client_of(owner), client_of(None)]
    opened = 0
    for address in addresses:
        response = admin.get(address, follow=True)
        assert response.status_code in {200, 403}, address
        opened += response.status_code == 200
        page = text(response)
        for planted in (*PLANTED, token, "ssh_private"):
            assert planted not in page, f"{address} shows {planted}"
        for visitor in visitors:
            assert visitor.get(address).status_code in {302, 403, 404}, address
    assert opened > 20
