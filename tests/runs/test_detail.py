"""A run's page says what is true, from rows alone, and lets members change what they may."""

import html
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from environments.models import BuildStatus
from runs.config import ScriptRunConfig
from runs.header import Header, header
from runs.models import MetricSeries, Run, RunEvent, RunParameter, RunTag
from runs.status import EndReason, RunStatus
from runs.tags import format_tags
from runs.text import markdown
from studio.workspaces.models import Workspace
from tests.runs.factory import make_artifact, make_build, make_run, make_target, make_version


def page(response: Any) -> str:
    return html.unescape(response.content.decode())


def ended(workspace: Workspace, reason: EndReason, **fields: Any) -> Run:
    now = timezone.now()
    fields.setdefault("started_at", now - timedelta(seconds=252))
    return make_run(workspace, status=reason.status, reason=reason, ended_at=now, **fields)


@pytest.fixture
def running(workspace: Workspace) -> Run:
    now = timezone.now()
    run = make_run(
        workspace,
        status=RunStatus.RUNNING,
        created_at=now - timedelta(seconds=161),
        prepared_at=now - timedelta(seconds=110),
        started_at=now - timedelta(seconds=100),
    )
    RunEvent.objects.create(run=run, new=RunStatus.PREPARING, at=now - timedelta(seconds=151))
    return run


def states(head: Header) -> list[tuple[str, str]]:
    return [(phase.name, phase.state) for phase in head.phases]


def test_the_phases_of_a_running_run_have_their_times(running: Run) -> None:
    head = header(running)
    assert states(head) == [("Queued", "done2"), ("Prepared", "done2"), ("Running", "now"), ("Upload outputs", "todo")]
    assert [round(phase.seconds or 0) for phase in head.phases[:3]] == [20, 41, 100]  # 10 s twice queued


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (RunStatus.NOT_STARTED, "Queued"),
        (RunStatus.PREPARING, "Preparing"),
        (RunStatus.QUEUED, "Queued"),
        (RunStatus.FINALIZING, "Upload outputs"),
    ],
)
def test_exactly_one_phase_is_on_while_a_run_is_active(workspace: Workspace, status: RunStatus, expected: str) -> None:
    run = make_run(workspace, status=status)
    if status != RunStatus.NOT_STARTED:
        RunEvent.objects.create(run=run, new=RunStatus.PREPARING)
    if status in {RunStatus.QUEUED, RunStatus.FINALIZING}:
        run.prepared_at = timezone.now()
    if status == RunStatus.FINALIZING:
        run.started_at = run.finalizing_at = timezone.now()
    assert [name for name, state in states(header(run)) if state == "now"] == [expected]


@pytest.mark.parametrize(
    ("reason", "started", "phase"),
    [
        (EndReason.EXIT_CODE, True, ("Running", "broke")),
        (EndReason.CANCELED, True, ("Running", "cut")),
        (EndReason.CANCELED, False, ("Queued", "cut")),
        (EndReason.ENVIRONMENT_FAILED, False, ("Prepared", "broke")),
    ],
)
def test_the_phase_in_which_a_run_broke_is_not_shown_as_well_done(
    workspace: Workspace, reason: EndReason, started: bool, phase: tuple[str, str]
) -> None:
    run = ended(workspace, reason)
    if not started:
        run.started_at = run.finalizing_at = None
    if reason is EndReason.ENVIRONMENT_FAILED:
        RunEvent.objects.create(run=run, new=RunStatus.PREPARING)
    found = states(header(run))
    assert [item for item in found if item[1] in {"broke", "cut"}] == [phase]
    # Nothing that never happened is ticked.
    assert started or found[-1] == ("Upload outputs", "todo")


def test_progress_needs_a_metric_and_a_known_total(running: Run, workspace: Workspace) -> None:
    MetricSeries.objects.create(run=running, workspace=workspace, name="epoch", last=41, count=41)
    assert header(running).phases[2].progress is None
    RunParameter.objects.create(run=running, workspace=workspace, name="epochs", value="90", head="90", number=90)
    head = header(running)
    progress = head.phases[2].progress
    assert progress is not None and (progress.text, progress.percent) == ("epoch 41 of 90", 46)
    assert head.title.startswith("Running 46 % · ")
    assert round(head.phases[2].left or 0) == round(100 * 49 / 41)


