"""Rows of the run list: what a page shows of each run, read in a fixed number of queries."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any

from django.db import connection
from django.db.models import Count
from django.utils import timezone

from runs.filters import escaped
from runs.header import TOTALS, Progress
from runs.metrics import spark
from runs.metrics.reading import lower_is_better
from runs.models import Experiment, MetricSeries, Run, RunParameter, RunTag
from studio.workspaces.models import Workspace

SCANNED = 5000
"""Names that are looked at, at most, when columns are chosen for a page."""
MAX_COLUMNS = 12
MAX_PARAMETERS = 2
MAX_TAGS = 2
NO_COLUMNS = "none"
QUIET = frozenset({"epoch", "step", "iteration", "lr", "learning_rate"})
PROGRESS_NAMES = frozenset(TOTALS) | {name for names in TOTALS.values() for name in names}


@dataclass(frozen=True)
class Column:
    """A metric or parameter that the page shows."""

    name: str
    metric: bool
    lower: bool = False
    """Less of it is better."""

    @property
    def key(self) -> str:
        """As in the address."""
        return ("metric." if self.metric else "param.") + self.name


@dataclass(slots=True)
class Cell:
    text: str | float | None
    full: str = ""
    best: bool = False
    number: bool = False


@dataclass(slots=True)
class Row:
    run: Run
    tags: list[RunTag] = field(default_factory=list)
    more_tags: int = 0
    metrics: list[Cell] = field(default_factory=list)
    parameters: list[Cell] = field(default_factory=list)
    trend: str = ""
    progress: Progress | None = None
    children: int = 0
    parent: int | None = None
    """Its parent's number."""

    @property
    def active(self) -> bool:
        return not self.run.is_final

    @property
    def took(self) -> timedelta | None:
        """From the start of the script, or of the waiting, to its end or now."""
        run = self.run
        if run.started_at is None and run.is_final:
            return None
        began: datetime = run.started_at or run.created_at
        return (run.ended_at or timezone.now()) - began


@dataclass(frozen=True)
class Listing:
    rows: tuple[Row, ...]
    metrics: tuple[Column, ...]
    parameters: tuple[Column, ...]
    trend: str = ""
    """The metric of the small lines."""

    @property
    def active(self) -> list[Row]:
        return [row for row in self.rows if row.active]

    @property
    def columns(self) -> list[str]:
        """The keys by which the same columns can be asked for again."""
        return [column.key for column in (*self.metrics, *self.parameters)] or [NO_COLUMNS]

    @property
    def best(self) -> list[float | None]:
        """The starred value of each metric."""
        return [
            next((row.metrics[n].text for row in self.rows if row.metrics[n].best), None)  # type: ignore[misc]
            for n in range(len(self.metrics))
        ]


def listing(
    ids: Sequence[int],
    chosen: Sequence[str] = (),
    scope: Experiment | None = None,
    best: Sequence[float | None] | None = None,
    under: Run | None = None,
) -> Listing:
    """The rows of these runs in this order.

    ``chosen`` are column keys (``NO_COLUMNS`` for none), else the page decides. ``best``: per metric the best value that
    the page already shows, when these runs are only some of its rows. ``under``: the run on whose page they stand as children.
    """
    runs = Run.objects.filter(pk__in=ids).select_related("experiment", "target", "pool", "created_by").defer(
        "config", "properties", "final", "notes", "error", "target__facts", "target__options", "created_by__preferences"
    )  # fmt: skip
    by_id = {run.pk: run for run in runs}
    rows = [Row(by_id[pk]) for pk in ids if pk in by_id]
    metrics, parameters = _named(chosen) if chosen else _default(rows, scope)
    values = _metrics(rows, metrics)
    texts = _parameters(rows, parameters)
    _tags(rows)
    _family(rows, under)
    trend = next((c.name for c in metrics if "loss" in c.name.lower()), metrics[0].name if metrics else "")
    lines = spark(series.pk for (_, name), series in values.items() if name == trend)
    for row in rows:
        pk = row.run.pk
        for column in metrics:
            series = values.get((pk, column.name))
            last = series.last if series else None
            gone = series is not None and last is None and series.count
            row.metrics.append(Cell("NaN" if gone else last, repr(last) if last is not None else "", number=True))
        for column in parameters:
            parameter = texts.get((pk, column.name))
            row.parameters.append(
                Cell(parameter.head if parameter else None, parameter.head if parameter else "",
                     number=parameter is not None and parameter.number is not None)
            )  # fmt: skip
        if (series := values.get((pk, trend))) is not None:
            row.trend = lines.get(series.pk, "")
        if row.run.status == "Running":
            row.progress = _progress(pk, values, texts)
    for n, column in enumerate(metrics):
        _star(rows, n, column, best[n] if best and n < len(best) else None)
    return Listing(tuple(rows), tuple(metrics), tuple(parameters), trend)


