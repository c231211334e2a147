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
    "Run": "run",
    "ComputeTarget": "compute",
    "ComputeTargetException": "compute",
    "DockerCompute": "compute",
    "CondaDependencies": "conda_dependencies",
    "ContainerRegistry": "sections",
    "DockerConfiguration": "sections",
    "DockerSection": "sections",
    "Environment": "environment",
    "Experiment": "client",
    "HDInsightCompute": "compute",
    "LocalCompute": "compute",
    "MpiConfiguration": "distributed",
    "PyTorchConfiguration": "distributed",
    "PythonSection": "sections",
    "RemoteCompute": "compute",
    "RunConfiguration": "client",
    "ScriptRunConfig": "client",
    "SparkCompute": "compute",
    "SparkConfiguration": "distributed",
    "SparkPackage": "sections",
    "SparkSection": "sections",
    "TensorflowConfiguration": "distributed",
    "Workspace": "client",
    "RunsteadError": "errors",
    "UserError": "errors",
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
            "runstead.%s is not available inside a run: only `Run` is. Submit from outside, or install the client there."
            % name
        ) from None
    value = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> List[str]:
    return sorted(__all__)
