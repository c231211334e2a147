"""Runs over HTTP: listed, changed, begun and ended by a client; what they log and keep, in and out."""

import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

from environments.models import ComputeTarget
from runs import outside
from runs.metrics.applying import apply_samples
from runs.models import Artifact, Experiment, MetricSeries, Run, RunTag
from runs.status import RunStatus
from studio import VERSION
from studio.accounts.models import User
from studio.models import Answer
from studio.workspaces.models import Workspace
from tests.runs.factory import make_artifact, make_run, make_target

BASE = "/api/v1/vision"
JSON = "application/json"


def send(client: Client, method: str, path: str, body: Any = None, **headers: str) -> HttpResponse:
    data = body if isinstance(body, bytes) else json.dumps(body)
    return client.generic(method, BASE + path, data, content_type=JSON, headers=headers)


def problem(answer: HttpResponse, status: int, field: str, words: str) -> dict[str, Any]:
    body = answer.json()
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/problem+json"), body
    (error,) = body["errors"]
    assert error["field"] == field and words in f"{error['rule']} {error['fix']}", error
    assert error["rule"] and error["fix"]
    return body


@pytest.fixture
def begun(contributor_client: Client, workspace: Workspace) -> dict[str, Any]:
    return send(contributor_client, "POST", "/runs/interactive", {"experiment": "digits"}).json()


def numbers(answer: HttpResponse) -> list[int]:
    assert answer.status_code == 200, answer.content
    return [run["number"] for run in answer.json()["runs"]]


# Begun and ended by a client.


def test_a_run_of_a_client_from_its_begin_to_its_end(contributor_client: Client, workspace: Workspace) -> None:
    wanted = {"experiment": "digits", "name": "by hand", "tags": {"a": None}, "properties": {"p": 1}, "notes": "n"}
    run = send(contributor_client, "POST", "/runs/interactive", wanted).json()
    assert (run["kind"], run["status"], run["name"], run["target"], run["snapshot"]) == (
        "interactive", "Running", "by hand", None, None,
    )  # fmt: skip
    assert (run["tags"], run["properties"], run["notes"], run["ended_at"]) == ({"a": None}, {"p": 1}, "n", None)
    child = send(
        contributor_client, "POST", "/runs/interactive", {"experiment": "digits", "parent": run["number"]}
    ).json()
    assert (child["parent"], child["parent_id"]) == (run["number"], run["id"])
    for _ in range(2):
        ended = send(
            contributor_client, "POST", f"/runs/{run['number']}/finish", {"status": "Failed", "error": {"message": "m"}}
        )
        assert (ended.json()["status"], ended.json()["error"]) == ("Failed", {"message": "m"})
    problem(
        send(contributor_client, "POST", f"/runs/{run['number']}/finish", {"status": "Completed"}),
        409,
        "status",
        "Failed",
    )
    by_id = contributor_client.get(f"{BASE}/runs/by-id/{run['id']}")
    assert by_id.json() == contributor_client.get(f"{BASE}/runs/{run['number']}").json()
    events = contributor_client.get(f"{BASE}/runs/{run['number']}/events").json()["events"]
    assert [event["new"] for event in events] == ["Running", "Failed"]


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({"experiment": "-x"}, "experiment", "not a name"), ({"experiment": "e", "parent": 99}, "parent", "no run 99"),
        ({"experiment": "e", "parent": 2**70}, "parent", "no run"), ({"experiment": "e", "name": "x" * 256}, "name", "255"),
        ({"experiment": "e", "tags": {"": "x"}}, "tags", "no name"), ({"experiment": "e", "tags": {"a": "x" * 8001}}, "tags", "8,000"),
        ({"experiment": "e", "nmae": "x"}, "nmae", ""), ({}, "experiment", ""), ({"experiment": "e\0"}, "experiment", "no text"),
        ({"experiment": "e", "properties": {"a": [[]] * 20_000}}, "properties", "too long"),
    ],
)  # fmt: skip
def test_a_bad_begin_names_the_field(
    contributor_client: Client, workspace: Workspace, body: Any, field: str, words: str
) -> None:
    problem(send(contributor_client, "POST", "/runs/interactive", body), 422, field, words)
    assert not Run.objects.exists() and not Experiment.objects.exists()


