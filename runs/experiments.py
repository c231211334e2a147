"""Experiments: made, changed, removed."""

from collections.abc import Mapping

from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.utils import timezone

from runs.config import ConfigError
from runs.metrics.reading import lower_is_better
from runs.models import Experiment, Run
from runs.status import FINAL
from studio import audit
from studio.accounts.models import User
from studio.workspaces.models import Workspace, name_rule

MAX_DESCRIPTION = 20_000
MAX_METRIC = 250


class NotEmpty(ValueError):
    """The experiment has runs that are not archived, or whose children elsewhere are not."""

    fix = "Archive them first; runs that are active end before."

    def __init__(self, count: int) -> None:
        self.count = count
        self.rule = f"The experiment has {count:,} run{'' if count == 1 else 's'} that {'is' if count == 1 else 'are'} not archived."
        super().__init__(f"{self.rule} {self.fix}")


def create(
    workspace: Workspace,
    user: User | None,
    name: str,
    *,
    description: str = "",
    tags: Mapping[str, str | None] | None = None,
) -> tuple[Experiment, bool]:
    """The experiment of a name, made when there is none, and whether it is new. Raises ConfigError."""
    try:
        name_rule(name)
    except ValidationError as error:
        raise ConfigError({"name": f"{name[:60]!r} is not a name. {error.message}"}) from None
    check_description(description)
    made = {"created_by": user, "description": description, "tags": dict(tags or {})}
    return Experiment.objects.get_or_create(workspace=workspace, name=name, defaults=made)


def change(
    row: Experiment,
    *,
    description: str | None = None,
    tags: Mapping[str, str | None] | None = None,
    archived: bool | None = None,
    primary_metric: str | None = None,
    maximize: bool | None = None,
) -> None:
    """Change what is given. A primary metric without ``maximize`` gets the direction that its name suggests. Raises ConfigError."""
    if description is not None:
        check_description(description)
        row.description = description
    if tags is not None:
        row.tags = dict(tags)
    if archived is not None:
        row.archived_at = (row.archived_at or timezone.now()) if archived else None
    if primary_metric is not None:
        if len(primary_metric) > MAX_METRIC:
            raise ConfigError({"primary_metric": f"It is no name of a metric. Use {MAX_METRIC} characters at most."})
        row.primary_metric = primary_metric.strip()
        row.maximize = not lower_is_better(row.primary_metric)
    if maximize is not None:
        row.maximize = maximize
    row.save(update_fields=["description", "tags", "archived_at", "primary_metric", "maximize"])


def check_description(text: str) -> None:
    if len(text) > MAX_DESCRIPTION:
        raise ConfigError({"description": f"It has {len(text):,} characters. Use {MAX_DESCRIPTION:,} at most."})


def remove(row: Experiment, user: User | None) -> int:
    """Remove an experiment with its archived runs and all that they logged; return how many. Call inside a transaction.

    Raises NotEmpty when a run, or a child of one in another experiment, is not archived or has not ended.
    """
    held = Experiment.objects.select_for_update().get(pk=row.pk)
    runs = Run.objects.filter(experiment=held)
    kept = [pk for rows in (runs, Run.objects.filter(parent__experiment=held)) for pk in not_archived(rows)]
    if kept:
        raise NotEmpty(len(set(kept)))
    count = runs.count()
    for run in runs.order_by("-number").iterator():
        run.delete()
    audit.note(user, "experiment.remove", workspace=held.workspace, subject=held.name, detail=f"{count} archived runs")
    held.delete()
    return count


def not_archived(rows: QuerySet[Run]) -> list[int]:
    """Ids of runs that must not be removed."""
    return list(rows.exclude(archived_at__isnull=False, status__in=FINAL).values_list("pk", flat=True))
