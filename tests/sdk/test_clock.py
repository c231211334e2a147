"""A client whose clock is a day off."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.environments.agent.test_foreign import interpreters
from tests.live import ROOT
from tests.sdk.conftest import Home

WORK = """
from runstead import Experiment, ScriptRunConfig, Workspace
experiment = Experiment(Workspace.from_config(), "clock")
run = experiment.submit(ScriptRunConfig("project", script="train.py"))
assert run.wait_for_completion(show_output=True)["status"] == "Completed"
with experiment.start_logging(snapshot_directory=None) as own:
    for step in range(3):
        own.log("loss", step)
assert own.get_status() == "Completed"
assert own.get_metrics() == {"loss": [0.0, 1.0, 2.0]}, own.get_metrics()
print("done", own.number)
"""


@pytest.fixture(scope="module")
def library() -> str:
    found = subprocess.run([ROOT / "tests/infra/clock.sh"], capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.fail(found.stderr) if os.environ.get("CI") else pytest.skip(found.stderr)
    return found.stdout.strip()


@pytest.fixture(scope="module")
def python() -> str:
    """One whose ``sleep`` libfaketime leaves alone: newer ones sleep until a time, which it takes for one of the clock that is off."""
    found = next((path for path in interpreters() if Path(path).name in {"python3.8", "python3.9", "python3.10"}), None)
    if found is None:
        pytest.skip("there is no Python 3.8 here")
    return found


@pytest.mark.parametrize("off", ["+1d", "-1d"])
def test_runs_are_submitted_followed_and_logged_by_a_clock_that_is_a_day_off(
    home: Home, library: str, python: str, off: str
) -> None:
    home.project("project", train="print('trained')\n")
    clock = {"LD_PRELOAD": library, "FAKETIME": off, "DONT_FAKE_MONOTONIC": "1"}

    def ran(*words: str) -> str:
        done = subprocess.run(
            [python, *words], cwd=home.folder, env=home.env | clock, capture_output=True, text=True, timeout=120, check=False
        )  # fmt: skip
        assert "Traceback" not in done.stderr, done.stdout + done.stderr
        return done.stdout

    told = ran("-c", WORK)
    assert "trained" in told and "done" in told
    assert "clock" in ran("-m", "runstead", "doctor").lower()