def test_a_repeated_begin_makes_one_run(contributor_client: Client, workspace: Workspace) -> None:
    answers = [
        send(contributor_client, "POST", "/runs/interactive", {"experiment": "e"}, **{"Idempotency-Key": "k"})
        for _ in range(2)
    ]
    assert answers[0].json()["number"] == answers[1].json()["number"] and Run.objects.count() == 1
    problem(
        send(contributor_client, "POST", "/runs/interactive", {"experiment": "e"}, **{"Idempotency-Key": "x" * 65}),
        422,
        "Idempotency-Key",
        "UUID",
    )


def test_a_run_of_a_target_is_not_ended_by_a_client(contributor_client: Client, workspace: Workspace) -> None:
    run = make_run(workspace, status=RunStatus.RUNNING)
    problem(
        send(contributor_client, "POST", f"/runs/{run.number}/finish", {"status": "Completed"}),
        409,
        "status",
        "Cancel it",
    )
    problem(send(contributor_client, "POST", f"/runs/{run.number}/finish"), 422, "status", "Completed")
    answer = send(contributor_client, "POST", f"/runs/{run.number}/finish", {"status": "Running"})
    assert answer.status_code == 422


# Listed.


def test_the_list_filters_and_leaves_children_out(contributor_client: Client, workspace: Workspace) -> None:
    one = make_run(
        workspace, experiment="a", status=RunStatus.COMPLETED, properties={"azureml.git.branch": "main", "n": 5}
    )
    two = make_run(workspace, experiment="b", status=RunStatus.FAILED)
    three = outside.begin(workspace, None, "b", tags={"stage": "final", "bare": None})
    child = outside.begin(workspace, None, "b", parent=three)
    gone = make_run(workspace, status=RunStatus.FAILED)
    Run.objects.filter(pk=gone.pk).update(archived_at=gone.created_at)
    RunTag.objects.create(run=two, workspace=workspace, name="stage", value="first")

    def listed(query: str) -> list[int]:
        return numbers(contributor_client.get(f"{BASE}/runs?{query}"))

    assert listed("") == [three.number, two.number, one.number]
    assert listed("include_children=true") == [child.number, three.number, two.number, one.number]
    assert listed(f"parent={three.number}") == [child.number] == listed("q=parent:any")
    assert listed("parent=999999") == listed(f"parent={2**70}") == []
    assert listed("experiment=a") == [one.number] and listed("experiment=none") == []
    assert listed("status=Failed") == [two.number] and listed("status=Failed&status=Running") == [
        three.number,
        two.number,
    ]
    assert listed("kind=interactive") == [three.number] and listed("kind=script") == [two.number, one.number]
    assert listed("tag=stage") == [three.number, two.number] and listed("tag=stage%3Dfinal") == [three.number]
    assert listed("tag=stage&tag=bare") == [three.number]
    assert listed("property=azureml.git.branch") == [one.number] == listed("property=azureml.git.branch%3Dmain")
    assert (
        listed("property=n%3D5") == [one.number]
        and listed("property=azureml.git.branch%3Ddev") == listed("property=x") == []
    )
    assert listed("q=status:failed") == [two.number] and listed("q=tag:stage&experiment=b") == [
        three.number,
        two.number,
    ]
    assert listed("archived=yes") == [gone.number] and len(listed("archived=any")) == 4
    assert listed("order_by=number") == [one.number, two.number, three.number]


