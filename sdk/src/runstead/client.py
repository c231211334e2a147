"""Submitting from outside a run: `Workspace`, `Experiment`, `Environment`, `ScriptRunConfig`."""

from __future__ import annotations

import copy
import os
import re
import uuid
import warnings

from . import config as settings
from . import definitions, distributed, git
from .distributed import MpiConfiguration, PyTorchConfiguration, SparkConfiguration, TensorflowConfiguration
from .environment import Environment
from .errors import UserError
from .folder import Folder
from .sections import DockerConfiguration
from .submitted import SubmittedRun
from .transport import Transport
from .upload import upload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Union

    from .checking import RunCheck
    from .compute import ComputeTarget
    from .conda_dependencies import CondaDependencies

# Of the environment that a run configuration begins with; the studio gets it under the experiment's name.
_OWN = "experiment-environment"
EXPERIMENT = re.compile(r"[A-Za-z0-9][\w\-]{0,254}\Z", re.ASCII)


class Workspace:
    """A workspace of a studio. `Workspace.from_config()` finds the one to use."""

    def __init__(self, url: str, name: str, token: str) -> None:
        self.name = name
        self.transport = Transport(url, name, token)

    @property
    def url(self) -> str:
        """The studio's address."""
        return self.transport.url

    @classmethod
    def from_config(cls, path: Optional[str] = None) -> Workspace:
        """The workspace that the environment, the studio on this machine, or a configuration file names.

        Raises UserError.
        """
        found = settings.find(None if path is None else os.fspath(path))
        return cls(found["url"], found["workspace"], found["token"])

    def get_run(self, run_id: Union[int, str]) -> SubmittedRun:
        """The run with this number, or id."""
        if str(run_id).isdigit():
            return SubmittedRun(self, self.transport.request("GET", "runs/%s" % run_id).json())
        before = None
        while True:
            page = self.transport.request("GET", "runs", query=None if before is None else {"before": before}).json()
            for run in page["runs"]:
                if run["id"] == run_id:
                    return SubmittedRun(self, run)
            before = page["next"]
            if before is None:
                raise UserError("run_id: there is no run %r in workspace %s." % (run_id, self.name))

    @property
    def compute_targets(self) -> Dict[str, ComputeTarget]:
        """Name → compute target."""
        from .compute import ComputeTarget

        return {target.name: target for target in ComputeTarget.list(self)}

    @property
    def environments(self) -> Dict[str, Environment]:
        """Name → newest version of every environment that the workspace can use."""
        return Environment.list(self)

    def __repr__(self) -> str:
        return "Workspace(name=%r, url=%r)" % (self.name, self.url)


class RunConfiguration:
    """Where and how a script runs. `target` and `environment` take an object or a name."""

    def __init__(
        self,
        script: Optional[str] = None,
        arguments: Optional[Sequence[Any]] = None,
        framework: Optional[str] = None,
        communicator: Optional[str] = None,
        conda_dependencies: Optional[CondaDependencies] = None,
        command: Union[str, Sequence[Any], None] = None,
    ) -> None:
        self.script = script
        self.arguments = list(arguments or [])
        self.command = command
        self.framework = framework or "Python"
        self.communicator = communicator or "None"
        """With framework Python: `Mpi`, `OpenMpi` and `IntelMpi` mean mpirun."""
        self.node_count = 1
        self.mpi = MpiConfiguration()
        self.pytorch = PyTorchConfiguration()
        self.tensorflow = TensorflowConfiguration()
        self.spark = SparkConfiguration()
        self.docker = DockerConfiguration()
        self.target: Any = "local"
        self._environment: Any = None
        self.environment_variables: Dict[str, str] = {}
        self.secrets: Dict[str, str] = {}
        """Variable → name of the workspace's secret."""
        self.memory_bytes: Optional[int] = None
        self.gpus = 0
        """How many GPUs of the target the run is given."""
        self.grace_seconds = 10
        self.priority = 0
        self.max_run_duration_seconds: Optional[int] = None
        if conda_dependencies is not None:
            self.environment.python.conda_dependencies = conda_dependencies

    @property
    def environment(self) -> Any:
        """An Environment or a name. Until one is set it is one of the experiment's own, which can be changed in place and means
        the studio's default as long as it is not."""
        if self._environment is None:
            self._environment = Environment(_OWN)
        return self._environment

    @environment.setter
    def environment(self, value: Union[str, Environment, None]) -> None:
        self._environment = value

    def named_environment(self) -> Optional[str]:
        """What the API is told before anything is registered; None for the studio's default. Raises UserError."""
        value = self._environment
        if isinstance(value, Environment) and value.name == _OWN and not definitions.definition(value):
            return None
        return None if value is None else _name("environment", value)


