"""What the session picks up of a long queue."""

import threading

import pytest

from environments.models import BuildStatus
from runs.errands import Errands
from runs.models import Run
from runs.queue import PREPARED_AHEAD
from runs.session import Session
from runs.status import RunStatus
from tests.runs.factory import make_build, make_run, make_target, make_version

pytestmark = pytest.mark.django_db


def test_runs_that_wait_for_a_build_do_not_keep_others_from_free_slots(workspace):
    target = make_target(workspace)
    version = make_version(workspace)
    build = make_build(target, version, BuildStatus.BUILDING, attempt="0" * 32)
    waiting = [
        make_run(workspace, status=RunStatus.PREPARING, target=target, environment=version, build=build)
        for _ in range(target.slots + PREPARED_AHEAD)
    ]
    other = make_run(workspace, status=RunStatus.NOT_STARTED, target=target, environment=version)
    session = Session(target, 1, None, Errands("test", lambda: None), threading.Event())
    session.load()
    assert [run.pk for run in session.work] == [other.pk]
    build.status = BuildStatus.FAILED
    build.save()
    session.load()
    assert {run.pk for run in session.work} == {run.pk for run in waiting}, "they are told of their build's end"


def test_a_launched_run_is_always_looked_at(workspace):
    target = make_target(workspace)
    version = make_version(workspace)
    for _ in range(target.slots + PREPARED_AHEAD):
        make_run(workspace, status=RunStatus.NOT_STARTED, target=target, environment=version)
    last = make_run(workspace, status=RunStatus.QUEUED, target=target, environment=version)
    Run.objects.filter(pk=last.pk).update(launched=True, attempt="1" * 32)
    session = Session(target, 1, None, Errands("test", lambda: None), threading.Event())
    session.load()
    assert last.pk in {run.pk for run in session.work}
