"""Interactive runs whose client is not heard of: marked, ended, taken up again; others left alone."""

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from runs import outside, silence
from runs.models import MetricSeries, Run
from runs.silence import Silence
from runs.status import EndReason, RunStatus
from studio.workspaces.models import Workspace
from tests.runs.factory import make_run
from tests.runs.test_detail import page

pytestmark = pytest.mark.django_db


@pytest.fixture
def run(workspace: Workspace) -> Run:
    return outside.begin(workspace, None, "by-hand", heartbeat=True)


def ago(run: Run, **delta: float) -> Run:
    Run.objects.filter(pk=run.pk).update(heard_at=timezone.now() - timedelta(**delta))
    run.refresh_from_db()
    return run


def look(run: Run) -> Run:
    silence.mark(timezone.now())
    run.refresh_from_db()
    return run


def test_a_silent_run_is_marked_then_ended_and_goes_on_with_its_next_word(run: Run, settings) -> None:
    settings.SILENT_RUN_HOURS = 24
    assert look(ago(run, seconds=110)).unreachable_since is None
    marked = look(ago(run, seconds=130))
    assert (marked.status, marked.unreachable_since) == (RunStatus.RUNNING, marked.heard_at)
    assert look(ago(run, hours=23)).status == RunStatus.RUNNING
    ended = look(ago(run, hours=25))
    assert (ended.status, ended.reason, ended.ended_at) == (RunStatus.FAILED, EndReason.CLIENT_LOST, ended.heard_at)
    assert "Nothing was heard of its program for 24 h" in ended.error["message"]
    outside.take_records(ended, b'{"k":"loss","v":1.0}')
    back = look(ended)
    assert (back.status, back.reason, back.error, back.ended_at, back.unreachable_since) == (
        "Running",
        "",
        {},
        None,
        None,
    )
    assert MetricSeries.objects.get(run=back).count == 1


def test_a_sign_of_life_takes_the_mark_away_and_an_end_may_be_told_late(run: Run) -> None:
    look(ago(run, minutes=5))
    outside.hear([run])
    run.refresh_from_db()
    assert run.unreachable_since is None and timezone.now() - run.heard_at < timedelta(seconds=5)
    ended = look(ago(run, hours=25))
    assert outside.finish(ended, RunStatus.COMPLETED).status == RunStatus.COMPLETED
    assert look(ago(ended, hours=25)).status == RunStatus.COMPLETED
    outside.hear([ended])
    assert look(ended).status == RunStatus.COMPLETED  # only what silence ended is taken up by a word


def test_clients_that_promise_nothing_are_left_alone_and_zero_ends_nothing(
    run: Run, workspace: Workspace, settings
) -> None:
    other = outside.begin(workspace, None, "by-hand")
    Run.objects.filter(pk=other.pk).update(started_at=timezone.now() - timedelta(days=9))
    outside.hear([other])
    assert look(other).heard_at is None
    assert (other.status, other.unreachable_since) == (RunStatus.RUNNING, None)
    settings.SILENT_RUN_HOURS = 0
    assert look(ago(run, days=300)).status == RunStatus.RUNNING


def test_time_in_which_the_studio_heard_nobody_counts_for_nobody(run: Run) -> None:
    now = timezone.now()
    ago(run, hours=60)
    looking = Silence(now)

    def look_at(seconds: float) -> str:
        looking.look(now + timedelta(seconds=seconds))
        run.refresh_from_db()
        return run.status

    assert [look_at(seconds) for seconds in (2, 50, 100)] == ["Running"] * 3  # the reconciler has just begun
    assert look_at(400) == "Running"  # it slept
    assert look_at(399) == "Running"  # the clock was set back
    assert [look_at(seconds) for seconds in (450, 500)] == ["Running"] * 2
    assert look_at(525) == "Failed"


def test_the_page_says_for_how_long_nothing_was_heard(
    run: Run, workspace: Workspace, contributor_client: Client
) -> None:
    assert "heard of" not in page(contributor_client.get(f"/vision/runs/{run.number}"))
    Run.objects.filter(pk=run.pk).update(unreachable_since=timezone.now() - timedelta(minutes=5))
    shown = page(contributor_client.get(f"/vision/runs/{run.number}"))
    assert "Its program has not been heard of for 5 m" in shown
    assert "Without a word for 24 h the run ends as Failed." in shown
    mlflow = outside.begin(workspace, None, "by-hand", started_at=timezone.now() - timedelta(hours=3))
    shown = page(contributor_client.get(f"/vision/runs/{mlflow.number}"))
    assert "Nothing was heard of its program for 3 h" in shown
    assert "Cancel" in shown
    outside.take_records(mlflow, b'{"k":"loss","v":1.0}')
    assert "Nothing was heard" not in page(contributor_client.get(f"/vision/runs/{mlflow.number}"))


def test_one_call_speaks_for_many_and_passes_over_what_is_not_its_own(
    run: Run, workspace: Workspace, foreign_workspace: Workspace, contributor_client: Client
) -> None:
    foreign = outside.begin(foreign_workspace, None, "x", heartbeat=True)
    script = make_run(workspace, status=RunStatus.RUNNING)
    ended = outside.begin(workspace, None, "by-hand", heartbeat=True)
    outside.finish(ended, RunStatus.CANCELED)
    for row in (run, foreign):
        look(ago(row, minutes=5))
    numbers = [run.number, script.number, ended.number, 99, -1, 2**70]
    answer = contributor_client.post(
        "/api/v1/vision/runs/heartbeat", {"runs": numbers}, content_type="application/json"
    )
    assert answer.json() == {"runs": {str(run.number): "Running", str(ended.number): "Canceled"}}
    foreign.refresh_from_db()
    assert foreign.unreachable_since is not None
    run.refresh_from_db()
    assert run.unreachable_since is None
    many = contributor_client.post(
        "/api/v1/vision/runs/heartbeat", {"runs": [1] * 1001}, content_type="application/json"
    )
    assert (many.status_code, many.json()["errors"][0]["field"]) == (422, "runs")


def test_a_late_heartbeat_takes_up_no_run_that_its_client_has_ended_meanwhile(run: Run, settings) -> None:
    """The client wakes, and its heartbeat and its end arrive together."""
    settings.SILENT_RUN_HOURS = 24
    lost = look(ago(run, hours=25))
    for status in (RunStatus.COMPLETED, RunStatus.FAILED):
        late = Run.objects.get(pk=lost.pk)
        assert late.reason == EndReason.CLIENT_LOST
        outside.finish(lost, status)
        outside.hear([late])
        lost.refresh_from_db()
        assert (lost.status, late.status) == (status, status)
        Run.objects.filter(pk=lost.pk).update(status=RunStatus.FAILED, reason=EndReason.CLIENT_LOST)
        lost.refresh_from_db()
