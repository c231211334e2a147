"""The Logs tab, the fragments of its viewer, and who may see them."""

import re

import pytest
from django.db import transaction
from django.utils import timezone

from environments.models import BuildStatus
from runs import logs
from runs.models import LogStream, Run
from runs.status import RunStatus
from studio.blobs import BlobStore
from tests.runs.factory import make_build, make_run, make_target, make_version

PARTS = ["", "/lines", "/poll", "/search?q=x", "/problem", "/line?n=1", "/raw"]


def written(data: bytes, **owner) -> LogStream:
    stream = LogStream.objects.create(**owner)
    with transaction.atomic():
        logs.append(stream, 0, data)
    return stream


@pytest.fixture
def run(workspace):
    return make_run(workspace, status=RunStatus.RUNNING)


@pytest.fixture
def base(run) -> str:
    return f"/vision/runs/{run.number}/logs"


def numbers(html: str) -> list[int]:
    return [int(number) for number in re.findall(r'id="L(\d+)"', html)]


def counted(count: int) -> bytes:
    return b"".join(b"line %d\n" % number for number in range(1, count + 1))


def test_the_tab_of_a_running_run_shows_the_end_of_its_log(reader_client, run, base):
    written(counted(2500), run=run)
    page = reader_client.get(base)
    html = page.content.decode()
    assert page.status_code == 200
    assert numbers(html) == list(range(2001, 2501))
    assert 'data-lines="2500"' in html and 'data-live="1"' in html and 'data-block="2"' in html
    assert 'role="log"' in html and 'aria-live="off"' in html


def test_a_finished_run_opens_at_the_top_and_a_failed_one_at_its_error(reader_client, run, base):
    written(counted(1500) + b"ERROR: first\n" + counted(2000), run=run)
    for status, error, block, start in [
        (RunStatus.COMPLETED, {}, 0, 1),
        (RunStatus.FAILED, {}, 1, 1501),
        (RunStatus.FAILED, {"line": 3100}, 3, 3100),
        (RunStatus.FAILED, {"line": 99_999}, 1, 1501),
    ]:
        type(run).objects.filter(pk=run.pk).update(status=status, error=error)
        html = reader_client.get(base).content.decode()
        assert f'data-block="{block}"' in html
        assert f'data-start="{start}"' in html
        assert 'data-live="0"' in html


def test_an_empty_log_says_why(reader_client, run, base):
    assert "The script has not written anything yet." in reader_client.get(base).content.decode()
    type(run).objects.filter(pk=run.pk).update(status=RunStatus.QUEUED, waiting_for="2 runs ahead")
    assert "2 runs ahead" in reader_client.get(base).content.decode()
    type(run).objects.filter(pk=run.pk).update(status=RunStatus.COMPLETED)
    assert "Nothing was written." in reader_client.get(base).content.decode()


def test_a_log_that_was_cut_says_how_much_is_missing(reader_client, run, base):
    stream = written(b"x" * 1000 + b"\n", run=run)
    LogStream.objects.filter(pk=stream.pk).update(total=3_001_001)
    type(run).objects.filter(pk=run.pk).update(status=RunStatus.COMPLETED)
    assert "3 MB more were written and not kept" in reader_client.get(base).content.decode()


def test_what_a_script_prints_is_no_markup_of_the_page(reader_client, run, base):
    written(b"<script>alert(1)</script><img src=x onerror=alert(1) hx-get=/x>\n", run=run)
    for html in (reader_client.get(base).content.decode(), reader_client.get(f"{base}/lines").json()["html"]):
        assert "<script>alert" not in html and "<img" not in html
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


def test_a_block_of_lines(reader_client, run, base):
    written(counted(2500), run=run)
    found = reader_client.get(f"{base}/lines?from=1001&count=1000").json()
    assert (found["first"], found["lines"], found["live"]) == (1001, 2500, True)
    assert numbers(found["html"]) == list(range(1001, 2001))
    assert numbers(reader_client.get(f"{base}/lines?from=2400&count=99999").json()["html"]) == list(range(2400, 2501))
    assert numbers(reader_client.get(f"{base}/lines?from=-3&count=x").json()["html"]) == list(range(1, 1001))
    assert reader_client.get(f"{base}/lines?from=9999").json()["html"] == ""


def test_a_poll_brings_what_is_new_and_nothing_else(reader_client, run, base):
    stream = written(b"one\ntw", run=run)
    assert reader_client.get(f"{base}/poll?after=6&from=2").status_code == 204
    logs.append(stream, 6, b"o\nthree\n")
    found = reader_client.get(f"{base}/poll?after=6&from=2").json()
    assert (found["lines"], found["size"], found["live"]) == (3, 14, True)
    assert numbers(found["html"]) == [2, 3]
    assert "<span>two</span>" in found["html"]
    logs.append(stream, 14, counted(5000))
    assert "html" not in reader_client.get(f"{base}/poll?after=14&from=3").json()


def test_the_last_poll_says_that_the_log_has_ended(reader_client, run, base):
    written(b"one\n", run=run)
    assert reader_client.get(f"{base}/poll?after=4&from=1").status_code == 204
    type(run).objects.filter(pk=run.pk).update(status=RunStatus.COMPLETED)
    assert reader_client.get(f"{base}/poll?after=4&from=1").json()["live"] is False


