"""Builds that people give up: by a real attendant, through a real agent, while a real installer hangs."""

import os
import socket
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.db.models import Q

from environments import builds
from environments.agent import processes
from environments.definition import Definition
from environments.models import Build, BuildStatus, ComputeTarget, Environment, Lease
from environments.registry import register
from runs.attending import Attendant
from runs.building import Building
from runs.errands import Errands
from runs.models import Run
from runs.status import EndReason, RunStatus
from studio.models import AuditEvent
from tests.environments.test_builders import make_wheel
from tests.runs.factory import make_run, make_target, make_version
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def silent_index(monkeypatch):
    """A package index that takes the connection and never says a word: what a broken proxy does."""
    for name in [name for name in os.environ if name.startswith(("UV_", "PIP_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.getsockname()[1]}/simple")
        yield server


@pytest.fixture
def version(workspace):
    environment = Environment.objects.create(workspace=workspace, name="mine")
    return register(environment, Definition(packages=("tiny-tool",)).validated())


@contextmanager
def attending(target: ComputeTarget):
    token = Lease.take(target.pk, "test")
    assert token is not None
    attendant = Attendant(target.pk, token, "test")
    attendant.start()
    try:
        yield attendant
    finally:
        attendant.stop()
        attendant.join(20)
        assert not attendant.is_alive()


def builders(attempt: str) -> list[int]:
    """Living processes that work for an attempt of a build: its installer, and what that started."""
    found = []
    for pid in processes._pids():
        try:
            with Path(f"/proc/{pid}/environ").open("rb") as file:
                if f"/builds/{attempt}".encode() in file.read() and processes.stat_fields(pid)[0] != b"Z":
                    found.append(pid)
        except (OSError, TypeError):
            continue
    return found


def hangs(server: socket.socket, build: Build) -> str:
    """Wait until the installer has asked the index; the build's attempt."""
    server.settimeout(60)
    server.accept()
    build.refresh_from_db()
    assert build.status == BuildStatus.BUILDING
    assert builders(build.attempt)
    return build.attempt


def status_of(row) -> str:
    row.refresh_from_db()
    return str(row.status)


def test_a_hanging_build_is_cancelled_its_runs_fail_and_name_it_and_it_can_be_tried_again(
    workspace, contributor, version, silent_index, monkeypatch, tmp_path
):
    target = make_target(workspace)
    runs = [make_run(workspace, target=target, environment=version, status=RunStatus.NOT_STARTED) for _ in range(2)]
    with attending(target) as attendant:
        build = until(lambda: Build.objects.filter(target=target, key=version.key).first())
        attempt = hangs(silent_index, build)
        assert builds.cancel(build, contributor)
        assert not builds.cancel(build, contributor), "once is enough"
        attendant.wake()
        until(lambda: status_of(build) == BuildStatus.FAILED, 20)
        assert build.error == "The build was canceled by Cora Contributor."
        until(lambda: not builders(attempt))
        until(lambda: {status_of(run) for run in runs} == {RunStatus.FAILED}, 20)
        for run in runs:
            assert run.reason == EndReason.ENVIRONMENT_FAILED
            assert run.error["message"] == build.error
            assert run.error["build"] == build.pk
        note = AuditEvent.objects.get(action="build.cancel")
        assert (note.user, note.workspace, note.subject) == (contributor, workspace, "mine:1")

        make_wheel(tmp_path / "wheels")
        monkeypatch.delenv("PIP_INDEX_URL")
        monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        assert builds.retry(build)
        attendant.wake()
        until(lambda: status_of(build) == BuildStatus.READY, 60)
        assert (build.cancel_requested_at, build.canceled_by, build.error) == (None, None, "")
        assert subprocess.run([build.python, "-c", "import tiny_tool"], check=False).returncode == 0


def test_what_the_attendant_reads_anew_meanwhile_does_not_become_an_attempt_without_a_name(
    workspace, version, monkeypatch
):
    """The row as it was before the attempt was written may be read late, and into the attendant's own object."""
    target = make_target(workspace)
    build = builds.ensure(target, version)
    before = {"status": build.status, "attempt": build.attempt}
    token = Lease.take(target.pk, "test")
    errands, sent = Errands("test", lambda: None), []
    building = Building(target, token, None, errands)
    monkeypatch.setattr(builds, "begin", lambda row, host, target: sent.append(row.attempt))
    written = builds.new_attempt

    def write(row):
        found = written(row)
        vars(build).update(before)
        return found

    monkeypatch.setattr(builds, "new_attempt", write)
    building.tend(build)
    until(lambda: sent, 10)
    errands.end()
    assert len(sent[0]) == 32


def test_the_wish_survives_the_attendant_that_was_to_pass_it_on(workspace, contributor, version, silent_index):
    target = make_target(workspace)
    build = builds.ensure(target, version)
    with attending(target):
        attempt = hangs(silent_index, build)
    assert builders(attempt), "the build outlives the studio's end"
    builds.cancel(build, contributor)
    assert status_of(build) == BuildStatus.BUILDING
    with attending(target):
        until(lambda: status_of(build) == BuildStatus.FAILED, 20)
    assert build.error == "The build was canceled by Cora Contributor."
    assert not builders(attempt)


def test_a_build_that_was_taken_but_never_came_to_the_target_ends_without_starting(workspace, contributor, version):
    target = make_target(workspace)
    build = builds.ensure(target, version)
    builds.new_attempt(build)  # and here the studio died
    builds.cancel(build, contributor)
    with attending(target):
        until(lambda: status_of(build) == BuildStatus.FAILED, 20)
    assert build.error == "The build was canceled by Cora Contributor."
    assert not builders(build.attempt)


def test_a_build_that_was_laid_out_but_never_started_ends_as_cancelled(workspace, contributor, version, settings):
    from environments.target import open_target

    target = make_target(workspace)
    build = builds.ensure(target, version)
    builds.new_attempt(build)
    with open_target(target) as host:
        host.prepare("builds", build.attempt, builds.spec(build, target, host.hello()["root"]), None)
    builds.cancel(build, contributor)
    with attending(target):
        until(lambda: status_of(build) == BuildStatus.FAILED, 20)
    assert build.error == "The build was canceled by Cora Contributor."
    log = settings.LOCAL_ROOT / "builds" / build.attempt / "log"
    assert log.read_bytes() == b"", "not one step was begun"


def test_a_build_that_waits_is_cancelled_at_once_and_without_the_target(workspace, contributor):
    target = make_target(workspace)
    build = builds.ensure(target, make_version(workspace))
    assert builds.cancel(build, contributor)
    assert (status_of(build), build.error) == (BuildStatus.FAILED, "The build was canceled by Cora Contributor.")
    assert not builds.cancel(build, contributor)
    assert builds.retry(build)


def test_a_builder_that_was_killed_after_the_wish_is_not_replaced(workspace, contributor):
    target = make_target(workspace)
    build = builds.ensure(target, make_version(workspace))
    builds.new_attempt(build)
    builds.cancel(build, contributor)
    assert builds.finish(build, None) == BuildStatus.FAILED
    assert build.error == "The build was canceled by Cora Contributor."


def test_a_build_that_was_finished_before_the_wish_came_stays_ready(workspace, contributor):
    target = make_target(workspace)
    build = builds.ensure(target, make_version(workspace))
    builds.new_attempt(build)
    builds.cancel(build, contributor)
    record = {"reason": "exited", "result": {"python": "/usr/bin/python3", "version": "3.11.2", "lock": "", "size": 0}}
    assert builds.finish(build, record) == BuildStatus.READY


def test_who_may_cancel(reader_client, contributor_client, stranger_client, workspace, foreign_workspace):
    build = builds.ensure(make_target(workspace), make_version(workspace))
    path = f"/vision/environments/builds/{build.pk}/cancel"
    log = f"/vision/environments/builds/{build.pk}/log"
    assert "Cancel the build" in contributor_client.get(log).content.decode()
    assert "Cancel the build" not in reader_client.get(log).content.decode()
    assert reader_client.post(path).status_code == 403
    assert stranger_client.post(path).status_code == 404
    assert contributor_client.get(path).status_code == 405
    assert Build.objects.filter(Q(pk=build.pk), status=BuildStatus.WAITING).exists()
    page = contributor_client.post(path, follow=True).content.decode()
    assert "The build was canceled by Cora Contributor." in page
    assert "Cancel the build" not in page
    assert "The build is failed by now." in contributor_client.post(path, follow=True).content.decode()
    theirs = builds.ensure(ComputeTarget.objects.create(workspace=foreign_workspace, name="x"), build.version)
    assert contributor_client.post(f"/vision/environments/builds/{theirs.pk}/cancel").status_code == 404


def test_an_administrator_cancels_builds(client_of, person, workspace):
    client = client_of(person(None, "root@example.test", is_staff=True, is_superuser=True))
    build = builds.ensure(make_target(workspace), make_version(workspace))
    data = {"action": "cancel_all", "_selected_action": [build.pk]}
    page = client.post("/admin/environments/build/", data, follow=True).content.decode()
    assert "1 build is being canceled." in page
    assert status_of(build) == BuildStatus.FAILED
    assert not Run.objects.exists()
