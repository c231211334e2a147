"""Runs that a script has below its own: begun, told of and ended by lines of its records (docs/run-directory.md).

They are interactive runs. ``told_by`` is the script's run, ``parent`` that or another of them. Their id is the script's run's with the id
that the script made behind it, so that the script knows it at once, without a network, and reading a line again makes nothing twice.
"""

from collections.abc import Iterable
from datetime import UTC, datetime

from django.utils import timezone

from runs.metrics.records import Batch
from runs.models import Run, RunEvent
from runs.status import FINAL, REPORTED, EndReason, RunKind, RunStatus

MAX_CHILDREN = 500
"""Of one script: each is a row of the list, and all that came at once become rows in one transaction."""
LEFT_OPEN = "It was still open when the script ended."

Told = list[tuple[Run, Batch]]


def found(run: Run, batch: Batch) -> Told:
    """The children that records speak of, those made that are begun here. Others are refused in the batch."""
    uids = {key: f"{run.uid}_{key}" for key in batch.children}
    rows = {row.uid: row for row in Run.objects.select_for_update(no_key=True).filter(uid__in=list(uids.values()))}
    known = {key: rows[uid] for key, uid in uids.items() if uid in rows and rows[uid].told_by_id == run.pk}
    new = [key for key, told in batch.children.items() if uids[key] not in rows and told.begun is not None]
    room = max(0, MAX_CHILDREN - Run.objects.filter(told_by=run).count()) if new else 0
    known |= make(run, batch, new[:room])
    batch.refuse(f"A run has up to {MAX_CHILDREN:,} children of its script.", count=len(new[room:]))
    batch.refuse("c: No child of this id was begun.", count=len(batch.children) - len(known) - len(new[room:]))
    return [(known[key], told) for key, told in batch.children.items() if key in known]


def make(run: Run, batch: Batch, keys: list[str]) -> dict[str, Run]:
    made: dict[str, Run] = {}
    waiting = keys
    while waiting:
        # A parent first: a row needs the other's key.
        above = {key: parent_of(batch, key) for key in waiting}
        now = [key for key in waiting if above[key] not in waiting or above[key] == key] or waiting
        made |= make_below(run, batch, {key: made.get(above[key]) or parent_row(run, above[key]) for key in now})
        waiting = [key for key in waiting if key not in made]
    return made


def parent_of(batch: Batch, key: str) -> str:
    begun = batch.children[key].begun
    return begun.parent if begun is not None else ""


def parent_row(run: Run, key: str) -> Run:
    return (key and Run.objects.filter(uid=f"{run.uid}_{key}", told_by=run).first()) or run


def make_below(run: Run, batch: Batch, parents: dict[str, Run]) -> dict[str, Run]:
    last = run.workspace.take_numbers(len(parents))
    rows = {}
    for number, (key, parent) in enumerate(parents.items(), last - len(parents) + 1):
        begun = batch.children[key].begun
        assert begun is not None
        started = moment(run, begun.at)
        rows[key] = Run(
            workspace_id=run.workspace_id, number=number, uid=f"{run.uid}_{key}", kind=RunKind.INTERACTIVE,
            experiment_id=run.experiment_id, parent=parent, told_by=run, name=" ".join(begun.name.split()) or f"{run.name}-{key}"[:255],
            created_by_id=run.created_by_id, created_at=started, started_at=started, status=RunStatus.RUNNING,
        )  # fmt: skip
    Run.objects.bulk_create(rows.values())
    RunEvent.objects.bulk_create([RunEvent(run=row, at=row.created_at, new=RunStatus.RUNNING) for row in rows.values()])
    return rows


def end(told: Told) -> None:
    """End those of which the records say so."""
    for child, batch in told:
        if batch.ended is not None and child.status not in FINAL:
            reason = REPORTED[RunStatus(batch.ended.status)]
            ended = moment(child, batch.ended.at)
            child.move_to(reason.status, reason=reason, error=batch.ended.error, ended_at=ended)


def close(run: Run) -> None:
    """End the children that a script left open: as it ended itself. Call in the transaction that ends it."""
    reason = EndReason(run.reason)
    for child in Run.objects.filter(told_by=run).exclude(status__in=FINAL):
        child.move_to(
            reason.status, reason=reason, error={"message": LEFT_OPEN} if reason.status == RunStatus.FAILED else {}
        )


def told_of(run: Run) -> Iterable[Run]:
    return Run.objects.filter(told_by=run)


def moment(run: Run, unix: float) -> datetime:
    """A time of the script's machine, whose clock may be off: not before its run began, nor in the future."""
    now = timezone.now()
    return min(max(datetime.fromtimestamp(unix, UTC), run.started_at or run.created_at), now)
