"""The Metrics tab: charts of series by prefix, the points they ask for, and what was logged beside numbers."""

import csv
import io
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, cast

from django.db.models import QuerySet
from django.http import HttpResponse, HttpResponseBadRequest, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.shortcuts import render
from django.urls import path
from django.views.decorators.http import require_safe

from runs import metrics
from runs.metrics.packing import CAPACITY, read
from runs.models import Artifact, MetricSeries, MetricValue, Run
from runs.views.detail import get_run
from studio.workspaces.access import MemberRequest, fetch, member
from studio.workspaces.models import Role

SHOWN = 300
"""Charts on a page; a search finds the others."""
FOLD = 12
ASKED = 60
"""Series in one request for points."""
VALUES = 100
ROWS = 200
LIST = 200


def series_of(run: Run) -> "QuerySet[MetricSeries]":
    return MetricSeries.objects.filter(run=run)


@require_safe
@member(Role.READER)
def tab(request: MemberRequest, number: int) -> HttpResponseBase:
    run = get_run(request, number)
    search = request.GET.get("search", "").replace("\0", "")[:250]
    found = series_of(run)
    if search:
        found = found.filter(name__icontains=search)
    rows = list(found.order_by("system", "name")[: SHOWN + 1])
    context = {
        "section": "runs",
        "run": run,
        "search": search,
        "groups": groups(rows[:SHOWN], request.GET.getlist("m")),
        "total": series_of(run).count(),
        "more": len(rows) > SHOWN,
        "shown": SHOWN,
        "values": [] if search else values(run),
        "x": "time" if request.GET.get("x") == "time" else "step",
        "base": f"/{request.workspace.slug}/runs/{run.number}",
    }
    return render(request, "runs/metrics.html", context)


def groups(rows: list[MetricSeries], first: list[str]) -> list[dict[str, Any]]:
    """By the part of the name before the first slash; what the address asks for first, resource samples last."""
    found: dict[str, list[MetricSeries]] = {}
    for series in rows:
        prefix, slash, _ = series.name.partition("/")
        found.setdefault("Asked for" if series.name in first else prefix if slash else "", []).append(series)
    order = sorted(found, key=lambda name: (name == "system", name != "Asked for", name != "", name))
    return [
        {
            "name": {"": "Metrics", "system": "System"}.get(name, name),
            "series": found[name],
            "open": len(found[name]) <= FOLD,
        }
        for name in order
    ]


def values(run: Run) -> list[dict[str, Any]]:
    """Texts, lists, tables, images and chart schemas, newest value of each name and kind; rows are put together."""
    found: list[dict[str, Any]] = []
    seen: set[tuple[str, str]] = set()
    for value in MetricValue.objects.filter(run=run).order_by("-pk")[: VALUES * 20].iterator():
        kind = "table" if value.kind == "row" else value.kind
        if (value.name, kind) in seen:
            continue
        if len(seen) >= VALUES:
            break
        seen.add((value.name, kind))
        item: dict[str, Any] = {"name": value.name, "kind": kind, "at": value.at, "data": value.data}
        if kind == "table":
            columns = metrics.table(run, value.name)
            item |= {"columns": list(columns), "length": len(next(iter(columns.values()), []))}
            item["rows"] = list(zip(*[column[:ROWS] for column in columns.values()], strict=False))
        elif kind == "image":
            item["digest"] = Artifact.objects.filter(run=run, path=value.data["path"]).exclude(digest="").exists()
        elif kind == "list":
            item |= {"items": value.data[:LIST], "length": len(value.data)}
        found.append(item)
    found.sort(key=lambda item: item["name"])
    return found


@require_safe
@member(Role.READER)
def data(request: MemberRequest, number: int) -> HttpResponseBase:
    """Points as JSON. ``s=12,13:400``: all of series 12 in buckets, and of 13 what came after its first 400 points.

    ``x`` is ``step`` or ``time``; ``low`` and ``high`` limit the steps. Numbers that are none are null.
    """
    run = fetch(Run.objects.filter(workspace=request.workspace), number=number)
    wanted: dict[int, int] = {}
    for item in request.GET.get("s", "").split(",")[:ASKED]:
        pk, _, first = item.partition(":")
        if not (pk.isdecimal() and len(pk) < 19 and (not first or (first.isdecimal() and len(first) < 19))):
            return HttpResponseBadRequest("s: expected ids of series separated by commas, as 12 or 12:400.")
        wanted[int(pk)] = int(first or 0)
    try:
        low, high = (whole(request.GET.get(name)) for name in ("low", "high"))
    except ValueError:
        return HttpResponseBadRequest("low, high: expected whole numbers.")
    x = "time" if request.GET.get("x") == "time" else "step"
    answer: dict[str, Any] = {}
    for series in series_of(run).filter(pk__in=wanted):
        if wanted[series.pk]:
            if series.count > wanted[series.pk]:
                answer[str(series.pk)] = metrics.since(series, wanted[series.pk], x)  # type: ignore[arg-type]
        else:
            answer[str(series.pk)] = metrics.buckets(series, low, high, x=x)  # type: ignore[arg-type]
    return JsonResponse({"series": answer, "final": run.is_final, "total": series_of(run).count()})


@require_safe
@member(Role.READER)
def pinned(request: MemberRequest, number: int) -> HttpResponseBase:
    """The overview's charts, asked for until there is something to draw."""
    run = get_run(request, number)
    if not run.is_final and not series_of(run).exists():
        return HttpResponse(status=204)
    return render(request, "runs/_pinned.html", {"run": run, "swap": True})


def whole(text: str | None) -> int | None:
    if not text:
        return None
    number = int(text)
    if not -(2**63) <= number < 2**63:
        raise ValueError(text)
    return number


@require_safe
@member(Role.READER)
def points(request: MemberRequest, number: int, pk: int) -> HttpResponseBase:
    """All points of one series as CSV, block by block."""
    run = fetch(Run.objects.filter(workspace=request.workspace), number=number)
    series = fetch(series_of(run), pk=pk)
    answer = StreamingHttpResponse(lines(series), content_type="text/csv; charset=utf-8")
    name = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in series.name)
    answer["Content-Disposition"] = f'attachment; filename="run-{run.number}-{name[:80]}.csv"'
    return cast(HttpResponse, answer)


def lines(series: MetricSeries) -> Iterator[str]:
    yield "step,time,value\n"
    for first in range(0, series.count, CAPACITY):
        columns = read(series, first, min(first + CAPACITY, series.count))
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(
            (step, datetime.fromtimestamp(at, UTC).isoformat(), value if math.isfinite(value) else str(value))
            for step, at, value in zip(columns.steps, columns.times, columns.values, strict=True)
        )
        yield text.getvalue()


urlpatterns = [
    path("runs/<int:number>/metrics", tab, name="run-metrics"),
    path("runs/<int:number>/metrics/pinned", pinned, name="run-metrics-pinned"),
    path("runs/<int:number>/metrics/data", data, name="run-metrics-data"),
    path("runs/<int:number>/metrics/<int:pk>.csv", points, name="run-metrics-csv"),
]