def test_the_header_polls_fast_then_slower_and_stops_at_the_end(running: Run, contributor_client: Client) -> None:
    assert 'hx-trigger="every 2s"' in page(contributor_client.get("/vision/runs/1"))
    Run.objects.update(created_at=timezone.now() - timedelta(minutes=11))
    fragment = contributor_client.get("/vision/runs/1/header?tab=overview&was=Running")
    assert 'hx-trigger="every 5s"' in page(fragment)
    assert "HX-Trigger" not in fragment.headers
    Run.objects.update(status=RunStatus.COMPLETED, reason=EndReason.EXITED, ended_at=timezone.now())
    last = contributor_client.get("/vision/runs/1/header?tab=overview&was=Running")
    assert "every" not in page(last).partition("</ol>")[0]
    assert "Run 1: Completed" in last.headers["HX-Trigger"]
    assert page(last).startswith("<title>Completed · ")


def test_the_outputs_tab_is_loaded_again_when_the_outputs_are_there(running: Run, contributor_client: Client) -> None:
    assert "HX-Refresh" not in contributor_client.get("/vision/runs/1/header?tab=outputs").headers
    Run.objects.update(status=RunStatus.FAILED, reason=EndReason.EXIT_CODE)
    assert contributor_client.get("/vision/runs/1/header?tab=outputs").headers["HX-Refresh"] == "true"


def test_a_failed_run_names_cause_exit_code_last_line_and_the_way_there(
    workspace: Workspace, contributor_client: Client
) -> None:
    error = {"type": "ValueError", "message": "bad <shape>", "line": 5204, "file": "src/my model.py", "file_line": 37}
    ended(workspace, EndReason.EXIT_CODE, exit_code=1, error=error)
    text = page(contributor_client.get("/vision/runs/1"))
    assert "Failed after 4 m 12 s: ValueError: bad <shape>" in text
    assert "Exit code 1." in text
    assert 'href="/vision/runs/1/logs#L5204">Go to line 5,204<' in text
    assert 'href="/vision/runs/1/snapshot/src/my%20model.py#L37">src/my model.py, line 37<' in text
    assert "correct the script, and run again" in text
    assert "<shape>" not in contributor_client.get("/vision/runs/1").content.decode()


@pytest.mark.parametrize("reason", [reason for reason in EndReason if reason.status == RunStatus.FAILED])
def test_every_failure_has_a_cause_and_something_to_try(workspace: Workspace, reason: EndReason) -> None:
    head = header(ended(workspace, reason))
    (banner,) = head.banners
    assert banner.kind == "fail" and banner.title and banner.advice


def test_a_signal_is_named(workspace: Workspace) -> None:
    (banner,) = header(ended(workspace, EndReason.SIGNAL, signal=11)).banners
    assert "SIGSEGV" in banner.title and "Signal 11 (SIGSEGV)." in banner.text


def test_a_time_limit_says_which(workspace: Workspace) -> None:
    config = ScriptRunConfig(script="train.py", max_run_duration_seconds=21600)
    (banner,) = header(ended(workspace, EndReason.TIMED_OUT, config=config)).banners
    assert (banner.kind, banner.title) == ("warn", "Canceled after 4 m 12 s: The time limit of 6 h was reached")


def test_a_failed_environment_leads_to_its_build_log(workspace: Workspace) -> None:
    build = make_build(make_target(workspace), make_version(None), BuildStatus.FAILED)
    (banner,) = header(ended(workspace, EndReason.ENVIRONMENT_FAILED, build=build)).banners
    assert banner.links == ((f"/vision/environments/builds/{build.pk}/log", "Open the build log"),)


def test_silence_is_said_and_is_no_ending(running: Run) -> None:
    running.unreachable_since = timezone.now() - timedelta(seconds=65)
    head = header(running)
    assert head.banners[0].kind == "warn" and "local has not answered for 1 m 5 s" in head.banners[0].title
    assert head.every and head.can_cancel


def test_a_waiting_run_says_what_for(workspace: Workspace, reader_client: Client) -> None:
    make_run(workspace, status=RunStatus.QUEUED, waiting_for="All 2 slots of local are taken. 3 runs ahead.")
    assert "All 2 slots of local are taken. 3 runs ahead." in page(reader_client.get("/vision/runs/1"))


