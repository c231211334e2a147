"""A configuration becomes a run: the folder is sent, the environment settled, the run asked for."""

from __future__ import annotations

import copy

from . import definitions, sending
from .environment import Environment
from .errors import UserError
from .needed import texts
from .run_configuration import OWN, RunConfiguration, named
from .script_run_config import ScriptRunConfig
from .sections import DockerConfiguration
from .submitted import SubmittedRun
from .warned import warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Mapping, Optional

    from .experiment import Experiment
    from .folder import Told
    from .workspace import Workspace


def submit(
    experiment: Experiment,
    config: Any,
    tags: Optional[Mapping[str, Optional[str]]] = None,
    display_name: str = "",
    notes: str = "",
    told: Optional[Told] = None,
    parent: Optional[int] = None,
    made: Optional[Callable[[SubmittedRun], None]] = None,
) -> SubmittedRun:
    """Send the folder (only what the studio lacks) and start the run. A process that is killed before `made` has come back makes the
    same run when it submits the same again. Raises UserError, RunsteadError."""
    config, own_tags = _configuration(config), texts("tags", tags)
    body = config.request()
    environment = _settled(experiment, config.run_config)
    if environment is not None:
        body["environment"] = environment
    body["experiment"] = experiment.name
    body["name"] = display_name
    body["tags"] = own_tags
    body["notes"] = notes
    if parent is not None:
        body["parent"] = parent
    found: List[SubmittedRun] = []

    def take(row: Dict[str, Any]) -> None:
        found.append(SubmittedRun(experiment.workspace, row))
        if made is not None:
            made(found[0])

    sending.submit(experiment.workspace.transport, config.source_directory, body, told, take)
    return found[0]


def _configuration(config: Any) -> ScriptRunConfig:
    """A copy to work with, of whatever can be submitted."""
    made = getattr(config, "script_run_config", None)
    if callable(made):
        config = made()  # an estimator
    if isinstance(config, RunConfiguration):
        config = ScriptRunConfig(".", run_config=config)
    if not isinstance(config, ScriptRunConfig):
        raise UserError("config: a ScriptRunConfig or an Estimator is needed, got %s." % type(config).__name__)
    return copy.deepcopy(config)


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
    if docker.use_docker and isinstance(environment, Environment):
        environment.docker.enabled = True
    contained = docker.use_docker or (isinstance(environment, Environment) and environment.docker.enabled)
    if contained:
        _warn_without_engine(experiment.workspace, named("target", run_config.target))
    name = run_config.named_environment()
    if name is None or not isinstance(environment, Environment):
        return name
    if environment.name == OWN:
        environment.name = (experiment.name + "-environment")[:255]
    return environment.reference(experiment.workspace)


def _warn_without_engine(workspace: Workspace, target: str) -> None:
    from .compute import ComputeTarget

    found = ComputeTarget(workspace, target)
    kinds = [member["kind"] for member in found.serialize().get("members", [])] or [found.type]
    if not any(kind.startswith("Docker") for kind in kinds):
        warn("docker: runs on %s are processes, not containers. Attach a Docker target and submit there." % target)
