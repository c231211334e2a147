"""`Environment`: the software that a run needs, by the names of the reference."""

from __future__ import annotations

import codecs
import copy
import difflib
import json
import os
import re
import sys
import time

from . import definitions, needed
from . import environment_calls as calls
from .conda_dependencies import FILE_NAME, CondaDependencies
from .errors import NotYet, RunsteadError, UserError
from .not_yet import WHY, member
from .sections import ContainerRegistry, DockerSection, PythonSection, SparkPackage, SparkSection
from .warned import warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Mapping, Optional, Sequence, Union

    from .client import Workspace

    Path = Union[str, os.PathLike[str]]

SAVED = "azureml_environment.json"
DOCKERFILE = "BaseDockerfile"
_SECTIONS = ("python", "docker", "spark", "environment_variables")
_MEANS_NOTHING = ("inferencing_stack_version", "asset_id")
_THEIR_IMAGE = re.compile(r"(?:mcr\.microsoft\.com|viennaprivate\.azurecr\.io)/azureml/")
_THEIR_REPOSITORIES = ("https://mmlspark.azureedge.net/maven",)
_THEIR_SPARK_PACKAGES = ("com.microsoft.ml.spark:mmlspark_2.11",)


class Environment:
    """The software of runs: `Environment.get(ws, "scikit-learn")`, or one of your own.

    `python`, `docker`, `spark` and `environment_variables` say what is in it; `register` keeps it as a numbered version. A run
    submitted with one that is not registered, or was changed since, registers it.
    """

    python: PythonSection
    docker: DockerSection
    spark: SparkSection
    environment_variables: Dict[str, str]

    def __init__(self, name: str, version: Union[str, int, None] = None) -> None:
        if not isinstance(name, str) or not name:
            raise UserError("name: the name of an environment is needed.")
        self.name = name
        self.version = None if version is None else str(version)
        """None until it is registered."""
        self.python = PythonSection()
        self.docker = DockerSection()
        self.spark = SparkSection()
        self.environment_variables = {}
        self.curated = False
        self._registered: Optional[Dict[str, Any]] = None
        """The definition that the studio has for this name and version."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _MEANS_NOTHING:
            if value is not None:
                warn("%s means nothing here and is left out." % name)
        elif name in ("r", "databricks"):
            if value is not None:
                raise NotYet("%s: %s" % (name, WHY["Environment." + name]))
            return
        elif name not in (*_SECTIONS, "name", "version", "curated") and not name.startswith("_"):
            near = difflib.get_close_matches(name, _SECTIONS, 1)
            hint = (
                "Did you mean %s?" % near[0] if near else "There are: %s." % ", ".join(("name", "version", *_SECTIONS))
            )
            raise UserError("environment.%s: there is no such attribute. %s" % (name, hint))
        elif name in _SECTIONS and name != "environment_variables":
            wanted = {"python": PythonSection, "docker": DockerSection, "spark": SparkSection}[name]
            if not isinstance(value, wanted):
                raise UserError("%s: a %s is needed, got %r." % (name, wanted.__name__, value))
        object.__setattr__(self, name, value)

    r = member("Environment.r")
    databricks = member("Environment.databricks")

    # Found in the studio.

    @staticmethod
    def get(
        workspace: Workspace, name: str, version: Union[str, int, None] = None, label: Optional[str] = None
    ) -> Environment:
        """The environment of that name, without regard to case: its newest version, or the one that is named.

        Raises UserError when there is none.
        """
        if version is not None and label is not None:
            raise UserError("label: give either a version or a label.")
        if label is not None and label.lower() == "latest":
            label = None
        wanted = name if version is None else "%s:%s" % (name, version)
        row = calls.fetch(workspace, wanted if label is None else "%s@%s" % (name, label))
        return Environment._of(row)

    @staticmethod
    def list(workspace: Workspace) -> Dict[str, Environment]:
        """Name → newest version of every environment that the workspace can use."""
        return {row["name"]: Environment._of(row) for row in calls.listed(workspace)}

    @staticmethod
    def _of(row: Mapping[str, Any]) -> Environment:
        made = Environment(row["name"], row["version"])
        made.curated = bool(row.get("curated"))
        definitions.fill(made, row["definition"])
        made._registered = definitions.definition(made)
        return made

    # Made from what there is.

    @staticmethod
    def from_conda_specification(name: str, file_path: Path) -> Environment:
        """As a conda file says. Raises UserError."""
        made = Environment(name)
        made.python.conda_dependencies = CondaDependencies(needed.file_path("file_path", file_path))
        return made

    @staticmethod
    def from_pip_requirements(name: str, file_path: Path, pip_version: Optional[str] = None) -> Environment:
        """As a requirements file says. The studio names every line that it cannot take. `pip_version` is there for scripts of
        other systems: packages are installed by uv, or the target's own pip. Raises UserError."""
        if pip_version is not None:
            warn("pip_version means nothing here: packages are installed by uv, or the target's own pip.")
        made = Environment(name)
        made.python.conda_dependencies.set_pip_requirements(requirements(needed.file_path("file_path", file_path)))
        return made

    @staticmethod
    def from_existing_conda_environment(name: str, conda_environment_name: str) -> Environment:
        """A conda environment that is on the target already, by its name or folder: nothing is installed."""
        if not isinstance(conda_environment_name, str) or not conda_environment_name:
            raise UserError("conda_environment_name: the name or folder of a conda environment is needed.")
        made = Environment(name)
        made.python.conda_environment = conda_environment_name
        return made

    @staticmethod
    def from_docker_image(
        name: str,
        image: str,
        container_registry: Optional[ContainerRegistry] = None,
        conda_specification: Optional[Path] = None,
        pip_requirements: Optional[Path] = None,
    ) -> Environment:
        """An image as it is; with a conda or requirements file, their packages on top of it. Raises UserError."""
        made = Environment(name)
        made.docker.base_image = image
        return _in_container(made, container_registry, conda_specification, pip_requirements)

    @staticmethod
    def from_dockerfile(
        name: str,
        dockerfile: Any,
        container_registry: Optional[ContainerRegistry] = None,
        conda_specification: Optional[Path] = None,
        pip_requirements: Optional[Path] = None,
    ) -> Environment:
        """The image of a Dockerfile (its text, its path, or an open file); with a conda or requirements file, their packages on top.

        Raises UserError.
        """
        made = Environment(name)
        made.docker.base_dockerfile = dockerfile
        return _in_container(made, container_registry, conda_specification, pip_requirements)

    # Kept, copied, built.

    def register(self, workspace: Workspace) -> Environment:
        """Keep it in the workspace; sets `version`. An unchanged definition has the version that it had. Raises UserError, ApiError."""
        data = definitions.definition(self)
        registry = self.docker.base_image_registry
        if registry.password:
            registry.secret = registry.secret or "registry-" + self.name
            calls.keep_password(workspace, registry.secret, registry.password)
            registry.password = None
            data["registry"]["secret"] = registry.secret
        row = calls.register(workspace, self.name, data)
        for note in row.get("notes") or ():
            warn("environment %s: %s" % (self.name, note))
        self.name, self.version, self.curated = row["name"], str(row["version"]), False
        self._registered = data
        return self

    def clone(self, new_name: str) -> Environment:
        """A copy under another name, not registered."""
        made = copy.deepcopy(self)
        made.__dict__.update(name=Environment(new_name).name, version=None, curated=False, _registered=None)
        return made

    def build(self, workspace: Workspace, target: Any = None) -> ImageBuildDetails:
        """Have it built on a target (`local`, unless one is named) before a run needs it; registers it where needed.

        Raises UserError, ApiError.
        """
        name = getattr(target, "name", target) or "local"
        reference = self.reference(workspace)
        return ImageBuildDetails(workspace, reference, calls.build(workspace, reference, name))

    def build_local(self, workspace: Workspace, platform: Any = None, **ignored: Any) -> ImageBuildDetails:
        """The same as `build(workspace, "local")`."""
        return self.build(workspace, "local")

    def get_builds(self, workspace: Workspace) -> List[Dict[str, Any]]:
        """What is known of its builds, a dict for each target that has or had one."""
        return calls.builds(workspace, self.reference(workspace))

    def reference(self, workspace: Workspace) -> str:
        """`name:version` as the studio has it, registered now if it is not, or was changed. Raises UserError, ApiError."""
        changed = self._registered is not None and self._registered != definitions.definition(self)
        if self.version is not None and not changed and not self.docker.base_image_registry.password:
            return str(self)
        if self.curated:
            raise UserError(
                "environment: %s is curated and was changed. Give your copy a name: environment = environment.clone('my-name')."
                % self.name
            )
        self.register(workspace)
        return str(self)

    # As files.

    def save_to_directory(self, path: Path, overwrite: bool = False) -> None:
        """Write `azureml_environment.json`, `conda_dependencies.yml` and, with one, `BaseDockerfile` to a folder. No passwords.

        Raises UserError when they are there and `overwrite` is False.
        """
        folder = os.fspath(path)
        dockerfile = definitions.definition(self).get("dockerfile")
        files = {
            SAVED: json.dumps(as_dict(self), indent=4) + "\n",
            FILE_NAME: self.python.conda_dependencies.serialize_to_string(),
        }
        if dockerfile:
            files[DOCKERFILE] = dockerfile
        there = [name for name in files if os.path.exists(os.path.join(folder, name))]
        if there and not overwrite:
            raise UserError("path: %s holds %s already. Give overwrite=True." % (folder, ", ".join(there)))
        os.makedirs(folder, exist_ok=True)
        for name, text in files.items():
            with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                file.write(text)

    @staticmethod
    def load_from_directory(path: Path) -> Environment:
        """What `save_to_directory` wrote, also that of Azure Machine Learning. Raises UserError."""
        folder = os.fspath(path)
        text = definitions.read("path", os.path.join(folder, SAVED))
        try:
            data = json.loads(text)
            if not isinstance(data, dict):
                raise ValueError("it holds no object")
        except ValueError as error:
            raise UserError("path: %s is no JSON: %s." % (os.path.join(folder, SAVED), error)) from None
        return from_dict(data, folder)

    def __str__(self) -> str:
        return self.name if self.version is None else "%s:%s" % (self.name, self.version)

    def __repr__(self) -> str:
        return "Environment(name=%r, version=%r)" % (self.name, self.version)


