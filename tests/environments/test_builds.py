"""Builds as the attendant makes them: through a real agent, by a real supervisor, with real uv."""

import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection

from environments import builds
from environments.doctor import examine
from environments.models import Build, BuildStatus, ComputeTarget, Environment
from environments.registry import find
from environments.setup import first_start, load_curated
from environments.target import health, open_target
from tests.environments.building import ended, make, only_wheels, version_of
from tests.waiting import until


@pytest.fixture
def target(workspace, tmp_path, monkeypatch) -> ComputeTarget:
    """The local target below a folder of this test; packages come from a folder of wheels alone."""
    only_wheels(tmp_path / "wheels", monkeypatch)
    return ComputeTarget.objects.create(workspace=workspace, name="local", slots=2)


def test_a_package_is_installed_and_what_is_there_is_recorded(target, workspace):
    build = builds.ensure(target, version_of(workspace, "Tiny.Tool>=1"))
    with open_target(target) as host:
        make(build, host)
        assert (build.status, build.error, build.attempts) == (BuildStatus.READY, "", 1)
        assert build.lock == "tiny-tool==1.0\n"
        assert build.size > 0
        assert build.started_at < build.ended_at
        assert [item["key"] for item in host.envs()] == [build.key]
    assert subprocess.check_output([Path(build.python).parent / "tiny-tool"], text=True) == "tiny\n"


def test_order_and_spelling_of_packages_find_the_same_build(target, workspace):
    one = builds.ensure(target, version_of(workspace, "Tiny_Tool", "six"))
    two = builds.ensure(target, version_of(workspace, "six", "tiny-tool  # again", name="other"))
    assert one.pk == two.pk


