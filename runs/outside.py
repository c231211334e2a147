"""Runs that nobody executes on a target: a client elsewhere begins them, tells of them while it works, and ends them.

They are ordinary runs without target and environment. Nothing attends them: what their client says is applied at once.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone

from runs.config import ConfigError
from runs.metrics.applying import apply_batch
from runs.metrics.records import read_records
from runs.models import Experiment, Run, RunEvent, RunTag, Snapshot
from runs.models.run import new_uid
from runs.status import FINAL, REPORTED, EndReason, RunKind, RunStatus
from studio.accounts.models import User
from studio.workspaces.models import Workspace, name_rule

MAX_RECORDS = 16 * 1024 * 1024
"""Bytes of one call, unpacked."""
MAX_UID = 300
MAX_ERROR = 100_000
EARLIEST = datetime(1980, 1, 1, tzinfo=UTC)
HEARD_SECONDS = 10
"""News within this time of the last ones do not move ``heard_at``: most calls then write no more than what they bring."""
OPEN: dict[str, Any] = {"ended_at": None, "cancel_requested_at": None, "canceled_by": None, "reason": "", "error": {}}
"""What a run that has ended holds no more when it goes on."""


class NotOutside(ValueError):
    """The run is executed on a target: its supervisor says how it ends, not a client."""

    rule = "The run is executed on a target, which tells how it ends."
    fix = "Cancel it instead, or wait for it."


class Ended(ValueError):
    """The run has ended already, and otherwise."""

    def __init__(self, run: Run) -> None:
        self.rule = f"The run has ended already: {run.status}."
        self.fix = "Begin another run."
        super().__init__(f"{self.rule} {self.fix}")


class RecordsRefused(ValueError):
    """Records of which none was applied. ``line`` is that of the first that is wrong, from 1; 0: the run has no room for them."""

    def __init__(self, line: int, rule: str, fix: str) -> None:
        self.line = line
        self.rule = rule
        self.fix = fix
        where = f"line {line:,}: " if line else ""
        super().__init__(f"{where}{rule} {fix}")


def begin(
    workspace: Workspace,
    user: User | None,
    experiment: str,
    *,
    name: str = "",
    tags: Mapping[str, str | None] | None = None,
    properties: Mapping[str, Any] | None = None,
    parent: Run | None = None,
    notes: str = "",
    snapshot: Snapshot | None = None,
    heartbeat: bool = False,
    uid: str | None = None,
    started_at: datetime | None = None,
    request_id: str | None = None,
) -> Run:
    """Write a run that is running now, or since ``started_at``. The same ``request_id`` again returns the first run.

    ``heartbeat``: its client promises to be heard of every minute (``runs.silence``). ``uid``: the id it shall have, for runs that are brought from elsewhere. Raises ConfigError with a message per field.
    """
    if request_id and (first := Run.objects.filter(workspace=workspace, request_id=request_id).first()):
        return first
    check(workspace, experiment, parent, uid)
    now = timezone.now()
    started = past(started_at, now)
    try:
        with transaction.atomic():
            group, _ = Experiment.objects.get_or_create(
                workspace=workspace, name=experiment, defaults={"created_by": user}
            )
            Experiment.objects.filter(pk=group.pk).update(last_run_at=now, archived_at=None)
            number = workspace.next_number()
            run = Run.objects.create(
                workspace=workspace,
                number=number,
                uid=uid or new_uid(experiment),
                kind=RunKind.INTERACTIVE,
                experiment=group,
                parent=parent,
                name=name or f"{experiment}-{number}"[:255],
                notes=notes,
                created_by=user,
                created_at=started,
                started_at=started,
                heard_at=now if heartbeat else None,
                snapshot=snapshot,
                status=RunStatus.RUNNING,
                properties=dict(properties or {}),
                request_id=request_id,
            )
            RunEvent.objects.create(run=run, at=started, new=RunStatus.RUNNING)
            RunTag.objects.bulk_create(
                [RunTag(run=run, workspace=workspace, name=k, value=v) for k, v in (tags or {}).items()]
            )
    except IntegrityError:
        # The same request arrived twice at once: the other one made the run.
        first = Run.objects.filter(workspace=workspace, request_id=request_id).first() if request_id else None
        if first is None:
            if uid and Run.objects.filter(uid=uid).exists():
                raise ConfigError({"uid": "A run of this id exists. Choose another id."}) from None
            raise
        return first
    return run


def check(workspace: Workspace, experiment: str, parent: Run | None, uid: str | None) -> None:
    errors: dict[str, str] = {}
    try:
        name_rule(experiment)
    except ValidationError as error:
        errors["experiment"] = f"{experiment[:60]!r} is not a name. {error.message}"
    if parent is not None and parent.workspace_id != workspace.pk:
        errors["parent"] = "There is no such run in this workspace. Name one by its number."
    if uid is not None and not (0 < len(uid) <= MAX_UID and uid.isprintable() and uid == uid.strip()):
        errors["uid"] = f"It is no id. Use 1 to {MAX_UID} printable characters."
    if uid and "uid" not in errors and Run.objects.filter(uid=uid).exists():
        errors["uid"] = "A run of this id exists. Choose another id."
    if errors:
        raise ConfigError(errors)


def past(moment: datetime | None, now: datetime) -> datetime:
    """A client's clock may be wrong: what it says lies before now."""
    return now if moment is None else max(EARLIEST, min(moment, now))


