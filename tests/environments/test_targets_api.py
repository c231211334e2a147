"""Compute targets over the REST API, against a real SSH server: attach in one call, test, change, drain, keys, detach."""

import json
from pathlib import Path

import pytest
from django.utils import timezone

from environments import attaching
from environments.models import ComputeTarget
from environments.transports import keys
from environments.transports.connection import fingerprint
from runs.models import Run
from runs.status import RunStatus
from studio.accounts.models import Token
from studio.models import AuditEvent
from studio.workspaces.models import Role
from tests.environments.sshd import server
from tests.runs import factory

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def sshd():
    with server(Path("/tmp/runstead-targets-api"), 2265, "apihost") as found:
        yield found


@pytest.fixture
def api(owner_client, workspace):
    return Api(owner_client, workspace.slug)


class Api:
    def __init__(self, client, slug):
        self.client, self.base = client, f"/api/v1/{slug}/targets"

    def __call__(self, method, path="", body=None, status=200, **more):
        data = {} if method == "get" else {"data": json.dumps(body) if body else "", "content_type": "application/json"}
        answer = getattr(self.client, method)(self.base + path, **data, **more)
        assert answer.status_code == status, answer.content.decode()
        return answer.json()


@pytest.fixture
def wanted(sshd):
    """A body that attaches the server's machine at once."""
    options = sshd.options()
    shown = fingerprint(options["ssh"].pop("host_key")).split()[-1]
    return {
        "name": "box", "transport": "ssh", "launcher": "process", "options": options,
        "credentials": {"private_key": sshd.private_key}, "fingerprint": shown,
    }  # fmt: skip


@pytest.fixture
def here(workspace):
    return factory.make_target(workspace, "here", slots=3)


def run_on(target, status=RunStatus.QUEUED, launched=False):
    run = factory.make_run(target.workspace, target=target)
    Run.objects.filter(pk=run.pk).update(status=status, launched=launched)
    return run


# -- attach