def test_changed_parameters_are_marked_against_the_run_it_was_copied_from(
    workspace: Workspace, reader_client: Client
) -> None:
    first = make_run(workspace)
    second = make_run(workspace, copied_from=first)
    for run, values in (
        (first, {"lr": "0.1", "seed": "1", "old": "x"}),
        (second, {"lr": "0.4", "seed": "1", "new": "y"}),
    ):
        for name, value in values.items():
            RunParameter.objects.create(run=run, workspace=workspace, name=name, value=value, head=value)
    text = " ".join(page(reader_client.get("/vision/runs/2")).split())
    assert "0.4 <small>was 0.1 in #1</small>" in text
    assert "y <small>new since #1</small>" in text
    assert "not set</span> <small>was x in #1</small>" in text
    assert "<dd>1</dd>" in text


def test_name_notes_and_tags_are_edited_in_place(running: Run, contributor_client: Client) -> None:
    url = "/vision/runs/1/edit"
    assert contributor_client.post(url, {"name": "  new   name ", "tab": "logs"})["Location"] == "/vision/runs/1/logs"
    contributor_client.post(url, {"tags": 'ls, stage=final, "a, b"'})
    contributor_client.post(url, {"notes": "# why\r\nbecause"})
    running.refresh_from_db()
    assert (running.name, running.notes) == ("new name", "# why\nbecause")
    assert {tag.name: tag.value for tag in running.tags.all()} == {"ls": None, "stage": "final", "a, b": None}


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        ({"name": " "}, "Name: use 1 to 255 characters."),
        ({"name": "x" * 256}, "Name: use 1 to 255 characters."),
        ({"notes": "x" * 100_001}, "Notes: use at most 100,000 characters."),
        ({"tags": '"open'}, "Tags: A double quote is not closed."),
    ],
)
def test_a_refused_edit_changes_nothing_and_says_why(
    running: Run, contributor_client: Client, sent: dict, says: str
) -> None:
    RunTag.objects.create(run=running, workspace=running.workspace, name="kept")
    before = (running.name, running.notes)
    assert says in page(contributor_client.post("/vision/runs/1/edit", sent, follow=True))
    running.refresh_from_db()
    assert (running.name, running.notes) == before
    assert format_tags({tag.name: tag.value for tag in running.tags.all()}) == "kept"


def test_going_back_never_leads_to_another_site(running: Run, contributor_client: Client) -> None:
    answer = contributor_client.post("/vision/runs/1/edit", {"name": "x", "tab": "//evil.test"})
    assert answer["Location"] == "/vision/runs/1"


