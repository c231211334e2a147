"""Series as packed columns: how points are appended, and how they are read.

A block of CAPACITY points is one row. So that a point now and then does not rewrite 96 KB, the newest points of a block
wait in a second, small row (the tail) until TAIL of them are there; a block may therefore be two rows.
"""

import math
import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import le
from typing import Any, Protocol, cast

from django.db import connections, router
from django.db.models import Field, Model

from runs.models import MetricChunk, MetricSeries

CAPACITY = MetricChunk.CAPACITY
TAIL = 256
SWAPPED = sys.byteorder == "big"
BLOBS = ("steps", "times", "values")


@dataclass(slots=True)
class Columns:
    """Points of a series: parallel columns."""

    steps: "array[int]"
    times: "array[float]"
    values: "array[float]"

    @classmethod
    def empty(cls) -> "Columns":
        return cls(array("q"), array("d"), array("d"))

    def __len__(self) -> int:
        return len(self.values)

    def extend(self, other: "Columns") -> None:
        self.steps.extend(other.steps)
        self.times.extend(other.times)
        self.values.extend(other.values)

    def slice(self, first: int, last: int) -> "Columns":
        return Columns(self.steps[first:last], self.times[first:last], self.values[first:last])

    def load(self, steps: bytes, times: bytes, values: bytes) -> None:
        """Append packed columns."""
        for column, data in ((self.steps, steps), (self.times, times), (self.values, values)):
            unpack(column, data)

    def packed(self) -> tuple[bytes, bytes, bytes]:
        return pack(self.steps), pack(self.times), pack(self.values)


def unpack(column: "array[int] | array[float]", data: bytes) -> None:
    if SWAPPED:
        part = array(column.typecode, bytes(data))
        part.byteswap()
        column.frombytes(part.tobytes())
    else:
        column.frombytes(data)


def pack(column: "array[int] | array[float]") -> bytes:
    if SWAPPED:
        column = array(column.typecode, column)
        column.byteswap()
    return column.tobytes()


def append(new: Iterable[tuple[MetricSeries, Columns]]) -> None:
    """Append points to saved series whose ``count`` says how many points they held before. Four statements at most."""
    todo = [(series, columns) for series, columns in new if len(columns)]
    heads = open_rows([series for series, _ in todo])
    # Rows whose points must be read: the tail always, the body only when it is rewritten.
    wanted: list[int] = []
    plans: list[tuple[MetricSeries, Columns, list[tuple[int, int, int]]]] = []
    for series, columns in todo:
        rows = heads.get(series.pk, [])
        grows = len(rows) == 2 and rows[1][2] + len(columns) < TAIL
        alone = len(rows) == 1 and rows[0][2] >= TAIL and len(columns) < TAIL
        rewritten = rows[1:] if grows else [] if alone else rows
        wanted += [pk for pk, _, _ in rewritten]
        plans.append((series, columns, rewritten))
    held = {
        pk: (bytes(steps), bytes(times), bytes(values))
        for pks in pieces(wanted)
        for pk, steps, times, values in MetricChunk.objects.filter(pk__in=pks).values_list("pk", *BLOBS)
    }
    made: list[MetricChunk] = []
    changed: list[tuple[Any, ...]] = []
    gone: list[int] = []
    for series, columns, rewritten in plans:
        whole = Columns.empty()
        for pk, _, _ in rewritten:
            whole.load(*held[pk])
        whole.extend(columns)
        at = rewritten[0][1] if rewritten else series.count
        row = rewritten[0][0] if rewritten else None
        gone += [pk for pk, _, _ in rewritten[1:]]
        first = 0
        while first < len(whole):
            last = min(len(whole), first + CAPACITY - (at + first) % CAPACITY)
            steps, times, values = whole.slice(first, last).packed()
            if row is not None:
                changed.append((last - first, steps, times, values, row))
                row = None
            else:
                made.append(
                    MetricChunk(
                        series=series, position=at + first, count=last - first, steps=steps, times=times, values=values
                    )
                )
            first = last
    for pks in pieces(gone):
        MetricChunk.objects.filter(pk__in=pks).delete()
    update_many(MetricChunk, ("count", *BLOBS), changed)
    MetricChunk.objects.bulk_create(made, batch_size=200)


