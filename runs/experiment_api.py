"""Experiments over HTTP: named groups of runs."""

from datetime import datetime
from typing import Any, Literal

from django.db import transaction
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from ninja import Router, Schema, Status

from runs.experiments import NotEmpty, change, create, remove
from runs.models import Experiment, Run
from runs.rest import PAGE, checked_tags
from studio.once import claimed
from studio.rest import REFUSED, Body, Member, Problem, Refusal, not_found, page_url, paged, person, workspace_of
from studio.workspaces.models import Role

router = Router(tags=["experiments"])


class ExperimentShown(Schema):
    """``runs``: how many it has, archived ones included. ``maximize``: whether more of the primary metric is better."""

    id: int
    name: str
    description: str
    tags: dict[str, str | None]
    primary_metric: str
    maximize: bool
    created_by: str | None
    created_at: datetime
    last_run_at: datetime | None
    archived_at: datetime | None
    runs: int
    url: str


class ExperimentsPage(Schema):
    """``next``: the ``after`` of the page that follows; null on the last one."""

    experiments: list[ExperimentShown]
    next: str | None


class NewExperiment(Body):
    name: str
    description: str = ""
    tags: dict[str, str | None] = {}


class ExperimentChange(Body):
    """What is absent stays. ``tags`` replace all that there are."""

    description: str | None = None
    tags: dict[str, str | None] | None = None
    archived: bool | None = None
    primary_metric: str | None = None
    maximize: bool | None = None


class ExperimentRemoved(Schema):
    """``runs``: how many archived runs went with it."""

    removed: bool
    runs: int


@router.get("", auth=Member(Role.READER), response={200: ExperimentsPage, REFUSED: Refusal})
def listed(
    request: HttpRequest,
    *,
    after: str = "",
    limit: int = PAGE,
    search: str = "",
    archived: Literal["no", "yes", "any"] = "no",
) -> dict[str, Any]:
    """By name; ``search`` is a part of it."""
    rows = experiments_of(request).order_by("name")
    limit = paged(limit)
    if archived != "any":
        rows = rows.filter(archived_at__isnull=archived == "no")
    if search:
        rows = rows.filter(name__icontains=search)
    if after:
        rows = rows.filter(name__gt=after)
    page = list(rows[: limit + 1])
    counts = run_counts(page)
    return {
        "experiments": [described(request, row, counts.get(row.pk, 0)) for row in page[:limit]],
        "next": page[limit - 1].name if len(page) > limit else None,
    }


@router.post("", auth=Member(Role.CONTRIBUTOR), response={200: ExperimentShown, 201: ExperimentShown, REFUSED: Refusal})
def created(request: HttpRequest, data: NewExperiment) -> Status[dict[str, Any]]:
    """Make an experiment: 201. One of this name is answered as it is: 200."""
    with claimed(request, data.model_dump()):
        row, new = create(
            workspace_of(request),
            person(request),
            data.name,
            description=data.description,
            tags=checked_tags(data.tags),
        )
    return Status(201 if new else 200, described(request, row))


@router.get("/{name}", auth=Member(Role.READER), response={200: ExperimentShown, REFUSED: Refusal})
def shown(request: HttpRequest, name: str) -> dict[str, Any]:
    """One experiment."""
    return described(request, find(request, name))


@router.patch("/{name}", auth=Member(Role.CONTRIBUTOR), response={200: ExperimentShown, REFUSED: Refusal})
def changed(request: HttpRequest, name: str, data: ExperimentChange | None = None) -> dict[str, Any]:
    """Change its description, tags or primary metric; archive or restore it."""
    row, data = find(request, name), data or ExperimentChange()
    tags = None if data.tags is None else checked_tags(data.tags)
    change(
        row, description=data.description, tags=tags, archived=data.archived, primary_metric=data.primary_metric,
        maximize=data.maximize,
    )  # fmt: skip
    return described(request, row)


@router.delete("/{name}", auth=Member(Role.OWNER), response={200: ExperimentRemoved, REFUSED: Refusal})
def removed(request: HttpRequest, name: str) -> dict[str, Any]:
    """Remove an experiment and its archived runs with all that they logged, for good. 409 while it has others."""
    row = find(request, name)
    try:
        with transaction.atomic():
            count = remove(row, person(request))
    except NotEmpty as error:
        raise Problem.of(409, "runs", error.rule, error.fix, runs=error.count) from error
    return {"removed": True, "runs": count}


def experiments_of(request: HttpRequest) -> QuerySet[Experiment]:
    return Experiment.objects.filter(workspace=workspace_of(request)).select_related("created_by")


def find(request: HttpRequest, name: str) -> Experiment:
    row = experiments_of(request).filter(name=name).first()
    if row is None:
        raise not_found("experiment")
    return row


def run_counts(rows: list[Experiment]) -> dict[int, int]:
    found = Run.objects.filter(experiment__in=[row.pk for row in rows]).order_by().values_list("experiment")
    return dict(found.annotate(n=Count("pk")))


def described(request: HttpRequest, row: Experiment, count: int | None = None) -> dict[str, Any]:
    return {
        "id": row.pk,
        "name": row.name,
        "description": row.description,
        "tags": row.tags,
        "primary_metric": row.primary_metric,
        "maximize": row.maximize,
        "created_by": str(row.created_by) if row.created_by else None,
        "created_at": row.created_at,
        "last_run_at": row.last_run_at,
        "archived_at": row.archived_at,
        "runs": row.runs.count() if count is None else count,
        "url": page_url(request, f"experiments/{row.name}"),  # type: ignore[arg-type]
    }
