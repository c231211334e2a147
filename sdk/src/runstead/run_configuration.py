"""`RunConfiguration`: where and how a script runs, by the names of the reference."""

from __future__ import annotations

import os
from collections.abc import Mapping

from . import definitions
from .distributed import MpiConfiguration, PyTorchConfiguration, SparkConfiguration, TensorflowConfiguration
from .environment import Environment
from .errors import UserError
from .needed import mapping
from .run_sections import AmlComputeConfiguration, HdiConfiguration, HistoryConfiguration
from .sections import DockerConfiguration, Section

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Sequence, Union

    from .conda_dependencies import CondaDependencies

# Of the environment that a run configuration begins with; the studio gets it under the experiment's name.
OWN = "experiment-environment"
_CLOUD = "it names something of a cloud."
_DICTS = ("environment_variables", "secrets", "data", "output_data")
_PARTS = {
    "history": HistoryConfiguration, "spark": SparkConfiguration, "hdi": HdiConfiguration, "mpi": MpiConfiguration,
    "tensorflow": TensorflowConfiguration, "pytorch": PyTorchConfiguration, "amlcompute": AmlComputeConfiguration,
}  # fmt: skip


class RunConfiguration(Section):
    """Where and how a script runs. `target` and `environment` take an object or a name."""

    PART = "run_config"
    NOTHING = {
        "auto_prepare_environment": (True, "an environment is always prepared."),
        "prepare_environment": (True, "an environment is always prepared."),
        "credential_passthrough": (False, "nobody's sign-in is passed on to a run. Give it secrets of the workspace."),
        "identity": (None, _CLOUD),
        "source_directory_data_store": (None, "the folder is kept by the studio."),
        "services": ({}, "nothing is started beside a run."),
    }
    script: Optional[str]
    arguments: List[Any]
    command: Union[str, Sequence[Any], None]
    framework: str
    communicator: str
    """With framework Python: `Mpi`, `OpenMpi` and `IntelMpi` mean mpirun."""
    target: Any
    node_count: int
    history: HistoryConfiguration
    spark: SparkConfiguration
    docker: DockerConfiguration
    hdi: HdiConfiguration
    tensorflow: TensorflowConfiguration
    mpi: MpiConfiguration
    pytorch: PyTorchConfiguration
    amlcompute: AmlComputeConfiguration
    data: Dict[str, Any]
    output_data: Dict[str, Any]
    environment_variables: Dict[str, str]
    secrets: Dict[str, str]
    """Variable → name of the workspace's secret."""
    memory_bytes: Optional[int]
    gpus: int
    """How many GPUs of the target the run is given."""
    grace_seconds: int
    priority: int
    max_run_duration_seconds: Optional[int]
    auto_prepare_environment: bool
    prepare_environment: bool
    credential_passthrough: bool
    identity: Any
    source_directory_data_store: Any
    services: Any

    def __init__(
        self,
        script: Optional[str] = None,
        arguments: Optional[Sequence[Any]] = None,
        framework: Optional[str] = None,
        communicator: Optional[str] = None,
        conda_dependencies: Optional[CondaDependencies] = None,
        command: Union[str, Sequence[Any], None] = None,
        *,
        _history_enabled: Any = None,
        _path: Optional[str] = None,
        _name: Optional[str] = None,
    ) -> None:
        self._path = _path
        self._name = _name
        self.script = script
        self.arguments = words(arguments or [])
        self.command = command
        self.framework = framework or "Python"
        self.communicator = communicator or "None"
        self.target = "local"
        self.node_count = 1
        self.history = HistoryConfiguration()
        self.spark = SparkConfiguration()
        self.docker = DockerConfiguration()
        self.hdi = HdiConfiguration()
        self.tensorflow = TensorflowConfiguration()
        self.mpi = MpiConfiguration()
        self.pytorch = PyTorchConfiguration()
        self.amlcompute = AmlComputeConfiguration()
        self.data = {}
        self.output_data = {}
        self._environment: Any = None
        self.environment_variables = {}
        self.secrets = {}
        self.memory_bytes = None
        self.gpus = 0
        self.grace_seconds = 10
        self.priority = 0
        self.max_run_duration_seconds = None
        if conda_dependencies is not None:
            self.environment.python.conda_dependencies = conda_dependencies

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _DICTS:
            value = mapping("run_config." + name, value)
            value = value if isinstance(value, dict) else dict(value)
        elif name in _PARTS and not isinstance(value, _PARTS[name]):
            raise UserError("run_config.%s: a %s is needed, got %r." % (name, _PARTS[name].__name__, value))
        super().__setattr__(name, value)

    @property
    def environment(self) -> Any:
        """An Environment or a name. Until one is set it is one of the experiment's own, which can be changed in place and means
        the studio's default as long as it is not."""
        if self._environment is None:
            self._environment = Environment(OWN)
        return self._environment

    @environment.setter
    def environment(self, value: Union[str, Environment, None]) -> None:
        self._environment = value

    def named_environment(self) -> Optional[str]:
        """What the API is told before anything is registered; None for the studio's default. Raises UserError."""
        value = self._environment
        if isinstance(value, Environment) and value.name == OWN and not definitions.definition(value):
            return None
        return None if value is None else named("environment", value)

    def save(
        self,
        path: Union[str, os.PathLike[str], None] = None,
        name: Optional[str] = None,
        separate_environment_yaml: bool = False,
    ) -> None:
        """Write it as YAML: `<path>/.azureml/<name>.runconfig`, or the file `path` where that has an ending.

        `separate_environment_yaml`: the environment into a file of its own beside it, `<name>_environment.yml`. Raises UserError.
        """
        from .runconfig_file import save

        save(self, path, name, separate_environment_yaml)

    @staticmethod
    def load(path: Union[str, os.PathLike[str]], name: Optional[str] = None) -> RunConfiguration:
        """What `save` wrote, also that of Azure Machine Learning. Raises UserError."""
        from .runconfig_file import load

        return load(path, name)

    @staticmethod
    def delete(path: Union[str, os.PathLike[str]], name: str) -> None:
        """Remove what `save` wrote. Raises UserError when it is not there."""
        from .runconfig_file import found

        os.unlink(found(path, name))


def words(arguments: Sequence[Any]) -> List[Any]:
    """A list of its own. Raises UserError for a text, which would fall into letters, and for a dict, whose values would be gone."""
    if isinstance(arguments, (str, bytes)):
        raise UserError("arguments: a list is needed, with one item for each word: %r." % arguments.split())
    if isinstance(arguments, Mapping) or not hasattr(arguments, "__iter__"):
        raise UserError("arguments: a list is needed, for example ['--lr', 0.1], got %s." % type(arguments).__name__)
    return list(arguments)


def named(field: str, value: Any) -> str:
    """The name that a text or an object with a name gives. Raises UserError."""
    if isinstance(value, str) and value:
        return value
    if isinstance(value, Environment):
        return str(value)
    name = getattr(value, "name", None)
    if isinstance(name, str) and name:
        return name
    raise UserError("%s: a name or an object with one is needed, got %r." % (field, value))
