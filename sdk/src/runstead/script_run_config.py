"""`ScriptRunConfig`: what is submitted."""

from __future__ import annotations

import os

from . import distributed
from .errors import NotYet, UserError
from .keywords import names_of, refuse
from .needed import mapping
from .run_configuration import RunConfiguration, named, words
from .sections import DockerConfiguration
from .warned import warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Sequence, Union

    from .checking import RunCheck
    from .compute import ComputeTarget
    from .distributed import MpiConfiguration, PyTorchConfiguration, TensorflowConfiguration
    from .environment import Environment
    from .workspace import Workspace

    Job = Union[MpiConfiguration, PyTorchConfiguration, TensorflowConfiguration]

MONTH = 30 * 24 * 3600


class ScriptRunConfig:
    """What is submitted: a folder, the script in it with its arguments (or a command), and a RunConfiguration.

    With `run_config`, what says the same beside it is ignored with a warning; script, arguments and command given here win.
    """

    def __init__(
        self,
        source_directory: Union[str, os.PathLike[str]],
        script: Optional[str] = None,
        arguments: Optional[Sequence[Any]] = None,
        run_config: Optional[RunConfiguration] = None,
        _telemetry_values: Any = None,
        compute_target: Union[str, ComputeTarget, None] = None,
        environment: Union[str, Environment, None] = None,
        distributed_job_config: Optional[Job] = None,
        resume_from: Any = None,
        max_run_duration_seconds: Optional[int] = MONTH,
        command: Union[str, Sequence[Any], None] = None,
        docker_runtime_config: Optional[DockerConfiguration] = None,
        **kwargs: Any,
    ) -> None:
        """`max_run_duration_seconds`: the run is ended after it; None: never. Raises UserError, NotYet."""
        refuse("ScriptRunConfig", kwargs, names_of(ScriptRunConfig.__init__))
        if not isinstance(source_directory, (str, os.PathLike)) or not os.fspath(source_directory):
            raise UserError(
                "source_directory: the project's folder is needed, for example '.', got %r." % (source_directory,)
            )
        if resume_from is not None:
            raise NotYet(
                "resume_from: outputs of another run are not brought to a new one yet. Fetch them with run.download_files() and "
                "submit them with the folder."
            )
        if run_config is not None and not isinstance(run_config, RunConfiguration):
            raise UserError("run_config: a RunConfiguration is needed, got %r." % (run_config,))
        given = {
            "compute_target": compute_target,
            "environment": environment,
            "distributed_job_config": distributed_job_config,
            "docker_runtime_config": docker_runtime_config,
            "max_run_duration_seconds": None if max_run_duration_seconds == MONTH else max_run_duration_seconds,
        }
        if run_config is not None:
            for name, value in given.items():
                if value is not None:
                    warn("%s is ignored because run_config is given: set it there." % name)
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
        self.arguments = words(arguments if arguments is not None else self.run_config.arguments)
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
        for part in ("data", "output_data"):
            if getattr(run_config, part):
                raise NotYet(
                    "run_config.%s: data stores are not mounted into runs yet. Send the data with the folder, or mount it on the "
                    "target (an option of Docker targets) and pass its path." % part
                )
        body: Dict[str, Any] = {"target": named("target", run_config.target), **distributed.fields(run_config)}
        if self.command:
            if self.script:
                raise UserError("script: give either script with arguments, or command.")
            if self.arguments:
                raise UserError(
                    "arguments: give either script with arguments, or command, which has its words in itself."
                )
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
        body["variables"] = {
            str(k): str(v)
            for k, v in mapping("run_config.environment_variables", run_config.environment_variables).items()
        }
        body["secrets"] = {str(k): str(v) for k, v in mapping("run_config.secrets", run_config.secrets).items()}
        body["max_run_duration_seconds"] = run_config.max_run_duration_seconds
        body["memory_bytes"] = run_config.memory_bytes
        body["gpus"] = run_config.gpus
        body["grace_seconds"] = run_config.grace_seconds
        body["priority"] = run_config.priority
        return body

    def __repr__(self) -> str:
        what = "command=%r" % (self.command,) if self.command else "script=%r" % (self.script,)
        return "ScriptRunConfig(source_directory=%r, %s, target=%r)" % (
            self.source_directory,
            what,
            self.run_config.target,
        )


def _argument(place: int, value: Any) -> str:
    if isinstance(value, (list, tuple, dict, set, bytes)) or value is None:
        raise UserError("arguments: argument %d is a %s; a text or number is needed." % (place, type(value).__name__))
    return os.fspath(value) if isinstance(value, os.PathLike) else str(value)


def _command(value: Union[str, Sequence[Any]]) -> Union[str, List[str]]:
    """As it is given: the studio reads a text, or a list that is a line, by one rule for all who give one."""
    return value if isinstance(value, str) else [_argument(place, part) for place, part in enumerate(value, 1)]
