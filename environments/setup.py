"""What a new workspace finds: this machine as a target, and the curated environments. May run at every start."""

import json
import os
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.db import transaction

from environments.definition import Definition, DefinitionError
from environments.models import ComputeTarget, Environment
from environments.registry import register
from studio.workspaces.models import Workspace, name_rule

SHIPPED = Path(__file__).parent / "curated"


def first_start(workspace: Workspace) -> None:
    """Make the target ``local`` if the workspace has no target, and bring the curated environments up to date."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not ComputeTarget.objects.filter(workspace=workspace).exists():
        ComputeTarget.objects.get_or_create(workspace=workspace, name="local", defaults={"slots": cpus})
    load_curated()


def load_curated() -> None:
    """Register every environment in ``environments/curated`` and in ``<data directory>/curated``, where an
    administrator adds some or replaces shipped ones of the same name. A changed definition becomes a new version.

    Raises ImproperlyConfigured that names the file, the rule and the fix.
    """
    found: dict[str, tuple[str, str, Definition]] = {}
    for folder in (SHIPPED, settings.DATA_DIR / "curated"):
        for path in sorted(folder.glob("*.json")):
            name, description, definition = read(path)
            found[name.lower()] = (name, description, definition)
    for name, description, definition in found.values():
        with transaction.atomic():
            environment = Environment.objects.filter(workspace=None, name__iexact=name).first()
            if environment is None:
                environment, _ = Environment.objects.get_or_create(workspace=None, name=name)
            if environment.description != description:
                Environment.objects.filter(pk=environment.pk).update(description=description)
            register(environment, definition)


def read(path: Path) -> tuple[str, str, Definition]:
    """Name, description and definition in a file ``{"name", "description", "definition": {…}}``."""
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
        name = data["name"]
        name_rule(name)
        return name, str(data.get("description", "")), Definition.from_json(data["definition"]).validated()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ValidationError) as error:
        what = {KeyError: f"{error} is missing", ValidationError: f"name: {'; '.join(getattr(error, 'messages', []))}"}
        text = what.get(type(error), str(error)) if not isinstance(error, DefinitionError) else f"definition: {error}"
        raise ImproperlyConfigured(f"{path}: {text}. Mend the file, or move it away.") from error
