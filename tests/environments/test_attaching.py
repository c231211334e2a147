"""Attaching, editing and detaching as functions: what is refused, what is kept, what is written down, what a bell is rung for."""

import copy
from pathlib import Path

import pytest

from environments import attaching, doctor
from environments.attaching import Refused
from environments.models import Build, ComputeTarget
from environments.transports import keys
from runs import detaching
from runs.config import ConfigError, ScriptRunConfig
from runs.house import waiting_targets
from runs.models import Run
from runs.status import EndReason, RunStatus
from runs.submission import submit
from studio.models import AuditEvent
from tests.environments.docker_engine import engine_or_skip
from tests.environments.sshd import server
from tests.runs import factory

pytestmark = pytest.mark.django_db
PLACE = "/tmp/runstead-attaching"
OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA5mYsmvn7rXVSKBIRez73SA/nUaDk0bkRclG8elSCQ5"


@pytest.fixture(scope="module")
def sshd():
    with server(Path(PLACE), 2264, "movehost") as found:
        yield found


@pytest.fixture
def box(workspace, owner, sshd) -> ComputeTarget:
    target = attaching.begin(workspace, owner)
    attaching.update(
        target, owner, name="box", transport="ssh", launcher="process", options=sshd.options(),
        credentials={"private_key": sshd.private_key}, slots=2,
    )  # fmt: skip
    doctor.examine(target)
    return attaching.finish(target, owner)


def refused(function, *args, **fields) -> dict[str, str]:
    with pytest.raises(Refused) as caught:
        function(*args, **fields)
    return caught.value.errors


def actions() -> list[str]:
    return list(AuditEvent.objects.order_by("pk").values_list("action", flat=True))


def test_a_draft_is_attached_when_its_test_has_passed(box):
    box.refresh_from_db()
    assert box.attached_at
    assert box.slots == 2
    assert actions() == ["target.attach"]
    assert ComputeTarget.objects.attached().get() == box


def test_a_change_after_the_test_asks_for_another_one(workspace, owner, sshd):
    target = attaching.begin(workspace, owner)
    attaching.update(target, owner, name="box", options=sshd.options(), credentials={"private_key": sshd.private_key})
    assert "test" in refused(attaching.finish, target, owner)
    doctor.examine(target)
    attaching.update(target, owner, options={"ssh": {"user": "other"}})
    assert "not tested since" in refused(attaching.finish, target, owner)["test"]


def test_nothing_is_attached_without_a_way_to_sign_in(workspace, owner, sshd):
    target = attaching.begin(workspace, owner)
    attaching.update(target, owner, name="box", options=sshd.options())
    assert "access" in refused(attaching.finish, target, owner, anyway=True)


@pytest.mark.parametrize("name", ["", "attach", "NEW", "a b", "-x", "x" * 256, "ümlaut"])
def test_names_that_a_target_cannot_have(workspace, owner, name):
    target = attaching.begin(workspace, owner)
    attaching.update(target, owner, transport="local")
    target.name = name
    assert "name" in refused(attaching.finish, target, owner, anyway=True)


def test_a_name_is_taken_whatever_its_case(box, workspace, owner):
    target = attaching.begin(workspace, owner)
    assert "attached already" in refused(attaching.update, target, owner, name="BOX")["name"]


def test_an_edit_is_refused_as_a_whole(box, owner):
    errors = refused(attaching.update, box, owner, name="other", options={"ssh": {"port": 0}}, slots=0)
    assert set(errors) == {"ssh.port", "slots"}
    box.refresh_from_db()
    assert (box.name, box.slots) == ("box", 2)
    assert box.options["ssh"]["port"] != 0


