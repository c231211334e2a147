"""Pages of the run list: any filter, any order, a position instead of an offset.

A page is read in two steps: the ids of its runs by SQL that walks one index in the wanted order, then the rows. Runs that
have no value for the column come last, newest first; a page may span that border. SQL is written out because the order
of the tables decides between one millisecond and a second: the order's index is walked and filters are looked up in sets
that are made once, unless a filter keeps so few runs that it is quicker to begin with them.
"""
# ruff: noqa: S608 the SQL here is put together from our own words; what a person typed is a parameter of it

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection

from runs.filters import Condition, Token
from runs.models import MetricSeries, RunParameter
from studio.workspaces.models import Workspace

PAGE = 50
FEW = 2000
"""A filter that keeps at most so many runs is where the search begins."""
NOT_ARCHIVED = "r.archived_at IS NULL"
NO_CHILD = "r.parent_id IS NULL"
COUNTED = 10_000
"""Counts end here and read ``10,000+``."""


class BadCursor(ValueError):
    """The position in the address is none of ours."""


@dataclass(frozen=True)
class Order:
    """By what a list is sorted. ``kind``: ``number``, ``column``, ``metric`` or ``parameter``."""

    kind: str = "number"
    name: str = "number"
    descending: bool = True
    textual: bool = False
    """Of a parameter: its values are texts, no numbers."""

    @property
    def text(self) -> str:
        """As in the address: ``-val/acc``, ``param.lr``."""
        prefix = (
            "param." if self.kind == "parameter" else "metric." if self.kind == "metric" and self.name in PLAIN else ""
        )
        return ("-" if self.descending else "") + prefix + self.name


SECONDS = {
    "sqlite": "(julianday(r.ended_at) - julianday(r.started_at)) * 86400",
    "postgresql": "EXTRACT(EPOCH FROM r.ended_at - r.started_at)::float8",
}
# Column → SQL over the run.
PLAIN = {
    "number": "r.number",
    "name": "r.name",
    "status": "r.status",
    "started": "r.started_at",
    "duration": "",  # see SECONDS
    "experiment": "(SELECT e.name FROM runs_experiment e WHERE e.id = r.experiment_id)",
    "compute": "COALESCE((SELECT c.name FROM environments_computetarget c WHERE c.id = r.target_id), "
    "(SELECT p.name FROM environments_pool p WHERE p.id = r.pool_id))",
    "owner": "(SELECT u.email FROM accounts_user u WHERE u.id = r.created_by_id)",
}


def order_of(text: str, workspace: Workspace) -> Order:
    """Read ``sort`` of an address. An unknown name is taken for a metric or a parameter, whichever exists; else newest first."""
    name = text.removeprefix("-")[:260]
    descending = text.startswith("-")
    if name in PLAIN:
        return Order("number" if name == "number" else "column", name, descending)
    if name.startswith("param."):
        return _parameter(name.removeprefix("param."), descending, workspace)
    if name.startswith("metric."):
        return Order("metric", name.removeprefix("metric."), descending)
    if not name:
        return Order()
    if MetricSeries.objects.filter(workspace=workspace, name=name).exists():
        return Order("metric", name, descending)
    return _parameter(name, descending, workspace)


def is_known(order: Order, workspace: Workspace) -> bool:
    """Whether any run of the workspace could have a value for it."""
    models: dict[str, type[MetricSeries] | type[RunParameter]] = {"metric": MetricSeries, "parameter": RunParameter}
    found = models.get(order.kind)
    return found is None or found.objects.filter(workspace=workspace, name=order.name).exists()


def _parameter(name: str, descending: bool, workspace: Workspace) -> Order:
    rows = RunParameter.objects.filter(workspace=workspace, name=name)
    return Order("parameter", name, descending, not rows.filter(number__isnull=False).exists())


@dataclass(frozen=True)
class Cursor:
    """A place between two rows: the key and number of the row beside it. ``key`` None: among the runs without a value."""

    key: Any
    number: int

    def write(self) -> str:
        return urlsafe_b64encode(json.dumps([self.key, self.number]).encode()).decode().rstrip("=")

    @classmethod
    def read(cls, text: str) -> "Cursor":
        try:
            key, number = json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        except (ValueError, TypeError):
            raise BadCursor("The address of this page is damaged. Go back to the first page.") from None
        if type(number) is not int or not 0 <= number < 2**63 or not isinstance(key, (str, int, float, type(None))):
            raise BadCursor("The address of this page is damaged. Go back to the first page.")
        return cls(key, number)


@dataclass(frozen=True)
class Page:
    ids: tuple[int, ...]
    newer: str
    """Cursor of the page before, empty on the first page."""
    older: str


