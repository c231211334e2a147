"""docs/sdk.md and docs/from-azureml.md speak of what there is."""

import inspect
import re
from pathlib import Path

import pytest
import runstead
from runstead import not_yet
from runstead.azureml.names import MODULES

DOCS = Path(__file__).parents[2] / "docs"
SDK = (DOCS / "sdk.md").read_text()
GUIDE = (DOCS / "from-azureml.md").read_text()
TABLE = GUIDE.partition("## Every class")[2].partition("## Run time")[0]


@pytest.mark.parametrize("text", [SDK, GUIDE], ids=["sdk", "guide"])
def test_python_blocks_compile_and_import_what_is_there(text: str) -> None:
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    assert blocks
    for block in blocks:
        compile(block, "docs", "exec")
        for line in re.findall(r"from runstead import ([^\n#]+)", block):
            for name in line.split(","):
                assert getattr(runstead, name.strip()), name


def test_the_guide_names_every_class_of_the_reference_with_one_of_three_words() -> None:
    rows = [
        row.split("|")[1:4] for row in TABLE.splitlines() if row.startswith("| ") and "class or function" not in row
    ]
    assert {row[1].strip() for row in rows} == {"same", "better", "not yet"}
    told = {name for row in rows for name in re.findall(r"`(\w+)`", row[0])}
    inside = {"choice", "PrimaryMetricGoal"}
    for module in ("azureml.core", "azureml.core.compute", "azureml.core.runconfig", "azureml.core.model", "azureml.train.estimator",
                   "azureml.train.dnn", "azureml.train.sklearn", "azureml.widgets", "azureml.telemetry"):  # fmt: skip
        for name, home in MODULES[module].items():
            if (name[0].isupper() and not name.isupper()) or name == "set_diagnostics_collection":
                known = name in told | inside or (
                    home.startswith("estimator") and name in ("Mpi", "Gloo", "Nccl", "ParameterServer")
                )
                assert known or name == "DockerCompute", name
    for row in rows:
        for name in re.findall(r"`(\w+)`", row[0]):
            if row[1].strip() == "not yet":
                assert name in not_yet.WHY or name == "HyperDriveConfig", name


def test_the_lists_of_methods_are_those_of_a_run() -> None:
    for name in re.findall(r"`((?:log|get|download|restore|register|add|set)_\w+)(?:\(.*?\))?`", SDK):
        assert inspect.isroutine(getattr(runstead.Run, name)), name
