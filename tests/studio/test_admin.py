"""People and workspaces in the administration, and the audit of what was done."""

from typing import Any

import pytest
from django.test import Client

from runs import submission
from runs.status import RunStatus
from studio.accounts.models import Token, User
from studio.models import AuditEvent
from studio.workspaces.models import Membership, Role, Workspace
from tests.runs.factory import make_run, make_target, make_version

PEOPLE = "/admin/accounts/user/"


@pytest.fixture
def root(db: None) -> User:
    return User.objects.create_superuser("root@example.test", "x", name="Ruth Root")


@pytest.fixture
def admin(root: User, client_of: Any) -> Client:
    return client_of(root)


def act(client: Client, action: str, *people: User) -> Any:
    return client.post(PEOPLE, {"action": action, "_selected_action": [user.pk for user in people]}, follow=True)


def lines() -> list[str]:
    """The audit in order: who, what, of what, in which words."""
    return [
        f"{event.user.email if event.user else '-'} {event.action} {event.subject} {event.detail}".strip()
        for event in AuditEvent.objects.select_related("user").order_by("pk")
    ]


# -- people


def test_whoever_is_deactivated_is_out_at_once_and_for_good(
    admin: Client, owner: User, owner_client: Client, workspace: Workspace
) -> None:
    _, secret = Token.issue(user=owner, workspace=workspace, name="ci")
    program = Client(headers={"Authorization": f"Bearer {secret}"})
    assert owner_client.get("/vision/").status_code == 200
    assert program.get("/api/v1/vision/runs").status_code == 200
    act(admin, "deactivate", owner)
    assert owner_client.get("/vision/").status_code == 302
    assert program.get("/api/v1/vision/runs").status_code == 401
    act(admin, "activate", owner)
    assert owner_client.get("/vision/").status_code == 302, "an old session lives again"
    assert program.get("/api/v1/vision/runs").status_code == 401
    assert lines() == [
        "root@example.test user.deactivate owner@example.test with 1 sessions and 1 tokens",
        "root@example.test user.activate owner@example.test",
    ]


def test_an_administrator_cannot_shut_out_themselves_or_the_last_one(admin: Client, root: User) -> None:
    assert "You cannot deactivate yourself" in act(admin, "deactivate", root).content.decode()
    root.refresh_from_db()
    assert root.is_active and not AuditEvent.objects.exists()


def test_only_administrators_make_administrators_and_their_links(client_of: Any, person: Any, root: User) -> None:
    from django.contrib.auth.models import Permission

    helper = person(None, "helper@example.test", is_staff=True)
    helper.user_permissions.set(Permission.objects.filter(content_type__app_label="accounts"))
    client = client_of(helper)
    client.post(f"{PEOPLE}{helper.pk}/change/", {"email": helper.email, "is_superuser": "on", "is_staff": "on"})
    helper.refresh_from_db()
    assert not helper.is_superuser
    page = act(client, "make_link", root).content.decode()
    assert "only another one makes a link" in page and "/sign-in/" not in page


def test_people_are_made_without_a_password_let_in_by_a_link_and_never_deleted(admin: Client, owner: User) -> None:
    admin.post(f"{PEOPLE}add/", {"email": "New@Example.test", "name": "Nia New"})
    made = User.objects.get(email="new@example.test")
    assert not made.has_usable_password() and made.is_active
    assert "/sign-in/" in act(admin, "make_link", made).content.decode()
    assert admin.post(f"{PEOPLE}{owner.pk}/delete/").status_code == 403
    assert [line.split()[1] for line in lines()] == ["user.create", "user.link"]


# -- workspaces


def members_form(workspace: Workspace, *rows: dict[str, Any]) -> dict[str, Any]:
    data = {"name": workspace.name, "memberships-TOTAL_FORMS": len(rows), "memberships-INITIAL_FORMS": len(rows)}
    for number, row in enumerate(rows):
        data |= {f"memberships-{number}-{name}": value for name, value in row.items()}
    return data


