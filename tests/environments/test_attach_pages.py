"""The wizard, page by page: what each step keeps, refuses and never shows."""

import json
import subprocess
from pathlib import Path

import pytest
from django.test import Client

from environments.models import ComputeTarget
from environments.transports import keys
from studio.models import AuditEvent
from studio.workspaces.models import Role
from tests.environments.sshd import server

pytestmark = pytest.mark.django_db
PLACE = "/tmp/runstead-attach"


@pytest.fixture(scope="module")
def sshd():
    with server(Path(PLACE), 2262, "attachhost") as found:
        yield found


@pytest.fixture
def draft(owner_client: Client, workspace) -> ComputeTarget:
    answer = owner_client.post("/vision/compute/attach", {"kind": "ssh"})
    assert answer.status_code == 302
    return ComputeTarget.objects.get(workspace=workspace, attached_at=None)


def step(draft: ComputeTarget, name: str) -> str:
    return f"/vision/compute/attach/{draft.pk}/{name}"


def text(answer) -> str:
    content = b"".join(answer.streaming_content) if answer.streaming else answer.content
    return content.decode()


def test_the_way_from_the_first_step_to_an_attached_machine(owner_client, draft, sshd, workspace):
    where = {"name": "box", "host": sshd.host, "port": str(sshd.port), "user": sshd.user}
    answer = owner_client.post(step(draft, "address"), where)
    assert answer.headers["Location"] == step(draft, "access")
    page = text(owner_client.get(step(draft, "access")))
    draft.refresh_from_db()
    line = draft.get_credentials()["next_public_key"]
    assert line in page
    assert "PRIVATE KEY-----\n" not in page
    with sshd.authorized.open("a") as file:
        file.write(line + "\n")
    assert owner_client.post(step(draft, "access"), {"access": "studio"}).headers["Location"] == step(draft, "test")

    page = text(owner_client.post(step(draft, "check")))
    assert "has not been confirmed" in page
    draft.refresh_from_db()
    key = draft.steps[-1]["data"]["key"]
    assert key == sshd.host_key
    page = text(owner_client.post(step(draft, "check"), {"confirm": key, "hop": "host"}))
    assert "Attach box" in page
    answer = owner_client.post(step(draft, "finish"), {"slots": "3", "gpu_slots": ""})
    assert answer.headers["Location"] == "/vision/compute/box"
    target = ComputeTarget.objects.attached().get(workspace=workspace, name="box")
    assert target.slots == 3
    assert target.options == {
        "root": "~/.runstead",
        "ssh": {
            "host": sshd.host, "port": sshd.port, "user": sshd.user, "host_key": sshd.host_key, "jump": None,
            "access": "studio", "public_key": line,
        },
    }  # fmt: skip
    assert set(target.get_credentials()) == {"private_key"}
    assert AuditEvent.objects.get(action="target.attach").subject == "box"


def test_a_step_that_is_refused_says_the_rule_and_keeps_what_was_typed(owner_client, draft):
    typed = {"name": "attach", "host": "-oProxy", "port": "99999", "user": "a b", "jump_host": "x;y"}
    answer = owner_client.post(step(draft, "address"), typed)
    page = text(answer)
    assert answer.status_code == 422
    for words in (
        "address of the studio itself",
        "begins with",
        "99999 is not a port",
        "is not a user",
        "is not a host",
    ):
        assert words in page
    for value in typed.values():
        assert f'value="{value}"' in page
    assert 'value="-oProxy"' in text(owner_client.get(step(draft, "address")))


def test_back_loses_nothing_also_of_what_is_wrong(owner_client, draft):
    typed = {"name": "box", "host": "a b", "user": "me", "root": "relative"}
    assert owner_client.post(step(draft, "address"), {**typed, "back": "1"}).headers["Location"] == step(draft, "kind")
    owner_client.post(step(draft, "kind"), {"kind": "docker-ssh"})
    page = text(owner_client.get(step(draft, "address")))
    for value in typed.values():
        assert f'value="{value}"' in page


