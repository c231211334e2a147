"""The run list's filter language: ``status:failed lr>0.1 val/acc>=0.9 tag:stage=final started:7d words``.

A text becomes tokens, a token a condition on runs in SQL. What a token says wrongly it says in words; the other tokens
still filter.
"""
# ruff: noqa: S608 the SQL here is put together from our own words; what a person typed is a parameter of it

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import Q
from django.utils import timezone

from environments.registry import find, named
from runs.models import Experiment, MetricSeries, RunParameter
from runs.status import ACTIVE, FINAL, RunKind, RunStatus
from studio.accounts.models import User
from studio.workspaces.models import Workspace

MAX_TOKENS = 20
MAX_TEXT = 2000
SPANS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
STATUSES: dict[str, tuple[str, ...]] = {
    "active": tuple(sorted(ACTIVE)),
    "ended": tuple(sorted(FINAL)),
    "queued": (RunStatus.NOT_STARTED, RunStatus.QUEUED),
    "preparing": (RunStatus.PREPARING,),
    "running": (RunStatus.RUNNING,),
    "finalizing": (RunStatus.FINALIZING,),
    "canceling": (RunStatus.CANCEL_REQUESTED,),
    "completed": (RunStatus.COMPLETED,),
    "failed": (RunStatus.FAILED,),
    "canceled": (RunStatus.CANCELED,),
}
NAMED: dict[str, tuple[str, ...]] = {**{str(status).lower(): (status,) for status in RunStatus}, **STATUSES}
"""Also by the names that Python and the shell call them by."""
COMPARISON = re.compile(r"(.+?)(<=|>=|!=|<|>|=)(.*)", re.DOTALL)
PIECE = re.compile(r'(?:"[^"]*"?|[^\s"])+')


@dataclass(frozen=True)
class Condition:
    """A test of a run. ``row``: SQL over the run ``r``. ``ids``: a query of ``run_id``, for what is kept
    in another table."""

    row: str = ""
    ids: str = ""
    params: tuple[Any, ...] = ()
    exists: str = ""
    """The test that ``ids`` makes, of one run whose id stands for ``{run}``; empty: only the set can be looked up."""
    exists_params: tuple[Any, ...] = ()
    alone: bool = False
    """Whether ``row`` already keeps to one workspace."""


@dataclass(frozen=True)
class Token:
    text: str
    key: str = ""
    value: str = ""
    error: str = ""
    """Why the token does not filter."""
    condition: Condition | None = field(default=None, compare=False)

    @property
    def chip(self) -> bool:
        """Shown as a chip, not as plain words."""
        return bool(self.key) and not self.error


def split(text: str) -> list[str]:
    """Tokens as typed. Double quotes hold blanks together: ``name:"my run"``."""
    return PIECE.findall(text[:MAX_TEXT].replace("\0", ""))[:MAX_TOKENS]


def join(tokens: list[str]) -> str:
    return " ".join(tokens)


def quoted(key: str, value: str) -> str:
    """``key:value``, with quotes where the value needs them."""
    bare = value.replace('"', "")
    return f'{key}:"{bare}"' if re.search(r"\s", bare) else f"{key}:{bare}"


def parse(text: str, workspace: Workspace, user: User) -> list[Token]:
    """The tokens of a filter with their conditions or, each for itself, the reason why it cannot filter."""
    return [_token(piece, workspace, user) for piece in split(text)]


def _token(piece: str, workspace: Workspace, user: User) -> Token:
    text = piece
    plain = piece.replace('"', "")
    key, colon, value = plain.partition(":")
    try:
        if colon and key.lower() in KEYS:
            token = Token(text, key.lower(), value)
            if not value:
                raise ValueError("a value is missing")
            return replace(token, condition=KEYS[key.lower()](value, workspace, user))
        compared = COMPARISON.fullmatch(plain)
        if compared and not piece.startswith('"'):
            name, sign, value = (part.strip() for part in compared.groups())
            return replace(Token(text, name, f"{sign} {value}"), condition=_compare(name, sign, value, workspace))
        if colon and re.fullmatch(r"[a-z]+", key) and not piece.startswith('"'):
            raise ValueError(f"there is no filter {key}:. Use {', '.join(KEYS)}; or put the word into double quotes")
        if not plain.strip():
            raise ValueError("the quotes are empty")
        return Token(text, condition=_word(plain, workspace))
    except ValueError as error:
        return Token(text, error=str(error))


def _status(value: str, workspace: Workspace, user: User) -> Condition:
    wanted: list[str] = []
    for word in value.lower().replace("_", "-").split(","):
        if word in {"no-heartbeat", "unreachable"}:
            return Condition("r.unreachable_since IS NOT NULL AND r.ended_at IS NULL")
        if word not in NAMED:
            raise ValueError(f"{word!r} is no status. Use {', '.join(STATUSES)} or no-heartbeat")
        wanted += NAMED[word]
    return Condition(f"r.status IN ({marks(wanted)})", params=tuple(str(status) for status in wanted))