@dataclass(frozen=True)
class Filter:
    """What a list shows: the conditions of all tokens, within one workspace."""

    workspace: Workspace
    conditions: tuple[Condition, ...] = ()

    @classmethod
    def of(
        cls,
        workspace: Workspace,
        tokens: Sequence[Token],
        extra: Sequence[Condition] = (),
        *,
        children: bool = False,
    ) -> "Filter":
        """Archived runs are left out unless a token speaks of them, and so are child runs unless ``children`` are wanted."""
        found = [token.condition for token in tokens if token.condition is not None]
        named = {token.key for token in tokens if not token.error}
        if "archived" not in named:
            found.append(Condition(NOT_ARCHIVED))
        if not children and not named & {"parent", "children"}:
            found.append(Condition(NO_CHILD))
        return cls(workspace, (*found, *extra))


def page(chosen: Filter, order: Order, *, after: str = "", before: str = "", size: int = PAGE) -> Page:
    """Ids of one page in order. Raises BadCursor."""
    cursor = Cursor.read(after or before) if after or before else None
    backward = bool(before)
    start = _start(chosen)
    parts = _parts(order, chosen.workspace.pk)
    if backward:
        parts = parts[::-1]
    if cursor is not None and cursor.key is None and len(parts) == 2:
        parts = parts if backward else parts[1:]
    elif cursor is not None and backward:
        parts = parts[-1:]
    found: list[tuple[int, Any, int]] = []
    for n, part in enumerate(parts):
        found += part.rows(chosen, start, cursor if n == 0 else None, backward, size + 1 - len(found))
        if len(found) > size:
            break
    more = len(found) > size
    found = found[:size]
    if backward:
        found.reverse()
    if not found:
        return Page((), "", "")
    ends = [Cursor(_plain(key), number).write() for _, key, number in (found[0], found[-1])]
    has_newer = more if backward else bool(after)
    has_older = True if backward else more
    return Page(tuple(pk for pk, _, _ in found), ends[0] if has_newer else "", ends[1] if has_older else "")


def filtered(chosen: Filter) -> tuple[str, list[Any]]:
    """A filter as SQL over the run ``r``, and its parameters: for an order that no index has."""
    return _start(chosen).where(chosen.workspace)


def count(chosen: Filter, limit: int = COUNTED) -> int:
    """How many runs match; ``limit + 1`` stands for more than ``limit``."""
    where, params = _start(chosen).where(chosen.workspace)
    sql = f"SELECT count(*) FROM (SELECT 1 FROM runs_run r WHERE {where} LIMIT {limit + 1}) n"
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return int(cursor.fetchone()[0])


@dataclass(frozen=True)
class _Part:
    """One stretch of an order: the runs that have a key, or those that have none."""

    key: str
    """SQL of the key; empty: no key, newest first."""
    tie: str = "r.number"
    descending: bool = True
    table: str = ""
    """Where the key is kept, as ``s``, when that is not the run itself."""
    where: str = ""
    params: tuple[Any, ...] = ()
    flips: bool = False
    """Whether the tie runs the other way than the key, as its index does."""

    def rows(
        self, chosen: Filter, start: "_Start", cursor: Cursor | None, backward: bool, limit: int
    ) -> list[tuple[int, Any, int]]:
        descending = self.descending != backward
        ways = (("ASC", ">"), ("DESC", "<"))
        (word, sign), (tie_word, tie_sign) = ways[descending], ways[descending != self.flips]
        source = "runs_run r"
        if self.table:
            # SQLite never turns a cross join round: the index of the order is walked, or the few runs.
            source = (
                f"{self.table} s CROSS JOIN runs_run r"
                if start.few is None
                else f"runs_run r CROSS JOIN {self.table} s"
            )
        # Nothing but a lookup in a set: an index by run would be the wrong one to walk.
        where, values = start.where(chosen.workspace, "(s.run_id + 0)" if self.table and start.few is None else "r.id")
        tests = [self.where, where] if self.where else [where]
        values = [*self.params, *values]
        if cursor is not None:
            key = self.key or "r.number"
            if key == self.tie:
                tests.append(f"{key} {sign} %s")
                values.append(cursor.number)
            else:
                tie = self._tie(chosen, cursor.number)
                tests.append(f"{key} {sign}= %s AND ({key} {sign} %s OR {self.tie} {tie_sign} %s)")
                values += [cursor.key, cursor.key, tie]
        ordered = (
            f"{self.key} {word}, {self.tie} {tie_word}" if self.key and self.key != self.tie else f"{self.tie} {word}"
        )
        sql = (
            f"SELECT r.id, {self.key or 'NULL'}, r.number FROM {source} "
            f"WHERE {' AND '.join(tests)} ORDER BY {ordered} LIMIT {limit}"
        )
        with connection.cursor() as db:
            db.execute(sql, values)
            return list(db.fetchall())

    def _tie(self, chosen: Filter, number: int) -> int:
        """Metrics and parameters are indexed with the run's id behind the value, so that breaks their ties."""
        if self.tie == "r.number":
            return number
        with connection.cursor() as db:
            db.execute("SELECT id FROM runs_run WHERE workspace_id = %s AND number = %s", [chosen.workspace.pk, number])
            row = db.fetchone()
        return int(row[0]) if row else 0


