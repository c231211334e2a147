"""Experiments: the list, and one experiment's runs with its description and primary metric."""

from datetime import UTC, datetime, timedelta
from typing import Any

from django.contrib import messages
from django.core.cache import cache
from django.db import connection
from django.db.models import Count
from django.http import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from runs import queries
from runs.filters import Condition
from runs.listing import names
from runs.metrics.reading import lower_is_better
from runs.models import Experiment, MetricSeries, Run
from runs.queries import BadCursor, Filter, Order
from runs.views.lists import Scope, address, list_context
from studio.workspaces.access import MemberRequest, fetch, member
from studio.workspaces.models import Role, Workspace

PAGE = 50
DAYS = 30
KEPT = 60
"""Seconds for which the figures of the list are good enough."""
MAX_DESCRIPTION = 20_000


@require_safe
@member(Role.READER)
def experiments(request: MemberRequest) -> HttpResponseBase:
    workspace = request.workspace
    search = request.GET.get("search", "").replace("\0", "")[:255]
    archived = request.GET.get("archived") == "yes"
    found = Experiment.objects.filter(workspace=workspace, archived_at__isnull=not archived).select_related(
        "created_by"
    )
    if search:
        found = found.filter(name__icontains=search)
    start = request.GET.get("skip", "0")
    first = int(start) if start.isdecimal() and len(start) < 8 else 0
    rows = list(found.order_by("-last_run_at", "name")[first : first + PAGE + 1])
    context = {
        "section": "experiments",
        "base": f"/{workspace.slug}/experiments",
        "rows": described(workspace, rows[:PAGE]),
        "search": search,
        "archived": archived,
        "newer": address(request, skip=max(0, first - PAGE) or "") if first else "",
        "older": address(request, skip=first + PAGE) if len(rows) > PAGE else "",
        "none_at_all": not rows and not search and not first and not archived,
    }
    return render(request, "runs/experiments.html", context)


def described(workspace: Workspace, rows: list[Experiment]) -> list[dict[str, Any]]:
    """Each with its count of runs, best primary value and runs per day. Figures may be a minute old."""
    ids = [row.pk for row in rows]
    counts = dict(
        Run.objects.filter(experiment__in=ids, archived_at=None, parent=None)
        .order_by()
        .values_list("experiment")
        .annotate(n=Count("pk"))
    )
    days = cache.get_or_set(f"experiment-days-{workspace.pk}", lambda: per_day(workspace), KEPT) or {}
    return [
        {
            "experiment": row,
            "count": counts.get(row.pk, 0),
            "best": best(workspace, row),
            "bars": bars(days.get(row.pk, {})),
        }
        for row in rows
    ]


def best(workspace: Workspace, experiment: Experiment) -> float | None:
    """The best newest value of the primary metric among the experiment's runs."""
    metric = experiment.primary_metric
    if not metric:
        return None
    moment = experiment.last_run_at.timestamp() if experiment.last_run_at else 0
    key = f"experiment-best-{experiment.pk}-{moment}-{experiment.maximize}-{hash(metric)}"
    found = cache.get(key)
    if found is None:
        scope = Condition("r.experiment_id = %s", params=(experiment.pk,), alone=True)
        page = queries.page(
            Filter.of(workspace, [], [scope], children=True), Order("metric", metric, experiment.maximize), size=1
        )
        last = MetricSeries.objects.filter(run__in=page.ids, name=metric).values_list("last", flat=True).first()
        found = [last]
        cache.set(key, found, KEPT)
    value: float | None = found[0]
    return value


def per_day(workspace: Workspace) -> dict[int, dict[str, int]]:
    """Experiment id → day → runs that started on it, for the newest DAYS days."""
    day = (
        "substr(started_at, 1, 10)"
        if connection.vendor == "sqlite"
        else "to_char(started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')"
    )
    after = timezone.now() - timedelta(days=DAYS)
    found: dict[int, dict[str, int]] = {}
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT experiment_id, {day}, count(*) FROM runs_run WHERE workspace_id = %s AND started_at >= %s "  # noqa: S608
            "GROUP BY 1, 2",
            [workspace.pk, connection.ops.adapt_datetimefield_value(after)],
        )
        for experiment, date, number in cursor.fetchall():
            found.setdefault(experiment, {})[date] = number
    return found


def bars(days: dict[str, int]) -> list[dict[str, float]]:
    """Bars of a small chart, 120 × 24, oldest day first."""
    today = datetime.now(UTC).date()
    most = max(days.values(), default=0)
    found = []
    for n in range(DAYS):
        number = days.get((today - timedelta(days=DAYS - 1 - n)).isoformat(), 0)
        if number:
            height = max(2.0, 24 * number / most)
            found.append({"x": n * 4.0, "y": round(24 - height, 1), "height": round(height, 1)})
    return found


def get_experiment(request: MemberRequest, name: str) -> Experiment:
    return fetch(Experiment.objects.filter(workspace=request.workspace), name=name)


@require_safe
@member(Role.READER)
def experiment(request: MemberRequest, name: str) -> HttpResponseBase:
    row = get_experiment(request, name)
    try:
        context = list_context(request, Scope(row))
    except BadCursor:
        return redirect(address(request))
    context |= {
        "experiment": row,
        "best_value": best(request.workspace, row),
        "offered": [column.name for column in names(request.workspace, "") if column.metric],
    }
    return render(request, "runs/experiment.html", context)


@require_POST
@member(Role.CONTRIBUTOR)
def edit(request: MemberRequest, name: str) -> HttpResponseBase:
    """Description, primary metric with its direction, archive; only what the form holds."""
    row = get_experiment(request, name)
    here = f"/{request.workspace.slug}/experiments/{row.name}"
    changed: dict[str, Any] = {}
    if "description" in request.POST:
        text = request.POST["description"].replace("\0", "").strip()
        if len(text) > MAX_DESCRIPTION:
            messages.error(request, f"Description: use at most {MAX_DESCRIPTION:,} characters. It was not changed.")
            return redirect(here)
        changed["description"] = text
    if "primary_metric" in request.POST:
        metric = request.POST["primary_metric"].replace("\0", "").strip()
        if len(metric) > 250:
            messages.error(request, "Primary metric: use at most 250 characters. It was not changed.")
            return redirect(here)
        goal = request.POST.get("goal", "")
        changed["primary_metric"] = metric
        changed["maximize"] = goal != "minimize" if goal else not lower_is_better(metric)
    if "archived" in request.POST:
        changed["archived_at"] = timezone.now() if request.POST["archived"] == "1" else None
        messages.success(request, f"{row.name} is {'archived' if changed['archived_at'] else 'restored'}.")
    if changed:
        Experiment.objects.filter(pk=row.pk).update(**changed)
    return redirect(here)


urlpatterns = [
    path("experiments", experiments, name="experiments"),
    path("experiments/<str:name>", experiment, name="experiment"),
    path("experiments/<str:name>/edit", edit, name="experiment-edit"),
]
