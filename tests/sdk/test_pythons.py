"""The client under real interpreters, from the oldest that it is for to the newest: a user's afternoon, against a live studio."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.environments.agent.test_foreign import interpreters
from tests.sdk.conftest import Home

VERSIONS = ["3.8", "3.9", "3.12", "3.13"]
TRAIN = """
import sys
from azureml.core import Run
run = Run.get_context()
for step in range(3):
    run.log("loss", 1 / (step + 1))
with open("outputs/model.txt", "w") as file:
    file.write("weights")
print("trained", *sys.argv[1:])
"""
AFTERNOON = """
import importlib, io, os, pkgutil, sys, warnings
warnings.simplefilter("error", DeprecationWarning)
import runstead
from runstead import Experiment, Run, ScriptRunConfig, Workspace

NEEDS = {"runstead.azureml.top", "runstead.__main__", "runstead.azureml.__main__"}
modules = [found.name for found in pkgutil.walk_packages(runstead.__path__, "runstead.") if found.name not in NEEDS]
for name in modules:
    importlib.import_module(name)
assert len(modules) > 60, modules

import runstead.azureml
runstead.azureml.install()
from azureml.core import Environment, Workspace as Alias
from azureml.core.conda_dependencies import CondaDependencies
from azureml.train.estimator import Estimator
assert Alias is Workspace

ws = Workspace.from_config()
experiment = Experiment(ws, "pythons")
run = experiment.submit(ScriptRunConfig("project", script="train.py", arguments=["--size", "h\\xf6he"]))
details = run.wait_for_completion(show_output=True)
assert details["status"] == "Completed", details
assert run.get_metrics()["loss"][0] == 1.0, run.get_metrics()
run.download_file("outputs/model.txt", "model.txt")
assert open("model.txt").read() == "weights"
assert run.get_all_logs("logs-of-it")
assert [found.id for found in experiment.get_runs()][0] == run.id

with experiment.start_logging(snapshot_directory=None) as own:
    own.log("acc", 0.5)
    own.log_list("many", [1, 2, 3])
    own.tag("python", "%d.%d" % sys.version_info[:2])
    own.upload_file("outputs/train.py", "project/train.py")
    child = own.child_run("inner")
    child.complete()
assert own.get_status() == "Completed"
assert own.get_metrics() == {"acc": 0.5, "many": [1, 2, 3]}, own.get_metrics()
assert own.get_file_names() == ["outputs/train.py"]
assert [found.id for found in own.get_children()] == [child.id]
environment = Environment("made-here")
environment.python.conda_dependencies = CondaDependencies.create(pip_packages=["tiny==1.0"])
assert environment.register(ws).name == "made-here"
assert "made-here" in Environment.list(ws)
print("done", run.number)
"""


@pytest.fixture(params=VERSIONS)
def python(request: pytest.FixtureRequest) -> str:
    found = next((path for path in interpreters() if Path(path).name == f"python{request.param}"), None)
    if found is None:
        pytest.skip(f"there is no Python {request.param} here")
    return found


def ran(home: Home, *argv: str) -> str:
    done = subprocess.run(argv, cwd=home.folder, env=home.env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def test_a_users_afternoon(home: Home, python: str) -> None:
    home.project("project", train=TRAIN)
    told = ran(home, python, "-c", AFTERNOON)
    assert "trained --size höhe" in told and "done" in told
    command = [python, "-m", "runstead"]
    followed = ran(home, *command, "run", "project", "--follow", "--", "train.py", "again")
    assert "trained again" in followed
    listed = json.loads(ran(home, *command, "runs", "--json"))
    newest = listed["runs"][0] if isinstance(listed, dict) else listed[0]
    assert newest["status"] == "Completed"
    assert "trained again" in ran(home, *command, "logs", str(newest["number"]))
    ran(home, *command, "download", str(newest["number"]), "outputs/model.txt", "--output", "fetched")
    assert "local" in ran(home, *command, "targets") and "python" in ran(home, *command, "envs")
    assert ran(home, *command, "--help") and ran(home, *command, "run", "--help")