def test_members_are_changed_by_the_rules_of_the_settings(
    admin: Client, workspace: Workspace, owner: User, reader: User
) -> None:
    first, second = Membership.objects.get(user=owner), Membership.objects.get(user=reader)
    base = {"workspace": workspace.pk}
    rows = [
        {**base, "id": first.pk, "user": owner.pk, "role": "owner"},
        {**base, "id": second.pk, "user": reader.pk, "role": "contributor"},
    ]
    address = f"/admin/workspaces/workspace/{workspace.pk}/change/"
    assert admin.post(address, members_form(workspace, *rows)).status_code == 302
    second.refresh_from_db()
    assert second.role == Role.CONTRIBUTOR
    rows[0]["role"] = "reader"
    page = admin.post(address, members_form(workspace, *rows), follow=True).content.decode()
    assert "This is the last owner." in page
    first.refresh_from_db()
    assert first.role == Role.OWNER
    assert lines() == ["root@example.test member.change reader@example.test reader → contributor"]


# -- the audit


def test_what_others_depend_on_leaves_a_line_and_no_secret(
    owner_client: Client, owner: User, contributor: User, workspace: Workspace
) -> None:
    def post(address: str, **data: Any) -> None:
        response = owner_client.post(f"/vision/{address}", data)
        assert response.status_code in {200, 302}, response.content.decode()[:500]

    post("settings/members", email="new@example.test", role="reader")
    member = Membership.objects.get(user__email="new@example.test")
    post(f"settings/members/{member.pk}", role="contributor")
    post(f"settings/members/{member.pk}/remove")
    post("settings/tokens", name="ci", scope="reader", life="")
    post(f"settings/tokens/{Token.objects.get().pk}/revoke")
    post("settings/secrets", name="HF", value="planted-value")
    post("settings/secrets", name="HF", value="planted-value-2")
    post(f"settings/secrets/{workspace.secrets.get().pk}/delete")
    version = make_version(workspace, "torch")
    post(f"environments/{version.environment.name}/archive")
    run = make_run(workspace, created_by=contributor, status=RunStatus.NOT_STARTED, name="theirs")
    own = make_run(workspace, created_by=owner, status=RunStatus.NOT_STARTED, name="own")
    assert submission.cancel(run, owner) and submission.cancel(own, owner)
    post("settings/general", name="Vision", slug="seeing")
    found = [line.removeprefix("owner@example.test ") for line in lines()]
    assert found == [
        "user.create new@example.test",
        "member.add new@example.test reader",
        "member.change new@example.test reader → contributor",
        "member.remove new@example.test",
        "token.create ci reader, without an end",
        "token.revoke ci",
        "secret.create HF",
        "secret.change HF",
        "secret.delete HF",
        "environment.archive torch",
        f"run.cancel {run} of Cora Contributor",
        "workspace.rename seeing Vision at vision → Vision at seeing",
    ]
    assert not any("planted" in line for line in lines())


def test_the_audit_is_read_filtered_and_never_written(admin: Client, workspace: Workspace, root: User) -> None:
    make_target(workspace)
    event = AuditEvent.objects.create(
        workspace=workspace, action="target.quarantine", subject="box", detail="<b>why</b>"
    )
    other = AuditEvent.objects.create(workspace=None, user=root, action="user.create", subject="someone")
    address = "/admin/studio/auditevent/"
    page = admin.get(address).content.decode()
    assert "The studio" in page and "&lt;b&gt;why&lt;/b&gt;" in page and "<b>why</b>" not in page
    filtered = admin.get(address, {"action": "user.create"}).content.decode()
    assert f"/{other.pk}/change/" in filtered and f"/{event.pk}/change/" not in filtered
    assert f"/{event.pk}/change/" in admin.get(address, {"workspace__id__exact": workspace.pk}).content.decode()
    assert admin.get(f"{address}?q=box").status_code == 200
    for what in ("add/", f"{event.pk}/delete/"):
        assert admin.post(address + what).status_code == 403
    assert admin.post(f"{address}{event.pk}/change/", {"action": "x"}).status_code == 403
