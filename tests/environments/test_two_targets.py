"""One environment on two machines: resolved once, the same packages on both, whatever the index has since; and one build, however
many runs wait for it. A whole studio, two targets, one of them over SSH."""

import hashlib
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.environments.sshd import server
from tests.environments.wheels import serving, wheel
from tests.live import Studio
from tests.waiting import until

SCRIPT = "import sys, tiny_a, tiny_b\nprint(tiny_a.version, tiny_b.version, sys.prefix)\n"


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    wheel(folder, "tiny-a", "1.0", "tiny-b>=1")
    wheel(folder, "tiny-b", "1.0")
    wheel(folder, "tiny-slow", "1.0")
    return folder


@pytest.fixture(scope="module")
def index(wheels):
    with serving(wheels) as served:
        yield served


@pytest.fixture(scope="module")
def studio(tmp_path_factory, index):
    """Its targets ``here`` and ``there`` take packages from the test's index."""
    folder = tmp_path_factory.mktemp("two")
    found = Studio(folder / "data").start()
    with server(Path("/tmp/runstead-test-two-targets"), 2392, "twohost") as sshd:
        packages = {"index_url": index.address}
        found.control("target", root=str(folder / "here"), slots=10, packages=packages)
        found.control(
            "ssh_target", name="there", slots=10, credentials={"private_key": sshd.private_key}, packages=packages,
            **sshd.options(),
        )  # fmt: skip
        found.there = sshd.home / ".runstead"
        yield found
        found.stop()


@pytest.fixture
def project(tmp_path) -> Path:
    (tmp_path / "train.py").write_text(SCRIPT)
    return tmp_path


def versions(studio, ids) -> set[str]:
    rows = studio.wait_for(ids, seconds=180)
    assert {row["status"] for row in rows} == {"Completed"}, rows
    return {studio.control("text", id=number).rpartition(" ")[0] for number in ids}


def test_ten_waiting_runs_have_one_build_and_the_other_machine_gets_the_same_packages(studio, project, wheels, index):
    studio.control("environment", name="tiny", packages=["tiny-a"])
    ids = studio.submit(project, count=10, environment="tiny", target="here")
    assert versions(studio, ids) == {"1.0 1.0"}
    first = studio.control("build", environment="tiny", target="here")
    assert (first["status"], first["attempts"]) == ("Ready", 1)
    asked = index.asked["/files/tiny_a-1.0-py3-none-any.whl"]

    # What the index has since changes nothing: the lock counts.
    wheel(wheels, "tiny-b", "2.0")
    assert versions(studio, studio.submit(project, count=10, environment="tiny", target="there")) == {"1.0 1.0"}
    second = studio.control("build", environment="tiny", target="there")
    assert (second["status"], second["attempts"]) == ("Ready", 1)
    assert second["lock"] == first["lock"] == "tiny-a==1.0\ntiny-b==1.0\n"
    digest = hashlib.sha256((wheels / "tiny_b-1.0-py3-none-any.whl").read_bytes()).hexdigest()
    (lock,) = studio.control("locks", environment="tiny")
    assert f"sha256:{digest}" in lock
    assert asked >= 1 and second["python"] != first["python"]

    # Refreshed, it is resolved anew; the version before keeps what it had.
    assert studio.control("refresh", environment="tiny") == "tiny:2"
    assert versions(studio, studio.submit(project, environment="tiny", target="there")) == {"1.0 2.0"}
    assert versions(studio, studio.submit(project, environment="tiny:1", target="here")) == {"1.0 1.0"}


def test_two_targets_that_begin_at_once_resolve_once(studio, project, index):
    studio.control("environment", name="both", packages=["tiny-a", "tiny-b"])
    ids = [studio.submit(project, environment="both", target=name)[0] for name in ("here", "there")]
    assert len(versions(studio, ids)) == 1
    builds = [studio.control("build", environment="both", target=name) for name in ("here", "there")]
    assert builds[0]["lock"] == builds[1]["lock"] and [row["attempts"] for row in builds] == [1, 1]
    assert len(studio.control("locks", environment="both")) == 1


def test_a_builder_that_is_killed_is_taken_over_while_ten_runs_wait(studio, project, index):
    """The index answers late, so that the builder is met at work."""
    studio.control("environment", name="slow", packages=["tiny-a", "tiny-slow"])
    with index.held("/simple/tiny-slow/"):
        ids = studio.submit(project, count=10, environment="slow", target="there")
        until(lambda: index.asked["/simple/tiny-slow/"], 60, what="the builder asks the index")
        attempt = studio.control("build", environment="slow", target="there")["attempt"]
        owner = json.loads((studio.there / "builds" / attempt / "claim/owner.json").read_text())
        os.kill(owner["pid"], signal.SIGKILL)
    assert len(versions(studio, ids)) == 1
    build = studio.control("build", environment="slow", target="there")
    assert (build["status"], build["attempts"]) == ("Ready", 2)


def test_a_package_that_is_nowhere_ends_every_run_that_waited_with_that_line(studio, project):
    studio.control("environment", name="nowhere", packages=["tiny-a", "no-such-package-anywhere"])
    ids = studio.submit(project, count=5, environment="nowhere", target="there")
    rows = studio.wait_for(ids, seconds=120)
    assert {(row["status"], row["reason"]) for row in rows} == {("Failed", "environment_failed")}
    assert all("no-such-package-anywhere" in row["error"]["message"] for row in rows)


def test_nothing_of_a_build_is_left_running(studio):
    found = subprocess.run(["pgrep", "-af", "tiny-slow"], capture_output=True, text=True, check=False).stdout
    assert "requirements.txt" not in found
