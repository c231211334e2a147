"""A configuration becomes a run: the folder is sent, the environment settled, the run asked for."""

from __future__ import annotations

import copy
import os
import uuid
import warnings

from . import definitions, git
from .environment import Environment
from .errors import UserError
from .folder import Folder
from .run_configuration import OWN, RunConfiguration, named
from .script_run_config import ScriptRunConfig
from .sections import DockerConfiguration
from .submitted import SubmittedRun
from .upload import upload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Mapping, Optional

    from .experiment import Experiment
    from .workspace import Workspace


def submit(
    experiment: Experiment,
    config: Any,
    tags: Optional[Mapping[str, Optional[str]]] = None,
    display_name: str = "",
    notes: str = "",
    progress: Optional[Callable[[int, int], None]] = None,
    parent: Optional[int] = None,
) -> SubmittedRun:
    """Send the folder (only what the studio lacks) and start the run. Raises UserError, RunsteadError."""
    config = _configuration(config)
    body = config.request()
    folder = Folder(config.source_directory)
    script = body.get("script")
    if script is not None and script not in {entry[0] for entry in folder.files}:
        raise UserError("script: %s" % _absent(script, folder))
    transport = experiment.workspace.transport
    environment = _settled(experiment, config.run_config)
    if environment is not None:
        body["environment"] = environment
    body["experiment"] = experiment.name
    body["snapshot"] = upload(transport, folder, progress)
    body["name"] = display_name
    body["tags"] = {str(key): None if value is None else str(value) for key, value in (tags or {}).items()}
    body["notes"] = notes
    body["git"] = git.facts(config.source_directory)
    if parent is not None:
        body["parent"] = parent
    # The key makes a repeated request answer with the run of the first: a lost reply never makes two runs.
    answer = transport.request("POST", "runs", body, headers={"Idempotency-Key": str(uuid.uuid4())})
    return SubmittedRun(experiment.workspace, answer.json())


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
    if found.type != "Docker":
        warnings.warn(
            "docker: runs on %s are processes, not containers. Attach a Docker target and submit there." % target,
            stacklevel=4,
        )


def _absent(script: str, folder: Folder) -> str:
    import difflib

    for path, why in folder.skipped:
        if script == path or (path.endswith("/") and script.startswith(path)):
            return "%s is left out of the snapshot: %s is %s." % (script, path, why)
    close = difflib.get_close_matches(script, [entry[0] for entry in folder.files], n=1, cutoff=0.5)
    hint = " Did you mean %s?" % close[0] if close else ""
    return "%s is not in %s.%s" % (script, os.path.abspath(folder.path), hint)