def test_the_list_is_paged_by_position_in_every_order(contributor_client: Client, workspace: Workspace) -> None:
    runs = [make_run(workspace, name=f"r{n}", status=RunStatus.COMPLETED) for n in range(7)]
    for n, run in enumerate(runs[:5]):
        MetricSeries.objects.create(run=run, workspace=workspace, name="loss", count=1, last=[3, 1, 2, 1, 5][n])
    for order, expected in (
        ("", [7, 6, 5, 4, 3, 2, 1]), ("number", [1, 2, 3, 4, 5, 6, 7]), ("name", [1, 2, 3, 4, 5, 6, 7]), ("loss", [2, 4, 3, 1, 5, 7, 6]),
        ("-loss", [5, 1, 3, 4, 2, 7, 6]),
    ):  # fmt: skip
        seen: list[int] = []
        before: Any = ""
        while before is not None:
            answer = contributor_client.get(f"{BASE}/runs", {"order_by": order, "limit": 2, "before": before})
            seen += numbers(answer)
            before = answer.json()["next"]
        assert seen == expected, order


@pytest.mark.parametrize(
    ("query", "field"),
    [("before=x!", "before"), ("order_by=name&before=eyJ9", "before"), ("limit=0", "limit"), ("limit=-1", "limit"), ("order_by=-lsos", "order_by"), ("order_by=param.x", "order_by"), ("q=status:what", "q"),
     ("q=nothing>1", "q"), ("status=Nope", "status.0"), ("kind=x", "kind"), ("archived=maybe", "archived"), ("parent=x", "parent")],
)  # fmt: skip
def test_a_bad_query_names_its_part(contributor_client: Client, workspace: Workspace, query: str, field: str) -> None:
    problem(contributor_client.get(f"{BASE}/runs?{query}"), 422, field, "")


# Changed.


def test_a_run_is_changed_all_or_nothing(contributor_client: Client, begun: dict[str, Any]) -> None:
    path = f"/runs/{begun['number']}"
    body = {"name": " new  name ", "notes": "n", "tags": {"a": None, "b": "1"}, "properties": {"p": {"x": [1]}}}
    run = send(contributor_client, "PATCH", path, body).json()
    assert (run["name"], run["notes"], run["tags"], run["properties"]) == (
        "new name",
        "n",
        body["tags"],
        body["properties"],
    )
    run = send(
        contributor_client,
        "PATCH",
        path,
        {"tags": {"b": "2"}, "remove_tags": ["a", "never"], "properties": body["properties"]},
    ).json()
    assert run["tags"] == {"b": "2"} and run["name"] == "new name"
    problem(
        send(contributor_client, "PATCH", path, {"name": "other", "properties": {"p": 2}}),
        409,
        "properties",
        "do not change",
    )
    problem(
        send(contributor_client, "PATCH", path, {"tags": {"c": None}, "archived": True}), 422, "archived", "Cancel it"
    )
    run = contributor_client.get(BASE + path).json()
    assert (run["name"], run["tags"]) == ("new name", {"b": "2"})
    send(contributor_client, "POST", f"{path}/cancel")
    assert send(contributor_client, "PATCH", path, {"archived": True}).json()["archived_at"]
    assert send(contributor_client, "PATCH", path, {"archived": False}).json()["archived_at"] is None
    assert send(contributor_client, "PATCH", path).json()["name"] == "new name"


@pytest.mark.parametrize(
    ("body", "field"),
    [({"name": ""}, "name"), ({"name": "a\u0007"}, "name"), ({"name": "x" * 256}, "name"), ({"notes": "x" * 100_001}, "notes"),
     ({"tags": {"x" * 251: None}}, "tags"), ({"tags": ["a"]}, "tags"), ({"properties": {"": 1}}, "properties"), ({"status": "Failed"}, "status")],
)  # fmt: skip
def test_a_bad_change_names_the_field(contributor_client: Client, begun: dict[str, Any], body: Any, field: str) -> None:
    problem(send(contributor_client, "PATCH", f"/runs/{begun['number']}", body), 422, field, "")


def test_canceling_a_run_of_a_client_ends_it_at_once(contributor_client: Client, begun: dict[str, Any]) -> None:
    answers = [send(contributor_client, "POST", f"/runs/{begun['number']}/cancel").json() for _ in range(2)]
    assert [(run["status"], run["canceling"]) for run in answers] == [("Canceled", True), ("Canceled", False)]


# Records.


