"""What a new workspace finds: this machine as a target, and the curated environments. May run at every start."""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.db import transaction

from environments.definition import Definition, DefinitionError
from environments.models import ComputeTarget, Environment
from environments.registry import literal, register
from studio.workspaces.models import Workspace, name_rule

SHIPPED = Path(__file__).parent / "curated"
MAX_ALIASES = 100
LEAST_LITERAL = 2
_ALIAS = re.compile(r"[A-Za-z0-9*?\[][A-Za-z0-9_.*?\[\]-]{0,254}\Z")


def first_start(workspace: Workspace) -> None:
    """Make the target ``local`` if the workspace has no target, and bring the curated environments up to date."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not ComputeTarget.objects.filter(workspace=workspace).exists():
        ComputeTarget.objects.get_or_create(workspace=workspace, name="local", defaults={"slots": cpus})
    load_curated()


@dataclass(frozen=True)
class Curated:
    """One file of curated environments."""

    path: Path
    name: str
    description: str
    aliases: list[str]
    definition: Definition


def load_curated() -> None:
    """Register every environment in ``environments/curated`` and in ``<data directory>/curated``, where an
    administrator adds some or replaces shipped ones of the same name. A changed definition becomes a new version.

    Raises ImproperlyConfigured that names the file, the rule and the fix.
    """
    found: dict[str, Curated] = {}
    for folder in (SHIPPED, settings.DATA_DIR / "curated"):
        for path in sorted(folder.glob("*.json")):
            one = read(path)
            found[one.name.lower()] = one
    check_apart(list(found.values()))
    for one in found.values():
        with transaction.atomic():
            environment = Environment.objects.filter(workspace=None, name__iexact=one.name).first()
            if environment is None:
                environment, _ = Environment.objects.get_or_create(workspace=None, name=one.name)
            told = {"description": one.description, "aliases": one.aliases}
            if any(getattr(environment, name) != value for name, value in told.items()):
                Environment.objects.filter(pk=environment.pk).update(**told)
            register(environment, one.definition)


def read(path: Path) -> Curated:
    """A file ``{"name", "description", "aliases": […], "definition": {…}}``; only the name and the definition must be there."""
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
        name = data["name"]
        name_rule(name)
        aliases = check_aliases(data.get("aliases", []))
        definition = Definition.from_json(data["definition"]).validated()
        if unknown := sorted(data.keys() - {"name", "description", "aliases", "definition"}):
            raise ValueError(f"{unknown[0]} is not known. Use name, description, aliases and definition")
        return Curated(path, name, str(data.get("description", "")), aliases, definition)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ValidationError) as error:
        what = {KeyError: f"{error} is missing", ValidationError: f"name: {'; '.join(getattr(error, 'messages', []))}"}
        text = what.get(type(error), str(error)) if not isinstance(error, DefinitionError) else f"definition: {error}"
        raise wrong(path, text) from error


def check_aliases(value: Any) -> list[str]:
    """Other names by which an environment is found: patterns with ``*``, ``?`` and ``[…]``. Raises ValueError."""
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ValueError('aliases: expected a list of texts, such as ["AzureML-Vision-*"]')
    if len(value) > MAX_ALIASES:
        raise ValueError(f"aliases: {len(value)} of them; the limit is {MAX_ALIASES}. Use patterns")
    for one in value:
        if not _ALIAS.match(one):
            raise ValueError(
                f"aliases: {one[:100]!r} is no pattern of a name. Use letters, digits, '_', '-', '.', and *, ? or [abc]"
            )
        if literal(one) < LEAST_LITERAL:
            raise ValueError(
                f"aliases: {one!r} would be found under almost every name. Give it {LEAST_LITERAL} letters at least"
            )
    return value


def check_apart(found: list[Curated]) -> None:
    """One name must not mean two environments. Raises ImproperlyConfigured."""
    names = {one.name.lower(): one for one in found}
    seen: dict[str, Curated] = {}
    for one in found:
        for alias in map(str.lower, one.aliases):
            other = names.get(alias, seen.get(alias, one))
            if other is not one:
                raise wrong(one.path, f"aliases: {alias} is {other.name} already, as {other.path} says. Use another")
            seen[alias] = one


def wrong(path: Path, text: str) -> ImproperlyConfigured:
    return ImproperlyConfigured(f"{path}: {text.rstrip('.')}. Mend the file, or move it away.")