def _experiment(value: str, workspace: Workspace, user: User) -> Condition:
    pk = Experiment.objects.filter(workspace=workspace, name=value).values_list("pk", flat=True).first()
    return Condition("r.experiment_id = %s", params=(pk or 0,), alone=True)


def _user(value: str, workspace: Workspace, user: User) -> Condition:
    if value.lower() == "me":
        return Condition("r.created_by_id = %s", params=(user.pk,))
    who = User.objects.filter(Q(email__iexact=value) | Q(email__istartswith=f"{value}@") | Q(name__iexact=value))
    pks = list(who.filter(memberships__workspace=workspace).values_list("pk", flat=True)[:50])
    if not pks:
        raise ValueError(f"nobody in this workspace is called {value!r}. Use me, a name or an email address")
    return Condition(f"r.created_by_id IN ({marks(pks)})", params=tuple(pks))


def _target(value: str, workspace: Workspace, user: User) -> Condition:
    """A target, or a pool: what was sent there, wherever it was placed."""
    pool = workspace.pools.filter(name=value).order_by("-pk").values_list("pk", flat=True).first()
    if pool is not None:
        return Condition("r.pool_id = %s", params=(pool,), alone=True)
    pk = workspace.targets.filter(name=value).values_list("pk", flat=True).first()
    return Condition("r.target_id = %s", params=(pk or 0,), alone=True)


def _environment(value: str, workspace: Workspace, user: User) -> Condition:
    """``vision``: any of its versions; ``vision:3``, ``vision@stable``: that one."""
    environment = None if ":" in value or "@" in value else find(workspace, value)
    if environment is None:
        return Condition("r.environment_id = %s", params=(named(workspace, value).pk,))
    of_it = "SELECT id FROM environments_environmentversion WHERE environment_id = %s"
    return Condition(f"r.environment_id IN ({of_it})", params=(environment.pk,))


def _tag(value: str, workspace: Workspace, user: User) -> Condition:
    return has_tag(value, workspace)


def has_tag(value: str, workspace: Workspace) -> Condition:
    """``name``, or ``name=value``."""
    name, equals, wanted = value.partition("=")
    test, given = ("name = %s AND value = %s", (name, wanted)) if equals else ("name = %s", (name,))
    return Condition(
        ids=f"SELECT run_id FROM runs_runtag WHERE workspace_id = %s AND {test}",
        params=(workspace.pk, *given),
        exists=_either([f"SELECT 1 FROM runs_runtag x WHERE x.run_id = {{run}} AND {test}"]),
        exists_params=given,
    )


def has_property(value: str) -> Condition:
    """``name``, or ``name=value`` as text."""
    name, equals, wanted = value.partition("=")
    if connection.vendor == "postgresql":
        return (
            Condition("r.properties ->> %s = %s", params=(name, wanted))
            if equals
            else Condition("jsonb_exists(r.properties, %s)", params=(name,))
        )
    test = "j.key = %s AND CAST(j.value AS TEXT) = %s" if equals else "j.key = %s"
    given = (name, wanted) if equals else (name,)
    return Condition(f"EXISTS (SELECT 1 FROM json_each(r.properties) j WHERE {test})", params=given)


def _started(value: str, workspace: Workspace, user: User) -> Condition:
    return Condition("r.started_at >= %s", params=(connection.ops.adapt_datetimefield_value(moment(value)),))


def _ended(value: str, workspace: Workspace, user: User) -> Condition:
    return Condition("r.ended_at >= %s", params=(connection.ops.adapt_datetimefield_value(moment(value)),))


def _name(value: str, workspace: Workspace, user: User) -> Condition:
    return Condition(
        ids="SELECT id AS run_id FROM runs_run WHERE workspace_id = %s AND " + _contains("name"),
        params=(workspace.pk, f"%{escaped(value)}%"),
    )


def _kind(value: str, workspace: Workspace, user: User) -> Condition:
    if value.lower() not in set(RunKind):
        raise ValueError(f"{value!r} is no kind of run. Use {' or '.join(RunKind)}")
    return Condition("r.kind = %s", params=(value.lower(),))


def _parent(value: str, workspace: Workspace, user: User) -> Condition:
    """``any``: child runs; ``none``: runs that are no children; a number: the children of that run."""
    if value.lower() in {"any", "none"}:
        return Condition(f"r.parent_id IS {'NOT ' if value.lower() == 'any' else ''}NULL")
    text = value.removeprefix("#")
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise ValueError("use any, none, or the number of a run")
    pk = workspace.runs.filter(number=int(text)).values_list("pk", flat=True).first()
    return Condition("r.parent_id = %s", params=(pk or 0,), alone=True)