def lines(*records: object) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def test_records_go_in_plain_or_packed_and_come_out(
    contributor_client: Client, begun: dict[str, Any], workspace: Workspace
) -> None:
    path = f"/runs/{begun['number']}"
    first = lines(
        {"k": "loss", "v": 1.5, "s": 0, "t": 1795470000.5},
        {"op": "param", "k": "lr", "v": "0.1"},
        {"op": "list", "k": "l", "v": [1, None]},
    )
    assert send(contributor_client, "POST", f"{path}/records", first).json() == {"records": 3}
    more = lines({"op": "batch", "s": 1, "m": {"loss": "NaN", "acc": 0.5}}, {"k": "loss", "v": "-Infinity"})
    assert send(
        contributor_client, "POST", f"{path}/records", gzip.compress(more, mtime=0), **{"Content-Encoding": "gzip"}
    ).json() == {"records": 2}
    apply_samples(Run.objects.get(), lines({"t": 1795470000, "cpu": 50}))
    found = contributor_client.get(f"{BASE}{path}/metrics").json()
    assert [(row["name"], row["count"], row["last"], row["system"]) for row in found["series"]] == [
        ("acc", 1, 0.5, False), ("loss", 3, None, False), ("system/cpu", 1, 50.0, True),
    ]  # fmt: skip
    assert [(value["name"], value["kind"], value["data"]) for value in found["values"]] == [("l", "list", [1, None])]
    assert (found["next"], found["values_next"]) == (None, None)
    only = contributor_client.get(f"{BASE}{path}/metrics?name=loss").json()
    assert [row["name"] for row in only["series"]] == ["loss"] and only["values"] == []
    points = contributor_client.get(f"{BASE}{path}/metrics/series?name=loss").json()
    assert (points["step"], points["value"], points["next"], points["more"]) == (
        [0, 1, 2],
        [1.5, "NaN", "-Infinity"],
        3,
        False,
    )
    assert points["time"][0] == 1795470000.5
    assert contributor_client.get(f"{BASE}{path}/params").json() == {"params": {"lr": "0.1"}, "next": None}


def test_points_and_series_are_read_by_cursor(contributor_client: Client, begun: dict[str, Any]) -> None:
    path = f"{BASE}/runs/{begun['number']}/metrics"
    outside.take_records(
        Run.objects.get(),
        lines(
            *({"k": f"m{n % 3}", "v": n} for n in range(9000)), *({"op": "value", "k": "v", "v": n} for n in range(450))
        ),
    )
    seen: list[float] = []
    after, more = 0, True
    while more:
        answer = contributor_client.get(f"{path}/series", {"name": "m1", "after": after, "limit": 1000}).json()
        seen += answer["value"]
        after, more = answer["next"], answer["more"]
    assert seen == [float(n) for n in range(1, 9000, 3)] and after == 3000
    assert contributor_client.get(f"{path}/series?name=m1&after=3000").json()["value"] == []
    assert contributor_client.get(f"{path}/series?name=m1&after=99999999").json()["next"] == 99999999
    assert contributor_client.get(f"{path}/series?name=none").status_code == 404
    problem(contributor_client.get(f"{path}/series?name=m1&after=-1"), 422, "after", "next")
    names, name = [], ""
    while name is not None:
        answer = contributor_client.get(path, {"after": name, "limit": 2}).json()
        names += [row["name"] for row in answer["series"]]
        name = answer["next"]
    assert names == ["m0", "m1", "m2"]
    values, place = [value["data"] for value in answer["values"]], answer["values_next"]
    while place is not None:
        answer = contributor_client.get(f"{path}/values", {"after": place}).json()
        values += [value["data"] for value in answer["values"]]
        place = answer["next"]
    assert values == list(range(450))