class ImageBuildDetails:
    """A build on one target, as `Environment.build` returns it."""

    def __init__(self, workspace: Workspace, reference: str, row: Dict[str, Any]) -> None:
        self._workspace = workspace
        self._reference = reference
        self._row = row

    @property
    def target(self) -> str:
        return str(self._row["target"])

    @property
    def status(self) -> str:
        """Waiting, Building, Ready or Failed: asked anew while it goes on."""
        if self._row["status"] not in calls.ENDED:
            self._row = calls.build_on(self._workspace, self._reference, self.target)
        return str(self._row["status"])

    @property
    def error(self) -> str:
        """Why it failed, in one line; empty otherwise."""
        return str(self._row.get("error") or "")

    def get_log(self) -> str:
        """What the build has written so far."""
        return calls.build_log(self._workspace, self._reference, self.target)[0].decode("utf-8", "replace")

    def wait_for_completion(self, show_output: bool = True) -> None:
        """Wait until it has ended; `show_output`: print its log as it comes. Raises RunsteadError when it failed."""
        shown, attempt, pause = 0, "", 0.2
        text = codecs.getincrementaldecoder("utf-8")("replace")
        while True:
            ended = self.status in calls.ENDED
            if show_output:
                data, shown, attempt = calls.build_log(self._workspace, self._reference, self.target, shown, attempt)
                sys.stdout.write(text.decode(data))
                sys.stdout.flush()
                pause = 0.2 if data else min(pause * 1.5, 2.0)
            if ended:
                break
            time.sleep(pause)
        if show_output:
            print("%s on %s: %s" % (self._reference, self.target, self.status))
        if self.status == "Failed":
            raise RunsteadError(
                "environment: the build of %s on %s failed: %s" % (self._reference, self.target, self.error)
            )

    def serialize(self) -> Dict[str, Any]:
        """Everything the studio says about it."""
        return dict(self._row)

    def __repr__(self) -> str:
        return "ImageBuildDetails(%s on %s: %s)" % (self._reference, self.target, self._row["status"])


