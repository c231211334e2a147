"""A folder over HTTP: what is missing is asked for, sent once, resumed after a cut; refusals name field, rule and fix."""

import gzip
import hashlib
import json
import os
import struct
import zlib
from collections.abc import Callable

import pytest
from django.test import Client

from environments.models import ComputeTarget, Environment, EnvironmentVersion
from runs.manifest import FileEntry, Manifest
from runs.models import Run, Snapshot
from studio.accounts.models import Token
from studio.api import policies
from studio.blobs import SMALL, BlobStore

pytestmark = pytest.mark.django_db
BASE = "/api/v1/vision"
BYTES = "application/octet-stream"


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def manifest(files: dict[str, bytes]) -> Manifest:
    return Manifest.build([FileEntry(path, 0o644, len(data), sha(data)) for path, data in files.items()])


def record(data: bytes, packed: bool = False, digest: str = "") -> bytes:
    body = zlib.compress(data) if packed else data
    return struct.pack(">32sBQ", bytes.fromhex(digest or sha(data)), packed, len(body)) + body


def ask(client: Client, data: bytes, **headers: str):
    return client.post(f"{BASE}/snapshots/missing", data, content_type="application/json", headers=headers)


def send(client: Client, body: bytes):
    return client.put(f"{BASE}/snapshots/blobs", body, content_type=BYTES)


def piece(client: Client, whole: bytes, start: int, end: int):
    address = f"{BASE}/snapshots/blobs/{sha(whole)}?offset={start}&size={len(whole)}"
    return client.put(address, whole[start:end], content_type=BYTES)


def upload(client: Client, files: dict[str, bytes], name: str = "digits") -> str:
    """All of it, as a client does; the snapshot's digest."""
    made = manifest(files)
    wanted = ask(client, made.data).json()
    body = b""
    for first, end in wanted["missing"]:
        for entry in made.files[first:end]:
            data = files[entry.path]
            if entry.size <= wanted["small"]:
                body += record(data)
            else:
                assert piece(client, data, 0, entry.size).json() == {"have": entry.size}
    assert send(client, body).status_code == 200
    answer = client.post(
        f"{BASE}/snapshots", {"snapshot": wanted["snapshot"], "name": name}, content_type="application/json"
    )
    assert answer.status_code == 200, answer.content
    return answer.json()["snapshot"]


FILES = {"train.py": b"print(1)\n", "pkg/a.py": b"", "pkg/b.py": b"x = 1\n", "weights.bin": os.urandom(SMALL + 1000)}


