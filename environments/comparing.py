"""Two versions of an environment: which packages differ, and what else of their definitions."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from environments.conda import name_of
from environments.definition import Definition
from environments.models import Build, BuildStatus, EnvironmentVersion, Lock
from studio.workspaces.models import Workspace

ANY = "any version"
_PACKAGES = ("packages", "conda_packages")
_ARCHIVE = re.compile(r"(?P<name>.+)-(?P<version>[^-]+)-[^-]+\.(?:conda|tar\.bz2)\Z")
_EXACT = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?\s*(?:===?|@)\s*(?P<version>[^\s;\\]+)")


@dataclass(frozen=True)
class Change:
    """A package, or a field of the definition. Empty texts: not there."""

    name: str
    old: str = ""
    new: str = ""

    @property
    def newer(self) -> bool | None:
        """Whether a changed version went up; None where that cannot be said."""
        try:
            return Version(self.new) > Version(self.old)
        except InvalidVersion:
            return None


@dataclass(frozen=True)
class Comparison:
    old: EnvironmentVersion
    new: EnvironmentVersion
    added: list[Change] = field(default_factory=list)
    removed: list[Change] = field(default_factory=list)
    changed: list[Change] = field(default_factory=list)
    """Packages: what is installed where ``built``, else what the definitions ask for."""
    asked: list[Change] = field(default_factory=list)
    """Requirements that differ, as they are written in the definitions."""
    fields: list[Change] = field(default_factory=list)
    """What else of the definitions differs, by the fields' names; values as lines of text."""
    built: bool = False
    """Both versions were built in this workspace, so that exact packages are compared."""
    platforms: tuple[str, str] = ("", "")
    """Of the builds that are compared."""

    @property
    def same(self) -> bool:
        return not (self.added or self.removed or self.changed or self.asked or self.fields)

    @property
    def same_platform(self) -> bool:
        return self.platforms[0] == self.platforms[1]


def compare(old: EnvironmentVersion, new: EnvironmentVersion, workspace: Workspace) -> Comparison:
    """What the packages of two versions differ in, as they were built in this workspace, of all places there the most alike; else
    as their definitions ask for them."""
    before, after = Definition.from_json(old.definition), Definition.from_json(new.definition)
    asked = _changes(requirements_of(before), requirements_of(after))
    found = _most_alike(_installed(old, workspace), _installed(new, workspace))
    changes = asked if found is None else _changes(found[0].packages, found[1].packages)
    return Comparison(
        old,
        new,
        added=[one for one in changes if not one.old],
        removed=[one for one in changes if not one.new],
        changed=[one for one in changes if one.old and one.new],
        asked=asked,
        fields=_changes(_others(before), _others(after)),
        built=found is not None,
        platforms=("", "") if found is None else (found[0].platform, found[1].platform),
    )


def to_json(found: Comparison) -> dict[str, Any]:
    """The same for a program: ``added``, ``removed``, ``changed``, ``asked`` and ``fields`` as lists of ``{"name", "old", "new"}``."""
    lists = {
        name: [vars(one) for one in getattr(found, name)] for name in ("added", "removed", "changed", "asked", "fields")
    }
    numbers = {"old": found.old.number, "new": found.new.number}
    return {**numbers, **lists, "built": found.built, "platforms": list(found.platforms)}


# -- what is installed -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Installed:
    platform: str
    target: int | None
    packages: Mapping[str, str]


def _installed(version: EnvironmentVersion, workspace: Workspace) -> list[_Installed]:
    """What this version's key became in the workspace, the builds that are there before what is only remembered."""
    rows = Build.objects.filter(target__workspace=workspace, key=version.key).exclude(lock="", packages=[])
    found = [
        _Installed(row.platform, row.target_id, packages_of(row))
        for row in sorted(rows, key=lambda row: (row.status != BuildStatus.READY, -row.pk))
    ]
    locks = Lock.objects.filter(workspace=workspace, key=version.key).order_by("-created_at")
    return found + [_Installed(row.platform, None, read_lock(row.text)) for row in locks]


def _most_alike(old: list[_Installed], new: list[_Installed]) -> tuple[_Installed, _Installed] | None:
    """Of the same target if possible, else of the same platform, else the first."""
    pairs = [(one, other) for one in old for other in new]
    on_one_target = [pair for pair in pairs if pair[0].target is not None and pair[0].target == pair[1].target]
    of_one_kind = [pair for pair in pairs if pair[0].platform and pair[0].platform == pair[1].platform]
    return next(iter([*on_one_target, *of_one_kind, *pairs]), None)


def packages_of(build: Build) -> dict[str, str]:
    """Canonical name → version of what a build found installed."""
    if build.packages:
        return {canonicalize_name(str(one["name"])): str(one.get("version") or "?") for one in build.packages}
    return read_lock(build.lock)


def read_lock(text: str) -> dict[str, str]:
    """Canonical name → version (or address) of a lock: exact requirements, or conda's explicit list of files, or both."""
    found: dict[str, str] = {}
    for raw in text.splitlines():
        line = raw.strip()
        address = "://" in line.split(" ")[0]
        match = _ARCHIVE.match(unquote(line.partition("#")[0].rpartition("/")[2])) if address else _EXACT.match(line)
        if match:
            found[canonicalize_name(match["name"])] = match["version"]
    return found


# -- what is asked for -----------------------------------------------------------------------------------------------------


def requirements_of(definition: Definition) -> dict[str, str]:
    """Canonical name → the rest of the requirement, of pip and conda packages."""
    found: dict[str, str] = {}
    for line in definition.conda_packages:
        try:
            name = name_of(line)
        except ValueError:
            name = line
        found[canonicalize_name(name)] = (
            re.sub(rf"^(.*::)?{re.escape(name)}", "", line, flags=re.IGNORECASE).strip() or ANY
        )
    for line in definition.packages:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            found[line] = ANY
            continue
        extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
        marker = f"; {requirement.marker}" if requirement.marker else ""
        what = f"@ {requirement.url}" if requirement.url else str(requirement.specifier)
        name = canonicalize_name(requirement.name)
        # One name may stand there once for each kind of machine.
        text = f"{extras}{what or ('' if extras else ANY)}{marker}"
        found[name] = f"{found[name]} | {text}" if name in found and marker else text
    return found


def _others(definition: Definition) -> dict[str, str]:
    return {name: _text(value) for name, value in definition.to_json().items() if name not in _PACKAGES}


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return "\n".join(f"{name}={_inline(one)}" for name, one in sorted(value.items()))
    if isinstance(value, list | tuple):
        return "\n".join(map(str, value))
    return "yes" if value is True else str(value)


def _inline(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _changes(old: Mapping[str, str], new: Mapping[str, str]) -> list[Change]:
    names: Iterable[str] = sorted({*old, *new})
    return [Change(name, old.get(name, ""), new.get(name, "")) for name in names if old.get(name) != new.get(name)]
