"""A target cleaned by a real attendant through a real agent: what the database knows and the target holds, in every mixture."""

import json
import sys
from datetime import timedelta

import pytest
from django.utils import timezone

from environments import cleaning
from environments.models import BuildStatus, ComputeTarget
from environments.target import open_target
from runs import cleaning as cleaning_of_runs
from runs.models import Run
from runs.status import RunStatus
from studio.credentials import identity
from tests.environments.agent.test_cleaning import age
from tests.runs.factory import make_artifact, make_build, make_run, make_target, make_version
from tests.runs.test_building import attending
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def target(workspace, owner):
    target = make_target(workspace)
    cleaning.request(target, owner)
    return target


def lay_out(target: ComputeTarget, attempt: str, *, days: float, studio: str = "", argv: str = "/bin/true") -> None:
    """A directory on the target as old as that."""
    with open_target(target) as host:
        spec = {"attempt": attempt, "kind": "run", "argv": [argv], "token": "t", "studio": studio or identity()}
        host.prepare("runs", attempt, spec, None)
        root = host.hello()["root"]
    age(f"{root}/runs/{attempt}", days)


def cleaned(target: ComputeTarget) -> dict:
    """Have it cleaned by an attendant of its own; what was kept of that."""
    ComputeTarget.objects.filter(pk=target.pk).update(clean_requested_at=timezone.now())
    with attending(target):
        until(lambda: ComputeTarget.objects.get(pk=target.pk).clean_requested_at is None, 20)
    target.refresh_from_db()
    return target.cleaning


def there(target: ComputeTarget) -> set[str]:
    with open_target(target) as host:
        return set(host.list()["runs"])


def name(letter: str) -> str:
    return letter * 32


def test_a_run_that_waits_keeps_its_directory_and_one_that_has_ended_loses_it_and_says_so(workspace, target):
    waiting = make_run(workspace, target=target, status=RunStatus.QUEUED, attempt=name("1"), launched=False)
    Run.objects.filter(pk=waiting.pk).update(environment=None)
    ended = make_run(
        workspace,
        target=target,
        status=RunStatus.COMPLETED,
        attempt=name("2"),
        ended_at=timezone.now(),
        log_complete=False,
        launched=True,
    )
    make_artifact(ended, "model.bin", None, skipped="too large")
    young = make_run(
        workspace,
        target=target,
        status=RunStatus.COMPLETED,
        attempt=name("3"),
        ended_at=timezone.now(),
        log_complete=False,
        launched=True,
    )
    for run, days in ((waiting, 30), (ended, 8), (young, 6)):
        lay_out(target, run.attempt, days=days)
    ComputeTarget.objects.filter(pk=target.pk).update(enabled=False)
    found = cleaned(target)
    assert there(target) == {waiting.attempt, young.attempt}
    assert found["removed"]["runs"] == 1
    assert found["unknown"] == {}
    ended.refresh_from_db()
    young.refresh_from_db()
    assert ended.cleaned_at is not None
    assert young.cleaned_at is None
    (event,) = ended.events.all()
    assert event.detail == (
        "Its directory on the target was removed after 7 days. With it went the missing part of its log and 1 output "
        "that could not be collected."
    )


def test_what_the_database_does_not_know_is_shown_first_and_goes_later(target):
    unknown, recent = name("4"), name("5")
    lay_out(target, unknown, days=30)
    lay_out(target, recent, days=1)
    found = cleaned(target)
    assert there(target) == {unknown, recent}, "a restored database must not cost results that nobody has seen"
    assert set(found["unknown"]) == {unknown, recent}
    first = found["unknown"][unknown]
    assert cleaned(target)["unknown"][unknown] == first
    assert there(target) == {unknown, recent}
    noted = {attempt: (timezone.now() - timedelta(days=2)).isoformat() for attempt in (unknown, recent)}
    ComputeTarget.objects.filter(pk=target.pk).update(cleaning={**found, "unknown": noted})
    assert set(cleaned(target)["unknown"]) == {recent}
    assert there(target) == {recent}


def test_directories_of_another_studio_on_the_same_root_are_left_alone_and_counted(target):
    theirs = name("6")
    lay_out(target, theirs, days=400, studio="f" * 16)
    found = cleaned(target)
    noted = {theirs: (timezone.now() - timedelta(days=20)).isoformat()}
    assert (found["foreign"], found["unknown"]) == (1, {})
    ComputeTarget.objects.filter(pk=target.pk).update(cleaning={**found, "unknown": noted})
    assert cleaned(target)["foreign"] == 1
    assert there(target) == {theirs}


def test_an_environment_that_is_gone_is_said_to_be_and_one_in_use_stays_ready(workspace, target, settings):
    long_ago = timezone.now() - timedelta(days=90)
    with open_target(target) as host:
        host.hello()
    rows = []
    for title, days in (("old", 90), ("started", 2)):
        version = make_version(workspace, title)
        rows.append(make_build(target, version, python="/x", used_at=long_ago, ended_at=long_ago))
        home = settings.LOCAL_ROOT / "envs" / version.key
        home.mkdir()
        (home / ".runstead.json").write_text(json.dumps({"python": sys.executable, "size": 1}))
        age(home, days)
    found = cleaned(target)
    assert found["removed"]["envs"] == 1
    for row in rows:
        row.refresh_from_db()
    assert (rows[0].status, rows[0].ended_at, rows[0].python) == (BuildStatus.FAILED, None, "")
    assert rows[1].status == BuildStatus.READY, "the target knows better when a program of it was started"
    assert [path.name for path in (settings.LOCAL_ROOT / "envs").iterdir()] == [rows[1].key]


def test_a_refusal_is_shown_and_costs_the_attendant_nothing(target, settings):
    with open_target(target) as host:
        host.hello()
    lock = settings.LOCAL_ROOT / "agent" / "clean.lock"
    lock.mkdir()  # no file: it cannot be opened for writing
    found = cleaned(target)
    assert "directory" in found["error"].lower()
    lock.rmdir()
    assert "error" not in cleaned(target)


def test_a_nearly_full_disk_is_noticed_and_its_caches_go(workspace, settings, monkeypatch):
    target = make_target(workspace, cleaning={"at": (timezone.now() - timedelta(hours=1)).isoformat()})
    with open_target(target) as host:
        root = host.hello()["root"]
        host.put_blobs([])
    blob = settings.LOCAL_ROOT / "blobs" / "ab" / ("ab" * 32)
    blob.parent.mkdir()
    blob.write_bytes(b"x" * 50_000)
    age(settings.LOCAL_ROOT / "blobs", 1)
    assert str(settings.LOCAL_ROOT.resolve()) == root
    monkeypatch.setattr(cleaning_of_runs, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(cleaning_of_runs, "LOOK_SECONDS", 0.0)
    with attending(target):
        until(lambda: ComputeTarget.objects.get(pk=target.pk).facts, 20)
    assert blob.exists()
    monkeypatch.setattr(cleaning, "LEAST_SHARE", 2.0)  # as if nearly all of the disk were taken
    with attending(target) as attendant:
        until(lambda: attendant.wake() or not blob.exists(), 20, every=0.3)
        until(lambda: ComputeTarget.objects.get(pk=target.pk).cleaning.get("full"), 20)