def _named(chosen: Sequence[str]) -> tuple[list[Column], list[Column]]:
    metrics: list[Column] = []
    parameters: list[Column] = []
    for key in list(dict.fromkeys(chosen))[:MAX_COLUMNS]:
        kind, _, name = key.partition(".")
        if kind == "param" and name:
            parameters.append(Column(name, False))
        elif name:
            metrics.append(Column(name, True, lower_is_better(name)))
    return metrics, parameters


def _default(rows: Sequence[Row], scope: Experiment | None) -> tuple[list[Column], list[Column]]:
    """The primary metric, the loss that goes with it, and the parameters that differ between these runs."""
    ids = [row.run.pk for row in rows]
    names = Counter(MetricSeries.objects.filter(run__in=ids, system=False).values_list("name", flat=True)[:SCANNED])
    common = sorted((name for name in names if name not in QUIET), key=lambda name: (-names[name], name))
    wishes = Counter(row.run.experiment.primary_metric for row in rows if row.run.experiment.primary_metric)
    primary = (scope.primary_metric if scope else "") or next(
        (name for name, _ in wishes.most_common() if name in names), ""
    )
    lower = lower_is_better(primary)
    if primary:
        owner = scope or next(row.run.experiment for row in rows if row.run.experiment.primary_metric == primary)
        lower = not owner.maximize
    else:
        ranked = sorted(common, key=lambda name: (-names[name], not name.startswith(("val", "test", "eval")), name))
        primary = next((name for name in ranked if not lower_is_better(name)), ranked[0] if ranked else "")
        lower = lower_is_better(primary)
    metrics = [Column(primary, True, lower)] if primary else []
    group = primary.rpartition("/")[0]
    losses = [name for name in common if name != primary and lower_is_better(name)]
    losses.sort(key=lambda name: (name.rpartition("/")[0] != group, not name.startswith(("val", "test", "eval")), name))
    metrics += [Column(name, True, True) for name in losses[:1]]
    seen: dict[str, set[str]] = {}
    held: Counter[str] = Counter()
    for name, head in RunParameter.objects.filter(run__in=ids).values_list("name", "head")[:SCANNED]:
        seen.setdefault(name, set()).add(head)
        held[name] += 1
    # A value that every run has for itself (a seed, a path) says less than one that makes groups.
    differ = [name for name, heads in seen.items() if len(heads) > 1 or (0 < held[name] < len(ids) and len(ids) > 1)]
    differ.sort(key=lambda name: (len(seen[name]) == held[name] and held[name] > 2, -held[name], name))
    return metrics, [Column(name, False) for name in sorted(differ[:MAX_PARAMETERS])]


def _metrics(rows: Sequence[Row], columns: Sequence[Column]) -> dict[tuple[int, str], MetricSeries]:
    names = {column.name for column in columns}
    running = [row.run.pk for row in rows if row.run.status == "Running"]
    found = list(MetricSeries.objects.filter(run__in=[row.run.pk for row in rows], name__in=names)) if names else []
    if running:
        found += MetricSeries.objects.filter(run__in=running, name__in=PROGRESS_NAMES - names)
    return {(series.run_id, series.name): series for series in found}


def _parameters(rows: Sequence[Row], columns: Sequence[Column]) -> dict[tuple[int, str], RunParameter]:
    names = {column.name for column in columns}
    running = [row.run.pk for row in rows if row.run.status == "Running"]
    ids = [row.run.pk for row in rows]
    found = list(RunParameter.objects.filter(run__in=ids, name__in=names).defer("value")) if names else []
    if running:
        wanted = PROGRESS_NAMES | {name.replace("_", "-") for name in PROGRESS_NAMES}
        found += RunParameter.objects.filter(run__in=running, name__in=wanted - names).defer("value")
    return {(parameter.run_id, parameter.name): parameter for parameter in found}


