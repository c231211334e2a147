"""The studio's clock is set forwards and backwards while runs execute: leases, times and verdicts must not care."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.live import Studio
from tests.waiting import until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def clock(tmp_path_factory):
    found = subprocess.run([Path("tests/infra/clock.sh")], capture_output=True, text=True, check=False)
    if found.returncode:
        if os.environ.get("CI"):
            pytest.fail(found.stderr)
        pytest.skip(found.stderr)
    path = tmp_path_factory.mktemp("clock") / "offset"
    path.write_text("+0\n")
    return found.stdout.strip(), path


@pytest.fixture(scope="module")
def studio(tmp_path_factory, clock):
    library, path = clock
    live = Studio(
        tmp_path_factory.mktemp("studio") / "data",
        LD_PRELOAD=library, FAKETIME_TIMESTAMP_FILE=str(path), FAKETIME_NO_CACHE="1", DONT_FAKE_MONOTONIC="1",
        FAKETIME_DONT_RESET="1",
    )  # fmt: skip
    yield live.start()
    live.stop()


@pytest.mark.parametrize("step", ["+2h", "-2h"])
def test_a_step_of_the_clock_disturbs_no_run(studio, oracle, invariants, clock, step):
    ids = studio.submit(oracle.folder, *oracle.arguments(lines=100, every=0.05), count=2)
    studio.wait_for(ids, {"Running"})
    clock[1].write_text(step + "\n")
    more = studio.submit(oracle.folder, *oracle.arguments(lines=5))
    studio.wait_for(ids + more, seconds=90)
    invariants.check(ids, lines=100)
    invariants.check(more, lines=5)


def test_workers_killed_and_the_clock_set_back_do_not_leave_a_lease_behind(studio, oracle, invariants, clock):
    """The dead owner's lease seems to end in hours; it must be taken all the same."""
    clock[1].write_text("+2h\n")
    ids = studio.submit(oracle.folder, *oracle.arguments(lines=100, every=0.05))
    studio.wait_for(ids, {"Running"})
    studio.kill_workers()
    clock[1].write_text("-2h\n")
    until(lambda: studio.processes("house"), 60)
    studio.wait_for(ids, seconds=60)
    invariants.check(ids, lines=100)
