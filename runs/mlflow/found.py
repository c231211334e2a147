"""Runs found: pages of ids in any of MLflow's orders.

An order by one thing that has an index walks it, as the pages of the studio do, and its page token is a position. Any other
order sorts what the filter keeps, and its page token is an offset.
"""
# ruff: noqa: S608 the SQL here is put together from our own words; what a client sent is a parameter of it

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

from django.db import connection

from runs.filters import Condition
from runs.mlflow.conditions import COLUMNS, OWNER, condition
from runs.mlflow.fields import MAX_PAGE, Call
from runs.mlflow.lookup import experiment_keys
from runs.mlflow.problems import invalid
from runs.mlflow.search import RUNS, orders, parse
from runs.mlflow.shapes import NOTE, PARENT, RUN_NAME, STATUSES, Json, runs_json
from runs.queries import BadCursor, Filter, Order, filtered, page
from studio.workspaces.models import Workspace

VIEWS = {
    "ACTIVE_ONLY": "r.archived_at IS NULL", "DELETED_ONLY": "r.archived_at IS NOT NULL", "ALL": "",
    "1": "r.archived_at IS NULL", "2": "r.archived_at IS NOT NULL", "3": "",
}  # fmt: skip
DEFAULT_PAGE = 1000
MAX_EXPERIMENTS = 10_000
By = tuple[str, str, bool]


def search_runs(call: Call) -> Json:
    size = call.integer("max_results", DEFAULT_PAGE, 0, MAX_PAGE)
    clauses = parse(call.text("filter", ""), RUNS)
    sorted_by = orders(call.texts("order_by"), RUNS)
    view = VIEWS.get(str(call.fields.get("run_view_type", "ACTIVE_ONLY")))
    if view is None:
        raise invalid("run_view_type", call.fields.get("run_view_type"), "ACTIVE_ONLY, DELETED_ONLY or ALL is needed.")
    wanted = call.texts("experiment_ids")
    if len(wanted) > MAX_EXPERIMENTS:
        raise invalid("experiment_ids", len(wanted), f"at most {MAX_EXPERIMENTS:,} at once.")
    keys = experiment_keys(call.caller, wanted)
    if not keys or not size:
        return {"runs": []}
    # Keys of our own: written out, so that their number meets no limit on parameters. One experiment has an index by start; of
    # several, that of the workspace is walked: the plus keeps SQLite from sorting all their runs.
    listed = ", ".join(map(str, keys))
    alone = len(keys) == 1
    conditions = [Condition(f"{'' if alone else '+'}r.experiment_id IN ({listed})", alone=alone)]
    if view:
        conditions.append(Condition(view))
    workspace = call.caller.workspace
    conditions += [condition(clause, workspace) for clause in clauses]
    ids, token = _page(Filter(workspace, tuple(conditions)), sorted_by, call.text("page_token", ""), size)
    answer: Json = {"runs": runs_json(ids)}
    if token:
        answer["next_page_token"] = token
    return answer


def _page(chosen: Filter, sorted_by: list[By], token: str, size: int) -> tuple[list[int], str]:
    indexed = _indexed(sorted_by)
    if indexed is not None:
        try:
            found = page(chosen, indexed, after=token, size=size)
        except BadCursor:
            raise bad_token(token) from None
        return list(found.ids), found.older
    start = offset_of(token)
    where, params = filtered(chosen)
    joins, keys, values = _sorted(sorted_by, chosen.workspace)
    sql = (
        f"SELECT r.id FROM runs_run r {joins} WHERE {where} "
        f"ORDER BY {', '.join(keys)}, COALESCE(r.started_at, r.created_at) DESC, r.uid LIMIT {size + 1} OFFSET {start}"
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, [*values, *params])
        ids = [row[0] for row in cursor.fetchall()]
    return ids[:size], offset_token(start + size) if len(ids) > size else ""


def _indexed(sorted_by: list[By]) -> Order | None:
    """The studio's own order of the same meaning, when there is one."""
    # Followed by start_time DESC, which breaks ties anyway: numbers follow starts.
    if len(sorted_by) == 2 and sorted_by[1] == ("attribute", "start_time", False):
        sorted_by = sorted_by[:1]
    if not sorted_by:
        return Order("column", "started", True)
    if len(sorted_by) > 1:
        return None
    kind, key, ascending = sorted_by[0]
    if kind == "metric":
        return Order("metric", key, not ascending)
    if kind == "param":
        return Order("parameter", key, not ascending, textual=True)  # MLflow orders them as texts
    if kind == "attribute" and key in {"start_time", "run_name"}:
        return Order("column", {"start_time": "started", "run_name": "name"}[key], not ascending)
    return None


def _sorted(sorted_by: list[By], workspace: Workspace) -> tuple[str, list[str], list[Any]]:
    """Joins, keys and parameters. What has no value comes last, whichever the way."""
    joins: list[str] = []
    keys: list[str] = []
    values: list[Any] = []
    for n, (kind, key, ascending) in enumerate(sorted_by):
        column = _column(kind, key)
        if not column:
            table, name = {
                "metric": ("runs_metricseries", "last"), "param": ("runs_runparameter", "value"), "tag": ("runs_runtag", "value")
            }[kind]  # fmt: skip
            joins.append(f"LEFT JOIN {table} o{n} ON o{n}.run_id = r.id AND o{n}.name = %s")
            values.append(key)
            column = f"o{n}.{name}"
        keys += [f"CASE WHEN {column} IS NULL THEN 1 ELSE 0 END", f"{column} {'ASC' if ascending else 'DESC'}"]
    return " ".join(joins), keys, values


def _column(kind: str, key: str) -> str:
    if kind == "attribute":
        shown = " ".join(f"WHEN '{status}' THEN '{name}'" for name, statuses in STATUSES.items() for status in statuses)
        return COLUMNS.get(key) or {
            "status": f"CASE r.status {shown} END", "run_id": "r.uid", "artifact_uri": "r.uid", "user_id": OWNER
        }[key]  # fmt: skip
    if kind == "tag":
        parent = "(SELECT p.uid FROM runs_run p WHERE p.id = r.parent_id)"
        return {RUN_NAME: "r.name", NOTE: "NULLIF(r.notes, '')", PARENT: parent}.get(key, "")
    return ""


def offset_token(offset: int) -> str:
    return urlsafe_b64encode(f"offset:{offset}".encode()).decode()


def offset_of(token: str) -> int:
    """Raises Problem for a token that this server did not give."""
    if not token:
        return 0
    try:
        word, _, number = urlsafe_b64decode(token).decode().partition(":")
    except ValueError:
        raise bad_token(token) from None
    if word != "offset" or not number.isascii() or not number.isdigit() or len(number) > 15:
        raise bad_token(token)
    return int(number)


def bad_token(token: str) -> Exception:
    return invalid("page_token", token, "it is none that this server gave for this search.")
