"""The parts of an `Environment`: plain attributes by the names of the reference, guarded against misspelling."""

from __future__ import annotations

import difflib

from .conda_dependencies import CondaDependencies
from .errors import UserError
from .warned import warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Tuple

SHM_SIZE = "2g"


class Section:
    """Attributes that it has not got are refused: a misspelt one would silently do nothing."""

    PART = ""
    NOTHING: Dict[str, Tuple[Any, str]] = {}
    """Attributes that scripts of other systems set and that mean nothing here: their default there, and what to do instead."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.NOTHING:
            default, instead = self.NOTHING[name]
            if value not in (default, None):
                warn("%s.%s means nothing here: %s" % (self.PART, name, instead))
        elif not name.startswith("_") and not hasattr(type(self), name) and name not in self._names():
            own = [known for known in dir(type(self)) if isinstance(getattr(type(self), known), property)]
            near = difflib.get_close_matches(name, [*own, *self._names()], 1)
            hint = " Did you mean %s?" % near[0] if near else " There are: %s." % ", ".join(self._names())
            raise UserError("%s.%s: there is no such attribute.%s" % (self.PART, name, hint))
        object.__setattr__(self, name, value)

    @classmethod
    def _names(cls) -> List[str]:
        return [name for one in cls.__mro__ for name in getattr(one, "__annotations__", {}) if name.islower()]

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        hidden = {"password": "***"}
        shown = ", ".join(
            "%s=%r" % (name, hidden.get(name, value) if value else value) for name, value in self.__dict__.items()
        )
        return "%s(%s)" % (type(self).__name__, shown)


class PythonSection(Section):
    PART = "python"
    NOTHING = {
        "base_conda_environment": (None, "name an existing conda environment as conda_environment."),
        "conda_dependencies_file": (None, "give CondaDependencies(path) as conda_dependencies."),
    }
    user_managed_dependencies: bool
    """True: nothing is installed; the interpreter at `interpreter_path` is used as it is."""
    interpreter_path: str
    """A path or name on the target; `python`: the target's own Python 3."""
    conda_environment: str
    """An existing conda environment on the target: its name, or absolute path."""
    conda_dependencies: CondaDependencies
    conda_dependencies_file: Optional[str]
    base_conda_environment: Optional[str]

    def __init__(self) -> None:
        self.user_managed_dependencies = False
        self.interpreter_path = "python"
        self.conda_environment = ""
        self.conda_dependencies = CondaDependencies()


class ContainerRegistry(Section):
    """A registry of images. The password goes to the studio once, with `register`, and is kept there as a secret of the workspace."""

    PART = "docker.base_image_registry"
    NOTHING = {"registry_identity": (None, "give username and password.")}
    address: Optional[str]
    username: Optional[str]
    password: Optional[str]
    secret: Optional[str]
    """Name of a secret of the workspace that holds the password already."""
    registry_identity: Any

    def __init__(
        self,
        address: Optional[str] = None,
        username: Optional[str] = None,
        password: Optional[str] = None,
        secret: Optional[str] = None,
    ) -> None:
        self.address = address
        self.username = username
        self.password = password
        self.secret = secret


class DockerSection(Section):
    PART = "docker"
    NOTHING = {
        "shared_volumes": (True, "folders that runs see are options of the target (mounts)."),
        "gpu_support": (None, "a run is given the GPUs that it asks for."),
        "platform": (None, "the target's engine has its own."),
    }
    enabled: bool
    """Whether runs are meant for containers. The target decides: submitting to one without an engine warns."""
    base_image: Optional[str]
    base_dockerfile: Any
    """Text of a Dockerfile, the path of one, or an open file."""
    base_image_registry: ContainerRegistry
    shm_size: Any
    arguments: List[str]
    """Of `docker run`, those that the studio knows: `--ipc`, `--ulimit`, …"""
    shared_volumes: bool
    gpu_support: Any
    platform: Any

    def __init__(self) -> None:
        self.enabled = False
        self.base_image = None
        self.base_dockerfile = None
        self.base_image_registry = ContainerRegistry()
        self.shm_size = SHM_SIZE
        self.arguments = []
        self.shared_volumes = True

    def __setattr__(self, name: str, value: Any) -> None:
        # Read at once: a file that is open cannot be copied with its configuration.
        super().__setattr__(name, value.read() if name == "base_dockerfile" and hasattr(value, "read") else value)


class SparkPackage(Section):
    """Coordinates of Maven."""

    PART = "SparkPackage"
    group: str
    artifact: str
    version: str

    def __init__(
        self, group: Optional[str] = None, artifact: Optional[str] = None, version: Optional[str] = None
    ) -> None:
        self.group = group or ""
        self.artifact = artifact or ""
        self.version = version or ""

    def __str__(self) -> str:
        return ":".join((self.group, self.artifact, self.version))


class SparkSection(Section):
    PART = "spark"
    NOTHING = {"precache_packages": (True, "packages are always resolved with the build.")}
    repositories: List[str]
    packages: List[Any]
    """SparkPackage, or the text `group:artifact:version`."""
    precache_packages: bool

    def __init__(self) -> None:
        self.repositories = []
        self.packages = []
        self.precache_packages = True


class DockerConfiguration(Section):
    """`run_config.docker`: the newer place for what `environment.docker` says. What is set here wins."""

    PART = "docker"
    NOTHING = {"shared_volumes": DockerSection.NOTHING["shared_volumes"]}
    use_docker: bool
    shared_volumes: bool
    arguments: List[str]
    shm_size: Any

    def __init__(
        self,
        use_docker: bool = False,
        shared_volumes: bool = True,
        arguments: Optional[List[str]] = None,
        shm_size: Any = SHM_SIZE,
    ) -> None:
        self.use_docker = use_docker
        self.shared_volumes = shared_volumes
        self.arguments = list(arguments or [])
        self.shm_size = SHM_SIZE if shm_size is None else shm_size
