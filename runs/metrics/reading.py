"""What charts, tables and lists read of a run's metrics."""

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from runs.metrics.packing import Columns, pieces, read
from runs.models import MetricChunk, MetricSeries, MetricValue, Run

LIMIT = 1000
SPARK_WIDTH, SPARK_HEIGHT, SPARK_POINTS = 92, 20, 46
# Whole words of a metric's name that say that less of it is better.
LOWER = frozenset(
    {
        "loss",
        "error",
        "err",
        "mse",
        "rmse",
        "mae",
        "perplexity",
        "ppl",
        "latency",
        "wer",
        "cer",
        "nll",
        "time",
        "seconds",
    }
)


def points(series: MetricSeries) -> dict[str, list[Any]]:
    """All points of a series in the order of arrival: ``{"step": […], "time": […], "value": […]}``; NaN stays NaN."""
    columns = read(series)
    return {"step": columns.steps.tolist(), "time": columns.times.tolist(), "value": columns.values.tolist()}


def buckets(
    series: MetricSeries,
    low_step: int | None = None,
    high_step: int | None = None,
    limit: int = LIMIT,
    x: Literal["step", "time"] = "step",
) -> dict[str, Any]:
    """At most about ``limit`` points between two steps (both included), of which no extreme is ever lost.

    Returns ``{"x": […], "y": […], "count": points in the range, "sampled": bool, "next": index after the last point}``.
    ``x`` is sorted: steps, or unix times. ``y`` holds None where a value is not a finite number, so that a line breaks
    there. Each bucket gives its lowest and its highest point in their order, and a None if it held one.
    """
    columns = _between(_in_order(series, read(series)), low_step, high_step)
    return sample(columns, limit, x) | {"next": series.count}


def since(series: MetricSeries, first: int, x: Literal["step", "time"] = "step", limit: int = LIMIT) -> dict[str, Any]:
    """As ``buckets``, for the points that came after the first ``first`` ones."""
    return sample(_in_order(series, read(series, first, series.count)), limit, x) | {"next": series.count}