def test_search_and_problems(reader_client, run, base):
    written(counted(50) + b"WARNING: careful\n" + counted(50), run=run)
    assert reader_client.get(f"{base}/search?q=LINE 7").json() == {"size": 799, "lines": [7, 58], "more": False}
    assert reader_client.get(f"{base}/search?q=line&limit=2&after=60").json()["lines"] == [61, 62]
    assert reader_client.get(f"{base}/search?q=line&limit=1&after=60&direction=back").json()["lines"] == [59]
    refused = reader_client.get(f"{base}/search?q={'x' * 501}")
    assert refused.status_code == 422 and "500 or fewer" in refused.json()["error"]
    assert reader_client.get(f"{base}/problem?after=0").json() == {"line": 51, "kind": "w"}
    assert reader_client.get(f"{base}/problem?after=51").json() == {"line": None, "kind": ""}


def test_a_long_line_in_full(reader_client, run, base):
    written(b"short\n" + b"y" * 300_000 + b"\n10%\r20%\n", run=run)
    found = reader_client.get(f"{base}/line?n=2").json()
    assert (found["html"].count("y"), found["rest"]) == (262_144, 300_000 - 262_144)
    assert (
        reader_client.get(f"{base}/line?n=3").json()["html"] == '<span class="up">10%</span><span class="up">20%</span>'
    )
    assert reader_client.get(f"{base}/line?n=4").status_code == 404
    download = reader_client.get(f"{base}/raw?n=2")
    assert b"".join(download.streaming_content) == b"y" * 300_000


@pytest.mark.parametrize("sealed", [False, True])
def test_the_raw_download_is_byte_exact_and_inert(reader_client, run, base, sealed):
    data = b"<html><script>x</script>\x00\xff\r\n" * 100_000
    stream = written(data, run=run)
    if sealed:
        logs.seal(stream, BlobStore(run.workspace_id))
    answer = reader_client.get(f"{base}/raw")
    assert answer.streaming
    assert b"".join(answer.streaming_content) == data
    assert answer["Content-Type"] == "text/plain; charset=utf-8"
    assert answer["Content-Disposition"] == f'attachment; filename="run-{run.number}-log.txt"'
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Content-Length"] == str(len(data))
    assert answer["Content-Security-Policy"].startswith("sandbox")


def test_any_file_of_the_logs_folder_can_be_chosen(reader_client, run, base):
    written(b"main\n", run=run)
    written(b"other\n", run=run, name="logs/rank1.txt")
    assert "other" in reader_client.get(f"{base}?stream=logs/rank1.txt").content.decode()
    assert "other" in reader_client.get(f"{base}/lines?stream=logs/rank1.txt").json()["html"]
    assert reader_client.get(f"{base}/raw?stream=logs/rank1.txt")["Content-Disposition"].endswith('rank1.txt"')
    for missing in ("logs/none.txt", "../../etc/passwd", "\x00"):
        assert reader_client.get(f"{base}/lines", {"stream": missing}).status_code == 404


def test_lost_bytes_are_said(reader_client, run, base):
    stream = written(b"one\n", run=run)
    stream.chunks.all().delete()
    page = reader_client.get(base)
    assert page.status_code == 200 and "are missing" in page.content.decode()
    answer = reader_client.get(f"{base}/lines")
    assert answer.status_code == 410 and "are missing" in answer.json()["error"]


def test_the_overview_shows_the_end_of_the_log(reader_client, run):
    written(counted(1200), run=run)
    html = reader_client.get(f"/vision/runs/{run.number}").content.decode()
    assert numbers(html)[-1] == 1200


def test_the_log_of_a_build(reader_client, workspace):
    build = make_build(make_target(workspace), make_version(None), BuildStatus.BUILDING)
    written(b"+ Create the environment\nerror: no such package\n", build=build)
    base = f"/vision/environments/builds/{build.pk}/log"
    assert "+ Create the environment" in reader_client.get(base).content.decode()
    found = reader_client.get(f"{base}/lines").json()
    assert (found["errors"], found["live"]) == (1, True)
    assert b"".join(reader_client.get(f"{base}/raw").streaming_content).startswith(b"+ Create")


@pytest.mark.parametrize("tab", ["", "/logs"])
def test_while_its_environment_is_built_a_run_shows_the_log_of_the_build(reader_client, workspace, tab):
    target, version = make_target(workspace), make_version(None)
    build = make_build(target, version, BuildStatus.BUILDING)
    written(b"+ Install 3 packages\n", build=build)
    run = make_run(workspace, status=RunStatus.PREPARING, target=target, environment=version, build=build)
    written(b"the script's own\n", run=run)
    address = f"/vision/runs/{run.number}"
    html = reader_client.get(address + tab).content.decode()
    assert "Build of base:1" in html and "+ Install 3 packages" in html
    build.status, build.ended_at = BuildStatus.READY, timezone.now()
    build.save()
    Run.objects.filter(pk=run.pk).update(status=RunStatus.RUNNING, started_at=timezone.now())
    polled = reader_client.get(f"{address}/header?tab={tab.strip('/') or 'overview'}&was=Preparing")
    assert polled.headers["HX-Refresh"] == "true"
    assert "the script&#x27;s own" in reader_client.get(address + tab).content.decode()


def test_only_members_see_a_log(visitor_client, stranger_client, reader_client, foreign_workspace, run, base):
    written(b"secret\n", run=run)
    foreign = make_run(foreign_workspace)
    build = make_build(make_target(foreign_workspace), make_version(None), BuildStatus.READY)
    for part in PARTS:
        assert visitor_client.get(base + part).status_code == 302
        assert stranger_client.get(base + part).status_code == 404
        assert reader_client.get(base + part).status_code == 200
        assert reader_client.get(f"/foreign/runs/{foreign.number}/logs{part}").status_code == 404
        assert reader_client.get(f"/vision/environments/builds/{build.pk}/log{part}").status_code == 404
        assert reader_client.get(f"/vision/runs/{run.number + 99}/logs{part}").status_code == 404
        assert reader_client.post(base + part).status_code == 405