def test_cancel_is_asked_once_says_the_grace_and_is_a_row(
    running: Run, contributor_client: Client, contributor: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr("runs.submission.ring", lambda pk: None)
    assert "has 10 s to save" in page(contributor_client.get("/vision/runs/1"))
    assert contributor_client.get("/vision/runs/1/cancel").status_code == 405
    contributor_client.post("/vision/runs/1/cancel")
    running.refresh_from_db()
    assert (running.status, running.canceled_by) == (RunStatus.CANCEL_REQUESTED, contributor)
    assert "Cancel run" not in page(contributor_client.get("/vision/runs/1"))


def test_canceling_what_has_ended_says_so(workspace: Workspace, contributor_client: Client) -> None:
    ended(workspace, EndReason.EXITED)
    assert "has ended already" in page(contributor_client.post("/vision/runs/1/cancel", follow=True))


def test_archive_and_restore(running: Run, contributor_client: Client) -> None:
    contributor_client.post("/vision/runs/1/archive", {"archived": "1"})
    running.refresh_from_db()
    assert running.archived_at is not None
    contributor_client.post("/vision/runs/1/archive", {"archived": "0"})
    running.refresh_from_db()
    assert running.archived_at is None


def test_a_reader_sees_everything_and_changes_nothing(running: Run, reader_client: Client) -> None:
    text = page(reader_client.get("/vision/runs/1"))
    assert "data-edit-open" not in text and "Run again" not in text and "/cancel" not in text
    for action in ("edit", "cancel", "archive"):
        assert reader_client.post(f"/vision/runs/1/{action}").status_code == 403


PAGES = (
    "",
    "/header",
    "/outputs",
    "/snapshot",
    "/snapshot/train.py",
    "/configuration",
    "/raw/snapshot/train.py",
    "/snapshot.zip",
)


@pytest.mark.parametrize("part", PAGES)
def test_another_workspaces_run_does_not_exist(
    part: str, foreign_workspace: Workspace, workspace: Workspace, owner_client: Client
) -> None:
    make_run(foreign_workspace, target=make_target(foreign_workspace))
    assert owner_client.get(f"/foreign/runs/1{part}").status_code == 404
    assert owner_client.get(f"/vision/runs/1{part}").status_code == 404
    assert owner_client.get(f"/vision/runs/{10**30}{part}").status_code == 404


def test_every_tab_is_a_page_with_its_head_and_its_counts(workspace: Workspace, reader_client: Client) -> None:
    run = ended(workspace, EndReason.EXITED)
    make_artifact(run, "outputs/a.txt", b"hi")
    MetricSeries.objects.create(run=run, workspace=workspace, name="loss", last=0.1, count=3)
    for tab in ("outputs", "snapshot", "configuration"):
        text = page(reader_client.get(f"/vision/runs/1/{tab}"))
        assert f'href="/vision/runs/1/{tab}" aria-current="page"' in text
        assert 'Metrics<span class="n">1</span>' in text and 'Outputs<span class="n">1</span>' in text
        assert "<title>Completed · digits-1 · #1</title>" in text


def test_configuration_shows_what_was_submitted_and_only_names_of_secrets(
    workspace: Workspace, reader_client: Client
) -> None:
    config = ScriptRunConfig(
        script="train.py", arguments=("--name", "a b"), variables={"A": "1"}, secrets={"TOKEN": "hf-read"}
    )
    make_run(workspace, config=config, attempt="ab" * 16, properties={"azureml.git.branch": "main"}, log_complete=True)
    text = page(reader_client.get("/vision/runs/1/configuration"))
    for shown in (
        "python train.py --name 'a b'",
        "secret: hf-read",
        "ab" * 16,
        "main",
        "size and SHA-256 equal",
        "runstead run ./digits",
        '"arguments": [',
    ):
        assert shown in text


def test_the_same_code_is_named(workspace: Workspace, reader_client: Client) -> None:
    make_run(workspace)
    make_run(workspace)
    make_run(workspace, files={"train.py": b"other"})
    assert 'Same code as <a href="/vision/runs/1/snapshot">#1</a>' in page(reader_client.get("/vision/runs/2/snapshot"))
    assert "Same code as" not in page(reader_client.get("/vision/runs/3/snapshot"))


EVIL = "<img src=x onerror=alert(1)>"


def test_names_tags_parameters_and_errors_are_text(workspace: Workspace, contributor_client: Client) -> None:
    error = {"type": EVIL, "message": EVIL}
    run = ended(workspace, EndReason.EXIT_CODE, name=EVIL, notes=EVIL, error=error, waiting_for=EVIL)
    RunTag.objects.create(run=run, workspace=workspace, name=EVIL, value=EVIL)
    RunParameter.objects.create(run=run, workspace=workspace, name=EVIL, value=EVIL, head=EVIL)
    RunEvent.objects.create(run=run, detail=EVIL)
    for part in ("", "/header", "/configuration"):
        assert EVIL not in contributor_client.get(f"/vision/runs/1{part}").content.decode()


@pytest.mark.parametrize(
    "text",
    [
        EVIL,
        "[x](javascript:alert(1))",
        "[x](JaVaScRiPt:alert(1))",
        "<a href='x' onclick=alert(1)>x</a>",
        "![x](http://evil.test/pixel.png)",
        "[x](data:text/html,<script>)",
        "<style>*{display:none}</style>",
        "`<script>`",
    ],
)
def test_notes_in_markdown_carry_no_code_and_load_nothing(text: str) -> None:
    shown = markdown(text)
    for bad in ("<script", "<img", "<style", 'href="javascript', 'href="data', "onclick=alert(1)>x</a>"):
        assert bad not in shown.lower()


def test_notes_in_markdown_keep_their_form() -> None:
    assert markdown("# A\n\n**b** `c`\n\n| x |\n|---|\n| 1 |") == (
        "<h1>A</h1>\n<p><strong>b</strong> <code>c</code></p>\n<table>\n<thead>\n<tr>\n<th>x</th>\n</tr>\n</thead>\n"
        "<tbody>\n<tr>\n<td>1</td>\n</tr>\n</tbody>\n</table>\n"
    )


@pytest.mark.parametrize("piece", [">", "[", "![[", "*a ", "- ", "|a", "_a__ ", "[a]("])
def test_hostile_markdown_ends_quickly(piece: str) -> None:
    import time

    began = time.process_time()
    for length in (20_000, 1_000_000):
        markdown((piece * length)[:length])
    assert time.process_time() - began < 5