def open_rows(series: Sequence[MetricSeries]) -> dict[int, list[tuple[int, int, int]]]:
    """Series id → (row id, position, count) of the one or two rows of the block that is not full."""
    by_block: dict[int, list[int]] = {}
    for item in series:
        if item.count % CAPACITY:
            by_block.setdefault(item.count - item.count % CAPACITY, []).append(item.pk)
    found: dict[int, list[tuple[int, int, int]]] = {}
    for block, ids in by_block.items():
        for pks in pieces(ids):
            rows = MetricChunk.objects.filter(series_id__in=pks, position__gte=block).order_by("series_id", "position")
            for owner, pk, position, count in rows.values_list("series_id", "pk", "position", "count"):
                found.setdefault(owner, []).append((pk, position, count))
    return found


def pieces(ids: Sequence[int], size: int = 500) -> Iterable[Sequence[int]]:
    return (ids[first : first + size] for first in range(0, len(ids), size))


def update_many(model: type[Model], fields: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    """Set ``fields`` of many rows; each tuple holds their values and, last, the row's id."""
    if not rows:
        return
    connection = connections[router.db_for_write(model)]
    quote = connection.ops.quote_name
    columns = [cast("Field[Any, Any]", model._meta.get_field(name)) for name in fields]
    assignments = ", ".join(f"{quote(str(column.column))} = %s" for column in columns)
    sql = f"UPDATE {quote(model._meta.db_table)} SET {assignments} WHERE {quote('id')} = %s"  # noqa: S608 names of our own
    with connection.cursor() as cursor:
        cursor.executemany(
            sql,
            [
                (*(c.get_db_prep_save(v, connection) for c, v in zip(columns, row[:-1], strict=True)), row[-1])
                for row in rows
            ],
        )


class Summarized(Protocol):
    """The summary of a series, as its row or apart from it."""

    count: int
    last: float | None
    last_time: float | None
    low: float | None
    high: float | None
    low_step: int | None
    high_step: int | None
    last_step: int | None
    not_numbers: int
    ordered: bool


def summarize(series: Summarized, columns: Columns) -> None:
    """Move the summary on by points that were just appended. NaN and infinities count, and touch neither low nor high."""
    values, steps = columns.values, columns.steps
    if not values:
        return
    before = series.last_step if series.count else None
    in_order = all(map(le, steps, steps[1:]))
    if series.ordered:
        series.ordered = in_order and (before is None or before <= steps[0])
    _move_last(series, columns, before, in_order)
    series.count += len(values)
    if not math.isfinite(sum(values)):  # a finite sum has finite parts only
        pairs = [(value, step) for value, step in zip(values, steps, strict=True) if math.isfinite(value)]
        series.not_numbers += len(values) - len(pairs)
        values, steps = array("d", [v for v, _ in pairs]), array("q", [s for _, s in pairs])
        if not values:
            return
    low, high = min(values), max(values)
    if series.low is None or low < series.low:
        series.low, series.low_step = low, steps[values.index(low)]
    if series.high is None or high > series.high:
        series.high, series.high_step = high, steps[values.index(high)]


def _move_last(series: Summarized, columns: Columns, before: int | None, in_order: bool) -> None:
    """The last point is that of the highest step, of several the newest, then the highest: so MLflow has it as well."""
    steps, times, values = columns.steps, columns.times, columns.values
    top = steps[-1] if in_order else max(steps)
    if before is not None and before > top:
        return
    place = len(steps) - 1
    if in_order and (place == 0 or steps[place - 1] < top):
        best = (times[place], _rank(values[place]), place)
    else:
        first = bisect_left(steps, top) if in_order else 0
        best = max((times[i], _rank(values[i]), i) for i in range(first, place + 1) if steps[i] == top)
    held = -math.inf if series.last is None else series.last
    if before == top and series.last_time is not None and (series.last_time, held) > best[:2]:
        return
    series.last_step, series.last_time = top, best[0]
    series.last = values[best[2]] if math.isfinite(values[best[2]]) else None


def _rank(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def read(series: MetricSeries, first: int = 0, last: int | None = None) -> Columns:
    """Points ``first`` to ``last`` (not included) by their index in the series."""
    found = Columns.empty()
    rows = MetricChunk.objects.filter(series=series, position__gte=first - first % CAPACITY).order_by("position")
    if last is not None:
        rows = rows.filter(position__lt=last)
    start: int | None = None
    for position, steps, times, values in rows.values_list("position", *BLOBS).iterator():
        start = position if start is None else start
        found.load(steps, times, values)
    if start is None:
        return found
    begin, end = max(0, first - start), len(found) if last is None else max(0, last - start)
    return found if begin == 0 and end >= len(found) else found.slice(begin, end)