# From files.


def requirements(path: str) -> List[str]:
    """The lines of a requirements file, and of those that it names with `-r`, without comments. Raises UserError."""
    lines: List[str] = []
    _requirements(os.path.abspath(path), (), lines)
    return lines


def _requirements(path: str, within: Sequence[str], lines: List[str]) -> None:
    if path in within:
        raise UserError("file_path: %s names itself with -r." % path)
    for line in definitions.read("file_path", path).splitlines():
        text = line.partition(" #")[0].strip()
        other = re.match(r"(?:-r|--requirement)[\s=]*(\S.*)\Z", text)
        if other:
            _requirements(os.path.normpath(os.path.join(os.path.dirname(path), other.group(1))), (*within, path), lines)
        elif text and not text.startswith("#") and text not in lines:
            lines.append(text)


def _in_container(
    made: Environment,
    registry: Optional[ContainerRegistry],
    conda_specification: Optional[Path],
    pip_requirements: Optional[Path],
) -> Environment:
    made.docker.enabled = True
    if registry is not None:
        made.docker.base_image_registry = registry
    if conda_specification is not None and pip_requirements is not None:
        raise UserError(
            "pip_requirements: give either a conda file, which may list pip packages, or a requirements file."
        )
    if conda_specification is not None:
        made.python.conda_dependencies = CondaDependencies(conda_specification)
    elif pip_requirements is not None:
        made.python.conda_dependencies.set_pip_requirements(requirements(os.fspath(pip_requirements)))
    else:
        made.python.user_managed_dependencies = True
    return made


