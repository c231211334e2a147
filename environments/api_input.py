"""What a program sends to have an environment: a definition or a text, read, checked, and kept under a name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from environments import formats, registry, service_only
from environments.api_schemas import NewEnvironment
from environments.definition import Definition, DefinitionError
from environments.definition_rules import Line
from environments.forms import free
from environments.models import Environment, EnvironmentVersion
from studio.accounts.models import User
from studio.rest import Problem, mistake, refused
from studio.workspaces.models import Workspace

MAX_DESCRIPTION = 500


@dataclass(frozen=True)
class Wanted:
    name: str
    description: str | None
    definition: Definition
    notes: list[str]


def wanted(workspace: Workspace, data: NewEnvironment) -> Wanted:
    """What was sent, read and checked. Raises Problem naming every mistake."""
    if (data.definition is None) == (data.text is None):
        raise refused({"definition": "Either a definition or a text is needed, not both. Send one of them."})
    name, description, notes = data.name, data.description, list[str]()
    try:
        if data.text is not None:
            read = formats.read(data.text, kind=data.format, file_name=data.file_name)
            definition, notes = read.definition, read.notes
            name, description = name or read.name, (read.description or None) if description is None else description
        else:
            definition = Definition.from_json(data.definition or {}).validated()
    except formats.FormatError as error:
        raise refusal(error.errors, error.by_field) from None
    except DefinitionError as error:
        raise refusal(error.errors, error.lines) from None
    errors = unknown_secrets(workspace, definition)
    if len(description or "") > MAX_DESCRIPTION:
        errors["description"] = f"It is longer than {MAX_DESCRIPTION} characters. Shorten it."
    if errors:
        raise refused(errors)
    if note := service_only.note(definition):
        notes = [*notes, note]
    return Wanted(name, description, definition, notes)


def refusal(errors: Mapping[str, str], lines: Mapping[str, list[Line]]) -> Problem:
    """422 with a mistake for each field, or for each of its lines that is wrong."""
    listed: list[dict[str, Any]] = []
    for name, message in errors.items():
        listed += [
            {**mistake(name, why), "line": number, "text": text} for number, text, why in lines.get(name, ())
        ] or [mistake(name, message)]
    return Problem(422, "; ".join(f"{name}: {message}" for name, message in errors.items()), listed)


def unknown_secrets(workspace: Workspace, definition: Definition) -> dict[str, str]:
    """Field → what is wrong, for names of secrets that the workspace has not."""
    given = {"index_secret": definition.index_secret, "registry.secret": definition.registry.get("secret", "")}
    known = set(workspace.secrets.filter(name__in=given.values()).values_list("name", flat=True))
    return {
        place: f"There is no secret named {name[:60]!r} in this workspace. Add it in Settings, Secrets."
        for place, name in given.items()
        if name and name not in known
    }


# -- kept ------------------------------------------------------------------------------------------------------------------


def own(workspace: Workspace, name: str) -> Environment | None:
    """The workspace's environment of that name, without regard to case."""
    rows = Environment.objects.filter(workspace=workspace, name__iexact=name)
    return min(rows, key=lambda row: row.name != name, default=None)


def check_name(workspace: Workspace, name: str) -> Environment | None:
    """The workspace's environment of that name; None where a new one may have it. Raises Problem."""
    row = own(workspace, name)
    if row is not None:
        return row
    curated = Environment.objects.filter(workspace=None, name__iexact=name).first()
    if curated is not None:
        raise is_curated(curated, "name")
    try:
        free(workspace, name)
    except ValidationError as error:
        if (row := own(workspace, name)) is not None:  # made by somebody else at this moment
            return row
        raise refused({"name": " ".join(error.messages)}) from None
    return None


def is_curated(row: Environment, field: str = "environment") -> Problem:
    rule = f"{row.name} is curated, the same in every workspace."
    return Problem.of(409, field, rule, f"Clone it, then change yours: POST environments/{row.name}/clone.")


def keep(workspace: Workspace, asked: Wanted, user: User) -> tuple[EnvironmentVersion, bool]:
    """The version with this definition, and whether it is new. Raises Problem."""
    row = check_name(workspace, asked.name)
    if row is None:
        try:
            with transaction.atomic():
                row = Environment.objects.create(
                    workspace=workspace, name=asked.name, description=asked.description or ""
                )
                return registry.register(row, asked.definition, user), True
        except IntegrityError:
            if own(workspace, asked.name) is None:
                raise
            # Made by somebody else at this moment.
            return keep(workspace, asked, user)
    before = registry.latest(row)
    same = before is not None and before.definition == asked.definition.to_json()
    if row.archived_at is not None and not same:
        fix = f"Restore it first: POST environments/{row.name}/restore."
        raise Problem.of(409, "name", f"{row.name} is archived.", fix)
    if asked.description is not None:
        Environment.objects.filter(pk=row.pk).update(description=asked.description)
        row.description = asked.description
    return registry.register(row, asked.definition, user), not same
