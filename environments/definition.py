"""What an environment asks for: validated, serialised, and the key under which its builds are cached.

No Django: a page, the API and a YAML file build the same ``Definition`` and get the same answers to the same mistakes.
"""

import difflib
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from environments.conda import normal as normal_conda
from environments.option_rules import check_image
from environments.requirements import RequirementsError, normal, parse
from environments.variables import check_variables

PYTHON_VERSION = re.compile(r"3\.\d{1,2}(\.\d{1,3})?\Z")
MAX_VARIABLES = 200


class DefinitionError(ValueError):
    """Bad input. ``errors`` maps field → message; ``lines`` holds (number from 1, line, message) of bad package lines."""

    def __init__(self, errors: Mapping[str, str], lines: "list[tuple[int, str, str]] | None" = None) -> None:
        self.errors = dict(errors)
        self.lines = lines or []
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
        """Self with the packages cleaned of comments, or DefinitionError naming every wrong field and line."""
        errors: dict[str, str] = {}
        lines: list[tuple[int, str, str]] = []
        packages = self.packages
        try:
            packages = parse(self.packages)
        except RequirementsError as error:
            lines = error.lines
            number, _, message = lines[0]
            more = f" ({len(lines) - 1} more)" if len(lines) > 1 else ""
            errors["packages"] = f"Line {number}: {message}{more}"
        if self.user_managed:
            if self.packages:
                errors.setdefault(
                    "packages",
                    "An existing interpreter is used as it is, nothing is installed. Remove the packages, or choose a new environment.",
                )
            if self.python_version:
                errors["python_version"] = "An existing interpreter has its own version. Leave this empty."
        elif self.interpreter_path:
            errors["interpreter_path"] = "A path is for an existing interpreter only. Leave this empty."
        if self.python_version and not PYTHON_VERSION.match(self.python_version):
            errors["python_version"] = (
                f"{self.python_version!r} is not a Python version. Write 3.11 or 3.11.7, or leave it empty."
            )
        if self.interpreter_path and (message := check_interpreter(self.interpreter_path)):
            errors["interpreter_path"] = message
        if self.base_image:
            try:
                check_image(self.base_image)
            except ValueError as error:
                errors["base_image"] = str(error)
        if len(self.variables) > MAX_VARIABLES:
            errors["variables"] = (
                f"{len(self.variables)} variables; the limit is {MAX_VARIABLES}. Put them in a file of the project."
            )
        else:
            errors.update(check_variables(self.variables, {}))
        if errors:
            raise DefinitionError(errors, lines)
        return type(self)(**{**self.__dict__, "packages": packages})

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


def check_interpreter(path: str) -> str:
    """What is wrong with an interpreter's path or name; empty when nothing is."""
    if any(ord(c) < 32 or ord(c) == 127 for c in path):
        return "The path holds a control character. Type it again."
    if len(path) > 4096:
        return "The path is longer than 4,096 characters."
    if path.startswith("-"):
        return f"{path!r} begins with '-', which programs take for an option. Write the whole path."
    if "/" in path:
        if not path.startswith("/") or ".." in path.split("/"):
            return f"{path!r} must be an absolute path on the target, without '..': /usr/bin/python3."
    elif not re.match(r"[A-Za-z0-9_.-]+\Z", path):
        return f"{path!r} is neither an absolute path nor a program's name. Write /usr/bin/python3 or python3."
    return ""
