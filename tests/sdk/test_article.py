"""The article 'Submit a training run to a compute target': its code, block by block and character by character as printed there."""

import textwrap
from typing import Any

import pytest
from runstead import Workspace

from tests.sdk.conftest import Home

EXPERIMENT = """
from azureml.core import Experiment

experiment_name = 'my_experiment'

experiment = Experiment(workspace=ws, name=experiment_name)
"""
CURATED = """
from azureml.core import Workspace, Environment

ws = Workspace.from_config()
my_environment = Environment.get(workspace=ws, name="AzureML-Minimal")
"""
LOCAL = """
from azureml.core import Environment

# Editing a run configuration property on-fly.
my_environment = Environment("user-managed-env")

my_environment.python.user_managed_dependencies = True

# You can choose a specific Python environment by pointing to a Python path 
#my_environment.python.interpreter_path = '/home/johndoe/miniconda3/envs/myenv/bin/python'
"""  # noqa: W291 the line ends so there
CONFIGURATION = """
from azureml.core import ScriptRunConfig

script_run_config = ScriptRunConfig(source_directory=project_folder, script='train.py')

# Set compute target
script_run_config.run_config.target = my_compute_target

# Set environment.   If you don't do this, a default environment will be created.
script_run_config.run_config.environment = my_environment
"""
PYSPARK = """
    src.run_config.framework = "pyspark"
"""
PYTHON = """
    src.run_config.framework = "python"
"""
SUBMIT = """
run = experiment.submit(config=script_run_config)
"""
WAIT = "details = run.wait_for_completion(show_output=True)"
TRAIN = "import sys\nprint('trained with', sys.version_info[0])\n"
ORDERS = {
    "a curated environment": [CURATED, EXPERIMENT, CONFIGURATION, SUBMIT],
    "the Python that is there": [CURATED, EXPERIMENT, LOCAL, CONFIGURATION, SUBMIT],
    "no environment": [CURATED, EXPERIMENT, CONFIGURATION.partition("# Set environment")[0], SUBMIT],
    "the framework of a virtual machine": [CURATED, EXPERIMENT, LOCAL, CONFIGURATION, PYTHON, SUBMIT],
}


def given(home: Home, target: Any) -> dict[str, Any]:
    """What the article presumes: a folder with a script, a target."""
    return {"project_folder": str(home.project("project", train=TRAIN)), "my_compute_target": target}


def execute(blocks: list[str], names: dict[str, Any]) -> dict[str, Any]:
    for block in blocks:
        if "script_run_config" in names:
            names["src"] = names["script_run_config"]  # as the framework's lines call it
        own = block.replace("from azureml.core import", "from runstead import")
        exec(compile(textwrap.dedent(own), "article", "exec"), names)
    return names


@pytest.mark.parametrize("order", ORDERS)
def test_the_code_as_printed_with_another_import_runs(
    order: str, home: Home, ws: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    names = execute([*ORDERS[order], WAIT], given(home, "local"))
    assert names["details"]["status"] == "Completed"
    out = capsys.readouterr().out
    assert "trained with 3" in out
    assert names["run"].experiment.name == "my_experiment"


@pytest.mark.parametrize("order", ORDERS)
def test_the_code_as_printed_runs_through_the_alias(order: str, home: Home) -> None:
    folder = given(home, "local")
    lines = ["import runstead.azureml; runstead.azureml.install()", f"project_folder = {folder['project_folder']!r}"]
    blocks = [*ORDERS[order], WAIT, "print(details['status'])"]
    script = "\n".join(
        [
            *lines,
            "my_compute_target = 'local'",
            *(textwrap.dedent(block).replace("src.", "script_run_config.") for block in blocks),
        ]
    )
    done = home.python("-c", script)
    assert done.stdout.endswith("Completed\n"), done.stdout + done.stderr


def test_a_target_may_be_an_object_and_the_framework_is_read_without_regard_to_case(home: Home, ws: Workspace) -> None:
    names = execute([CURATED, EXPERIMENT, LOCAL, CONFIGURATION], given(home, ws.compute_targets["local"]))
    source = names["script_run_config"]
    for block, framework in (
        (PYSPARK, "pyspark"),
        (PYTHON, "python"),
        ('src.run_config.framework = "PySpark"', "pyspark"),
    ):
        execute([block], names)
        assert source.request()["framework"] == framework
    assert source.request()["target"] == "local"


def test_a_snapshot_is_kept_and_a_second_submit_sends_only_what_changed(home: Home, ws: Workspace) -> None:
    names = execute([CURATED, EXPERIMENT, LOCAL, CONFIGURATION, SUBMIT], given(home, "local"))
    first = names["run"]
    assert execute([SUBMIT], names)["run"].get_snapshot_id() == first.get_snapshot_id()
    home.project("project", more="x = 1\n")
    second = execute([SUBMIT], names)["run"]
    assert second.get_snapshot_id() != first.get_snapshot_id()
    assert [run.wait_for_completion()["status"] for run in (first, second)] == ["Completed", "Completed"]
    (home.folder / "project/more.py").unlink()