def finish(
    run: Run, status: RunStatus, error: Mapping[str, Any] | str | None = None, ended_at: datetime | None = None
) -> Run:
    """End a run as its client says: Completed, Failed or Canceled. Repeated, it changes nothing.

    ``error``: a text, or ``{"type", "message", "detail"}``. Raises NotOutside, and Ended when it ended otherwise.
    """
    if not run.is_interactive:
        raise NotOutside(f"{NotOutside.rule} {NotOutside.fix}")
    reason = REPORTED[RunStatus(status)]
    said = {"message": error} if isinstance(error, str) else dict(error or {})
    go_on(run)
    said = {k: str(v)[:MAX_ERROR] for k, v in said.items() if k in {"type", "message", "detail"} and v}
    while run.status not in FINAL:
        end = past(ended_at, timezone.now())
        if run.move_to(reason.status, reason=reason, error=said, ended_at=max(end, run.started_at or end)):
            return run
        run.refresh_from_db()  # somebody moved it meanwhile: look again
    if run.status != status:
        raise Ended(run)
    return run


def reopen(run: Run) -> Run:
    """Take up a run that its client ended. Raises NotOutside."""
    if not run.is_interactive:
        raise NotOutside(f"{NotOutside.rule} {NotOutside.fix}")
    while run.status in FINAL:
        if run.move_to(RunStatus.RUNNING, **OPEN):
            return run
        run.refresh_from_db()
    return run


def go_on(run: Run) -> None:
    """Take up a run that was ended because nobody heard of it, and no other: its client may have ended it at this moment."""
    while run.status in FINAL and run.reason == EndReason.CLIENT_LOST:
        if run.move_to(RunStatus.RUNNING, only=Q(reason=EndReason.CLIENT_LOST), **OPEN):
            return
        run.refresh_from_db()


def hear(runs: list[Run]) -> list[Run]:
    """Their clients are there. A run that was ended because nobody heard of it goes on."""
    now = timezone.now()
    for run in runs:
        go_on(run)
    old = now - timedelta(seconds=HEARD_SECONDS)
    heard = [run for run in runs if run.heard_at and (run.heard_at < old or run.unreachable_since is not None)]
    if heard:
        Run.objects.filter(pk__in=[run.pk for run in heard]).update(heard_at=now, unreachable_since=None)
    return runs


def take_records(run: Run, lines: bytes) -> int:
    """Apply lines as of ``records.jsonl`` (docs/run-directory.md), all or none; return how many there were.

    Raises RecordsRefused for the first line that is no record, and when the run has as much of something as it may.
    """
    batch = read_records(lines)
    if batch.children or batch.wishes or batch.above:
        batch.refuse(
            "A client has calls of its own for other runs and models: only a script tells of them in its records."
        )
    refuse(batch.first, "Send it as docs/run-directory.md says.")
    with transaction.atomic():
        held = Run.objects.select_for_update().get(pk=run.pk)
        hear([held])
        apply_batch(held, batch)
        refuse(batch.first, "Log fewer of them.")
    return sum(1 for line in lines.split(b"\n") if line and not line.isspace())


def refuse(first: tuple[int, str] | None, fix: str) -> None:
    if first is not None:
        raise RecordsRefused(*first, fix)
