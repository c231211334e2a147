"""When a target is cleaned, of what, and what its page says about it."""

from datetime import timedelta

import pytest
from django.utils import timezone

from environments import builds, cleaning
from environments.models import Build, BuildStatus, ComputeTarget
from runs.models import Run
from runs.status import RunStatus
from studio.credentials import identity
from studio.models import AuditEvent
from tests.runs.factory import make_build, make_run, make_target, make_version

pytestmark = pytest.mark.django_db
NOW = timezone.now()


@pytest.mark.parametrize(
    ("at", "full", "expected"),
    [
        (None, False, True),
        (NOW - timedelta(hours=5), False, False),
        (NOW - timedelta(hours=7), False, True),
        (NOW - timedelta(minutes=20), True, False),
        (NOW - timedelta(minutes=40), True, True),
        (NOW + timedelta(days=400), False, True),  # the clock was set back
    ],
)
def test_it_is_cleaned_each_six_hours_and_sooner_when_the_disk_is_nearly_full(at, full, expected):
    target = ComputeTarget(cleaning={"at": at.isoformat()} if at else {})
    assert cleaning.due(target, NOW, full=full) is expected


def test_a_wish_makes_it_due_at_once():
    target = ComputeTarget(cleaning={"at": NOW.isoformat()}, clean_requested_at=NOW)
    assert cleaning.due(target, NOW, full=False)


@pytest.mark.parametrize(
    ("disk", "expected"),
    [
        (None, False),
        ({}, False),
        ({"free": 50e9, "total": 100e9}, False),
        ({"free": 4e9, "total": 100e9}, True),
        ({"free": 1.9e9, "total": 10e9}, True),
        ({"free": 50e9, "total": 100e9, "files_free": 10, "files_total": 1000}, True),
        ({"free": 50e9, "total": 100e9, "files_free": 0, "files_total": 0}, False),  # btrfs counts no files
    ],
)
def test_a_disk_is_nearly_full_by_share_by_size_or_by_its_number_of_files(disk, expected):
    assert cleaning.nearly_full(disk) is expected


def test_only_environments_that_nobody_used_and_nobody_waits_for_are_retired(workspace):
    target = make_target(workspace, options={"cleaning": {"environment_days": 30}})
    long_ago = NOW - timedelta(days=31)

    def ready(name: str, **fields) -> Build:
        version = make_version(workspace, name)
        fields = {"used_at": long_ago, "ended_at": long_ago, "python": "/x/python", **fields}
        return make_build(target, version, **fields)

    unused, never = ready("unused"), ready("never", used_at=None)
    recent, image = ready("recent", used_at=NOW - timedelta(days=29)), ready("image", image="sha256:1")
    waited_for, ran = ready("waited"), ready("ran")
    make_run(workspace, target=target, environment=waited_for.version, build=waited_for, status=RunStatus.QUEUED)
    make_run(
        workspace, target=target, environment=ran.version, build=ran, status=RunStatus.COMPLETED, ended_at=long_ago
    )
    elsewhere = make_build(
        make_target(workspace, "other", options={"root": "/srv/other"}),
        unused.version,
        used_at=long_ago,
        ended_at=long_ago,
        python="/x",
    )
    retired = cleaning.retire(target, NOW)
    assert {build.pk for build in retired} == {unused.pk, never.pk, ran.pk}
    for build in (recent, image, waited_for, elsewhere):
        build.refresh_from_db()
        assert build.status == BuildStatus.READY
    unused.refresh_from_db()
    # At no time: no run fails for it, the next one has it built again.
    assert (unused.status, unused.ended_at) == (BuildStatus.FAILED, None)
    assert "not used for 30 days" in unused.error
    asked = cleaning.wish(target, ["a" * 32], full=False)
    assert set(asked["keep_envs"]) == {build.key for build in (recent, image, waited_for)}

    cleaning.settle(retired, [unused.key])
    for build in (unused, never):
        build.refresh_from_db()
    assert (unused.status, unused.python) == (BuildStatus.FAILED, "")
    assert (never.status, never.python, never.error, never.ended_at) == (BuildStatus.READY, "/x/python", "", long_ago)


