"""What a target reported becomes rows: bytes at their offset, points, status by compare-and-set.

Everything of a few runs in one short transaction that first asks whether the fencing token is still the newest.
Cursors move in the same transaction as what they count, so a byte is never applied twice and never lost.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from django.db import transaction
from django.db.models import Q

from environments.models import Build, Lease
from runs import logs, metrics
from runs.evidence import Evidence, Kind, Verdict, derive
from runs.models import LogStream, Run
from runs.status import EndReason, RunStatus


class LeaseLost(Exception):
    """Somebody else attends the target now: stop, and touch nothing."""


@dataclass
class Watched:
    """One directory on the target that is being read, and how far."""

    row_id: int
    dir: str
    attempt: str
    log: int = 0
    records: int = 0
    samples: int = 0
    times: int = 0
    seen: int | None = None
    files: dict[str, int] = field(default_factory=dict)
    times_ahead: bytes = b""
    """Time entries that came before the bytes they speak of."""
    verdict: Verdict | None = None
    evidence: Evidence = field(default_factory=Evidence)
    quiet: bool = False
    """Whether the newest report held no more bytes."""
    launched_at: float = 0.0
    launches: int = 0
    refusal: str = ""
    """Why the newest launch could not be made."""
    skip_until: float = 0.0
    """After an error of ours with this run: leave it alone until then (monotonic)."""
    errors: int = 0
    cancel_sent: bool = False

    def entry(self) -> dict[str, Any]:
        return {
            "dir": self.dir, "attempt": self.attempt, "log": self.log, "records": self.records, "samples": self.samples,
            "times": self.times, "seen": self.seen, "files": self.files,
        }  # fmt: skip


Part = tuple[str, int, bytes]
Key = tuple[str, int]


def all_here(watched: Watched, parts: list[Part], *, more: bool) -> bool:
    """Whether these parts are the last of an ended run, so that nobody need ask again. ``more``: what the target says of it."""
    record = watched.evidence.exit
    if record is None or more:
        return False
    end = max((offset + len(data) for name, offset, data in parts if name == "log"), default=watched.log)
    return bool(end == (record.get("log") or {}).get("bytes"))


def read_evidence(watched: Watched, found: Mapping[str, Any]) -> Verdict:
    watched.evidence = Evidence.read(found)
    watched.verdict = derive(watched.evidence)
    return watched.verdict


def moment(watched: Watched, unix: float | None) -> datetime:
    """A time of the target on the studio's clock: the two may differ, and either may be set meanwhile."""
    now = datetime.now(UTC)
    if unix is None or not watched.evidence.now:
        return now
    then = datetime.fromtimestamp(now.timestamp() - (watched.evidence.now - unix), UTC)
    return min(then, now)


def guard(target_id: int, token: int) -> None:
    if not Lease.holds(target_id, token):
        raise LeaseLost


ABOVE = b'"parent"'
"""In records by which a run tells its parent something: that one is locked with the others, in their order."""


def apply_runs(reports: Sequence[tuple[Watched, list[Part]]], *, target_id: int, token: int) -> set[int]:
    """Store what was read of runs, and note of each that it started, or that it ended with these bytes. Returns the ids of those
    that ended.

    All or nothing, in one transaction: keep it short, because others wait to write. On a failure no cursor has moved.
    """
    ids = [watched.row_id for watched, _ in reports]
    with transaction.atomic():
        guard(target_id, token)
        # No key: a run that a client begins below one of these at the same time must not wait for us while we wait for its number.
        telling = [
            w.row_id for w, parts in reports if any(name == "records" and ABOVE in data for name, _, data in parts)
        ]
        above = Run.objects.filter(pk__in=telling, parent__isnull=False).values("parent")
        rows = Run.objects.select_for_update(no_key=True).filter(Q(pk__in=ids) | Q(pk__in=above)).order_by("pk")
        runs = {run.pk: run for run in rows}
        streams = {row.run_id: row for row in LogStream.objects.filter(run_id__in=ids, build=None, name="log")}
        applied = [_apply(runs[w.row_id], streams.get(w.row_id), w, parts) for w, parts in reports]
    for cursors in applied:
        cursors.commit()
    return {cursors.watched.row_id for cursors in applied if cursors.ended}


