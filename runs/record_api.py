"""What runs logged over HTTP: series of numbers, other values, parameters, events. Long ones are read by cursor."""

import math
from datetime import datetime
from typing import Any

from django.http import HttpRequest
from ninja import Query, Schema

from runs.metrics.packing import read
from runs.models import MetricSeries, MetricValue, Run
from runs.rest import MAX_NUMBER, find_run, router
from studio.rest import REFUSED, Member, Position, Problem, Refusal, not_found, page_of, paged
from studio.workspaces.models import Role

SERIES = 1000
MAX_SERIES = 10_000
POINTS = 10_000
MAX_POINTS = 100_000
VALUES = 200
MAX_VALUES = 1000


class Series(Schema):
    """A series of numbers, summed up. ``last`` is null while the newest point is no finite number; ``system``: a sample of the
    machine, not something the script logged."""

    name: str
    system: bool
    count: int
    last: float | None
    last_step: int | None
    low: float | None
    low_step: int | None
    high: float | None
    high_step: int | None
    not_numbers: int
    updated_at: datetime


class Value(Schema):
    """Something logged that is no number. ``kind``: ``value``, ``list``, ``row``, ``table``, ``image`` or ``schema``."""

    name: str
    kind: str
    data: Any
    at: datetime


class Values(Schema):
    """In the order in which they were logged. ``next``: the ``after`` of what follows; null when there is none yet."""

    values: list[Value]
    next: int | None


class Metrics(Schema):
    """``next``: the ``after`` of the series that follow. ``values`` are the first ones; ``values_next`` is the ``after`` with which
    metrics/values goes on. Null: there are no more."""

    series: list[Series]
    next: str | None
    values: list[Value]
    values_next: int | None


class Points(Schema):
    """Points in the order of arrival. ``time`` is unix time in seconds; a ``value`` that is no finite number is ``"NaN"``,
    ``"Infinity"`` or ``"-Infinity"``. ``next`` is the ``after`` with which to go on, also for points that are still to come."""

    name: str
    count: int
    step: list[int]
    time: list[float]
    value: list[float | str]
    next: int
    more: bool


class Parameters(Schema):
    params: dict[str, str]
    next: str | None


class Event(Schema):
    """A change of status, or something else that happened (``detail``)."""

    at: datetime
    old: str
    new: str
    reason: str
    detail: str


class Events(Schema):
    events: list[Event]
    next: str | None


@router.get("/{int:number}/metrics", auth=Member(Role.READER), response={200: Metrics, REFUSED: Refusal})
def metrics(
    request: HttpRequest, number: int, *, name: str | None = None, after: str = "", limit: int = SERIES
) -> dict[str, Any]:
    """All that a run logged: its series by name, then the values that are no numbers. ``name``: only what has this name."""
    run = find_run(request, number)
    limit = paged(limit, MAX_SERIES)
    rows = MetricSeries.objects.filter(run=run).order_by("name")
    if name is not None:
        rows = rows.filter(name=name)
    if after:
        rows = rows.filter(name__gt=after)
    page = list(rows[: limit + 1])
    values = values_of(run, name, 0, VALUES)
    return {
        "series": page[:limit],
        "next": page[limit - 1].name if len(page) > limit else None,
        "values": values["values"],
        "values_next": values["next"],
    }


@router.get("/{int:number}/metrics/values", auth=Member(Role.READER), response={200: Values, REFUSED: Refusal})
def values(
    request: HttpRequest, number: int, *, name: str | None = None, after: int = 0, limit: int = VALUES
) -> dict[str, Any]:
    """What was logged and is no number: texts, lists, rows, tables, images, charts."""
    return values_of(find_run(request, number), name, cursor(after), paged(limit, MAX_VALUES))


@router.get("/{int:number}/metrics/series", auth=Member(Role.READER), response={200: Points, REFUSED: Refusal})
def series(request: HttpRequest, number: int, name: str, *, after: int = 0, limit: int = POINTS) -> dict[str, Any]:
    """The points of one series from the one with index ``after`` on."""
    run = find_run(request, number)
    limit, after = paged(limit, MAX_POINTS), cursor(after)
    row = MetricSeries.objects.filter(run=run, name=name).first()
    if row is None:
        raise not_found("metric")
    end = min(row.count, after + limit)
    columns = read(row, after, end) if after < end else None
    return {
        "name": row.name,
        "count": row.count,
        "step": columns.steps.tolist() if columns else [],
        "time": columns.times.tolist() if columns else [],
        "value": [spelled(value) for value in columns.values] if columns else [],
        "next": max(after, end),
        "more": end < row.count,
    }


@router.get("/{int:number}/params", auth=Member(Role.READER), response={200: Parameters, REFUSED: Refusal})
def parameters(request: HttpRequest, number: int, position: Query[Position]) -> dict[str, Any]:
    """Parameters: from the script's arguments, or logged, which wins."""
    run = find_run(request, number)
    page, following = page_of(run.parameters.all(), "name", position)
    return {"params": {row.name: row.value for row in page}, "next": following}


@router.get("/{int:number}/events", auth=Member(Role.READER), response={200: Events, REFUSED: Refusal})
def events(request: HttpRequest, number: int, position: Query[Position]) -> dict[str, Any]:
    """What happened to a run, the oldest first."""
    page, following = page_of(find_run(request, number).events.all(), "id", position)
    return {"events": page, "next": following}


def values_of(run: Run, name: str | None, after: int, limit: int) -> dict[str, Any]:
    rows = MetricValue.objects.filter(run=run, pk__gt=after).order_by("pk")
    if name is not None:
        rows = rows.filter(name=name)
    page = list(rows[: limit + 1])
    return {"values": page[:limit], "next": page[limit - 1].pk if len(page) > limit else None}


def cursor(after: int) -> int:
    if not 0 <= after <= MAX_NUMBER:
        raise Problem.of(422, "after", "It is no place to go on from.", "Send 'next' of the answer before, or nothing.")
    return after


def spelled(value: float) -> float | str:
    """A number as JSON has it; JSON has no others."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