class ScriptRunConfig:
    """What is submitted: a folder, the script in it with its arguments (or a command), and a
    RunConfiguration.
    """

    def __init__(
        self,
        source_directory: Union[str, os.PathLike[str]],
        script: Optional[str] = None,
        arguments: Optional[Sequence[Any]] = None,
        run_config: Optional[RunConfiguration] = None,
        compute_target: Union[str, ComputeTarget, None] = None,
        environment: Union[str, Environment, None] = None,
        max_run_duration_seconds: Optional[int] = None,
        command: Union[str, Sequence[Any], None] = None,
        distributed_job_config: Union[MpiConfiguration, PyTorchConfiguration, TensorflowConfiguration, None] = None,
        docker_runtime_config: Optional[DockerConfiguration] = None,
    ) -> None:
        if run_config is not None:
            ignored = {
                "compute_target": compute_target,
                "environment": environment,
                "distributed_job_config": distributed_job_config,
                "docker_runtime_config": docker_runtime_config,
                "max_run_duration_seconds": max_run_duration_seconds,
            }
            for name, value in ignored.items():
                if value is not None:
                    warnings.warn("%s is ignored because run_config is given: set it there." % name, stacklevel=2)
        self.source_directory = os.fspath(source_directory)
        self.run_config = run_config or RunConfiguration()
        if run_config is None:
            self.run_config.target = compute_target or "local"
            self.run_config.environment = environment
            self.run_config.max_run_duration_seconds = max_run_duration_seconds
            if distributed_job_config is not None:
                distributed.apply(self.run_config, distributed_job_config)
            if docker_runtime_config is not None:
                self.run_config.docker = docker_runtime_config
        self.script = script if script is not None else self.run_config.script
        self.arguments = list(arguments if arguments is not None else self.run_config.arguments)
        self.command = command if command is not None else self.run_config.command

    def check(self, workspace: Workspace) -> RunCheck:
        """Everything that can be told before the run is queued: the script, its imports, paths, room, on the target itself, within
        three seconds. Nothing is started. `print(config.check(ws))` shows it; it is true when nothing surely fails.
        """
        from .checking import check

        return check(workspace, self)

    def request(self) -> Dict[str, Any]:
        """The fields that the API takes, without experiment and snapshot. Raises UserError for wrong types."""
        run_config = self.run_config
        body: Dict[str, Any] = {"target": _name("target", run_config.target), **distributed.fields(run_config)}
        if self.command:
            if self.script:
                raise UserError("script: give either script with arguments, or command.")
            body["command"] = _command(self.command)
            if body["framework"] == "python":
                body["framework"] = "command"
        else:
            if not isinstance(self.script, str) or not self.script:
                raise UserError("script: name the script to run, for example train.py.")
            body["script"] = self.script.replace(os.sep, "/")
            body["arguments"] = [_argument(place, value) for place, value in enumerate(self.arguments, 1)]
        environment = run_config.named_environment()
        if environment is not None:
            body["environment"] = environment
        body["variables"] = {str(k): str(v) for k, v in run_config.environment_variables.items()}
        body["secrets"] = {str(k): str(v) for k, v in run_config.secrets.items()}
        body["max_run_duration_seconds"] = run_config.max_run_duration_seconds
        body["memory_bytes"] = run_config.memory_bytes
        body["gpus"] = run_config.gpus
        body["grace_seconds"] = run_config.grace_seconds
        body["priority"] = run_config.priority
        return body


