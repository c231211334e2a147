"""Clauses of a search as conditions on runs in SQL, made to be looked up by the indexes of metrics, parameters and tags."""
# ruff: noqa: S608 the SQL here is put together from our own words; what a client sent is a parameter of it

from datetime import UTC, datetime
from typing import Any

from django.db import connection

from runs.filters import Condition, marks
from runs.mlflow.lookup import NUMBERED
from runs.mlflow.search import Clause, holds, wrong
from runs.mlflow.shapes import NOTE, PARENT, RUN_NAME, STATUSES, USER
from studio.workspaces.models import Workspace

HEAD = 100
COLUMNS = {"run_name": "r.name", "start_time": "COALESCE(r.started_at, r.created_at)", "end_time": "r.ended_at"}
# A run's id as its clients see it.
UID = "r.uid"
OWNER = "(SELECT u.email FROM accounts_user u WHERE u.id = r.created_by_id)"


def condition(clause: Clause, workspace: Workspace) -> Condition:
    """Raises Problem when a value cannot be compared."""
    if clause.kind == "metric":
        return _metric(clause, workspace)
    if clause.kind == "param":
        return _of_table(clause, workspace, "runs_runparameter")
    if clause.kind == "tag":
        column = {RUN_NAME: "r.name", NOTE: "NULLIF(r.notes, '')"}.get(clause.key)
        if column is not None:
            return _text(column, clause)
        if clause.key == PARENT:
            return _parent(clause)
        return _of_table(clause, workspace, "runs_runtag")
    if clause.kind == "dataset":
        return _dataset(clause, workspace)
    return _attribute(clause)


def _metric(clause: Clause, workspace: Workspace) -> Condition:
    sign = "<>" if clause.sign == "!=" else clause.sign
    # NaN differs from every number, and is neither above nor below it.
    test = f"last {sign} %s" if sign != "<>" else "(last <> %s OR last IS NULL)"
    given = (clause.key, float(clause.value))
    return Condition(
        ids=f"SELECT run_id FROM runs_metricseries WHERE workspace_id = %s AND name = %s AND {test} AND NOT system",
        params=(workspace.pk, *given),
        exists=f"EXISTS (SELECT 1 FROM runs_metricseries x WHERE x.run_id = {{run}} AND x.name = %s AND {test.replace('last', 'x.last')} AND NOT x.system)",
        exists_params=given,
    )


def _of_table(clause: Clause, workspace: Workspace, table: str) -> Condition:
    """Parameters and tags."""
    if clause.sign in {"IS NULL", "IS NOT NULL"}:
        word = "NOT EXISTS" if clause.sign == "IS NULL" else "EXISTS"
        return Condition(
            f"{word} (SELECT 1 FROM {table} x WHERE x.run_id = r.id AND x.name = %s)", params=(clause.key,)
        )
    if table == "runs_runparameter" and clause.sign == "=":
        # The index holds the beginning of a value.
        test, values = "head = %s", [clause.value[:HEAD]]
        if len(clause.value) >= HEAD:
            test, values = "head = %s AND value = %s", [clause.value[:HEAD], clause.value]
    else:
        test, values = compared("COALESCE(value, '')" if table == "runs_runtag" else "value", clause)
    return Condition(
        ids=f"SELECT run_id FROM {table} WHERE workspace_id = %s AND name = %s AND {test}",
        params=(workspace.pk, clause.key, *values),
        exists=f"EXISTS (SELECT 1 FROM {table} x WHERE x.run_id = {{run}} AND x.name = %s AND {test})",
        exists_params=(clause.key, *values),
    )


def compared(column: str, clause: Clause) -> tuple[str, list[Any]]:
    """SQL that compares a text, and its parameters. LIKE minds upper and lower case, ILIKE does not, on every database."""
    sign, value = clause.sign, clause.value
    if sign in {"IN", "NOT IN"}:
        return f"{column} {sign} ({marks(value)})", list(value)
    if sign == "LIKE" and connection.vendor == "sqlite":
        return f"{column} GLOB %s", [_glob(value)]
    if sign in {"LIKE", "ILIKE"}:
        word = "LIKE" if connection.vendor == "sqlite" else sign
        return f"{column} {word} %s ESCAPE '!'", [value.replace("!", "!!")]
    return f"{column} {'<>' if sign == '!=' else '='} %s", [value]