def test_the_wish_names_the_studio_the_policy_and_what_is_being_built(workspace):
    target = make_target(workspace, options={"cleaning": {"keep_days": 3, "cache_bytes": 5e9}})
    build = builds.ensure(target, make_version(workspace))
    builds.new_attempt(build)
    asked = cleaning.wish(target, ["a" * 32], full=False)
    assert asked == {
        "studio": identity(),
        "keep_runs": ["a" * 32, build.attempt],
        "keep_envs": [build.key],
        "run_days": 3,
        "build_days": 3,
        "environment_days": 60,
        "cache_bytes": 5e9,
    }
    assert cleaning.wish(target, [], full=True)["cache_bytes"] == 0
    assert len(identity()) == 16


def test_what_another_workspace_needs_below_the_same_root_stays(workspace, foreign_workspace):
    ours, theirs = make_target(workspace), make_target(foreign_workspace)
    elsewhere = make_target(workspace, "elsewhere", options={"root": "/srv/elsewhere"})
    for target in (theirs, elsewhere):
        make_build(target, make_version(None, str(target.pk)))
    wish = cleaning.wish(ours, [], full=False)
    assert wish["keep_envs"] == [theirs.builds.get().key]
    assert set(cleaning.sharing(ours)) == {ours.pk, theirs.pk}


def test_a_wish_that_comes_while_it_is_cleaned_is_not_forgotten(workspace, owner):
    target = make_target(workspace)
    cleaning.request(target, owner)
    target.refresh_from_db()
    first = target.clean_requested_at
    cleaning.request(target, owner)
    cleaning.note(target, first, {"freed": 1})
    target.refresh_from_db()
    assert target.clean_requested_at not in {None, first}
    cleaning.note(target, target.clean_requested_at, {"freed": 2})
    target.refresh_from_db()
    assert (target.clean_requested_at, target.cleaning["freed"]) == (None, 2)


def test_an_owner_asks_for_a_cleaning_and_the_page_says_what_takes_the_space(
    owner_client, contributor_client, reader_client, workspace, foreign_workspace
):
    target = make_target(workspace)
    assert "Not looked at yet" in reader_client.get("/vision/compute/local").content.decode()
    assert contributor_client.post("/vision/compute/local/clean").status_code == 403
    assert owner_client.get("/vision/compute/local/clean").status_code == 405
    ComputeTarget.objects.create(workspace=foreign_workspace, name="theirs")
    assert owner_client.post("/vision/compute/theirs/clean").status_code == 404
    page = owner_client.post("/vision/compute/local/clean", follow=True).content.decode()
    assert "local is being cleaned" in page
    assert "Clean now" not in page
    assert AuditEvent.objects.get(action="target.clean").subject == "local"
    target.refresh_from_db()
    kind = {"bytes": 3_000_000, "count": 2, "oldest": 1.0, "newest": 2.0, "whole": False}
    found = {
        "kinds": {"runs": kind, "blobs": {**kind, "count": 1, "whole": True}, "lib": {**kind, "count": 0}},
        "freed": 1_500_000,
        "removed": {"runs": 1, "blobs": 7, "envs": 0},
        "failed": [{"path": "runs/x", "why": "Operation not permitted <b>"}],
        "unknown": {"a" * 32: NOW.isoformat()},
        "foreign": 2,
    }
    cleaning.note(target, target.clean_requested_at, found)
    page = owner_client.get("/vision/compute/local").content.decode()
    for words in ("Clean now", "at least", "1 run directory, 7 contents", "1 run directory here is not known",
                  "2 directories here belong to another studio", "Operation not permitted &lt;b&gt;"):  # fmt: skip
        assert words in page
    assert "In-run packages" not in page
    assert "Clean now" not in reader_client.get("/vision/compute/local").content.decode()


def test_a_cleaning_that_somebody_asked_for_is_work_even_when_the_bell_was_lost(workspace, owner):
    from runs.house import waiting_targets

    target = make_target(workspace)
    assert waiting_targets() == set()
    cleaning.request(target, owner)
    assert waiting_targets() == {target.pk}
    ComputeTarget.objects.filter(pk=target.pk).update(detached_at=timezone.now())
    assert waiting_targets() == set()
    assert not Run.objects.exists()