def _apply(run: Run, log: LogStream | None, watched: Watched, parts: list[Part]) -> "_Cursors":
    """The rows of one run; its cursors as they are once these are committed."""
    changed: dict[str, Any] = {}
    cursors = _Cursors(watched)
    for name, offset, data in parts:
        if name == "times":
            cursors.times_ahead += data
            cursors.times = changed["times_offset"] = offset + len(data)
    for name, offset, data in parts:
        if name == "records":
            if offset == run.records_offset:
                metrics.apply_records(run, data)
                changed["records_offset"] = offset + len(data)
            cursors.records = max(cursors.records, offset + len(data))
        elif name == "samples":
            if offset == run.samples_offset:
                metrics.apply_samples(run, data)
                changed["samples_offset"] = offset + len(data)
            cursors.samples = max(cursors.samples, offset + len(data))
        elif name == "log":
            log = log or LogStream.objects.get_or_create(run=run, build=None, name=name)[0]
            cursors.log = logs.append(log, offset, data, cursors.times_ahead)
            cursors.times_ahead = b""
        elif name != "times":
            stream, _ = LogStream.objects.get_or_create(run=run, build=None, name=name)
            if offset == 0 < stream.size:
                logs.restart(stream)  # it became shorter: the script began it anew
            cursors.files[name] = logs.append(stream, offset, data)
    if run.unreachable_since is not None:
        changed["unreachable_since"] = None
    started = watched.verdict is not None and watched.verdict.kind in {Kind.ALIVE, Kind.ENDED}
    state = watched.evidence.state or watched.evidence.exit or {}
    if started and run.started_at is None:
        changed["started_at"] = moment(watched, state.get("started_at"))
    if started and run.status == RunStatus.QUEUED:
        run.move_to(RunStatus.RUNNING, waiting_for="", **changed)
    elif changed:
        Run.objects.filter(pk=run.pk).update(**changed)
        run.started_at = changed.get("started_at", run.started_at)
    cursors.ended = watched.quiet and watched.verdict is not None and watched.verdict.kind is Kind.ENDED
    if cursors.ended:
        _end(run, watched)
    return cursors


def apply_build(watched: Watched, parts: list[Part], *, target_id: int, token: int) -> None:
    """Store the log of an environment build. Its end needs its log, see the session."""
    data = [(offset, data) for name, offset, data in parts if name == "log"]
    cursors = _Cursors(watched)
    for name, offset, piece in parts:
        if name == "times":
            cursors.times = offset + len(piece)
            cursors.times_ahead += piece
    with transaction.atomic():
        guard(target_id, token)
        if data:
            build = Build.objects.get(pk=watched.row_id)
            stream, _ = LogStream.objects.get_or_create(build=build, run=None, name="log")
            for offset, piece in data:
                cursors.log = logs.append(stream, offset, piece, cursors.times_ahead)
                cursors.times_ahead = b""
    cursors.commit()


def end_run(watched: Watched, *, target_id: int, token: int) -> None:
    """All bytes are here and the run has ended, or is proven lost: Finalizing."""
    with transaction.atomic():
        guard(target_id, token)
        _end(Run.objects.select_for_update().get(pk=watched.row_id), watched)


def _end(run: Run, watched: Watched) -> None:
    assert watched.verdict is not None and watched.verdict.reason is not None
    if run.is_final or run.status == RunStatus.FINALIZING:
        return
    record = dict(watched.evidence.exit or {"reason": watched.verdict.reason.value, "log": {}})
    fields: dict[str, Any] = {
        "final": record,
        "exit_code": record.get("exit_code"),
        "signal": record.get("signal"),
        "error": explain(watched.verdict.reason, record, deleted=not watched.evidence.exists),
        "finalizing_at": moment(watched, record.get("ended_at")),
        "waiting_for": "",
    }
    if run.started_at is None and record.get("started_at"):
        fields["started_at"] = moment(watched, record["started_at"])
    run.move_to(RunStatus.FINALIZING, reason=watched.verdict.reason, **fields)


def explain(reason: EndReason, record: Mapping[str, Any], *, deleted: bool = False) -> dict[str, Any]:
    """What a person should know of a bad ending: type, message and log line where the script left a
    traceback."""
    if reason in {EndReason.EXITED, EndReason.CANCELED}:
        return {}
    found = dict(record.get("error") or {})
    if reason is EndReason.TARGET_REBOOTED:
        found.setdefault(
            "message", "The target was restarted while the run was executing. Its files up to then were kept."
        )
    elif deleted:
        found.setdefault(
            "message", "The run's directory on the target was deleted. What was left of the run was stopped."
        )
    elif reason is EndReason.SUPERVISOR_LOST:
        found.setdefault(
            "message",
            "The process that supervised the run was killed on the target, so nobody saw how the script ended. "
            "What was left of the run was stopped.",
        )
    return found


class _Cursors:
    """Cursors as they will be once the transaction has committed."""

    def __init__(self, watched: Watched) -> None:
        self.watched = watched
        self.log, self.records, self.samples, self.times = watched.log, watched.records, watched.samples, watched.times
        self.times_ahead = watched.times_ahead
        self.files = dict(watched.files)
        self.ended = False

    def commit(self) -> None:
        w = self.watched
        w.log, w.records, w.samples, w.times = self.log, self.records, self.samples, self.times
        w.times_ahead, w.files = self.times_ahead, self.files


def log_end(build: Build) -> bytes:
    """The last 64 KiB of a build's log, where its error stands."""
    stream = LogStream.objects.filter(build=build, name="log").first()
    return logs.Reader(stream).read(max(0, stream.size - 65536), 65536) if stream is not None else b""