def test_a_machine_is_attached_in_one_call_and_described_without_its_secrets(api, wanted, sshd, owner):
    found = api("post", body=wanted, status=201)
    target = ComputeTarget.objects.attached().get(name="box")
    assert (found["kind"], found["type"], found["health"]) == ("Remote machine", "ssh/process", "Online")
    assert target.options["ssh"]["host_key"] == sshd.host_key
    assert found["host_keys"]["host"].endswith(wanted["fingerprint"])
    assert found["facts"]["cpus"] >= 1 and found["slots"] == max(1, found["facts"]["cpus"] // 2)
    assert all(step["ok"] for step in found["steps"] if step["needed"]) and len(found["steps"]) > 8
    assert found["credentials"] == ["private_key"]
    assert "PRIVATE KEY" not in json.dumps([found, api("get"), api("get", "/box")])
    assert list(AuditEvent.objects.filter(subject="box").values_list("action", flat=True)) == ["target.attach"]


def test_without_a_fingerprint_the_answer_names_the_one_found_and_nothing_stays(api, wanted, sshd):
    shown = wanted.pop("fingerprint")
    found = api("post", body=wanted, status=409)
    assert found["fingerprint"] == shown and found["host_key"] == sshd.host_key and found["code"] == "host_key"
    assert f"fingerprint={shown}" in found["detail"]
    assert not ComputeTarget.objects.exists()


def test_another_fingerprint_than_the_one_shown_stops_it(api, wanted):
    wanted["fingerprint"] = "SHA256:" + "A" * 43
    found = api("post", body=wanted, status=409)
    assert "somebody stands between" in found["detail"] and wanted["fingerprint"] in found["detail"]
    assert not ComputeTarget.objects.exists()


@pytest.mark.parametrize("form", ["SHA256:x", "x", "ssh-ed25519 SHA256:x", "the key", "pinned"])
def test_a_key_may_be_vouched_for_in_any_of_the_forms_people_have_it_in(api, wanted, sshd, form):
    shown = wanted.pop("fingerprint").removeprefix("SHA256:")
    if form == "pinned":
        wanted["options"]["ssh"]["host_key"] = sshd.host_key
    else:
        wanted["fingerprint"] = sshd.host_key if form == "the key" else form.replace("x", shown)
    api("post", body=wanted, status=201)


def test_a_repeated_call_finds_the_target_of_the_first(api, wanted):
    api("post", body=wanted, status=201)
    assert api("post", body=wanted, status=200)["name"] == "box"
    assert ComputeTarget.objects.count() == 1
    wanted["options"]["ssh"]["user"] = "somebody"
    assert "attached already" in api("post", body=wanted, status=422)["detail"]


def test_a_failed_test_attaches_nothing_and_tells_every_step(api, wanted):
    other, _ = keys.make_key()
    wanted["credentials"] = {"private_key": other}
    found = api("post", body=wanted, status=422)
    assert found["steps"][-1]["title"] == "Sign-in" and not found["steps"][-1]["ok"]
    assert "authorized_keys" in found["errors"][0]["fix"]
    assert not ComputeTarget.objects.exists()
    assert api("post", body={**wanted, "anyway": True}, status=201)["credentials"] == ["private_key"]


def test_the_key_that_the_studio_made_stays_the_same_until_it_is_installed(api, wanted, sshd):
    wanted["credentials"] = {}
    before = sshd.authorized.read_text()
    first = api("post", body=wanted, status=422)
    again = api("post", body=wanted, status=422)
    assert first["public_key"] == again["public_key"] and first["public_key"] in first["detail"]
    try:
        with sshd.authorized.open("a") as file:
            file.write(first["public_key"] + "\n")
        found = api("post", body=wanted, status=201)
    finally:
        sshd.authorized.write_text(before)
    assert found["public_key"] == first["public_key"] and found["credentials"] == ["private_key"]
    assert ComputeTarget.objects.count() == 1


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "attach"}, "name"),
        ({"options": {"ssh": {"host": "-oProxyCommand=x", "user": "u"}}}, "ssh.host"),
        ({"options": {"ssh": {"host": "h", "user": "a`b`"}}}, "ssh.user"),
        ({"options": {"ssh": {"host": "h", "user": "u", "port": 70000}}}, "ssh.port"),
        ({"options": {}}, "ssh.host"),
        ({"options": {"root": "/a/../b", "ssh": {"host": "h", "user": "u"}}}, "root"),
        ({"launcher": "rocket"}, "launcher"),
        ({"credentials": {"private_key": "nonsense"}}, "private_key"),
        ({"credentials": {"pin": "1234"}}, "pin"),
        ({"slots": 0}, "slots"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_bad_input_is_refused_by_field_before_anybody_connects(api, wanted, change, field):
    found = api("post", body={**wanted, **change}, status=422)
    assert any(error["field"] == field and len(error["rule"] + error["fix"]) > 20 for error in found["errors"]), found
    assert not ComputeTarget.objects.exists()


# -- look, test, change


def test_a_target_is_told_with_its_runs_quarantine_and_health(api, here):
    run_on(here, RunStatus.RUNNING, launched=True)
    run_on(here)
    ComputeTarget.objects.filter(pk=here.pk).update(
        quarantined_at=timezone.now(), quarantine_reason="Five runs failed", unreachable_since=timezone.now()
    )
    found = api("get", "/here")
    assert (found["running"], found["waiting"], found["slots"]) == (1, 1, 3)
    assert found["quarantine_reason"] == "Five runs failed" and found["health"] == "Not reachable"
    assert "here" in [row["name"] for row in api("get")["targets"]]


def test_the_test_can_be_run_again_and_pins_a_changed_host_key_for_an_owner_only(
    api, wanted, sshd, workspace, client_of, contributor
):
    api("post", body=wanted, status=201)
    target = ComputeTarget.objects.get(name="box")
    target.options["ssh"]["host_key"] = keys.make_key()[1].rsplit(" ", 1)[0]
    target.save()
    found = api("post", "/box/test")
    assert not found["passed"] and found["steps"][-1]["title"] == "Host key"
    trust = {"fingerprint": wanted["fingerprint"]}
    mere = Api(client_of(contributor), workspace.slug)
    assert "owner" in mere("post", "/box/test", trust, status=403)["detail"]
    assert api("post", "/box/test", trust)["passed"]
    target.refresh_from_db()
    assert target.options["ssh"]["host_key"] == sshd.host_key
    assert mere("post", "/box/test")["passed"]


def test_a_change_merges_options_and_says_what_is_wrong(api, wanted):
    api("post", body=wanted, status=201)
    found = api("patch", "/box", {"slots": 7, "gpu_slots": 2, "options": {"cleaning": {"keep_days": 3}}})
    assert (found["slots"], found["gpus"], found["options"]["cleaning"]["keep_days"]) == (7, 2, 3)
    assert found["options"]["ssh"]["user"] == wanted["options"]["ssh"]["user"]
    assert api("patch", "/box", {"gpu_slots": None})["gpus"] == len(found["facts"].get("gpus") or [])
    assert api("patch", "/box", {"slots": -1}, status=422)["errors"][0]["field"] == "slots"
    moved = api("patch", "/box", {"options": {"ssh": {"port": 2299}}})
    assert moved["host_keys"] == {} and moved["checked_at"] is None


def test_drain_and_resume_which_lifts_a_quarantine(api, here):
    assert api("post", "/here/drain")["enabled"] is False
    ComputeTarget.objects.filter(pk=here.pk).update(quarantined_at=timezone.now(), quarantine_reason="x")
    found = api("post", "/here/resume")
    assert found["enabled"] and found["quarantined_at"] is None and found["quarantine_reason"] == ""
    api("post", "/here/resume")
    assert list(AuditEvent.objects.values_list("action", flat=True)) == ["target.resume", "target.drain"]


def test_spark_settings_with_a_password_are_shown_to_owners_alone(api, workspace, client_of, reader):
    conf = {"spark.executor.memory": "2g", "spark.hadoop.fs.s3a.secret.key": "hush"}
    options = {"spark": {"master": "local[2]", "deploy_mode": "client", "conf": conf}}
    ComputeTarget.objects.create(workspace=workspace, name="sparkling", options=options)
    assert api("get", "/sparkling")["options"]["spark"]["conf"] == conf
    seen = Api(client_of(reader), workspace.slug)("get", "/sparkling")["options"]["spark"]["conf"]
    assert seen == {**conf, "spark.hadoop.fs.s3a.secret.key": "(hidden)"}


# -- keys


def test_a_new_key_is_made_shown_installed_and_used(api, wanted, sshd):
    api("post", body=wanted, status=201)
    line = api("post", "/box/key")["next_public_key"]
    assert line.startswith("ssh-ed25519 ") and api("get", "/box/key") == {"public_key": "", "next_public_key": line}
    refused = api("post", "/box/key/use", status=422)
    assert "The old key stays in use" in refused["detail"]
    before = sshd.authorized.read_text()
    try:
        with sshd.authorized.open("a") as file:
            file.write(line + "\n")
        assert api("post", "/box/key/use") == {"public_key": line, "next_public_key": ""}
        assert api("post", "/box/test")["passed"]
    finally:
        sshd.authorized.write_text(before)


def test_a_local_target_has_no_key(api, here):
    assert "Only remote targets" in api("post", "/here/key", status=422)["detail"]


# -- detach


def test_a_target_with_live_runs_says_what_would_happen_and_goes_when_they_have_ended(api, here):
    waiting, running = run_on(here), run_on(here, RunStatus.RUNNING, launched=True)
    found = api("delete", "/here", status=409)
    assert (
        found["live_runs"] == [waiting.number, running.number]
        and "execute there: 1; that wait for it: 1" in found["detail"]
    )
    assert "Use one of" in api("delete", "/here?force=maybe", status=409)["detail"]
    assert "answers" in api("delete", "/here?force=abandon", status=409)["detail"]
    assert api("delete", "/here?force=cancel", status=202) == {"detached": False, "live_runs": 2}
    for run in (waiting, running):
        run.refresh_from_db()
        assert run.status == RunStatus.CANCEL_REQUESTED
    here.refresh_from_db()
    assert not here.enabled and here.detached_at is None
    Run.objects.update(status=RunStatus.CANCELED, ended_at=timezone.now())
    assert api("delete", "/here?force=cancel") == {"detached": True, "live_runs": 0}
    api("get", "/here", status=404)
    assert Run.objects.filter(target=here).count() == 2


def test_a_detached_target_keeps_no_credentials(api, wanted):
    api("post", body=wanted, status=201)
    api("delete", "/box")
    assert ComputeTarget.objects.get(name="box").credentials is None
    assert api("post", body=wanted, status=201)["name"] == "box"


# -- who may


def test_a_token_for_less_than_an_owner_is_told_so(client, workspace, owner, wanted):
    _, secret = Token.issue(user=owner, workspace=workspace, name="t", scope=Role.CONTRIBUTOR)
    found = Api(client, workspace.slug)("post", body=wanted, status=403, headers={"Authorization": f"Bearer {secret}"})
    assert "your token has not" in found["detail"]


def test_a_draft_and_a_foreign_target_are_not_there(api, owner, workspace, foreign_workspace):
    draft = attaching.begin(workspace, owner)
    attaching.update(draft, owner, name="draft")
    factory.make_target(foreign_workspace, "theirs")
    for name in ("draft", "theirs"):
        api("get", f"/{name}", status=404)
        api("delete", f"/{name}", status=404)
        api("post", f"/{name}/test", status=404)
    assert api("get")["targets"] == []


def test_the_description_of_the_api_has_the_fields_and_refusals_of_targets(client):
    schema = client.get("/api/v1/openapi.json").json()
    paths = {path: set(item) for path, item in schema["paths"].items() if "/targets" in path}
    assert paths["/api/v1/{slug}/targets/{name}"] == {"get", "patch", "delete"}
    attach = schema["paths"]["/api/v1/{slug}/targets"]["post"]
    assert {"200", "201", "409", "422"} <= set(attach["responses"])
    assert "fingerprint" in json.dumps(schema["components"]["schemas"]["NewTarget"])


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": "a\n"}, "name"), ({"name": "\ud800"}, "name"), ({"options": {"ssh": "x"}}, "ssh"),
        ({"options": {"ssh": {"host": "h", "user": "u", "jump": "x"}}}, "ssh.jump"),
        ({"options": {"root": "/\udc80"}}, "options.root"), ({"options": {"a\ud800": 1}}, "options"),
        ({"credentials": {"password": "x\ud800"}}, "credentials.password"),
    ],
)  # fmt: skip
def test_what_is_no_text_and_no_section_is_refused_by_its_field(api, change, field):
    body = {
        "name": "box",
        "transport": "ssh",
        "options": {"ssh": {"host": "127.0.0.1", "port": 9, "user": "u"}},
        **change,
    }
    assert [error["field"] for error in api("post", body=body, status=422)["errors"]] == [field]
    assert not ComputeTarget.objects.filter(transport="ssh").exists()