def test_an_edit_says_what_changed_and_rings(box, owner, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks() as rung:
        attaching.update(box, owner, options={"root": "~/elsewhere"}, slots=5)
    assert rung
    line = AuditEvent.objects.get(action="target.edit")
    assert "root: ~/.runstead → ~/elsewhere" in line.detail
    assert "slots: 2 → 5" in line.detail
    box.refresh_from_db()
    assert box.checked_at is None


def test_an_edit_that_changes_nothing_writes_nothing(box, owner):
    attaching.update(box, owner, name="box", options=box.options, slots=2)
    assert actions() == ["target.attach"]
    box.refresh_from_db()
    assert box.checked_at


def test_another_address_asks_for_its_host_key_again(box, owner):
    attaching.update(box, owner, options={"ssh": {"host": "other.example"}})
    assert box.options["ssh"]["host_key"] == ""
    attaching.confirm_host_key(box, owner, OTHER + " comment")
    assert box.options["ssh"]["host_key"] == OTHER
    assert "SHA256:" in AuditEvent.objects.get(action="target.host_key").detail


def test_transport_and_launcher_stay_once_attached(box, owner):
    assert set(refused(attaching.update, box, owner, transport="local", launcher="docker")) >= {"transport", "launcher"}


def test_secrets_are_kept_when_nothing_is_given_and_are_never_written_down(box, owner, sshd):
    attaching.update(box, owner, credentials={"password": "planted-secret", "private_key": ""})
    assert box.get_credentials()["private_key"] == sshd.private_key
    attaching.update(box, owner, credentials={"password": None})
    assert "password" not in box.get_credentials()
    box.refresh_from_db()
    assert b"planted-secret" not in bytes(box.credentials or b"")
    assert "planted-secret" not in "".join(AuditEvent.objects.values_list("detail", flat=True))
    assert list(refused(attaching.update, box, owner, credentials={"token": "x"})) == ["token"]


def test_keys_of_storage_among_spark_settings_are_not_in_the_audit(box, owner):
    for value in ("planted-one", "planted-two"):
        conf = {"spark.hadoop.fs.azure.account.key.logs.blob.core.windows.net": value, "spark.executor.memory": value}
        spark = {"master": "spark://one.example:7077", "conf": conf, "variables": {"AWS_SECRET_ACCESS_KEY": value}}
        attaching.update(box, owner, options={"spark": spark})
    details = AuditEvent.objects.filter(action="target.edit").order_by("pk").values_list("detail", flat=True)
    assert "spark.executor.memory: planted-one → planted-two" in details.last()
    assert "account.key.logs.blob.core.windows.net: (hidden) → (hidden)" in details.last()
    assert "AWS_SECRET_ACCESS_KEY: (hidden) → (hidden)" in details.last()
    assert details.last().count("planted") == 2


def test_a_new_key_is_used_only_after_it_has_worked(box, owner, sshd):
    before = box.get_credentials()["private_key"]
    line = attaching.make_key(box, owner)
    assert attaching.make_key(box, owner) == line
    assert "old key stays" in refused(attaching.use_new_key, box, owner)["key"]
    box.refresh_from_db()
    assert box.get_credentials()["private_key"] == before
    assert box.unreachable_since is None
    kept = sshd.authorized.read_text()
    try:
        sshd.authorized.write_text(line + "\n")
        attaching.use_new_key(box, owner)
        assert keys.public_line(box.get_credentials()["private_key"]) == line
        assert attaching.next_key(box) == ""
        assert doctor.examine(box)[-1].ok
    finally:
        sshd.authorized.write_text(kept)


def test_draining_and_resuming_lifts_a_quarantine(box, owner):
    attaching.set_enabled(box, owner, False)
    box.refresh_from_db()
    assert not box.enabled
    ComputeTarget.objects.filter(pk=box.pk).update(quarantined_at=box.created_at, quarantine_reason="five in a row")
    box.refresh_from_db()
    attaching.set_enabled(box, owner, True)
    box.refresh_from_db()
    assert (box.enabled, box.quarantined_at, box.quarantine_reason) == (True, None, "")
    assert "five in a row" in AuditEvent.objects.get(action="target.resume").detail


def test_detaching_wipes_the_credentials_and_keeps_the_row(box, owner):
    attaching.detach(box, owner)
    box.refresh_from_db()
    assert box.detached_at
    assert box.credentials is None
    assert not ComputeTarget.objects.attached().exists()
    assert "target" in refused(attaching.detach, box, owner)
    assert "detached" in refused(attaching.update, box, owner, slots=1)["name"]


def test_nothing_is_left_that_an_attendant_of_a_detached_target_would_wait_for(box, owner, workspace):
    snapshot = factory.make_snapshot(workspace, {"train.py": b""})
    build = Build.objects.create(target=box, key="1" * 64, version=factory.make_version(None), status="Building")
    stale = copy.copy(box)  # as a request holds it that has begun before
    assert waiting_targets() == {box.pk}
    attaching.detach(box, owner)
    build.refresh_from_db()
    assert (build.status, build.error) == ("Failed", "Its target was detached.")
    with pytest.raises(ConfigError, match="was detached"):
        submit(
            workspace=workspace, user=owner, experiment="late", target=stale, environment=factory.make_version(None),
            snapshot=snapshot, config=ScriptRunConfig(script="train.py"),
        )  # fmt: skip
    assert waiting_targets() == set()


def test_the_name_of_a_detached_target_is_free_again(box, owner, workspace):
    attaching.detach(box, owner)
    again = attaching.begin(workspace, owner)
    attaching.update(again, owner, name="box", transport="local")
    attaching.finish(again, owner, anyway=True)


@pytest.fixture
def live(box, workspace, owner) -> Run:
    run = factory.make_run(workspace, target=box, created_by=owner)
    run.move_to(RunStatus.PREPARING)
    run.move_to(RunStatus.QUEUED, launched=True)
    run.move_to(RunStatus.RUNNING)
    return run


def test_live_runs_are_in_the_way_of_detaching(box, owner, live):
    assert "1 run has not ended" in refused(detaching.detach, box, owner)["runs"]
    assert "answers" in refused(detaching.detach, box, owner, "abandon")["runs"]
    assert not detaching.detach(box, owner, "cancel")
    live.refresh_from_db()
    box.refresh_from_db()
    assert live.status == RunStatus.CANCEL_REQUESTED
    assert (box.enabled, box.detached_at) == (False, None)


def test_runs_on_a_machine_that_is_gone_are_given_up(box, owner, live):
    waiting = factory.make_run(live.workspace, target=box, created_by=owner)
    ComputeTarget.objects.filter(pk=box.pk).update(unreachable_since=box.created_at)
    box.refresh_from_db()
    assert detaching.detach(box, owner, "abandon")
    live.refresh_from_db()
    waiting.refresh_from_db()
    assert (live.status, live.reason) == (RunStatus.FAILED, EndReason.SUPERVISOR_LOST)
    assert "did not answer" in live.error["message"]
    assert waiting.status == RunStatus.CANCELED
    box.refresh_from_db()
    assert box.detached_at


def test_old_drafts_of_a_person_go(workspace, owner):
    made = [attaching.begin(workspace, owner).pk for _ in range(attaching.DRAFTS_KEPT + 3)]
    left = set(ComputeTarget.objects.values_list("pk", flat=True))
    assert left == set(made[3:])


def test_this_machines_engine_is_attached_with_one_press(workspace, owner, owner_client, contributor, settings):
    engine_or_skip()
    ComputeTarget.objects.create(workspace=workspace, name="local", slots=3)
    assert b"Attach local-docker" in owner_client.get("/vision/compute").content
    assert owner_client.post("/vision/compute/attach/containers").status_code == 302
    target = ComputeTarget.objects.attached().get(name="local-docker")
    assert (target.transport, target.launcher, target.slots) == ("local", "docker", 3)
    assert b"Attach local-docker" not in owner_client.get("/vision/compute").content
    page = owner_client.get("/vision/runs/new?empty").content.decode()
    assert 'value="local-docker" checked' in page