@pytest.mark.django_db(transaction=True)
def test_ten_that_ask_at_once_share_one_build(target, workspace):
    version = version_of(workspace, "tiny-tool")
    found, start = [], threading.Barrier(10)

    def ask():
        try:
            start.wait()
            found.append(builds.ensure(target, version).pk)
        finally:
            connection.close()

    threads = [threading.Thread(target=ask) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 10
    assert len(set(found)) == 1
    assert Build.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_ten_attendants_make_one_attempt(target, workspace):
    pk = builds.ensure(target, version_of(workspace, "tiny-tool")).pk
    made, start = [], threading.Barrier(10)

    def begin():
        try:
            build = Build.objects.get(pk=pk)
            start.wait()
            made.append(builds.new_attempt(build))
        finally:
            connection.close()

    threads = [threading.Thread(target=begin) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [False] * 9 + [True]
    assert Build.objects.get(pk=pk).attempts == 1


def test_a_build_sent_twice_starts_once(target, workspace):
    build = builds.ensure(target, version_of(workspace, "tiny-tool"))
    with open_target(target) as host:
        builds.new_attempt(build)
        for _ in range(3):
            builds.begin(build, host, target)
        record = ended(host, build)["exit"]
        log = host.read(build.attempt, "log").decode()
    assert builds.finish(build, record) == BuildStatus.READY
    assert log.count("+ Create a virtual environment") == 1


def test_a_package_that_does_not_exist_fails_with_its_name_in_the_first_error_line(target, workspace):
    build = builds.ensure(target, version_of(workspace, "nosuch-package-anywhere"))
    with open_target(target) as host:
        make(build, host)
        assert build.status == BuildStatus.FAILED
        assert "nosuch-package-anywhere" in build.error
        assert "\n" not in build.error
        assert host.envs() == []
        # Repaired by a wheel that appears: the retry is a new attempt.
        first = build.attempt
        assert builds.retry(build)
        assert (build.status, build.error, build.attempts) == (BuildStatus.WAITING, "", 0)
        make(build, host)
    assert build.attempt != first
    assert not builds.retry(builds.ensure(target, version_of(workspace, "tiny-tool")))


def test_a_killed_builder_is_taken_over_and_its_leftovers_are_no_environment(target, workspace):
    build = builds.ensure(target, version_of(workspace, "tiny-tool"))
    with open_target(target) as host:
        builds.new_attempt(build)
        builds.begin(build, host, target)
        state = until(lambda: host.inspect([build.attempt])[build.attempt]["state"], 10, what="the build runs")
        owner = Path(settings.LOCAL_ROOT) / "builds" / build.attempt / "claim" / "owner.json"
        import json

        os.kill(json.loads(owner.read_text())["pid"], signal.SIGKILL)
        assert ended(host, build)["exit"] is None
        host.kill("builds", build.attempt)
        assert state["phase"] == "running"
        first = build.attempt
        assert builds.finish(build, None) == BuildStatus.WAITING
        assert host.envs() == []
        make(build, host)
    assert build.status == BuildStatus.READY
    assert build.attempt != first
    assert build.attempts == 2
    assert [p.name for p in (Path(settings.LOCAL_ROOT) / "envs" / build.key).iterdir() if p.is_dir()] == [
        build.attempt[:12]
    ]


def test_a_builder_killed_three_times_is_a_failure_that_a_person_can_retry(target, workspace):
    build = builds.ensure(target, version_of(workspace, "tiny-tool"))
    for expected in (BuildStatus.WAITING, BuildStatus.WAITING, BuildStatus.FAILED):
        builds.new_attempt(build)
        assert builds.finish(build, None) == expected
    assert "killed 3 times" in build.error
    assert builds.retry(build)


def test_an_attempt_that_was_replaced_changes_nothing(target, workspace):
    build = builds.ensure(target, version_of(workspace, "tiny-tool"))
    builds.new_attempt(build)
    late = Build.objects.get(pk=build.pk)
    builds.finish(build, None)
    builds.new_attempt(build)
    record = {"reason": "exited", "ended_at": 1.0, "result": {"python": "/evil/python", "lock": "", "size": 1}}
    assert builds.finish(late, record) == BuildStatus.BUILDING
    assert Build.objects.get(pk=build.pk).attempt == build.attempt


def test_an_environment_that_was_deleted_on_the_target_is_built_again_for_the_next_run(target, workspace):
    build = builds.ensure(target, version_of(workspace, "tiny-tool"))
    with open_target(target) as host:
        make(build, host)
        assert builds.verify(target, host.envs()) == 0
        Path(build.python).unlink()
        assert builds.verify(target, host.envs()) == 1
        build.refresh_from_db()
        # It has failed at no time, so no run that waits is failed for it: the attendant tries again.
        assert (build.status, build.ended_at) == (BuildStatus.FAILED, None)
        builds.retry(build)
        make(build, host)
        assert build.status == BuildStatus.READY


def test_a_build_cannot_read_the_studios_keys_where_the_kernel_keeps_it_away(target, workspace):
    key = Path(settings.DATA_DIR) / "keys"
    key.mkdir(exist_ok=True)
    (key / "planted").write_text("secret")
    build = builds.ensure(target, version_of(workspace, "tiny-tool"))
    builds.new_attempt(build)
    with open_target(target) as host:
        if host.probe()["isolation"]["tier"] != "landlock":
            pytest.skip("this kernel offers no Landlock")
        spec = builds.spec(build, target, str(settings.LOCAL_ROOT))
        assert str(key) in spec["isolate"]
        spec["steps"] = [{"title": "Look", "argv": ["cat", str(key / "planted")], "env": {}, "cwd": "."}]
        host.prepare("builds", build.attempt, spec, None)
        host.launch([("builds", build.attempt)])
        record = ended(host, build)["exit"]
        log = host.read(build.attempt, "log").decode()
    assert record["reason"] == "exit_code"
    assert "secret" not in log
    assert "Permission denied" in log


def test_an_index_with_credentials_is_masked_in_the_log_and_not_kept_in_the_specification(
    target, workspace, monkeypatch
):
    monkeypatch.setenv("PIP_INDEX_URL", "https://ada:swordfish-1@mirror.example/simple")
    build = builds.ensure(target, version_of(workspace, "tiny-tool"))
    builds.new_attempt(build)
    spec = builds.spec(build, target, "/root-of-target")
    assert spec["secrets"] == {"PIP_INDEX_URL": "https://ada:swordfish-1@mirror.example/simple"}
    assert "swordfish" not in str({**spec, "secrets": {}})


def test_the_first_start_makes_the_target_and_the_curated_environments_once(workspace):
    for _ in range(2):
        first_start(workspace)
    row = ComputeTarget.objects.get(workspace=workspace)
    assert (row.name, row.slots) == ("local", len(os.sched_getaffinity(0)))
    assert find(workspace, "azureml-MINIMAL").name == "AzureML-Minimal"
    names = set(Environment.objects.filter(workspace=None).values_list("name", flat=True))
    assert names >= {"python", "AzureML-Minimal", "AzureML-Tutorial", "scikit-learn"}
    assert all(row.versions.count() == 1 for row in Environment.objects.filter(workspace=None))


def test_an_administrator_adds_curated_environments_as_files(workspace, settings, tmp_path):
    settings.DATA_DIR = tmp_path
    folder = tmp_path / "curated"
    folder.mkdir()
    (folder / "house.json").write_text('{"name": "house", "definition": {"packages": ["six"]}}')
    load_curated()
    (folder / "house.json").write_text('{"name": "house", "definition": {"packages": ["six==1.16.0"]}}')
    load_curated()
    assert [v.number for v in find(workspace, "HOUSE").versions.all()] == [2, 1]
    (folder / "bad.json").write_text('{"name": "bad", "definition": {"packages": ["-e ."]}}')
    with pytest.raises(Exception, match=r"bad\.json: definition: packages: Line 1"):
        load_curated()


def test_registering_an_unchanged_definition_reuses_the_version(workspace):
    one = version_of(workspace, "six")
    assert version_of(workspace, "six").pk == one.pk
    assert version_of(workspace, "six==1.0").number == 2


def test_the_connection_test_times_each_step_and_keeps_what_it_finds(target):
    steps = examine(target)
    assert all(step.ok for step in steps)
    assert [step.title for step in steps][:3] == ["Settings", "Python", "Agent"]
    assert all(step.milliseconds >= 0 for step in steps)
    target.refresh_from_db()
    assert target.facts["cpus"] >= 1
    assert health(target).words == "Online"


def test_a_target_that_cannot_be_reached_says_where_it_failed_and_what_to_do(target):
    blocked = Path(settings.LOCAL_ROOT).parent / "a-file"
    blocked.write_text("")
    target.options = {"root": str(blocked / "root")}
    target.save()
    step = examine(target)[-1]
    assert (step.title, step.ok) == ("Agent", False)
    assert step.fix
    target.refresh_from_db()
    assert health(target).words == "Not reachable"
    assert target.last_error
