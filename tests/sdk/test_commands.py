"""A command instead of a script: as text, as list, from a shell and as YAML, run for real."""

import json
from pathlib import Path

import pytest
from runstead import Experiment, ScriptRunConfig, Workspace

from tests.sdk.conftest import Home

SCRIPT = "import sys\nprint('args', sys.argv[1:])\n"


@pytest.fixture
def project(home: Home) -> Path:
    return home.project("commands", train=SCRIPT)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("python train.py 'a && b' $AZUREML_ARM_PROJECT_NAME", ["args ['a && b', 'commands']"]),
        ("python train.py one && echo two > outputs/x; cat outputs/x", ["args ['one']", "two"]),
        (["python", "train.py", "a b", "c|d"], ["args ['a b', 'c|d']"]),
        (["python", "train.py", "&&", "echo", "$AZUREML_ARM_PROJECT_NAME"], ["args []", "commands"]),
        (["python train.py --lr", 0.1], ["args ['--lr', '0.1']"]),
    ],
)
def test_text_and_list(home: Home, ws: Workspace, project: Path, command: "str | list[str]", said: list[str]) -> None:
    config = ScriptRunConfig(project, command=command, compute_target="local", environment="python")
    run = Experiment(ws, "commands").submit(config)
    run.wait_for_completion()
    assert run.read_log().decode().splitlines() == said


def test_the_exit_code_is_that_of_the_line(home: Home, ws: Workspace, project: Path) -> None:
    config = ScriptRunConfig(project, command="python train.py; exit 3", environment="python")
    run = Experiment(ws, "commands").submit(config)
    run.wait_for_completion(raise_on_error=False)
    assert (run.status, run.exit_code) == ("Failed", 3)


def test_from_a_shell_and_as_yaml(home: Home, ws: Workspace, project: Path) -> None:
    line = "python train.py x | tr a-z A-Z"
    (project / "run.yaml").write_text(f"framework: command\nenvironment: python\ncommand: {line}\n")
    for words in (["--framework", "command", "--env", "python", "--", line], ["--file", "run.yaml"]):
        done = home.python(
            "-m",
            "runstead",
            "run",
            str(project),
            "--wait",
            "--json",
            *[str(project / w) if w == "run.yaml" else w for w in words],
        )
        run = ws.get_run(json.loads(done.stdout)["number"])
        assert run.read_log().decode() == "ARGS ['X']\n"