@pytest.mark.parametrize(
    ("body", "headers", "status", "field", "words"),
    [
        (b"nothing", {}, 422, "line 1", "JSON"), (lines({"k": "a", "v": 1}) + b"[1]\n", {}, 422, "line 2", "JSON object"),
        (b'{"k": "a", "v": 1e999}\n{"k": "a", "v": true}', {}, 422, "line 2", "no number"), (b"\xff\xfe\x00", {}, 422, "line 1", "JSON"),
        (b"no gzip", {"Content-Encoding": "gzip"}, 400, "body", "no gzip"), (gzip.compress(b"{}" * 9, mtime=0)[:-4], {"Content-Encoding": "gzip"}, 400, "body", "ends early"),
        (b"", {"Content-Encoding": "br"}, 415, "Content-Encoding", "gzip"), (gzip.compress(b" " * 17_000_000, mtime=0), {"Content-Encoding": "gzip"}, 413, "body", "more than"),
        (b'{"k": "a", "v": 1, "s": 1e300}', {}, 422, "line 1", "64 bits"), (b'{"k": "a", "v": ' + b"9" * 400 + b"}", {}, 422, "line 1", "too large"),
        (b'{"k": "a", "v": ' + b"9" * 5000 + b"}", {}, 422, "line 1", "JSON"),
    ],
)  # fmt: skip
def test_odd_records_are_refused_with_their_line(
    contributor_client: Client,
    begun: dict[str, Any],
    body: bytes,
    headers: dict[str, str],
    status: int,
    field: str,
    words: str,
) -> None:
    problem(send(contributor_client, "POST", f"/runs/{begun['number']}/records", body, **headers), status, field, words)
    assert not MetricSeries.objects.exists()


def test_records_that_are_sent_again_are_not_applied_again(contributor_client: Client, begun: dict[str, Any]) -> None:
    path, body = f"/runs/{begun['number']}/records", lines({"k": "a", "v": 1})
    for _ in range(3):
        assert send(contributor_client, "POST", path, body, **{"Idempotency-Key": "k1"}).json() == {"records": 1}
    assert MetricSeries.objects.get().count == 1
    problem(
        send(contributor_client, "POST", path, body + body, **{"Idempotency-Key": "k1"}),
        422,
        "Idempotency-Key",
        "another request",
    )
    assert send(contributor_client, "POST", path, b"bad", **{"Idempotency-Key": "k2"}).status_code == 422
    assert send(contributor_client, "POST", path, body, **{"Idempotency-Key": "k2"}).json() == {"records": 1}
    assert MetricSeries.objects.get().count == 2
    assert Answer.objects.count() == 2


# Files.


def put(client: Client, number: int, path: str, data: bytes) -> HttpResponse:
    address = f"{BASE}/runs/{number}/artifacts/content"
    return client.put(address, data, content_type="application/octet-stream", query_params={"path": path})


def got(client: Client, number: int, path: str, **headers: str) -> HttpResponse:
    return client.get(f"{BASE}/runs/{number}/artifacts/content", {"path": path}, headers=headers)


def content(answer: HttpResponse) -> bytes:
    return b"".join(answer.streaming_content)


def test_files_go_in_and_come_out(contributor_client: Client, begun: dict[str, Any]) -> None:
    number = begun["number"]
    for name, data in (("model/a b.bin", b"0123456789"), ("model/ü.txt", b""), ("x.txt", b"x")):
        made = put(contributor_client, number, name, data)
        assert (made.status_code, made.json()["path"], made.json()["size"]) == (201, name, len(data))
    assert put(contributor_client, number, "x.txt", b"yy").status_code == 200
    listed = contributor_client.get(f"{BASE}/runs/{number}/artifacts?prefix=model/").json()
    assert [file["path"] for file in listed["artifacts"]] == ["model/a b.bin", "model/ü.txt"] and listed["next"] is None
    page = contributor_client.get(f"{BASE}/runs/{number}/artifacts?limit=1").json()
    following = contributor_client.get(f"{BASE}/runs/{number}/artifacts", {"limit": 5, "after": page["next"]}).json()
    assert [file["path"] for file in (*page["artifacts"], *following["artifacts"])] == [
        "model/a b.bin",
        "model/ü.txt",
        "x.txt",
    ]
    answer = got(contributor_client, number, "model/ü.txt")
    assert (answer.status_code, content(answer), answer.headers["Content-Length"]) == (200, b"", "0")
    answer = got(contributor_client, number, "x.txt")
    assert content(answer) == b"yy"
    assert (
        answer.headers["Content-Disposition"].startswith("attachment")
        and "sandbox" in answer.headers["Content-Security-Policy"]
    )
    assert (answer.headers["X-Content-Type-Options"], answer.headers["Content-Type"]) == (
        "nosniff",
        "application/octet-stream",
    )
    assert got(contributor_client, number, "x.txt", **{"If-None-Match": answer.headers["ETag"]}).status_code == 304


