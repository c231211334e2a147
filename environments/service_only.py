"""Packages of Azure Machine Learning that do nothing but speak to that service: in runs here the studio's own `azureml` stands for
them, so they are left out when an environment is made. The definition stays as it was written, and so does its key.

The rule is a list of names: `docs/environments.md` has it for people. Whatever else is called `azureml-…` is installed.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from packaging.utils import canonicalize_name

from environments.definition import Definition

NAMES = (
    "azureml", "azureml-core", "azureml-sdk", "azureml-defaults", "azureml-dataset-runtime", "azureml-telemetry", "azureml-widgets",
    "azureml-mlflow", "azureml-tensorboard", "azureml-cli-common", "azureml-datadrift", "azureml-explain-model", "azureml-monitoring",
    "azureml-model-management-sdk", "azureml-pipeline", "azureml-train", "azureml-automl",
)  # fmt: skip
FAMILIES = ("azureml-train-", "azureml-pipeline-", "azureml-automl-", "azureml-contrib-", "azureml-accel-")
# What a package that is left out brings along and scripts import by itself.
BRINGS = {"azureml-mlflow": "mlflow-skinny"}
_HAS_MLFLOW = {"mlflow", "mlflow-skinny"}
WHY = "in a run the studio's own azureml answers: theirs would look for a service that is not there"


def name_of(line: str) -> str:
    """The canonical name of the package that a line of pip or conda asks for."""
    found = re.match(r"(?:[^\s:\[]+::)?([A-Za-z0-9][\w.-]*)", line.strip())
    return canonicalize_name(found[1]) if found else ""


def is_service_only(line: str) -> bool:
    name = name_of(line)
    return name in NAMES or name.startswith(FAMILIES)


def left_out(definition: Definition) -> list[str]:
    """The lines that are not installed, as they were written."""
    return [line for line in (*definition.conda_packages, *definition.packages) if is_service_only(line)]


def installed(definition: Definition) -> Definition:
    """What is made of it: the same without those lines, with what they bring that is of use by itself."""
    gone = left_out(definition)
    if not gone:
        return definition
    packages = _kept(definition.packages)
    brought = {BRINGS[name] for name in map(name_of, gone) if name in BRINGS}
    there = {name_of(line) for line in (*packages, *definition.conda_packages)}
    if there & _HAS_MLFLOW:
        brought -= _HAS_MLFLOW
    return replace(definition, packages=(*packages, *sorted(brought)), conda_packages=_kept(definition.conda_packages))


def note(definition: Definition) -> str:
    """One sentence about what is left out; empty when nothing is."""
    gone = left_out(definition)
    if not gone:
        return ""
    brought = [line for line in installed(definition).packages if line not in definition.packages]
    parents = ", ".join(dict.fromkeys(name_of(line) for line in gone if BRINGS.get(name_of(line)) in brought))
    instead = f" In place of {parents} comes {', '.join(brought)}." if brought else ""
    return f"{', '.join(gone)} {'is' if len(gone) == 1 else 'are'} not installed: {WHY}.{instead}"


def _kept(lines: Sequence[str]) -> tuple[str, ...]:
    return tuple(line for line in lines if not is_service_only(line))