def _progress(
    pk: int, values: dict[tuple[int, str], MetricSeries], texts: dict[tuple[int, str], RunParameter]
) -> Progress | None:
    """As the run's own page tells it."""
    for unit, totals in TOTALS.items():
        series = values.get((pk, unit))
        if series is None or series.last is None:
            continue
        for name in totals:
            logged = values.get((pk, name))
            given = texts.get((pk, name)) or texts.get((pk, name.replace("_", "-")))
            total = logged.last if logged else given.number if given else None
            if total and total >= 1 and 0 <= series.last <= total:
                return Progress(unit, series.last, total)
    return None


def _tags(rows: Sequence[Row]) -> None:
    by_id = {row.run.pk: row for row in rows}
    for tag in RunTag.objects.filter(run__in=list(by_id)).order_by("run", "name")[: SCANNED * 2]:
        row = by_id[tag.run_id]
        if len(row.tags) < MAX_TAGS:
            row.tags.append(tag)
        else:
            row.more_tags += 1


def _family(rows: Sequence[Row], under: Run | None) -> None:
    known = under.pk if under is not None else None
    parents = {row.run.parent_id for row in rows if row.run.parent_id not in {None, known}}
    numbers: dict[int | None, int] = {}
    if parents:
        numbers = dict(Run.objects.filter(pk__in=list(parents)).values_list("pk", "number"))
    for row in rows:
        row.parent = numbers.get(row.run.parent_id)
    by_id = {row.run.pk: row for row in rows}
    held = Run.objects.filter(parent__in=list(by_id), archived_at=None).order_by().values_list("parent")
    for pk, count in held.annotate(count=Count("pk")):
        by_id[pk].children = count


def _star(rows: Sequence[Row], n: int, column: Column, known: float | None) -> None:
    """Mark the best value that is shown, when there is something to choose from."""
    cells = [row.metrics[n] for row in rows if isinstance(row.metrics[n].text, float)]
    figures = [cell.text for cell in cells if isinstance(cell.text, float)]
    if known is not None:
        figures.append(known)
    elif len(set(figures)) < 2:
        return
    best = min(figures) if column.lower else max(figures)
    for cell in cells:
        cell.best = cell.text == best


def names(workspace: Workspace, text: str, limit: int = 30) -> list[Column]:
    """Metrics and parameters whose name holds ``text``: what the column picker and the filter offer."""
    return [
        Column(name, table == "runs_metricseries")
        for table in ("runs_metricseries", "runs_runparameter")
        for name in _distinct(table, workspace.pk, text, limit)
        if not name.startswith("system/") or "system" in text
    ]


def _distinct(table: str, workspace_id: int, text: str, limit: int) -> Iterable[str]:
    """Distinct names by hopping along the index, a step per name and not one per row."""
    like = "ILIKE" if connection.vendor == "postgresql" else "LIKE"
    sql = (
        f"WITH RECURSIVE n(name) AS (SELECT min(name) FROM {table} WHERE workspace_id = %s UNION ALL "  # noqa: S608 ours
        f"SELECT (SELECT min(t.name) FROM {table} t WHERE t.workspace_id = %s AND t.name > n.name) FROM n "
        f"WHERE n.name IS NOT NULL) SELECT name FROM n WHERE name IS NOT NULL AND name {like} %s ESCAPE '!' LIMIT {limit}"
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, [workspace_id, workspace_id, f"%{escaped(text)}%"])
        return [str(row[0]) for row in cursor.fetchall()]


def revision(rows: Iterable[Row]) -> str:
    """Changes when what these rows show changes; clocks that only tick do not count."""
    seen: list[Any] = []
    for row in rows:
        run = row.run
        seen.append(
            (run.pk, run.status, run.name, run.unreachable_since is None, run.waiting_for, run.ended_at, run.started_at)
        )
        seen.append(([cell.text for cell in row.metrics], [cell.text for cell in row.parameters], row.trend))
        seen.append((row.progress, row.children, [(tag.name, tag.value) for tag in row.tags]))
    return blake2b(repr(seen).encode(), digest_size=8).hexdigest()