@pytest.mark.parametrize("size", [10, 3_000_000])
@pytest.mark.parametrize(
    ("asked", "part"),
    [("bytes=0-3", slice(0, 4)), ("bytes=4-", slice(4, None)), ("bytes=-3", slice(-3, None)), ("bytes=2-999999999", slice(2, None)),
     ("bytes=0-0", slice(0, 1)), ("bytes=-999999999", slice(0, None))],
)  # fmt: skip
def test_a_part_of_a_file(
    contributor_client: Client, begun: dict[str, Any], size: int, asked: str, part: slice
) -> None:
    data = bytes(n % 251 for n in range(size))
    put(contributor_client, begun["number"], "a.bin", data)
    answer = got(contributor_client, begun["number"], "a.bin", Range=asked)
    start, end, _ = part.indices(size)
    assert (answer.status_code, content(answer)) == (206, data[part])
    assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/{size}"
    assert answer.headers["Content-Length"] == str(end - start)


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"Range": "bytes=10-"}, 416), ({"Range": "bytes=-0"}, 416), ({"Range": "bytes=5-2"}, 200), ({"Range": "bytes=0-1,3-4"}, 200),
     ({"Range": "lines=0-1"}, 200), ({"Range": "bytes=-"}, 200), ({"Range": "bytes=0-1", "If-Range": '"other"'}, 200),
     ({"Range": "bytes=" + "9" * 400 + "-"}, 200)],
)  # fmt: skip
def test_what_is_no_part(
    contributor_client: Client, begun: dict[str, Any], headers: dict[str, str], status: int
) -> None:
    put(contributor_client, begun["number"], "a.bin", b"0123456789")
    answer = got(contributor_client, begun["number"], "a.bin", **headers)
    assert answer.status_code == status
    if status == 416:
        assert answer.headers["Content-Range"] == "bytes */10"
        problem(answer, 416, "Range", "10 bytes")
    else:
        assert content(answer) == b"0123456789"


@pytest.mark.parametrize(
    "path",
    ["../x", "../../etc/passwd", "/etc/passwd", "a/../../x", "C:\\x", "C:/x", "a\\..\\b", "a\nb", "a\x7fb", "..", ".", "a//b", "a/", "x" * 1025,
     "a/" * 120 + "b", "é" * 128, "%2e%2e/x\n"],
)  # fmt: skip
def test_a_hostile_name_is_refused_and_finds_nothing(
    contributor_client: Client, begun: dict[str, Any], path: str
) -> None:
    body = problem(put(contributor_client, begun["number"], path, b"data"), 422, "path", "")
    assert body["path"]
    assert got(contributor_client, begun["number"], path).status_code == 404
    assert not Artifact.objects.exists()


def test_an_encoded_name_is_a_name_and_leads_nowhere(contributor_client: Client, begun: dict[str, Any]) -> None:
    """``%252e%252e`` arrives as the text ``%2e%2e``: an odd name for a file, and nothing more."""
    address = f"{BASE}/runs/{begun['number']}/artifacts/content?path=%252e%252e/x"
    assert contributor_client.put(address, b"1", content_type="application/octet-stream").json()["path"] == "%2e%2e/x"
    assert contributor_client.get(f"{BASE}/runs/{begun['number']}/artifacts/content?path=%2e%2e/x").status_code == 404
    nul = f"{BASE}/runs/{begun['number']}/artifacts/content?path=a%00b"
    assert contributor_client.put(nul, b"1", content_type="application/octet-stream").status_code == 404


