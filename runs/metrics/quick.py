"""Points added to series that a run has already, in three statements: what a client's call for one point may cost.

Only the common case is here: every series is known, and its points go into its newest row. ``add`` says False for any other,
with nothing done, and ``runs.metrics.applying`` does it.
"""
# ruff: noqa: S608 the SQL here is put together from our own words

from array import array
from dataclasses import dataclass
from typing import Any

from django.db import connection
from django.utils import timezone

from runs.metrics.packing import CAPACITY, TAIL, Columns, summarize
from runs.metrics.records import Column

Row = tuple[Any, ...]
MAX_NAMES = 500
SUMMARY = ("count", "last", "last_time", "low", "high", "low_step", "high_step", "last_step", "not_numbers", "ordered")
# A series with its newest rows. Their contents come along when they are small enough to be written anew.
READ = (
    f"SELECT s.id, s.name, s.system, {', '.join(f's.{name}' for name in SUMMARY)}, c.id, c.count, "
    f"CASE WHEN c.count < {TAIL} THEN c.steps END, CASE WHEN c.count < {TAIL} THEN c.times END, "
    f'CASE WHEN c.count < {TAIL} THEN c."values" END '
    "FROM runs_metricseries s LEFT JOIN runs_metricchunk c "
    f"ON c.series_id = s.id AND c.position >= s.count - s.count %% {CAPACITY} "
    "WHERE s.run_id = %s AND s.name IN ({names}) ORDER BY s.id, c.position"
)
WRITE_ROW = 'UPDATE runs_metricchunk SET count = %s, steps = %s, times = %s, "values" = %s WHERE id = %s'
WRITE_SERIES = (
    f"UPDATE runs_metricseries SET {', '.join(f'{name} = %s' for name in SUMMARY)}, updated_at = %s WHERE id = %s"
)


@dataclass(slots=True)
class Summary:
    """The columns of a ``MetricSeries`` that ``summarize`` moves on."""

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

    def values(self) -> Row:
        return tuple(getattr(self, name) for name in SUMMARY)


def add(run_id: int, points: dict[str, Column]) -> bool:
    """Add points to series of a run, inside a transaction that keeps others from writing to it. Whether it was done."""
    if not points or len(points) > MAX_NAMES:
        return False
    names = ", ".join(["%s"] * len(points))
    found: dict[int, Row] = {}
    with connection.cursor() as cursor:
        cursor.execute(READ.format(names=names), [run_id, *points])
        for row in cursor.fetchall():
            found[row[0]] = row  # of the two rows of a block, the second is the newest
        if len(found) != len(points):
            return False
        rows: list[Row] = []
        series: list[Row] = []
        now = connection.ops.adapt_datetimefield_value(timezone.now())
        for row in found.values():
            planned = _plan(row, points[str(row[1])], now)
            if planned is None:
                return False
            rows.append(planned[0])
            series.append(planned[1])
        cursor.executemany(WRITE_ROW, rows)
        cursor.executemany(WRITE_SERIES, series)
    return True


def _plan(row: Row, column: Column, now: Any) -> tuple[Row, Row] | None:
    """What becomes of the newest row and of the series; None when it needs more than that."""
    key, _, system, *rest = row
    summary = Summary(*rest[: len(SUMMARY)])
    row_id, held, steps, times, values = rest[len(SUMMARY) :]
    new = len(column.values)
    # None: there is no row, or it is not small.
    if system or steps is None or held + new >= TAIL or summary.count % CAPACITY + new > CAPACITY:
        return None
    listed = [summary.count + i if step is None else step for i, step in enumerate(column.steps)]
    columns = Columns(array("q", listed), array("d", column.times), array("d", column.values))
    packed = columns.packed()
    summary.ordered = bool(summary.ordered)
    summarize(summary, columns)
    contents = [bytes(old) + data for old, data in zip((steps, times, values), packed, strict=True)]
    return (held + new, *contents, row_id), (*summary.values(), now, key)
