"""Runstead: submit training runs to any compute you own, and log from inside them.

Inside a run only what logs is loaded; the client (`Workspace`, `Experiment`, …) loads when it is first used.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, List

__version__ = "0.1.0"

_HOME = {
    "AmlCompute": "pool",
    "AmlComputeConfiguration": "run_sections",
    "ComputeTarget": "compute",
    "ComputeTargetException": "errors",
    "CondaDependencies": "conda_dependencies",
    "ContainerRegistry": "sections",
    "DockerCompute": "compute_kinds",
    "DockerConfiguration": "sections",
    "DockerSection": "sections",
    "Environment": "environment",
    "Estimator": "estimator",
    "Experiment": "experiment",
    "HdiConfiguration": "run_sections",
    "HDInsightCompute": "compute_kinds",
    "HistoryConfiguration": "run_sections",
    "LocalCompute": "compute_kinds",
    "Model": "model",
    "ModelNotFoundException": "errors",
    "MpiConfiguration": "distributed",
    "NotYet": "errors",
    "PythonSection": "sections",
    "PyTorch": "estimator",
    "PyTorchConfiguration": "distributed",
    "RemoteCompute": "compute_kinds",
    "Run": "run",
    "RunConfiguration": "run_configuration",
    "RunDetails": "widgets",
    "RunFailed": "errors",
    "RunsteadError": "errors",
    "ScriptRunConfig": "script_run_config",
    "SKLearn": "estimator",
    "SparkCompute": "compute_kinds",
    "SparkConfiguration": "distributed",
    "SparkPackage": "sections",
    "SparkSection": "sections",
    "TensorFlow": "estimator",
    "TensorflowConfiguration": "distributed",
    "UserError": "errors",
    "Workspace": "workspace",
}

__all__ = [  # noqa: PLE0604 the names of the table, and the version
    *_HOME,
    "__version__",
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError("module 'runstead' has no attribute %r" % name)
    try:
        module = importlib.import_module("." + home, __name__)
    except ModuleNotFoundError as error:
        if error.name != __name__ + "." + home:
            raise
        raise AttributeError(
            "runstead.%s is not available inside a run, where what shows and what serves the command line is left out."
            % name
        ) from None
    value = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> List[str]:
    return sorted(__all__)