def _parts(order: Order, workspace_id: int) -> list[_Part]:
    if order.kind == "number":
        return [_Part("r.number", descending=order.descending)]
    if order.kind in {"metric", "parameter"}:
        table, column = ("runs_metricseries", "last") if order.kind == "metric" else ("runs_runparameter", "number")
        column = "head" if order.textual else column
        has = f"s.workspace_id = %s AND s.name = %s AND s.{column} IS NOT NULL"
        return [
            _Part(
                f"s.{column}",
                "s.run_id",
                order.descending,
                table,
                f"r.id = s.run_id AND {has}",
                (workspace_id, order.name),
            ),
            _Part(
                "",
                where=f"NOT EXISTS (SELECT 1 FROM {table} s WHERE s.run_id = r.id AND s.name = %s AND s.{column} IS NOT NULL)",
                params=(order.name,),
            ),
        ]
    key = SECONDS[connection.vendor] if order.name == "duration" else PLAIN[order.name]
    flips = order.name == "status"
    parts = [_Part(key, descending=order.descending, where=f"{key} IS NOT NULL", flips=flips)]
    if order.name not in {"name", "status", "experiment"}:
        parts.append(_Part("", where=f"{key} IS NULL"))
    return parts


@dataclass(frozen=True)
class _Start:
    """Where a search begins: with few runs, or, ``few`` None, with the whole workspace."""

    few: list[int] | None
    rest: tuple[Condition, ...]
    """The conditions that are still to be tested."""

    def where(self, workspace: Workspace, pk: str = "r.id") -> tuple[str, list[Any]]:
        """All conditions as one SQL text over ``r``; sets of ids are looked up by ``pk``."""
        tests: list[str] = []
        params: list[Any] = []
        if not any(condition.alone for condition in self.rest):
            tests, params = ["r.workspace_id = %s"], [workspace.pk]
        if self.few is not None:
            # Ids of our own making: written out, so that their number meets no limit on parameters.
            tests.append(f"r.id IN ({', '.join(map(str, self.few)) or 'NULL'})")
        for condition in self.rest:
            if condition.row:
                tests.append(condition.row)
                params += condition.params
        # One set is made and looked up in. Making each of several would cost more than testing the runs of the first.
        sql, values = _sets([condition for condition in self.rest if condition.ids], pk)
        tests += sql
        params += values
        return " AND ".join(tests), params


def _start(chosen: Filter) -> _Start:
    """Ask, within bounds, whether a condition or all sets together keep only a few runs."""
    real = tuple(condition for condition in chosen.conditions if condition.row or condition.ids)
    sets = [condition for condition in real if condition.ids]
    for condition in real:
        if condition.ids:
            few = _few(condition.ids, list(condition.params))
        elif condition.row not in {NOT_ARCHIVED, NO_CHILD}:
            # An experiment or a target lies in one workspace; the test of it would only tempt SQLite to a worse index.
            scope, params = ("", []) if condition.alone else ("r.workspace_id = %s AND ", [chosen.workspace.pk])
            few = _few(f"SELECT r.id FROM runs_run r WHERE {scope}{condition.row}", [*params, *condition.params])
        else:
            continue
        if few is not None:
            return _Start(few, tuple(other for other in real if other is not condition))
    if len(sets) > 1:
        few = _few(*_together(sets))
        if few is not None:
            return _Start(few, tuple(condition for condition in real if not condition.ids))
    return _Start(None, real)


def _sets(sets: Sequence[Condition], pk: str) -> tuple[list[str], list[Any]]:
    tests: list[str] = []
    params: list[Any] = []
    made = False
    for condition in sorted(sets, key=lambda c: bool(c.exists)):
        if condition.exists and made:
            tests.append(condition.exists.format(run=pk))
            params += condition.exists_params
        else:
            tests.append(f"{pk} IN ({condition.ids})")
            params += condition.params
            made = True
    return tests, params


def _together(sets: Sequence[Condition]) -> tuple[str, list[Any]]:
    """What all sets hold. The first is walked and each of its runs tested, so that a limit ends the work early."""
    first, *others = sorted(sets, key=lambda c: bool(c.exists))
    tests = [other.exists.format(run="s.run_id") if other.exists else f"s.run_id IN ({other.ids})" for other in others]
    values = [value for other in others for value in (other.exists_params if other.exists else other.params)]
    return f"SELECT s.run_id FROM ({first.ids}) s WHERE {' AND '.join(tests)}", [*first.params, *values]


def _few(sql: str, params: list[Any]) -> list[int] | None:
    """The ids that a query finds when they are few, else None."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM ({sql}) f LIMIT {FEW + 1}", params)
        found = [row[0] for row in cursor.fetchall()]
    return found if len(found) <= FEW else None


def _plain(key: Any) -> Any:
    return str(key) if isinstance(key, datetime) else key
