"""What an environment asks for: validated, serialised, and the key under which its builds are cached.

No Django: a page, the API and a YAML file build the same ``Definition`` and get the same answers to the same mistakes.
"""

import difflib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Self

from environments import definition_rules as rules
from environments import docker_arguments, package_rules
from environments.conda import normal as normal_conda
from environments.definition_rules import Found, Line
from environments.docker_arguments import DockerArguments
from environments.option_rules import check_image
from environments.requirements import normal

Lines = dict[str, list[Line]]


class DefinitionError(ValueError):
    """Bad input. ``errors`` maps field → message, sections with a dot (``docker.arguments``). ``lines`` maps field → what is wrong
    with its single lines: (number from 1, the line, message)."""

    def __init__(self, errors: Mapping[str, str], lines: "Lines | None" = None) -> None:
        self.errors = dict(errors)
        self.lines = lines or {}
        super().__init__("; ".join(f"{name}: {message}" for name, message in self.errors.items()))


@dataclass(frozen=True, kw_only=True)
class Definition:
    """The field's own names: ``user_managed`` is the article's ``user_managed_dependencies``."""

    user_managed: bool = False
    """An interpreter that is on the target already; nothing is installed."""
    interpreter_path: str = ""
    """Of a user-managed environment: absolute path or name; empty: the target's own Python 3."""
    python_version: str = ""
    """3.x or 3.x.y; empty: the target's own Python 3."""
    packages: tuple[str, ...] = ()
    """PEP 508 requirements, as typed."""
    index_url: str = ""
    """Where pip packages come from instead of the target's own index; never with credentials in it."""
    extra_index_urls: tuple[str, ...] = ()
    index_secret: str = ""
    """Name of the workspace's secret that holds ``user:password`` for these addresses."""
    conda_environment: str = ""
    """A conda environment that is on the target already: name or absolute path. User-managed."""
    conda_channels: tuple[str, ...] = ()
    conda_packages: tuple[str, ...] = ()
    base_image: str = ""
    """On targets with a container engine: the image to start from; empty: the target's own. Elsewhere it means nothing."""
    dockerfile: str = ""
    """Text of a Dockerfile from which the base image is built. For targets with a container engine."""
    registry: dict[str, str] = field(default_factory=dict)
    """``address``, ``username``, and ``secret``: the name of the workspace's secret that holds the password."""
    docker: dict[str, Any] = field(default_factory=dict)
    """How containers of runs are started: ``shm_bytes`` and ``arguments`` (options of ``docker run`` of a fixed list)."""
    spark: dict[str, list[str]] = field(default_factory=dict)
    """``packages`` (group:artifact:version) and ``repositories`` (addresses)."""
    variables: dict[str, str] = field(default_factory=dict)
    """For every run in this environment; they do not change the build."""

    @property
    def kind(self) -> str:
        """``interpreter``, ``conda_environment`` or ``image`` (used as they are), ``conda``, or ``packages``; where a Dockerfile or a
        base image is below packages, they are still ``packages`` or ``conda``."""
        if self.conda_environment:
            return "conda_environment"
        if self.user_managed:
            return "image" if self.base_image or self.dockerfile else "interpreter"
        return "conda" if self.conda_packages or self.conda_channels else "packages"

    @property
    def builder(self) -> str:
        """The name in ``BUILDERS`` of what makes it where runs are processes."""
        return {"conda": "conda", "packages": "venv"}.get(self.kind, "interpreter")

    @property
    def needs_engine(self) -> bool:
        """Whether it is an image that only a target with a container engine can use."""
        return bool(self.dockerfile) or self.kind == "image"

    @property
    def docker_arguments(self) -> DockerArguments:
        """What its options ask of a container. Of a validated definition: raises ArgumentsError for others."""
        asked = docker_arguments.parse(self.docker.get("arguments", ()))
        return replace(asked, shm_bytes=self.docker["shm_bytes"]) if self.docker.get("shm_bytes") else asked

    def to_json(self) -> dict[str, Any]:
        """Only what is set, so that fields added later do not change what is stored."""
        data = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return {name: value for name, value in data.items() if value}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read back what ``to_json`` wrote. Raises DefinitionError for fields that are not known or of a wrong type."""
        errors: dict[str, str] = {}
        known = {one.name: one.type.__name__ if type(one.type) is type else str(one.type) for one in fields(cls)}
        values: dict[str, Any] = {}
        for name, value in data.items():
            if name not in known:
                near = difflib.get_close_matches(str(name), known, 1)
                hint = f" Did you mean {near[0]}?" if near else f" Use: {', '.join(known)}."
                errors[str(name)] = f"not a field of an environment.{hint}"
            elif message := wrong_type(known[name], value):
                errors[name] = message
            else:
                values[name] = tuple(value) if known[name].startswith("tuple") else value
        if errors:
            raise DefinitionError(errors)
        return cls(**values)

    @classmethod
    def from_requirements(cls, text: str, **others: Any) -> Self:
        """The definition that a requirements file asks for. Raises DefinitionError naming every bad line."""
        return cls(packages=tuple(text.splitlines()), **others).validated()

    def validated(self) -> Self:
        """Self with packages and channels cleaned of comments, or DefinitionError naming every wrong field and line."""
        found = Found()
        packages = found.parse("packages", rules.requirements, self.packages)
        conda_packages = found.parse("conda_packages", rules.conda_packages, self.conda_packages)
        conda_channels = found.each("conda_channels", package_rules.check_channel, self.conda_channels)
        extra_index_urls = found.each("extra_index_urls", package_rules.check_index, self.extra_index_urls)
        self._check_kind(found)
        found.check("python_version", rules.check_python_version, self.python_version)
        found.check("interpreter_path", rules.check_interpreter, self.interpreter_path)
        found.check("conda_environment", rules.check_conda_environment, self.conda_environment)
        found.check("index_url", package_rules.check_index, self.index_url)
        found.check("index_secret", package_rules.check_secret_name, self.index_secret)
        found.check("base_image", check_image, self.base_image)
        found.parse("dockerfile", rules.dockerfile_text, self.dockerfile)
        rules.check_registry(found, self.registry)
        rules.check_docker(found, self.docker)
        rules.check_spark(found, self.spark)
        rules.check_environment_variables(found, self.variables)
        if found.errors:
            raise DefinitionError(found.errors, found.lines)
        return replace(
            self,
            # Said or not, a conda environment of the target's is used as it is: one spelling, so that it is one version.
            user_managed=self.user_managed or bool(self.conda_environment),
            packages=packages,
            conda_packages=conda_packages,
            conda_channels=conda_channels,
            extra_index_urls=extra_index_urls,
        )

    def _check_kind(self, found: Found) -> None:
        """What belongs to another kind of environment."""
        if self.user_managed or self.conda_environment:
            what = "A conda environment" if self.conda_environment else f"An existing {self.kind}"
            for name in ("packages", "conda_packages", "conda_channels"):
                if getattr(self, name):
                    found.add(
                        name, f"{what} is used as it is, nothing is installed. Remove them, or choose another kind."
                    )
            if self.python_version:
                found.add("python_version", f"{what} has its own version. Leave this empty.")
            for name in ("index_url", "extra_index_urls", "index_secret"):
                if getattr(self, name):
                    found.add(name, f"{what} is used as it is, so nothing is fetched. Leave this empty.")
        elif self.interpreter_path:
            found.add("interpreter_path", "A path is for an existing interpreter only. Leave this empty.")
        if self.conda_environment and self.interpreter_path:
            found.add("interpreter_path", "A conda environment has its own Python. Leave this empty.")
        if self.conda_environment and (self.base_image or self.dockerfile):
            name = "dockerfile" if self.dockerfile else "base_image"
            found.add(name, "A conda environment of the target is not in an image. Leave this empty.")
        if self.base_image and self.dockerfile:
            found.add("base_image", "The Dockerfile's FROM names the image. Leave one of the two empty.")
        if self.index_secret and not (self.index_url or self.extra_index_urls):
            found.add(
                "index_secret",
                "It is for the indexes of this environment, and none is named. Name one, or leave this empty.",
            )

    def key(self, salt: str = "") -> str:
        """SHA-256 over what changes the build and nothing else: the same for any order and spelling of the packages.

        ``salt``: of a version that was refreshed, so that it is resolved anew.
        """
        parts: dict[str, Any] = {
            "builder": self.builder,
            "salt": salt,
            "base_image": self.base_image,
            "dockerfile": self.dockerfile,
        }
        if self.user_managed or self.conda_environment:
            parts |= {"interpreter": self.interpreter_path, "conda_environment": self.conda_environment}
        else:
            parts |= {
                "python": self.python_version,
                "packages": sorted({normal(line) for line in self.packages}),
                "indexes": [self.index_url, *self.extra_index_urls],
                "channels": list(self.conda_channels),
                "conda": sorted({normal_conda(line) for line in self.conda_packages}),
            }
        if self.spark:
            parts["spark"] = {name: sorted(values) for name, values in self.spark.items()}
        return hashlib.sha256(json.dumps({k: v for k, v in parts.items() if v}, sort_keys=True).encode()).hexdigest()


def wrong_type(wanted: str, value: Any) -> str:
    """What is wrong with a value that JSON brought, for a field of this type; empty when nothing is."""

    def texts(values: Any) -> bool:
        return isinstance(values, list | tuple) and all(isinstance(one, str) for one in values)

    if wanted.startswith("tuple"):
        return "" if texts(value) else "expected a list of texts."
    if wanted == "dict[str, str]":
        fits = isinstance(value, dict) and all(isinstance(one, str) for pair in value.items() for one in pair)
        return "" if fits else "expected names and values as texts."
    if wanted == "dict[str, list[str]]":
        fits = isinstance(value, dict) and all(isinstance(name, str) and texts(one) for name, one in value.items())
        return "" if fits else "expected names with lists of texts."
    if wanted.startswith("dict"):
        return "" if isinstance(value, dict) else "expected names and values."
    return "" if type(value).__name__ == wanted else f"expected {wanted}, got {type(value).__name__}."
