"""An `Environment` as the studio's definition, and back: the one place where the reference's names become ours."""

from __future__ import annotations

import os

from .conda_dependencies import CondaDependencies
from .errors import UserError
from .sections import SHM_SIZE, ContainerRegistry, SparkPackage
from .units import size
from .warned import warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Mapping

    from .environment import Environment

OWN_PYTHON = ("", "python")


def definition(environment: Environment) -> Dict[str, Any]:
    """The definition as the API takes it: only what is set. Passwords are not in it. Raises UserError that names the attribute."""
    found: Dict[str, Any] = {}
    _python(environment, found)
    _docker(environment, found)
    _spark(environment, found)
    variables = environment.environment_variables
    if not isinstance(variables, dict):
        raise UserError("environment_variables: names and values are needed, got %r." % (variables,))
    own = {str(name): str(value) for name, value in variables.items()}
    found["variables"] = {**found.get("variables", {}), **own}
    return {name: value for name, value in found.items() if value}


def fill(environment: Environment, data: Mapping[str, Any]) -> None:
    """Set the sections as a definition of the studio says."""
    python, docker, spark = environment.python, environment.docker, environment.spark
    python.user_managed_dependencies = bool(data.get("user_managed"))
    python.interpreter_path = data.get("interpreter_path") or "python"
    python.conda_environment = data.get("conda_environment") or ""
    conda = CondaDependencies()
    for channel in data.get("conda_channels") or []:
        conda.add_channel(channel)
    for text in data.get("conda_packages") or []:
        conda.add_conda_package(text)
    for text in data.get("packages") or []:
        conda.add_pip_package(text)
    conda.python_version = data.get("python_version") or ""
    conda.index_url = data.get("index_url") or ""
    conda.extra_index_urls = list(data.get("extra_index_urls") or [])
    conda.index_secret = data.get("index_secret") or ""
    python.conda_dependencies = conda
    docker.base_image = data.get("base_image") or None
    docker.base_dockerfile = data.get("dockerfile") or None
    # Nothing but the image: that is what containers are asked for with.
    docker.enabled = python.user_managed_dependencies and bool(docker.base_image or docker.base_dockerfile)
    registry = data.get("registry") or {}
    docker.base_image_registry = ContainerRegistry(
        registry.get("address"), registry.get("username"), secret=registry.get("secret")
    )
    options = data.get("docker") or {}
    docker.shm_size = options.get("shm_bytes") or SHM_SIZE
    docker.arguments = list(options.get("arguments") or [])
    packages = data.get("spark") or {}
    spark.repositories = list(packages.get("repositories") or [])
    spark.packages = [SparkPackage(*text.split(":")) for text in packages.get("packages") or []]
    environment.environment_variables = dict(data.get("variables") or {})


def _python(environment: Environment, found: Dict[str, Any]) -> None:
    python = environment.python
    conda = python.conda_dependencies
    if not isinstance(conda, CondaDependencies):
        raise UserError("python.conda_dependencies: a CondaDependencies is needed, got %r." % (conda,))
    if not isinstance(python.user_managed_dependencies, bool):
        raise UserError(
            "python.user_managed_dependencies: True or False is needed, got %r." % (python.user_managed_dependencies,)
        )
    path = _text("python.interpreter_path", python.interpreter_path)
    if python.conda_environment:
        found["conda_environment"] = _text("python.conda_environment", python.conda_environment)
    elif python.user_managed_dependencies:
        found["user_managed"] = True
        found["interpreter_path"] = "" if path in OWN_PYTHON else path
    else:
        if path not in OWN_PYTHON:
            raise UserError(
                "python.interpreter_path: %r is used with python.user_managed_dependencies = True only. Without it an environment "
                "is built, and its Python chosen by conda_dependencies.set_python_version(…)." % path
            )
        found["python_version"] = conda.python_version
        found["packages"] = list(conda.pip_packages)
        found["index_url"] = conda.index_url
        found["extra_index_urls"] = list(conda.extra_index_urls)
        found["index_secret"] = conda.index_secret
        found["conda_channels"] = list(conda.conda_channels)
        names = list(conda.conda_packages)
        # 'pip' alone is what every file of conda lists above its pip packages; a virtual environment has it anyway.
        only_pip = all(name == "pip" or name.startswith(("pip=", "pip<", "pip>", "pip ")) for name in names)
        found["conda_packages"] = [] if only_pip and not found["conda_channels"] else names
        if only_pip and (found["packages"] or not names):
            # Channels without packages of conda bring nothing.
            found["conda_packages"], found["conda_channels"] = [], []
        found["variables"] = conda.variables
        return
    if list(conda.conda_packages) or list(conda.pip_packages):
        warn("python.conda_dependencies are not installed: this environment uses what is there already.")


