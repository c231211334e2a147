"""What an environment asks for: validated, serialised, and the key under which its builds are cached.

No Django: a page, the API and a YAML file build the same ``Definition`` and get the same answers to the same mistakes.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

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
    base_image: str = ""
    """On targets with a container engine: the image to start from; empty: the target's own. Elsewhere it means nothing."""
    variables: dict[str, str] = field(default_factory=dict)
    """For every run in this environment; they do not change the build."""

    @property
    def builder(self) -> str:
        """The name in ``BUILDERS`` of what makes it."""
        return "interpreter" if self.user_managed else "venv"

    def to_json(self) -> dict[str, Any]:
        """Only what is set, so that fields added later do not change what is stored."""
        data = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return {name: value for name, value in data.items() if value}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read back what ``to_json`` wrote. Raises DefinitionError for fields that are not known or of a wrong type."""
        types: dict[str, type] = {
            "user_managed": bool, "interpreter_path": str, "python_version": str, "packages": list, "base_image": str,
            "variables": dict,
        }  # fmt: skip
        errors = {}
        for name, value in data.items():
            if name not in types:
                errors[str(name)] = f"not a field of an environment. Use: {', '.join(types)}."
            elif not isinstance(value, types[name]):
                errors[name] = f"expected {types[name].__name__}, got {type(value).__name__}."
        if not errors and not all(isinstance(line, str) for line in data.get("packages", ())):
            errors["packages"] = "expected a list of texts, one requirement each."
        if not errors and not all(isinstance(v, str) for pair in data.get("variables", {}).items() for v in pair):
            errors["variables"] = "expected names and values as texts."
        if errors:
            raise DefinitionError(errors)
        return cls(
            **{
                **data,
                "packages": tuple(data.get("packages", ())),
                "variables": dict(data.get("variables", {})),
            }
        )

    @classmethod
    def from_requirements(cls, text: str, **fields: Any) -> Self:
        """The definition that a requirements file asks for. Raises DefinitionError naming every bad line."""
        return cls(packages=tuple(text.splitlines()), **fields).validated()

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

    def key(self) -> str:
        """SHA-256 over what changes the build and nothing else: the same for any order and spelling of the packages."""
        parts: dict[str, Any] = {"builder": self.builder}
        if self.user_managed:
            parts["interpreter"] = self.interpreter_path
        else:
            parts["python"] = self.python_version
            parts["packages"] = sorted({normal(line) for line in self.packages})
        if self.base_image:
            parts["base_image"] = self.base_image
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


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