def _glob(pattern: str) -> str:
    return "".join({"%": "*", "_": "?"}.get(letter, f"[{letter}]" if letter in "*?[" else letter) for letter in pattern)


def _text(column: str, clause: Clause) -> Condition:
    if clause.sign in {"IS NULL", "IS NOT NULL"}:
        return Condition(f"{column} {clause.sign}")
    test, values = compared(column, clause)
    return Condition(test, params=tuple(values))


def _attribute(clause: Clause) -> Condition:
    key = clause.key
    if key in {"start_time", "end_time"}:
        try:
            moment = datetime.fromtimestamp(float(clause.value) / 1000, UTC)
        except (ValueError, OverflowError, OSError):
            raise wrong(f"Invalid value {clause.value} for '{key}': milliseconds since 1970 are needed.") from None
        sign = "<>" if clause.sign == "!=" else clause.sign
        return Condition(f"{COLUMNS[key]} {sign} %s", params=(connection.ops.adapt_datetimefield_value(moment),))
    if key == "status":
        found = [status for name, statuses in STATUSES.items() if holds(clause, name) for status in statuses]
        return Condition(f"r.status IN ({marks(found) or 'NULL'})", params=tuple(str(status) for status in found))
    if key == "run_id":
        return _run_id(clause)
    if key == "artifact_uri":
        return _text("('mlflow-artifacts:/' || r.uid || '/artifacts')", clause)
    if key == "user_id":
        told = f"COALESCE((SELECT x.value FROM runs_runtag x WHERE x.run_id = r.id AND x.name = '{USER}'), {OWNER})"
        return _text(told, clause)
    return _text(COLUMNS[key], clause)


def _run_id(clause: Clause) -> Condition:
    values = clause.value if isinstance(clause.value, tuple) else (clause.value,)
    numbers = [int(match[1]) for value in values if (match := NUMBERED.match(value))]
    if clause.sign in {"LIKE", "ILIKE"} or not numbers:
        return _text(UID, clause)
    test = f"(r.uid IN ({marks(values)}) OR r.number IN ({marks(numbers)}))"
    return Condition(f"NOT {test}" if clause.sign in {"!=", "NOT IN"} else test, params=(*values, *numbers))


def _parent(clause: Clause) -> Condition:
    """The parent is a column; what a client named that there is not, a tag."""
    if clause.sign in {"IS NULL", "IS NOT NULL"}:
        has = "(r.parent_id IS NOT NULL OR EXISTS (SELECT 1 FROM runs_runtag x WHERE x.run_id = r.id AND x.name = %s))"
        return Condition(has if clause.sign == "IS NOT NULL" else f"NOT {has}", params=(PARENT,))
    test, values = compared("p.uid", clause)
    told, more = compared("x.value", clause)
    if clause.sign == "=" and (numbered := NUMBERED.match(clause.value)):
        test, values = "(p.uid = %s OR p.number = %s)", [clause.value, int(numbered[1])]
    return Condition(
        f"(EXISTS (SELECT 1 FROM runs_run p WHERE p.id = r.parent_id AND p.workspace_id = r.workspace_id AND {test}) "
        f"OR EXISTS (SELECT 1 FROM runs_runtag x WHERE x.run_id = r.id AND x.name = %s AND {told}))",
        params=(*values, PARENT, *more),
    )


def _dataset(clause: Clause, workspace: Workspace) -> Condition:
    column = clause.key
    if column == "context":
        column = {
            "sqlite": "json_extract(i.tags, '$.\"mlflow.data.context\"')",
            "postgresql": "(i.tags ->> 'mlflow.data.context')",
        }[connection.vendor]
    else:
        column = f"i.{column}"
    test, values = compared(column, clause)
    ids = (
        f"SELECT i.run_id FROM runs_runinput i JOIN runs_run o ON o.id = i.run_id WHERE o.workspace_id = %s AND {test}"
    )
    return Condition(
        ids=ids,
        params=(workspace.pk, *values),
        exists=f"EXISTS (SELECT 1 FROM runs_runinput i WHERE i.run_id = {{run}} AND {test})",
        exists_params=tuple(values),
    )
