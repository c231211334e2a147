"""What the operations about runs share: how a run is found and shown. Their modules add themselves to one router."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseBase
from ninja import Router, Schema

from runs.config import ConfigError
from runs.models import Run, Snapshot
from runs.registering import MAX_TAGS
from runs.tags import MAX_NAME, MAX_VALUE
from studio.rest import not_found, page_url, workspace_of

router = Router(tags=["runs"])
PAGE = 50
TIMES = ("created_at", "prepared_at", "started_at", "finalizing_at", "ended_at", "unreachable_since", "archived_at")
SANDBOX = "default-src 'none'; sandbox"
MAX_NUMBER = 2**63 - 1


class RunShown(Schema):
    """A run. ``environment`` is ``name:version``; ``parent`` a run's number. ``pool``: what it was sent to, if that is one; ``target``
    is null until it is placed. Of an interactive run there is no target and no environment. Secrets appear by the names they have in
    the workspace, never by value."""

    id: str
    number: int
    kind: str
    name: str
    experiment: str
    parent: int | None
    parent_id: str | None
    copied_from: int | None
    status: str
    reason: str
    error: dict[str, Any]
    exit_code: int | None
    signal: int | None
    waiting_for: str
    target: str | None
    pool: str | None
    environment: str | None
    snapshot: str | None
    config: dict[str, Any]
    tags: dict[str, str | None]
    properties: dict[str, Any]
    notes: str
    priority: int
    created_by: str | None
    canceled_by: str | None
    log_complete: bool | None
    created_at: datetime
    prepared_at: datetime | None
    started_at: datetime | None
    finalizing_at: datetime | None
    ended_at: datetime | None
    unreachable_since: datetime | None
    archived_at: datetime | None
    url: str


def runs_of(request: HttpRequest) -> QuerySet[Run]:
    rows = Run.objects.filter(workspace=workspace_of(request))
    return rows.select_related(
        "experiment",
        "target",
        "pool",
        "environment__environment",
        "snapshot",
        "created_by",
        "canceled_by",
        "parent",
        "copied_from",
    )


def find_run(request: HttpRequest, number: int) -> Run:
    run = runs_of(request).filter(number=number).first() if 0 < number <= MAX_NUMBER else None
    if run is None:
        raise not_found("run")
    return run


def find_parent(request: HttpRequest, number: int | None) -> Run | None:
    """The run that a new one shall be a child of. Raises ConfigError."""
    return None if number is None else run_named(request, number, "parent")


def run_named(request: HttpRequest, number: int, field: str) -> Run:
    """The run that a field of a body names. Raises ConfigError."""
    run = runs_of(request).filter(number=number).first() if 0 < number <= MAX_NUMBER else None
    if run is None:
        raise ConfigError({field: f"There is no run {number} in this workspace. Name one by its number."})
    return run


def find_snapshot(request: HttpRequest, digest: str | None) -> Snapshot | None:
    """The snapshot that a new run shall have. Raises ConfigError."""
    if digest is None:
        return None
    row = Snapshot.objects.filter(workspace=workspace_of(request), digest=digest[:64]).first()
    if row is None or len(digest) > 64:
        raise ConfigError({"snapshot": "There is no such snapshot in this workspace. Send the folder first."})
    return row


def described(request: HttpRequest, run: Run) -> dict[str, Any]:
    return {
        "id": run.uid,
        "number": run.number,
        "kind": run.kind,
        "name": run.name,
        "experiment": run.experiment.name,
        "parent": run.parent.number if run.parent else None,
        "parent_id": run.parent.uid if run.parent else None,
        "copied_from": run.copied_from.number if run.copied_from else None,
        "status": run.status,
        "reason": run.reason,
        "error": run.error,
        "exit_code": run.exit_code,
        "signal": run.signal,
        "waiting_for": run.waiting_for,
        "target": run.target.name if run.target else None,
        "pool": run.pool.name if run.pool else None,
        "environment": str(run.environment) if run.environment else None,
        "snapshot": run.snapshot.digest if run.snapshot else None,
        "config": run.config,
        "tags": {tag.name: tag.value for tag in run.tags.all()},
        "properties": run.properties,
        "notes": run.notes,
        "priority": run.priority,
        "created_by": str(run.created_by) if run.created_by else None,
        "canceled_by": str(run.canceled_by) if run.canceled_by else None,
        "log_complete": run.log_complete,
        **{name: getattr(run, name) for name in TIMES},
        "url": page_url(request, f"runs/{run.number}"),  # type: ignore[arg-type]
    }


def short(field: str, text: str, limit: int) -> str:
    if len(text) > limit or not text.isprintable():
        raise ConfigError({field: f"It is no single line of up to {limit} characters. Shorten it."})
    return text


def checked_tags(tags: Mapping[str, str | None]) -> dict[str, str | None]:
    """Tags that a run may have. Raises ConfigError."""
    if len(tags) > MAX_TAGS:
        raise ConfigError({"tags": f"There are {len(tags):,} of them. Give {MAX_TAGS:,} at most."})
    for name, value in tags.items():
        if not name.strip():
            raise ConfigError({"tags": "A tag has no name. Give it one."})
        short("tags", name, MAX_NAME)
        if value is not None and len(value) > MAX_VALUE:
            rule = f"The value of {name[:40]} has {len(value):,} characters. Use {MAX_VALUE:,} at most."
            raise ConfigError({"tags": rule})
    return dict(tags)


class Closing(Iterator[bytes]):
    """Pieces of an answer, and what is to be done when it is over: sent, cut, or never begun."""

    def __init__(self, pieces: Iterator[bytes], close: Callable[[], None]) -> None:
        self.pieces = pieces
        self.close = close  # the answer calls it

    def __next__(self) -> bytes:
        return next(self.pieces)


def guarded(response: HttpResponseBase, name: str) -> HttpResponseBase:
    """Headers under which a user's bytes leave: always a download, never a page of the studio, never sniffed."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "._- ") else "_" for c in name) or "file"
    response.headers["Content-Disposition"] = (
        f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
    )
    response.headers["Content-Security-Policy"] = SANDBOX
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    response.headers.setdefault("Cache-Control", "private, no-cache")
    return response