def sample(columns: Columns, limit: int, x: Literal["step", "time"]) -> dict[str, Any]:
    """Lowest and highest of each of ``limit / 2`` stretches of equally many points."""
    size = len(columns)
    at: Sequence[float] = columns.steps if x == "step" else columns.times
    values = columns.values
    if size <= limit:
        return {"x": list(at), "y": [v if math.isfinite(v) else None for v in values], "count": size, "sampled": False}
    xs: list[float] = []
    ys: list[float | None] = []
    stretches = max(1, limit // 2)
    finite = math.isfinite(sum(values))
    for n in range(stretches):
        first, last = n * size // stretches, (n + 1) * size // stretches
        part = values[first:last]
        if finite:
            low, high = min(part), max(part)
            picked = sorted((part.index(low), part.index(high))) if low != high else [0]
        else:
            picked = _extremes(part)
        for i in picked:
            xs.append(at[first + i])
            ys.append(part[i] if math.isfinite(part[i]) else None)
    return {"x": xs, "y": ys, "count": size, "sampled": True}


def _extremes(part: "array[float]") -> list[int]:
    """Indices of the lowest, the highest and the first non-finite value."""
    numbers = [(value, i) for i, value in enumerate(part) if math.isfinite(value)]
    picked = {min(numbers)[1], max(numbers)[1]} if numbers else set()
    gap = next((i for i, value in enumerate(part) if not math.isfinite(value)), None)
    return sorted(picked if gap is None else picked | {gap})


def _in_order(series: MetricSeries, columns: Columns) -> Columns:
    """By step. Most series are already; a resumed run may have gone back."""
    if series.ordered:
        return columns
    steps = columns.steps
    order = sorted(range(len(steps)), key=steps.__getitem__)
    return Columns(
        array("q", [steps[i] for i in order]),
        array("d", [columns.times[i] for i in order]),
        array("d", [columns.values[i] for i in order]),
    )


def _between(columns: Columns, low: int | None, high: int | None) -> Columns:
    if low is None and high is None:
        return columns
    first = 0 if low is None else bisect_left(columns.steps, low)
    last = len(columns) if high is None else bisect_right(columns.steps, high)
    return columns.slice(first, max(first, last))


def table(run: Run, name: str) -> dict[str, list[Any]]:
    """Rows and tables logged under one name, in order, as columns; None where a row had no such column."""
    columns: dict[str, list[Any]] = {}
    length = 0
    found = MetricValue.objects.filter(run=run, name=name, kind__in=["row", "table"]).order_by("pk")
    for kind, data in found.values_list("kind", "data"):
        rows = {key: [item] for key, item in data.items()} if kind == "row" else data
        added = len(next(iter(rows.values())))
        for key, items in rows.items():
            columns.setdefault(key, [None] * length).extend(items)
        length += added
        for items in columns.values():
            items.extend([None] * (length - len(items)))
    return columns


def spark(series_ids: Iterable[int]) -> dict[int, str]:
    """Series id → path data of a small line, 92 × 20, over the newest stretch of points. Three short reads for a page."""
    newest: dict[int, tuple[int, int]] = {}
    ids = list(series_ids)
    for part in pieces(ids):
        rows = MetricChunk.objects.filter(series_id__in=part).values_list("series_id", "pk", "position", "count")
        for owner, pk, position, count in rows.order_by("series_id", "position"):
            # A tail of a few points alone would say nothing.
            if owner not in newest or count >= SPARK_POINTS or position == 0:
                newest[owner] = (pk, position)
    owners = {pk: owner for owner, (pk, _) in newest.items()}
    found: dict[int, str] = {}
    for part in pieces(list(owners)):
        for pk, values in MetricChunk.objects.filter(pk__in=part).values_list("pk", "values"):
            column: array[float] = array("d")
            column.frombytes(values)
            line = _path(column)
            if line:
                found[owners[pk]] = line
    return found


def _path(values: "array[float]") -> str:
    size = len(values)
    if size < 2:
        return ""
    count = min(size, SPARK_POINTS)
    picked = [values[i * (size - 1) // (count - 1)] for i in range(count)]
    numbers = [value for value in picked if math.isfinite(value)]
    if len(numbers) < 2:
        return ""
    low, high = min(numbers), max(numbers)
    scale = (SPARK_HEIGHT - 2) / (high - low) if high - low > 0 and math.isfinite(high - low) else 0.0
    across = SPARK_WIDTH / (count - 1)
    parts: list[str] = []
    pen = "M"
    for i, value in enumerate(picked):
        if not math.isfinite(value):
            pen = "M"
            continue
        height = SPARK_HEIGHT - 1 - (value - low) * scale if scale else SPARK_HEIGHT / 2
        parts.append(f"{pen}{i * across:.1f} {height:.1f}")
        pen = "L"
    return "".join(parts)


def lower_is_better(name: str) -> bool:
    """Whether the name says so. An experiment's own choice comes before this."""
    words = name.lower().replace("/", " ").replace("_", " ").replace("-", " ").replace(".", " ").split()
    return any(word in LOWER for word in words)


@dataclass(frozen=True)
class Pin:
    """A chart of the Overview: one or more series in one frame."""

    title: str
    series: tuple[MetricSeries, ...]
    note: str = ""

    @property
    def last(self) -> float | None:
        return self.series[0].last


def pinned(run: Run) -> list[Pin]:
    """Two or three charts that say whether a run is learning: its primary metric, a loss, and what it uses of the machine."""
    rows = list(MetricSeries.objects.filter(run=run).order_by("pk")[:200])
    logged = [series for series in rows if not series.system]
    by_name = {series.name: series for series in rows}
    pins: list[Pin] = []
    primary = by_name.get(run.experiment.primary_metric)
    quiet = {"epoch", "step", "lr", "learning_rate"}
    if primary is None:
        measured = [series for series in logged if series.name not in quiet]
        primary = next((s for s in measured if not lower_is_better(s.name)), None)
    if primary is not None:
        pins.append(_pin(run, primary))
    losses = [s for s in logged if "loss" in s.name.lower() and s is not primary][:4]
    if losses:
        title = losses[0].name if len(losses) == 1 else "loss"
        pins.append(Pin(title, tuple(losses)))
    for series in logged:
        if len(pins) >= 2:
            break
        if series.name not in quiet and all(series not in pin.series for pin in pins):
            pins.append(_pin(run, series))
    gpus = tuple(s for s in rows if s.name.startswith("system/gpu/"))[:8]
    if gpus:
        pins.append(Pin("GPU use", gpus, "percent"))
    for name, title, note in (("system/cpu", "CPU", "percent of one core"), ("system/memory", "Memory", "bytes")):
        if len(pins) < 3 and name in by_name:
            pins.append(Pin(title, (by_name[name],), note))
    return pins[:3]


def _pin(run: Run, series: MetricSeries) -> Pin:
    if series.name == run.experiment.primary_metric:
        lower = not run.experiment.maximize
    else:
        lower = lower_is_better(series.name)
    best, step = (series.low, series.low_step) if lower else (series.high, series.high_step)
    if best is None or step is None or series.count < 2:
        return Pin(series.name, (series,))
    return Pin(series.name, (series,), f"best {best:.4g}, step {step:,}")