def test_back_from_access_keeps_the_key_and_never_shows_it(owner_client, draft):
    owner_client.post(step(draft, "address"), {"name": "box", "host": "h", "user": "me"})
    private, _ = keys.make_key()
    answer = owner_client.post(step(draft, "access"), {"access": "key", "private_key": private, "back": "1"})
    assert answer.headers["Location"] == step(draft, "address")
    page = text(owner_client.get(step(draft, "access")))
    assert "stored; empty keeps it" in page
    assert private.splitlines()[1] not in page
    draft.refresh_from_db()
    assert private.splitlines()[1] not in str(draft.options)
    assert owner_client.post(step(draft, "access"), {"access": "key"}).headers["Location"] == step(draft, "test")
    draft.refresh_from_db()
    assert draft.get_credentials()["private_key"] == private


def test_a_key_with_a_passphrase_is_pasted_once(owner_client, draft, tmp_path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "open sesame", "-f", tmp_path / "key"], check=True)
    owner_client.post(step(draft, "address"), {"name": "box", "host": "h", "user": "me"})
    answer = owner_client.post(step(draft, "access"), {"access": "key", "private_key": (tmp_path / "key").read_text()})
    assert answer.status_code == 422
    assert "The key is encrypted." in text(answer)
    answer = owner_client.post(step(draft, "access"), {"access": "key", "passphrase": "wrong"})
    assert "does not open the key" in text(answer)
    answer = owner_client.post(step(draft, "access"), {"access": "key", "passphrase": "open sesame"})
    assert answer.headers["Location"] == step(draft, "test")


@pytest.mark.parametrize(
    ("access", "field", "value", "words"),
    [
        ("key", "private_key", "", "Paste the private key"),
        ("key", "private_key", "no key at all", "cannot be read"),
        ("key", "private_key", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA5mYsmvn7rXVSKBIRez73SA me", "public key"),
        ("password", "password", "", "Type the password"),
        ("password", "password", "two\nlines", "one line"),
    ],
)
def test_credentials_that_cannot_be_used_are_refused(owner_client, draft, access, field, value, words):
    owner_client.post(step(draft, "address"), {"name": "box", "host": "h", "user": "me"})
    answer = owner_client.post(step(draft, "access"), {"access": access, field: value})
    assert answer.status_code == 422
    assert words in text(answer)


def test_a_wrong_address_shows_the_step_that_failed_and_can_be_attached_anyway(owner_client, draft, workspace):
    owner_client.post(step(draft, "address"), {"name": "box", "host": "nowhere.invalid", "user": "me"})
    owner_client.post(step(draft, "access"), {"access": "password", "password": "guess me"})
    page = text(owner_client.post(step(draft, "check")))
    assert "was not found" in page
    assert "typing errors" in page
    assert owner_client.post(step(draft, "finish"), {"slots": "1"}).status_code == 422
    owner_client.post(step(draft, "finish"), {"slots": "1", "anyway": "1"})
    target = ComputeTarget.objects.attached().get(workspace=workspace)
    assert target.name == "box"
    assert "although Name failed" in AuditEvent.objects.get(action="target.attach").detail


def test_each_step_of_the_test_is_sent_when_it_is_done(owner_client, draft):
    owner_client.post(step(draft, "kind"), {"kind": "here"})
    owner_client.post(step(draft, "address"), {"name": "mine"})
    answer = owner_client.post(step(draft, "check"), headers={"X-Live": "1"})
    assert answer.streaming
    lines = [json.loads(line) for line in text(answer).splitlines()]
    assert lines[0] == {"begun": "Settings"}
    assert "step" in lines[1]
    assert list(lines[-1]) == ["done"]
    assert "Attach mine" in lines[-1]["done"]


@pytest.mark.parametrize(
    ("kind", "typed", "found"),
    [
        (
            "docker",
            {"memory": "16 GB", "cpus": "2,5", "mounts": "/data:/data\n/out:/out:rw", "base_image": "python:3.12-slim"},
            {"docker": {"base_image": "python:3.12-slim", "memory_bytes": 16 * 10**9, "cpus": 2.5, "mounts": [
                {"source": "/data", "target": "/data", "read_only": True}, {"source": "/out", "target": "/out", "read_only": False},
            ]}},
        ),
        (
            "spark",
            {"master": "spark://h:7077", "conf": "spark.executor.memory=2g", "packages": "a:b:1"},
            {"spark": {"master": "spark://h:7077", "deploy_mode": "client", "conf": {"spark.executor.memory": "2g"}, "packages": ["a:b:1"]}},
        ),
    ],
)  # fmt: skip
def test_what_is_typed_becomes_options_and_is_shown_the_same_again(owner_client, draft, workspace, kind, typed, found):
    owner_client.post(step(draft, "kind"), {"kind": kind})
    answer = owner_client.post(step(draft, "address"), {"name": "t", **typed})
    assert answer.headers["Location"] == step(draft, "test")
    owner_client.post(step(draft, "finish"), {"slots": "1", "anyway": "1"})
    target = ComputeTarget.objects.attached().get(workspace=workspace)
    assert target.options == found


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ({"memory": "lots"}, "is not a size"),
        ({"cpus": "many"}, "is not a number"),
        ({"mounts": "/var/run/docker.sock:/x"}, "the machine itself"),
        ({"mounts": "/data"}, "Line 1"),
        ({"base_image": "--privileged x"}, "without options"),
        ({"network": "host"}, "own network"),
    ],
)
def test_bad_docker_settings_are_refused(owner_client, draft, typed, words):
    owner_client.post(step(draft, "kind"), {"kind": "docker"})
    answer = owner_client.post(step(draft, "address"), {"name": "t", **typed})
    assert answer.status_code == 422
    assert words in text(answer)