def as_dict(environment: Environment) -> Dict[str, Any]:
    """In the reference's own format, so that either side reads the other's."""
    python, docker, spark = environment.python, environment.docker, environment.spark
    registry = docker.base_image_registry
    found = definitions.definition(environment)
    return {
        "name": environment.name,
        "version": environment.version,
        "environmentVariables": found.get("variables", {}),
        "python": {
            "userManagedDependencies": python.user_managed_dependencies,
            "interpreterPath": python.interpreter_path,
            "condaDependenciesFile": None,
            "baseCondaEnvironment": python.conda_environment or None,
            "condaDependencies": python.conda_dependencies.as_dict(),
        },
        "docker": {
            "enabled": docker.enabled,
            "baseImage": docker.base_image,
            "baseDockerfile": found.get("dockerfile"),
            "sharedVolumes": True,
            "shmSize": docker.shm_size,
            "arguments": list(docker.arguments),
            "baseImageRegistry": {"address": registry.address, "username": registry.username, "password": None, "secret": registry.secret},
        },
        "spark": {
            "repositories": list(spark.repositories),
            "packages": [dict(zip(("group", "artifact", "version"), text.split(":"))) for text in found.get("spark", {}).get("packages", [])],
            "precachePackages": True,
        },
    }  # fmt: skip


def from_dict(data: Mapping[str, Any], folder: str, name: str = "") -> Environment:
    """What `as_dict` says, also as the reference wrote it. `name`: where it has none of its own, instead of the folder's."""
    made = Environment(str(data.get("name") or name or os.path.basename(os.path.abspath(folder))))
    python, docker, spark = (data.get(part) or {} for part in ("python", "docker", "spark"))
    made.environment_variables = dict(data.get("environmentVariables") or {})
    made.python.user_managed_dependencies = bool(python.get("userManagedDependencies"))
    made.python.interpreter_path = python.get("interpreterPath") or "python"
    made.python.conda_environment = python.get("baseCondaEnvironment") or ""
    file = python.get("condaDependenciesFile")
    if python.get("condaDependencies"):
        conda = CondaDependencies()
        conda._take(python["condaDependencies"], SAVED)
        made.python.conda_dependencies = conda
    elif file or os.path.exists(os.path.join(folder, FILE_NAME)):
        path = os.path.join(folder, file or FILE_NAME)
        # Files of the other system name it from the project's root, in which their own folder lies.
        from_root = os.path.join(os.path.dirname(os.path.abspath(folder)), file or FILE_NAME)
        made.python.conda_dependencies = CondaDependencies(path if os.path.exists(path) else from_root)
    made.docker.enabled = bool(docker.get("enabled"))
    image = docker.get("baseImage")
    # Their SDK writes its own image into every file; it counts where containers are asked for.
    made.docker.base_image = None if not made.docker.enabled and _THEIR_IMAGE.match(image or "") else image
    made.docker.base_dockerfile = docker.get("baseDockerfile")
    made.docker.shm_size = docker.get("shmSize") or made.docker.shm_size
    made.docker.arguments = list(docker.get("arguments") or [])
    registry = docker.get("baseImageRegistry") or {}
    names = ("address", "username", "password", "secret")
    made.docker.base_image_registry = ContainerRegistry(*(registry.get(name) for name in names))
    packages = [
        SparkPackage(*(one.get(part) for part in ("group", "artifact", "version")))
        for one in spark.get("packages") or []
    ]
    # It wrote these into every file, too, and their repository is gone.
    made.spark.repositories = [url for url in spark.get("repositories") or [] if url not in _THEIR_REPOSITORIES]
    made.spark.packages = [one for one in packages if str(one).rpartition(":")[0] not in _THEIR_SPARK_PACKAGES]
    if data.get("r"):
        raise NotYet("environment.r: %s" % WHY["Environment.r"])
    if any((data.get("databricks") or {}).values()):
        warn("environment.databricks means nothing here and is left out: list the packages under python or spark.")
    return made
