"""A log followed while it grows: bounded in time and in number, also by a real server."""

import http.client
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.signals import request_finished
from django.db import close_old_connections
from django.http import HttpResponse
from django.test import Client

from runs import logs
from runs.following import PLACES, Places, follow
from runs.models import LogStream, Run
from runs.status import RunStatus
from studio.workspaces.models import Workspace
from tests.live import Studio
from tests.runs.factory import make_run
from tests.waiting import until


@pytest.fixture
def run(workspace: Workspace) -> Run:
    return make_run(workspace, status=RunStatus.RUNNING)


def write(run: Run, data: bytes) -> None:
    stream, _ = LogStream.objects.get_or_create(run=run, name="log")
    logs.append(stream, stream.size, data)


def over(answer: HttpResponse) -> None:
    """What a server does when an answer was sent or cut; its connection to the database is the test's own here."""
    request_finished.disconnect(close_old_connections)
    try:
        answer.close()
    finally:
        request_finished.connect(close_old_connections)


def test_bytes_come_as_they_are_written_and_the_end_with_the_run(run: Run) -> None:
    pieces = follow(run, "log", 2, 30)
    write(run, b"first\n")
    assert next(pieces) == b"rst\n"
    write(run, b"second\n")
    assert next(pieces) == b"second\n"
    write(run, b"third\n")
    Run.objects.filter(pk=run.pk).update(status=RunStatus.COMPLETED)
    assert list(pieces) == [b"third\n"]


def test_its_time_ends_it(run: Run) -> None:
    write(run, b"x")
    began = time.monotonic()
    assert list(follow(run, "log", 0, 0.5)) == [b"x"]
    assert time.monotonic() - began < 5


def test_places_are_few_given_back_and_free_again_after_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    places = Places()
    first, second = places.take(2, 60), places.take(2, 60)
    assert first and second and places.take(2, 60) is None
    first()
    first()
    third = places.take(2, 60)
    assert third and places.take(2, 60) is None
    now = time.monotonic()
    monkeypatch.setattr("runs.following.time.monotonic", lambda: now + 91)
    assert places.take(2, 60)


def test_whoever_comes_late_is_told_what_to_do_instead(contributor_client: Client, run: Run, settings) -> None:
    settings.MAX_FOLLOWERS = 1
    path = f"/api/v1/vision/runs/{run.number}/log/follow"
    held = contributor_client.get(f"{path}?seconds=300")
    answer = contributor_client.get(f"{path}?offset=5")
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "2")
    assert f"runs/{run.number}/log?offset=5" in answer.json()["errors"][0]["fix"]
    over(held)  # never begun, and yet given back
    write(run, b"abc")
    Run.objects.filter(pk=run.pk).update(status=RunStatus.COMPLETED)
    answer = contributor_client.get(path)
    assert b"".join(answer.streaming_content) == b"abc"
    assert (answer.headers["Runstead-Log-Size"], answer.headers["Content-Type"]) == ("3", "application/octet-stream")
    over(answer)
    assert PLACES.take(1, 0)


@pytest.mark.parametrize("query", ["offset=-1", "seconds=0", "seconds=301", "offset=x", f"offset={2**70}"])
def test_a_bad_question_is_refused(contributor_client: Client, run: Run, query: str) -> None:
    assert contributor_client.get(f"/api/v1/vision/runs/{run.number}/log/follow?{query}").status_code == 422
    assert contributor_client.get(f"/api/v1/vision/runs/{run.number}/log/follow?name=none").status_code == 404


# A real server.

SCRIPT = """
import time
open("outputs/own.txt", "w").write("the script's")
for n in range(25):
    print("line", n, time.time(), flush=True)
    time.sleep(0.2)
"""


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    live = Studio(
        tmp_path_factory.mktemp("studio") / "data", RUNSTEAD_WEB_WORKERS="1", RUNSTEAD_MAX_FOLLOWERS="2"
    ).start()
    yield live
    assert live.stop() == 0, live.output.read_text()[-3000:]


def ask(studio: Studio, path: str, method: str = "GET", body: bytes | None = None) -> http.client.HTTPResponse:
    token = json.loads((studio.data_dir / "local-client.json").read_text())["token"]
    connection = http.client.HTTPConnection("127.0.0.1", studio.port, timeout=30)
    connection.request(method, f"/api/v1/default/{path}", body, headers={"Authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    answer.connection = connection  # type: ignore[attr-defined]
    return answer


def test_a_real_server_sends_lines_within_a_second_and_keeps_threads_for_others(studio: Studio, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    (pk,) = studio.control("submit", folder=str(tmp_path))
    (row,) = studio.control("runs", ids=[pk])
    number = row["number"]
    until(lambda: studio.control("runs", ids=[pk])[0]["status"] == "Running", 60)
    answer = ask(studio, f"runs/{number}/log/follow")
    assert (answer.status, answer.headers["Transfer-Encoding"]) == (200, "chunked")
    late: list[float] = []
    text = b""

    def read() -> None:
        nonlocal text
        while piece := answer.read1():
            text += piece
            told = piece.rstrip().rpartition(b"\n")[2].split()
            if len(told) == 3:
                late.append(time.time() - float(told[2]))

    reading = threading.Thread(target=read)
    reading.start()
    other = ask(studio, f"runs/{number}/log/follow")
    refused = ask(studio, f"runs/{number}/log/follow")
    assert refused.status == 429
    assert ask(studio, f"runs/{number}").status == 200
    other.connection.close()  # type: ignore[attr-defined]
    other.close()
    # Whoever went away leaves their place.
    until(lambda: ask(studio, f"runs/{number}/log/follow?seconds=1").status == 200, 10)
    reading.join(60)
    assert text.decode().split("\n")[:-1][0].startswith("line 0 ") and text.count(b"\n") == 25
    late.sort()
    assert late and late[len(late) // 2] < 1.5, late


def test_what_a_client_keeps_with_a_running_run_stays_when_its_outputs_come_home(
    studio: Studio, tmp_path: Path
) -> None:
    (tmp_path / "train.py").write_text(SCRIPT.replace("range(25)", "range(15)"))
    (pk,) = studio.control("submit", folder=str(tmp_path))
    number = studio.control("runs", ids=[pk])[0]["number"]
    until(lambda: studio.control("runs", ids=[pk])[0]["status"] == "Running", 60)
    for path in ("sent.txt", "outputs/own.txt"):
        assert ask(studio, f"runs/{number}/artifacts/content?path={path}", "PUT", b"the client's").status == 201
    assert ask(studio, f"runs/{number}/records", "POST", b'{"k": "late", "v": 1}\n').status == 200
    until(lambda: studio.control("runs", ids=[pk])[0]["status"] == "Completed", 60)
    kept = {
        path: ask(studio, f"runs/{number}/artifacts/content?path={path}").read()
        for path in ("sent.txt", "outputs/own.txt")
    }
    assert kept == {"sent.txt": b"the client's", "outputs/own.txt": b"the script's"}
    assert json.loads(ask(studio, f"runs/{number}/metrics").read())["series"][0]["name"] == "late"
