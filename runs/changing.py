"""What may be changed about a run at any time: its name, its notes, its tags, whether it is archived. Properties are only added to."""

from collections.abc import Iterable, Mapping
from typing import Any

from django.db import transaction
from django.utils import timezone

from runs.config import ConfigError
from runs.metrics.applying import MAX_PROPERTIES, MAX_TAGS
from runs.metrics.records import MAX_NOTE, MAX_PROPERTY, MAX_RUN_NAME, Bad, clean, named
from runs.models import Run, RunTag


class PropertyTaken(ValueError):
    """A property has another value already."""

    def __init__(self, name: str) -> None:
        self.rule = f"The run has the property {name[:80]!r} already, with another value."
        self.fix = "Properties do not change: choose another name, or use a tag."
        super().__init__(f"{self.rule} {self.fix}")


def change(
    run: Run,
    *,
    name: str | None = None,
    notes: str | None = None,
    tags: Mapping[str, str | None] | None = None,
    remove_tags: Iterable[str] = (),
    properties: Mapping[str, Any] | None = None,
    archived: bool | None = None,
) -> None:
    """Change what is given, all or nothing. Raises ConfigError, and PropertyTaken."""
    fields: dict[str, Any] = {}
    if name is not None:
        fields["name"] = run_name(name)
    if notes is not None:
        if len(notes) > MAX_NOTE:
            raise ConfigError({"notes": f"They have {len(notes):,} characters. Use {MAX_NOTE:,} at most."})
        fields["notes"] = notes
    if archived is not None:
        if archived and not run.is_final:
            raise ConfigError({"archived": f"The run is {run.status}. Cancel it, or wait for its end."})
        fields["archived_at"] = (run.archived_at or timezone.now()) if archived else None
    with transaction.atomic():
        held = Run.objects.select_for_update().get(pk=run.pk)
        if properties:
            fields["properties"] = with_properties(held.properties, properties)
        if fields:
            Run.objects.filter(pk=run.pk).update(**fields)
        rows = RunTag.objects.filter(run=run)
        rows.filter(name__in=list(remove_tags)).delete()
        if tags:
            RunTag.objects.bulk_create(
                [RunTag(run=run, workspace_id=run.workspace_id, name=k, value=v) for k, v in tags.items()],
                update_conflicts=True,
                unique_fields=["run", "name"],
                update_fields=["value"],
            )
            if rows.count() > MAX_TAGS:
                raise ConfigError({"tags": f"With these the run has too many. Keep {MAX_TAGS:,} at most."})


def run_name(text: str) -> str:
    shown = " ".join(text.split())
    if not shown or len(shown) > MAX_RUN_NAME or not shown.isprintable():
        raise ConfigError({"name": f"It is no single line of text. Use 1 to {MAX_RUN_NAME} characters."})
    return shown


def with_properties(held: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The properties with new ones. Raises ConfigError for what is none, PropertyTaken for one that would change."""
    found = dict(held)
    for name, value in checked_properties(new).items():
        if name in found and found[name] != value:
            raise PropertyTaken(name)
        found[name] = value
    if len(found) > MAX_PROPERTIES:
        raise ConfigError({"properties": f"With these the run has {len(found):,}. Keep {MAX_PROPERTIES:,} at most."})
    return found


def checked_properties(values: Mapping[str, Any]) -> dict[str, Any]:
    """Properties as a row holds them. Raises ConfigError."""
    found = {}
    for name, value in values.items():
        try:
            found[named(name)] = kept = clean(value)
        except Bad as error:
            raise ConfigError({"properties": f"{name[:40]!r} cannot be kept. {error}"}) from None
        if len(str(kept)) > MAX_PROPERTY:
            raise ConfigError({"properties": f"{name[:40]!r} is too long. Use {MAX_PROPERTY:,} characters at most."})
    return found