def _docker(environment: Environment, found: Dict[str, Any]) -> None:
    docker = environment.docker
    found["base_image"] = _text("docker.base_image", docker.base_image)
    found["dockerfile"] = _dockerfile(docker.base_dockerfile)
    if found.get("user_managed") and not docker.enabled and (found["base_image"] or found["dockerfile"]):
        # As in the reference; below packages an image is where targets with an engine begin.
        warn(
            "docker.base_image is left out: this environment is an interpreter on the target, since docker.enabled is False. Set it to "
            "True, or run_config.docker.use_docker, to run in the image."
        )
        found["base_image"] = found["dockerfile"] = ""
    if found["base_image"] and found["dockerfile"]:
        raise UserError(
            "docker.base_dockerfile: give either base_dockerfile or base_image. Set the other to None; the FROM line names the image."
        )
    registry = docker.base_image_registry
    if not isinstance(registry, ContainerRegistry):
        raise UserError("docker.base_image_registry: a ContainerRegistry is needed, got %r." % (registry,))
    if registry.address:
        parts = {"address": registry.address, "username": registry.username, "secret": registry.secret}
        found["registry"] = {
            name: _text("docker.base_image_registry." + name, value) for name, value in parts.items() if value
        }
    elif registry.username or registry.password:
        raise UserError("docker.base_image_registry.address: it is missing, for example registry.example.org.")
    options: Dict[str, Any] = {}
    shm = shm_bytes("docker.shm_size", docker.shm_size)
    if shm != size("", SHM_SIZE):
        options["shm_bytes"] = shm
    if arguments := texts("docker.arguments", docker.arguments):
        options["arguments"] = arguments
    found["docker"] = options


def _dockerfile(value: Any) -> str:
    if value is None or value == "":
        return ""
    if isinstance(value, os.PathLike):
        return read("docker.base_dockerfile", os.fspath(value))
    text = _text("docker.base_dockerfile", value)
    # A line without a space is no instruction of a Dockerfile, so it is a path.
    if "\n" not in text.strip() and (os.path.isfile(text) or " " not in text.strip()):
        return read("docker.base_dockerfile", text)
    return text


def _spark(environment: Environment, found: Dict[str, Any]) -> None:
    spark = environment.spark
    packages: List[str] = []
    if isinstance(spark.packages, str) or not hasattr(spark.packages, "__iter__"):
        raise UserError("spark.packages: a list of SparkPackage is needed, got %r." % (spark.packages,))
    for one in spark.packages:
        text = str(one) if isinstance(one, SparkPackage) else one
        if not isinstance(text, str) or text.count(":") != 2 or not all(text.split(":")):
            raise UserError(
                "spark.packages: %r needs group, artifact and version: SparkPackage('org.example', 'name', '1.0')."
                % (one,)
            )
        packages.append(text)
    parts = {"packages": packages, "repositories": texts("spark.repositories", spark.repositories)}
    found["spark"] = {name: value for name, value in parts.items() if value}


def shm_bytes(field: str, value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return size(field, _text(field, value))


def texts(field: str, values: Any) -> List[str]:
    if values is None:
        return []
    if not isinstance(values, (list, tuple)):
        raise UserError("%s: a list of texts is needed, got %r." % (field, values))
    return [_text(field, value) for value in values]


def read(field: str, path: str) -> str:
    """The text of a file that an argument names. Raises UserError."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, ValueError) as error:
        raise UserError(
            "%s: %s cannot be read: %s." % (field, path, getattr(error, "strerror", None) or error)
        ) from None


def _text(field: str, value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UserError("%s: a text is needed, got %r." % (field, value))
    return value