def test_a_folder_arrives_and_reads_back(contributor_client, reader_client, contributor, workspace):
    digest = upload(contributor_client, FILES)
    row = Snapshot.objects.get()
    assert (row.digest, row.workspace, row.created_by, row.name) == (digest, workspace, contributor, "digits")
    shown = reader_client.get(f"{BASE}/snapshots/{digest}").json()
    assert [entry[0] for entry in shown["files"]] == sorted(FILES)
    for path, data in FILES.items():
        answer = reader_client.get(f"{BASE}/snapshots/{digest}/files/{path}")
        assert b"".join(answer.streaming_content) == data
        assert answer["Content-Disposition"].startswith("attachment")
        assert answer["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in answer["Content-Security-Policy"]
    assert reader_client.get(f"{BASE}/snapshots/{digest}/files/nowhere").status_code == 404
    assert [item["snapshot"] for item in reader_client.get(f"{BASE}/snapshots").json()["snapshots"]] == [digest]


def test_after_one_change_one_file_is_asked_for(contributor_client):
    upload(contributor_client, FILES)
    changed = manifest({**FILES, "pkg/b.py": b"x = 2\n"})
    answer = ask(contributor_client, changed.data).json()
    assert answer["missing"] == [[1, 2]]
    assert changed.files[1].path == "pkg/b.py"
    assert answer["known"] is False
    same = ask(contributor_client, manifest(FILES).data).json()
    assert (same["known"], same["missing"]) == (True, [])


def test_a_content_that_two_files_share_is_asked_for_once(contributor_client):
    answer = ask(contributor_client, manifest({"a": b"1", "b": b"1", "c": b"2"}).data).json()
    assert answer["missing"] == [[0, 1], [2, 3]]


def test_the_manifest_may_come_packed(contributor_client):
    made = manifest(FILES)
    answer = ask(contributor_client, gzip.compress(made.data), content_encoding="gzip").json()
    assert answer["snapshot"] == made.digest


def test_packed_and_plain_contents_share_a_body(contributor_client, workspace):
    text, noise = b"loss\n" * 1000, os.urandom(100)
    assert send(contributor_client, record(text, packed=True) + record(noise)).json() == {"stored": 2}
    assert BlobStore(workspace.pk).read(sha(text)) == text


def test_a_large_file_goes_on_after_a_cut(contributor_client):
    data = os.urandom(3 * SMALL)
    made = manifest({"big": data})
    assert ask(contributor_client, made.data).json()["have"] == {}
    assert piece(contributor_client, data, 0, SMALL).json() == {"have": SMALL}
    assert ask(contributor_client, made.data).json()["have"] == {sha(data): SMALL}
    answer = piece(contributor_client, data, 2 * SMALL, 3 * SMALL)
    assert (answer.status_code, answer.json()["have"]) == (409, SMALL)
    assert piece(contributor_client, data, SMALL, 3 * SMALL).json() == {"have": 3 * SMALL}
    assert ask(contributor_client, made.data).json()["missing"] == []


def problem(answer, status: int, field: str, rule: str) -> dict:
    assert answer.status_code == status, answer.content
    assert answer["Content-Type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    (error,) = body["errors"]
    assert error["field"] == field and rule in error["rule"] and error["fix"], error
    return body


def test_a_bad_name_is_refused_with_the_rule_and_nothing_is_written(contributor_client):
    data = b'{"v":1,"files":[["../evil",420,1,"%s"]],"links":[],"dirs":[]}' % sha(b"1").encode()
    problem(ask(contributor_client, data), 422, "../evil", "'..'")
    assert not Snapshot.objects.exists()


def test_recording_before_the_contents_are_here_is_refused(contributor_client):
    made = manifest(FILES)
    body = {"snapshot": made.digest}
    problem(
        contributor_client.post(f"{BASE}/snapshots", body, content_type="application/json"), 409, "snapshot", "manifest"
    )
    ask(contributor_client, made.data)
    answer = contributor_client.post(f"{BASE}/snapshots", body, content_type="application/json")
    assert problem(answer, 409, "pkg/a.py", "not been sent")["missing"] == 4


def test_a_content_that_was_no_manifest_is_refused(contributor_client):
    send(contributor_client, record(b"print(1)"))
    answer = contributor_client.post(
        f"{BASE}/snapshots", {"snapshot": sha(b"print(1)")}, content_type="application/json"
    )
    problem(answer, 422, "", "no JSON")


@pytest.mark.parametrize(
    ("body", "status", "rule"),
    [
        (record(b"one", digest=sha(b"two")), 422, "not"),
        (record(b"one")[:-1], 400, "ends within"),
        (record(b"one")[:10], 400, "ends within"),
        (struct.pack(">32sBQ", bytes(32), 0, SMALL + 1), 422, "up to"),
        (struct.pack(">32sBQ", bytes(32), 2, 1) + b"x", 422, "up to"),
        (struct.pack(">32sBQ", bytes(32), 1, 3) + b"abc", 422, "zlib"),
        (record(bytes(SMALL + 1), packed=True), 422, "over"),
        (record(b"x" * 100, packed=True).replace(b"", b"", 1), 200, ""),
    ],
)
def test_a_body_of_many_is_checked_record_by_record(contributor_client, body, status, rule):
    answer = send(contributor_client, body)
    assert answer.status_code == status, answer.content
    if status != 200:
        assert rule in answer.json()["errors"][0]["rule"]


def test_a_bomb_is_refused_by_its_unpacked_size(contributor_client, settings):
    settings.SNAPSHOT_MAX_FILES = 10
    bomb = gzip.compress(bytes(50_000_000))
    problem(ask(contributor_client, bomb, content_encoding="gzip"), 413, "body", "more than")
    problem(ask(contributor_client, b"no gzip", content_encoding="gzip"), 400, "body", "no gzip")
    problem(
        ask(contributor_client, gzip.compress(manifest(FILES).data)[:-12], content_encoding="gzip"),
        400,
        "body",
        "ends early",
    )
    problem(ask(contributor_client, b"", content_encoding="br"), 415, "Content-Encoding", "not known")


@pytest.mark.parametrize("query", ["offset=-1&size=3", "offset=4&size=3", "offset=0&size=99999999999999"])
def test_a_piece_outside_its_content_is_refused(contributor_client, query):
    answer = contributor_client.put(f"{BASE}/snapshots/blobs/{sha(b'abc')}?{query}", b"abc", content_type=BYTES)
    problem(answer, 422, "offset", "limit")


def test_a_piece_of_a_name_that_is_no_digest_is_refused(contributor_client):
    answer = contributor_client.put(
        f"{BASE}/snapshots/blobs/..%2f..%2fevil?offset=0&size=3", b"abc", content_type=BYTES
    )
    assert answer.status_code in {404, 422}


# Who may.


def test_every_operation_says_who_may_call_it():
    found = policies()
    assert len(found) >= 8
    assert {role for methods in found.values() for role in methods.values()} <= {
        "reader",
        "contributor",
        "owner",
        "signed_in",
    }


def everything(client: Client, slug: str) -> list[int]:
    base, digest = f"/api/v1/{slug}", sha(b"x")
    fill = {"{slug}": slug, "{digest}": digest, "{path:path}": "train.py", "{int:number}": "1", "{int:id}": "1"}
    answers = []
    for path, methods in policies().items():
        for method in methods if "{slug}" in path else ():
            address = f"/api/v1{path}"
            for mark, value in fill.items():
                address = address.replace(mark, value)
            answers.append(
                client.generic(method, address, b"not what it takes", content_type="application/json").status_code
            )
    assert base
    return answers


def test_a_foreign_workspace_is_not_there_whatever_is_sent(owner_client, foreign_workspace, workspace):
    assert set(everything(owner_client, "foreign")) == {404}
    assert set(everything(owner_client, "nowhere")) == {404}


def test_a_visitor_is_asked_to_sign_in(visitor_client, workspace):
    assert set(everything(visitor_client, "vision")) == {401}


def test_a_reader_may_look_and_not_write(reader_client):
    answer = ask(reader_client, manifest(FILES).data)
    problem(answer, 403, "", "contributor")
    assert send(reader_client, record(b"x")).status_code == 403
    assert reader_client.get(f"{BASE}/snapshots").status_code == 200


def test_a_session_without_the_csrf_token_is_refused(contributor, client_of: Callable[..., Client]):
    strict = client_of(contributor, enforce_csrf_checks=True)
    problem(send(strict, record(b"x")), 403, "X-CSRFToken", "missing")
    problem(strict.post(f"{BASE}/snapshots/missing", {"a": "b"}), 415, "Content-Type", "Forms")


def test_a_token_speaks_for_its_person_in_its_workspace_only(contributor, workspace, foreign_workspace, visitor_client):
    token, secret = Token.issue(user=contributor, workspace=workspace, name="ci")
    headers = {"Authorization": f"Bearer {secret}"}
    answer = Client(enforce_csrf_checks=True).put(
        f"{BASE}/snapshots/blobs", record(b"x"), content_type=BYTES, headers=headers
    )
    assert answer.json() == {"stored": 1}
    assert visitor_client.get("/api/v1/foreign/snapshots", headers=headers).status_code == 404
    token.refresh_from_db()
    assert token.last_used_at is not None
    contributor.is_active = False
    contributor.save()
    problem(visitor_client.get(f"{BASE}/snapshots", headers=headers), 401, "Authorization", "not valid")


def test_guessing_tokens_is_slowed_down(visitor_client, workspace):
    answers = [
        visitor_client.get(
            f"{BASE}/snapshots", headers={"Authorization": f"Bearer rst_{n}"}, REMOTE_ADDR="10.9.8.7"
        ).status_code
        for n in range(70)
    ]
    assert answers[0] == 401 and answers[-1] == 429


# Runs.


@pytest.fixture
def target(workspace) -> ComputeTarget:
    return ComputeTarget.objects.create(workspace=workspace, name="local")


@pytest.fixture
def version(workspace) -> EnvironmentVersion:
    environment = Environment.objects.create(workspace=workspace, name="plain")
    return EnvironmentVersion.objects.create(environment=environment, number=3, definition={}, key="k")


@pytest.fixture
def wanted(contributor_client, target, version) -> dict:
    digest = upload(contributor_client, FILES)
    return {
        "experiment": "digits",
        "snapshot": digest,
        "environment": "plain",
        "script": "train.py",
        "arguments": ["--lr", "0.1"],
    }


def submit(client: Client, body: dict, **headers: str):
    return client.post(f"{BASE}/runs", json.dumps(body), content_type="application/json", headers=headers)


def test_a_run_is_submitted_listed_shown_and_cancelled(contributor_client, reader_client, wanted, version):
    body = {
        **wanted,
        "tags": {"stage": "first"},
        "git": {"branch": "main", "repository_uri": "https://a:b@c/d"},
        "framework": "Python",
    }
    made = submit(contributor_client, body).json()
    run = Run.objects.get()
    assert made["number"] == run.number == 1
    assert made["id"] == run.uid and made["status"] == "NotStarted"
    assert (run.environment, run.config["arguments"], run.config["framework"]) == (version, ["--lr", "0.1"], "python")
    assert run.properties["azureml.git.repository_uri"] == "https://***@c/d"
    assert run.properties["ContentSnapshotId"] == wanted["snapshot"]
    shown = reader_client.get(f"{BASE}/runs/1").json()
    assert shown == {**made, "waiting_for": shown["waiting_for"]} and shown["waiting_for"]
    assert reader_client.get(f"{BASE}/runs?experiment=digits&status=NotStarted").json()["runs"] == [made]
    assert reader_client.get(f"{BASE}/runs?experiment=other").json()["runs"] == []
    assert reader_client.get(f"{BASE}/runs/2").status_code == 404
    canceled = contributor_client.post(f"{BASE}/runs/1/cancel", content_type="application/json").json()
    assert (canceled["canceling"], canceled["status"]) == (True, "CancelRequested")
    assert reader_client.post(f"{BASE}/runs/1/cancel").status_code == 403


def test_a_repeated_request_answers_the_first_run(contributor_client, wanted):
    first = submit(contributor_client, wanted, idempotency_key="abc").json()
    assert submit(contributor_client, wanted, idempotency_key="abc").json() == first
    assert submit(contributor_client, wanted, idempotency_key="abd").json()["number"] == 2
    problem(submit(contributor_client, wanted, idempotency_key="x" * 65), 422, "Idempotency-Key", "64")


@pytest.mark.parametrize(
    ("change", "field", "rule"),
    [
        ({"script": "trian.py"}, "script", "train.py"),
        ({"script": "../train.py"}, "script", "inside the folder"),
        ({"target": "gpu"}, "target", "no compute target"),
        ({"environment": "plain:9"}, "environment", "plain has no version 9"),
        ({"environment": "fancy"}, "environment", "no environment"),
        ({"snapshot": "0" * 64}, "snapshot", "no snapshot"),
        ({"experiment": "-x"}, "experiment", "not a name"),
        ({"arguments": ["a\0b"]}, "arguments", "NUL"),
        ({"framework": "cobol"}, "framework", "not known"),
        ({"variables": {"PATH": "x"}}, "variables", "set by the studio"),
        ({"secrets": {"TOKEN": "hf"}}, "variables", "no secret"),
        ({"name": "x" * 256}, "name", "255"),
        ({"experiment": "e\n"}, "experiment", "not a name"),
        ({"priority": 10**30}, "priority", "out of range"),
        ({"arguments": ["\ud800"]}, "arguments", "surrogate"),
        ({"variables": {"A": "\ud800"}}, "variables", "surrogate"),
        ({"secrets": {"A": "\udc80"}}, "secrets.A", "no text"),
        ({"tags": {"\ud800": None}}, "tags", "no text"),
        ({"notes": "a\0"}, "notes", "no text"),
        ({"target": "\udc80"}, "target", "no text"),
    ],
)
def test_a_bad_submit_names_the_field_and_the_rule(contributor_client, wanted, change, field, rule):
    answer = submit(contributor_client, {**wanted, **change})
    assert answer.status_code == 422, answer.content
    (error,) = answer.json()["errors"]
    assert error["field"] == field and rule in f"{error['rule']} {error['fix']}"
    assert not Run.objects.exists()


def test_bytes_that_are_no_text_are_arguments_too(contributor_client, wanted):
    arguments = ["--name", "\udcff", "--\udc80=1"]
    run = submit(contributor_client, {**wanted, "arguments": arguments, "variables": {"A": "\udcff"}}).json()
    assert run["config"]["arguments"] == arguments
    pages = [
        contributor_client.get(f"/vision/{page}") for page in ("runs/1", "runs/1/configuration", "runs/new?from=1")
    ]
    assert [page.status_code for page in pages] == [200, 200, 200]
    assert r"$&#x27;\udcff&#x27;" in pages[2].content.decode()  # what the composer shows is read back as it was


@pytest.mark.parametrize(
    ("change", "field"),
    [({"typo": 1}, "typo"), ({"arguments": "x"}, "arguments"), ({"experiment": None}, "experiment")],
)
def test_a_field_of_the_wrong_shape_is_named_by_its_own_name(contributor_client, wanted, change, field):
    answer = submit(contributor_client, {**wanted, **change})
    problem(answer, 422, field, "")


def test_a_body_that_is_no_json_is_refused(contributor_client, target):
    answer = contributor_client.post(f"{BASE}/runs", "{", content_type="application/json")
    assert answer.status_code == 400
    assert answer["Content-Type"] == "application/problem+json"


def test_pages_go_on_where_the_last_ended(contributor_client, wanted):
    for _ in range(5):
        submit(contributor_client, wanted)
    numbers, before = [], ""
    while True:
        page = contributor_client.get(f"{BASE}/runs?limit=2{before}").json()
        numbers.append([run["number"] for run in page["runs"]])
        if page["next"] is None:
            break
        before = f"&before={page['next']}"
    assert numbers == [[5, 4], [3, 2], [1]]


def test_the_log_is_read_by_bytes(contributor_client, reader_client, wanted):
    from runs.logs import append
    from runs.models import LogStream

    submit(contributor_client, wanted)
    assert reader_client.get(f"{BASE}/runs/1/log").content == b""
    data = b"epoch 1\n\xff\x00 half \xe2\x82"
    append(LogStream.objects.create(run=Run.objects.get()), 0, data, b"")
    answer = reader_client.get(f"{BASE}/runs/1/log")
    assert answer.content == data
    assert (answer["Runstead-Log-Size"], answer["Runstead-Run-Status"]) == (str(len(data)), "NotStarted")
    assert reader_client.get(f"{BASE}/runs/1/log?offset=6&limit=3").content == data[6:9]
    assert reader_client.get(f"{BASE}/runs/1/log?offset=999").content == b""
    assert reader_client.get(f"{BASE}/runs/1/log?name=logs/x.txt").status_code == 404
    problem(reader_client.get(f"{BASE}/runs/1/log?offset=-1"), 422, "offset", "0 or more")