def test_the_studios_own_folder_cannot_be_mounted(owner_client, draft, settings):
    owner_client.post(step(draft, "kind"), {"kind": "docker"})
    answer = owner_client.post(step(draft, "address"), {"name": "t", "mounts": f"{settings.DATA_DIR}:/data"})
    assert answer.status_code == 422
    assert "own files" in text(answer)


def test_only_owners_attach(draft, person, client_of):
    for role in (Role.READER, Role.CONTRIBUTOR):
        client = client_of(person(role))
        assert client.get("/vision/compute/attach").status_code == 403
        assert client.get(step(draft, "address")).status_code == 403


def test_a_draft_is_no_target_yet(owner_client, draft):
    owner_client.post(step(draft, "address"), {"name": "half-done", "host": "h", "user": "me"})
    assert owner_client.get("/vision/compute/half-done").status_code == 404
    assert "half-done" not in text(owner_client.get("/vision/compute"))
    owner_client.post(step(draft, "discard"))
    assert not ComputeTarget.objects.filter(pk=draft.pk).exists()


@pytest.mark.parametrize("page", ["address", "access", "finish", "kind", "check"])
def test_no_input_is_an_error_of_the_studio(owner_client, draft, page):
    owner_client.post(step(draft, "address"), {"name": "box", "host": "h.invalid", "user": "me"})
    names = (
        "name",
        "host",
        "port",
        "user",
        "root",
        "memory",
        "access",
        "private_key",
        "password",
        "slots",
        "gpu_slots",
        "kind",
        "confirm",
    )
    for value in (
        "x" * 30_000,
        "nul\0",
        "\ud800".encode("utf-8", "surrogatepass"),
        "\u202e",
        "{{ 7 }}",
        "²",
        "-1",
        "9" * 40,
    ):
        answer = owner_client.post(step(draft, page), dict.fromkeys(names, value))
        assert answer.status_code < 500
        if page in {"address", "finish"}:
            assert answer.status_code == 422