class Experiment:
    """A named group of runs; it comes into being with its first run."""

    def __init__(self, workspace: Workspace, name: str) -> None:
        if not isinstance(name, str) or not EXPERIMENT.match(name):
            raise UserError(
                "name: %r is no experiment's name. Use 1 to 255 letters, digits, '_' or '-', beginning with a letter or digit."
                % (name,)
            )
        self.workspace = workspace
        self.name = name

    def submit(
        self,
        config: ScriptRunConfig,
        tags: Optional[Mapping[str, Optional[str]]] = None,
        display_name: str = "",
        notes: str = "",
        progress: Optional[Callable[[int, int], None]] = None,
    ) -> SubmittedRun:
        """Send the folder (only what the studio lacks), start the run, and return at once.

        Raises UserError, RunsteadError.
        """
        config = copy.deepcopy(config)
        body = config.request()
        folder = Folder(config.source_directory)
        script = body.get("script")
        if script is not None and script not in {entry[0] for entry in folder.files}:
            raise UserError("script: %s" % _absent(script, folder))
        transport = self.workspace.transport
        environment = _settled(self, config.run_config)
        if environment is not None:
            body["environment"] = environment
        body["experiment"] = self.name
        body["snapshot"] = upload(transport, folder, progress)
        body["name"] = display_name
        body["tags"] = {str(key): None if value is None else str(value) for key, value in (tags or {}).items()}
        body["notes"] = notes
        body["git"] = git.facts(config.source_directory)
        # The key makes a repeated request answer with the run of the first: a lost reply never makes two
        # runs.
        answer = transport.request("POST", "runs", body, headers={"Idempotency-Key": str(uuid.uuid4())})
        return SubmittedRun(self.workspace, answer.json())

    def get_runs(self) -> Iterable[SubmittedRun]:
        """The experiment's runs, the newest first."""
        before = None
        while True:
            query: Dict[str, Any] = {"experiment": self.name}
            if before is not None:
                query["before"] = before
            page = self.workspace.transport.request("GET", "runs", query=query).json()
            for run in page["runs"]:
                yield SubmittedRun(self.workspace, run)
            before = page["next"]
            if before is None:
                return

    def __repr__(self) -> str:
        return "Experiment(name=%r)" % self.name


def _settled(experiment: Experiment, run_config: RunConfiguration) -> Optional[str]:
    """`name:version` of the run's environment, registered now where the studio has it not; None for the studio's default."""
    docker, environment = run_config.docker, run_config.environment
    if not isinstance(docker, DockerConfiguration):
        raise UserError("docker: a DockerConfiguration is needed, got %r." % (docker,))
    shm = definitions.shm_bytes("docker.shm_size", docker.shm_size)
    changed = bool(docker.arguments) or shm != definitions.shm_bytes("", DockerConfiguration().shm_size)
    if changed:
        if not isinstance(environment, Environment) or environment.version is not None:
            raise UserError(
                "docker: arguments and shm_size of a registered environment are its own. Set environment.docker.arguments and "
                "environment.docker.shm_size, and register it."
            )
        environment.docker.arguments, environment.docker.shm_size = list(docker.arguments), docker.shm_size
    contained = docker.use_docker or (isinstance(environment, Environment) and environment.docker.enabled)
    if contained:
        _warn_without_engine(experiment.workspace, _name("target", run_config.target))
    named = run_config.named_environment()
    if named is None or not isinstance(environment, Environment):
        return named
    if environment.name == _OWN:
        environment.name = (experiment.name + "-environment")[:255]
    return environment.reference(experiment.workspace)


def _warn_without_engine(workspace: Workspace, target: str) -> None:
    from .compute import ComputeTarget

    found = ComputeTarget(workspace, target)
    if found.type != "Docker":
        warnings.warn(
            "docker: runs on %s are processes, not containers. Attach a Docker target and submit there." % target,
            stacklevel=4,
        )


def _name(field: str, value: Any) -> str:
    if isinstance(value, str) and value:
        return value
    if isinstance(value, Environment):
        return str(value)
    name = getattr(value, "name", None)
    if isinstance(name, str) and name:
        return name
    raise UserError("%s: a name or an object with one is needed, got %r." % (field, value))


def _argument(place: int, value: Any) -> str:
    if isinstance(value, (list, tuple, dict, set, bytes)) or value is None:
        raise UserError("arguments: argument %d is a %s; a text or number is needed." % (place, type(value).__name__))
    return os.fspath(value) if isinstance(value, os.PathLike) else str(value)


def _command(value: Union[str, Sequence[Any]]) -> List[str]:
    if isinstance(value, str):
        import shlex

        return shlex.split(value)
    return [_argument(place, part) for place, part in enumerate(value, 1)]


def _absent(script: str, folder: Folder) -> str:
    import difflib

    for path, why in folder.skipped:
        if script == path or (path.endswith("/") and script.startswith(path)):
            return "%s is left out of the snapshot: %s is %s." % (script, path, why)
    close = difflib.get_close_matches(script, [entry[0] for entry in folder.files], n=1, cutoff=0.5)
    hint = " Did you mean %s?" % close[0] if close else ""
    return "%s is not in %s.%s" % (script, os.path.abspath(folder.path), hint)