def test_a_file_that_is_over_the_limit_or_was_not_kept(
    contributor_client: Client, begun: dict[str, Any], settings
) -> None:
    make_artifact(Run.objects.get(), "skipped.bin", None, skipped="It was a device.")
    problem(got(contributor_client, begun["number"], "skipped.bin"), 410, "path", "device")
    settings.OUTPUT_MAX_BYTES = 5
    problem(put(contributor_client, begun["number"], "a", b"123456"), 413, "path", "RUNSTEAD_OUTPUT_MAX_BYTES")
    put(contributor_client, begun["number"], "a", b"12345")
    problem(put(contributor_client, begun["number"], "a/b", b""), 422, "path", "is a file")


def test_the_snapshot_and_its_zip(contributor_client: Client, workspace: Workspace, begun: dict[str, Any]) -> None:
    run = make_run(workspace, status=RunStatus.COMPLETED)
    found = contributor_client.get(f"{BASE}/runs/{run.number}/snapshot").json()
    assert [file["path"] for file in found["files"]] == ["configs/base.yaml", "train.py"] and found["files_count"] == 2
    answer = contributor_client.get(f"{BASE}/runs/{run.number}/snapshot/zip")
    assert content(answer).startswith(b"PK") and answer.headers["Content-Type"] == "application/zip"
    for end in ("snapshot", "snapshot/zip"):
        assert contributor_client.get(f"{BASE}/runs/{begun['number']}/{end}").status_code == 404


# Who asks.


def test_every_answer_bears_the_version(
    contributor_client: Client, visitor_client: Client, workspace: Workspace
) -> None:
    for client, path in (
        (contributor_client, "/api/v1/me"),
        (visitor_client, "/api/v1/me"),
        (contributor_client, "/api/v1/nowhere/runs"),
        (contributor_client, "/api/none"),
    ):
        assert client.get(path).headers["Runstead-Version"] == VERSION
    from pathlib import Path

    assert f'version = "{VERSION}"' in (Path(__file__).parents[2] / "pyproject.toml").read_text()


def test_me_and_my_workspaces(
    contributor: User,
    contributor_client: Client,
    workspace: Workspace,
    foreign_workspace: Workspace,
    person: Callable[..., User],
) -> None:
    assert contributor_client.get("/api/v1/me").json()["token"] is None
    assert [row["slug"] for row in contributor_client.get("/api/v1/workspaces").json()["workspaces"]] == ["vision"]
    made = send(contributor_client, "POST", "/tokens", {"name": "ci", "scope": "reader", "days": 7}).json()
    headers = {"Authorization": f"Bearer {made['token']}"}
    me = Client().get("/api/v1/me", headers=headers).json()
    assert (me["email"], me["token"]["scope"], me["token"]["workspace"]) == (contributor.email, "reader", "vision")
    found = Client().get("/api/v1/workspaces", headers=headers).json()["workspaces"]
    assert [(row["slug"], row["role"]) for row in found] == [("vision", "reader")]
    contributor.is_active = False
    contributor.save()
    assert Client().get("/api/v1/me", headers=headers).status_code == 401


def test_a_large_body_is_refused_as_such(contributor_client: Client, workspace: Workspace, settings) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
    problem(
        send(contributor_client, "POST", "/runs/interactive", {"experiment": "e", "notes": "x" * 200}),
        413,
        "body",
        "100 bytes",
    )


def test_a_run_says_why_it_waits(contributor_client: Client, workspace: Workspace) -> None:
    target = make_target(workspace)
    run = make_run(workspace, target=target, status=RunStatus.QUEUED)
    assert contributor_client.get(f"{BASE}/runs/{run.number}").json()["waiting_for"] == "Starting."
    ComputeTarget.objects.filter(pk=target.pk).update(quarantined_at=timezone.now(), quarantine_reason="5 runs failed.")
    words = contributor_client.get(f"{BASE}/runs/{run.number}").json()["waiting_for"]
    assert (
        words
        == f"{target.name} is quarantined: 5 runs failed. Nothing new starts until an owner resumes it: runstead resume {target.name}."
    )