def _children(value: str, workspace: Workspace, user: User) -> Condition:
    """``yes``: child runs are listed, too. That they are left out otherwise is the list's own rule."""
    if value.lower() not in {"yes", "no"}:
        raise ValueError("use yes or no")
    return Condition("r.parent_id IS NULL" if value.lower() == "no" else "")


def _archived(value: str, workspace: Workspace, user: User) -> Condition:
    if value.lower() not in {"yes", "no", "any"}:
        raise ValueError("use yes, no or any")
    return Condition({"yes": "r.archived_at IS NOT NULL", "no": "r.archived_at IS NULL", "any": ""}[value.lower()])


KEYS: dict[str, Callable[[str, Workspace, User], Condition]] = {
    "status": _status, "experiment": _experiment, "user": _user, "tag": _tag, "started": _started, "ended": _ended, "target": _target,
    "environment": _environment,
    "name": _name, "kind": _kind, "parent": _parent, "children": _children, "archived": _archived,
}  # fmt: skip


def moment(value: str) -> datetime:
    """``7d``, ``24h``, ``today`` or a date: the time from which on a run counts."""
    now = timezone.now()
    if value.lower() == "today":
        return now.replace(hour=0, minute=0, second=0, microsecond=0)
    span = re.fullmatch(r"(\d{1,5})([mhdw])", value.lower())
    if span:
        return now - timedelta(seconds=int(span[1]) * SPANS[span[2]])
    try:
        return datetime.strptime(value, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise ValueError(f"{value!r} is no time. Use 30m, 24h, 7d, 2w, today or a date as 2026-01-31") from None


def _compare(name: str, sign: str, value: str, workspace: Workspace) -> Condition:
    """A metric's newest value, or a parameter. A name may be both: either may match."""
    if not value:
        raise ValueError("a value is missing")
    try:
        number: float | None = float(value)
    except ValueError:
        number = None
    if number is not None and not math.isfinite(number):
        number = None
    if number is None and sign not in {"=", "!="}:
        raise ValueError("expected a number")
    operator = "<>" if sign == "!=" else sign
    only = ""
    if name.startswith(("metric.", "param.")):
        only, _, name = name.partition(".")
    metric = only != "param" and MetricSeries.objects.filter(workspace=workspace, name=name).exists()
    parameter = only != "metric" and RunParameter.objects.filter(workspace=workspace, name=name).exists()
    if not metric and not parameter:
        raise ValueError(f"no run has a metric or parameter named {name!r}")
    tests: list[tuple[str, str, tuple[Any, ...]]] = []
    if metric and number is not None:
        tests.append(("runs_metricseries", f"last {operator} %s", (number,)))
    if parameter and number is not None:
        tests.append(("runs_runparameter", f"number {operator} %s", (number,)))
        if sign == "!=":
            tests.append(("runs_runparameter", "number IS NULL", ()))
    elif parameter:
        tests.append(("runs_runparameter", f"head {operator} %s", (value[:100],)))
    if not tests:
        raise ValueError("expected a number: it is a metric")
    return Condition(
        ids=" UNION ".join(
            f"SELECT run_id FROM {t} WHERE workspace_id = %s AND name = %s AND {test}" for t, test, _ in tests
        ),
        params=tuple(value for _, _, given in tests for value in (workspace.pk, name, *given)),
        exists=_either(
            [f"SELECT 1 FROM {t} x WHERE x.run_id = {{run}} AND x.name = %s AND x.{test}" for t, test, _ in tests]
        ),
        exists_params=tuple(value for _, _, given in tests for value in (name, *given)),
    )


def _either(queries: list[str]) -> str:
    return "(" + " OR ".join(f"EXISTS ({query})" for query in queries) + ")"


def _word(word: str, workspace: Workspace) -> Condition:
    """A part of the name, the beginning of a tag's name, or the number as ``#12``."""
    if re.fullmatch(r"#\d{1,18}", word):
        return Condition("r.number = %s", params=(int(word[1:]),))
    return Condition(
        ids=(
            f"SELECT id AS run_id FROM runs_run WHERE workspace_id = %s AND {_contains('name')} UNION "
            "SELECT run_id FROM runs_runtag WHERE workspace_id = %s AND name >= %s AND name < %s"
        ),
        params=(workspace.pk, f"%{escaped(word)}%", workspace.pk, word, word + "\U0010ffff"),
    )


def _contains(column: str) -> str:
    """LIKE that does not mind upper and lower case; SQLite's never does."""
    return f"{column} {'ILIKE' if connection.vendor == 'postgresql' else 'LIKE'} %s ESCAPE '!'"


def escaped(text: str) -> str:
    return text.replace("!", "!!").replace("%", "!%").replace("_", "!_")


def marks(values: "list[Any] | tuple[Any, ...]") -> str:
    return ", ".join(["%s"] * len(values))
