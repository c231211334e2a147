"""What the head of a run's page says: phases with their times, progress, why it failed and what to try.

Computed from rows alone, so that the page, the fragment that it polls and the tests say the same.
"""

import signal as signals
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from django.conf import settings
from django.db.models import Max
from django.utils import timezone

from runs import queue
from runs.distribution import summary
from runs.frameworks import FRAMEWORKS
from runs.models import Artifact, MetricSeries, MetricValue, Run, RunEvent
from runs.status import EndReason, RunStatus
from studio.templatetags.studio import duration

S = RunStatus
FAST_SECONDS = 2
SLOW_SECONDS = 5
SLOW_AFTER = timedelta(minutes=10)
QUIET_AFTER = timedelta(minutes=10)
TRACE = 8_000
"""How much of a traceback is shown, the end of it."""
"""A client without a heartbeat may have nothing to say for so long without a word about it on the page."""
# How scripts name their progress, and the parameters that say where it ends.
TOTALS = {
    "epoch": ("epochs", "num_epochs", "n_epochs", "max_epochs", "total_epochs", "num_train_epochs"),
    "step": ("steps", "num_steps", "n_steps", "max_steps", "total_steps", "iterations", "max_iter"),
}
WAITING = frozenset({S.NOT_STARTED, S.QUEUED})
WORDS: dict[str, str] = {
    S.NOT_STARTED: "Queued",
    S.PREPARING: "Preparing",
    S.FINALIZING: "Uploading outputs",
    S.CANCEL_REQUESTED: "Canceling",
}
TRY = {
    EndReason.EXIT_CODE: "Read the end of the log, correct the script, and run again.",
    EndReason.SIGNAL: "The studio did not send it. Look in the log for a crash of a native library, and at who else uses the machine.",
    EndReason.TIMED_OUT: "Raise the time limit under Compute, or save checkpoints to outputs/ and go on from the last one.",
    EndReason.OUT_OF_MEMORY: "Use smaller batches, raise the memory limit, or choose a target with more memory.",
    EndReason.DISK_FULL: "Free space on the target, or write less to outputs/.",
    EndReason.ENVIRONMENT_FAILED: "Read the build log, correct the environment, and run again.",
    EndReason.LAUNCH_REJECTED: "Check the script, the command and the environment's interpreter.",
    EndReason.TARGET_REBOOTED: "What it had written up to then is kept. Run again.",
    EndReason.SUPERVISOR_LOST: "What it had written up to then is kept. Somebody or something killed the run's processes; run again.",
    EndReason.REPORTED_FAILED: "It did not run on a target of the studio. Look at the output of the program that logged it.",
    EndReason.CLIENT_LOST: "What it had logged up to then is kept. If it is alive, the run goes on when it is heard of again.",
    EndReason.STUDIO_ERROR: "This is the studio's mistake, not the script's. Run again, and tell an administrator the run's id.",
}


@dataclass(frozen=True)
class Progress:
    """How far a script says that it is."""

    unit: str
    done: float
    total: float

    @property
    def percent(self) -> int:
        return round(100 * min(1.0, max(0.0, self.done / self.total)))

    @property
    def text(self) -> str:
        return f"{self.unit} {self.done:,.0f} of {self.total:,.0f}"


@dataclass(frozen=True)
class Phase:
    name: str
    state: str
    """``done2``, ``now``, ``todo``, or how a run ended in it: ``broke``, ``cut``. The style sheet names them so."""
    seconds: float | None = None
    progress: Progress | None = None
    left: float | None = None
    """Seconds until the end, when that can be told."""


@dataclass(frozen=True)
class Banner:
    kind: str
    title: str
    text: str
    advice: str = ""
    links: tuple[tuple[str, str], ...] = ()
    """(address, label)"""
    trace: str = ""
    """Lines to be shown as they are."""


@dataclass(frozen=True)
class Header:
    run: Run
    base: str
    word: str
    title: str
    phases: tuple[Phase, ...]
    banners: tuple[Banner, ...]
    every: int
    """Seconds between polls; 0: the run has ended, nothing is polled."""
    can_cancel: bool
    framework: str
    """In words, with its processes; empty for a plain script."""
    grace: int
    waiting: str
    """Why its script has not started yet; empty once it has."""


def header(run: Run) -> Header:
    """Everything the head of the run's page shows. At most three queries, and two more for a run that waits."""
    now = timezone.now()
    base = f"/{run.workspace.slug}/runs/{run.number}"
    progress = progress_of(run) if run.status == S.RUNNING else None
    phases = tuple(phases_of(run, now, progress))
    word = WORDS.get(run.status, run.status)
    state = f"{word} {progress.percent} %" if progress else word
    slow = now - run.created_at > SLOW_AFTER
    return Header(
        run=run,
        base=base,
        word=word,
        title=f"{state} · {run.name} · #{run.number}",
        phases=phases,
        banners=tuple(banners_of(run, now, base)),
        every=0 if run.is_final else SLOW_SECONDS if slow else FAST_SECONDS,
        can_cancel=not run.is_final and run.told_by_id is None and run.status not in {S.CANCEL_REQUESTED, S.FINALIZING},
        framework=framework_of(run),
        grace=int((run.config or {}).get("grace_seconds", 10)),
        waiting=queue.why_waits(run),
    )


def framework_of(run: Run) -> str:
    config: Mapping[str, Any] = run.config or {}
    name = str(config.get("framework") or "python")
    if name == "python" or name not in FRAMEWORKS:
        return ""
    if name == "pyspark":
        options = (run.target.options.get("spark") if run.target else None) or {}
        return f"{FRAMEWORKS[name].title} on {options.get('master') or 'local[*]'}"
    processes = summary(name, config.get("distribution") or {}, int(config.get("gpus") or 0))
    return ", ".join(part for part in (FRAMEWORKS[name].title, processes) if part)


def progress_of(run: Run) -> Progress | None:
    """From a metric named ``epoch`` or ``step`` and a parameter or metric that says its total."""
    names = set(TOTALS) | {name for totals in TOTALS.values() for name in totals}
    values = {
        series.name: series.last
        for series in MetricSeries.objects.filter(run=run, name__in=names)
        if series.last is not None
    }
    if not values.keys() & TOTALS.keys():
        return None
    totals = {p.name: p.number for p in run.parameters.filter(name__in=names) if p.number is not None}
    totals = {name.replace("-", "_"): number for name, number in totals.items()} | values
    for unit, candidates in TOTALS.items():
        if unit not in values:
            continue
        for name in candidates:
            if (total := totals.get(name)) and total >= 1 and 0 <= values[unit] <= total:
                return Progress(unit, values[unit], total)
    return None


def phases_of(run: Run, now: datetime, progress: Progress | None) -> list[Phase]:
    """Queued (all waiting together), Prepared, Running, Upload outputs."""
    began = RunEvent.objects.filter(run=run, new=S.PREPARING).order_by("-pk").values_list("at", flat=True).first()
    if run.pool_id is not None and not run.attempt:
        began = None  # its pool took it back from where it was prepared: it waits again
    ended = run.ended_at or now
    status = S(run.status)
    if run.cancel_requested_at is not None and not run.is_final:
        status = S.RUNNING if run.started_at else S.QUEUED if run.prepared_at or not began else S.PREPARING
    # Waiting happens twice: until somebody takes the run, and until a slot is free.
    prepared = run.prepared_at or (ended if began else None)
    waited = (began or run.prepared_at or run.started_at or ended) - run.created_at
    if run.prepared_at is not None:
        waited += max((run.started_at or ended) - run.prepared_at, timedelta())
    phases = [
        Phase("Queued", state_of(status in WAITING, run.is_final or bool(began)), waited.total_seconds()),
        Phase(
            "Preparing" if status == S.PREPARING else "Prepared",
            state_of(status == S.PREPARING, run.prepared_at is not None),
            (prepared - began).total_seconds() if began and prepared else None,
        ),
    ]
    ran = ((run.finalizing_at or ended) - run.started_at).total_seconds() if run.started_at else None
    left = None
    if progress and ran is not None and progress.done > 0 and ran >= 10:
        left = ran * (progress.total - progress.done) / progress.done
    running = status == S.RUNNING
    phases.append(
        Phase("Running", state_of(running, run.started_at is not None), ran, progress if running else None, left)
    )
    uploaded = (ended - run.finalizing_at).total_seconds() if run.finalizing_at else None
    phases.append(
        Phase(
            "Upload outputs",
            state_of(status == S.FINALIZING, run.is_final and run.finalizing_at is not None),
            uploaded,
        )
    )
    if run.is_interactive:
        # Nothing is waited for, prepared or collected.
        ending = {S.FAILED: "broke", S.CANCELED: "cut"}.get(status, phases[2].state)
        return [replace(phases[2], state=ending)]
    if status in {S.FAILED, S.CANCELED}:
        at = 2 if run.started_at else 1 if began and run.prepared_at is None else 0
        phases[at] = replace(phases[at], state="broke" if status == S.FAILED else "cut")
    return phases


def state_of(now: bool, done: bool) -> str:
    return "now" if now else "done2" if done else "todo"


def banners_of(run: Run, now: datetime, base: str) -> list[Banner]:
    found: list[Banner] = []
    if run.is_interactive and not run.is_final:
        if silent := silence_of(run, now):
            found.append(silent)
    elif run.unreachable_since is not None and not run.is_final:
        found.append(
            Banner(
                "warn",
                f"{run.target} has not answered for {duration((now - run.unreachable_since).total_seconds())}",
                "The run goes on there if the machine does. Its state, log and metrics catch up when it answers again.",
            )
        )
    failed = run.status == S.FAILED or (run.is_final and run.reason == EndReason.TIMED_OUT)
    if failed:
        found.append(failure(run, base))
    if run.log_complete is False:
        found.append(
            Banner(
                "warn",
                "The log here is not the whole log of the target",
                "Its size or checksum differs from what the target recorded at the end. The run itself is not affected.",
            )
        )
    return found


def silence_of(run: Run, now: datetime) -> Banner | None:
    """Of a run that nobody but its client can end: for how long nothing was heard of that."""
    if run.told_by_id is not None:
        return None  # its script's run ends it
    if run.heard_at is not None:
        if run.unreachable_since is None:
            return None
        hours = settings.SILENT_RUN_HOURS
        ending = f"Without a word for {hours} h the run ends as Failed." if hours else "The run stays as it is."
        return Banner(
            "warn",
            f"Its program has not been heard of for {duration((now - run.unreachable_since).total_seconds())}",
            f"It was killed, or its machine sleeps or is offline. When it is heard of again the run goes on. {ending}",
            "End it with Cancel if the program is gone.",
        )
    said = heard_of(run)
    if now - said < QUIET_AFTER:
        return None
    return Banner(
        "info",
        f"Nothing was heard of its program for {duration((now - said).total_seconds())}",
        "Programs that log with MLflow are heard of only when they log, so that the studio cannot tell whether this one is alive.",
        "End it with Cancel if the program is gone.",
    )


def heard_of(run: Run) -> datetime:
    """When a client that sends no heartbeat last told something."""
    newest: list[datetime | None] = [
        run.started_at or run.created_at,
        MetricSeries.objects.filter(run=run).aggregate(at=Max("updated_at"))["at"],
        MetricValue.objects.filter(run=run).order_by("-pk").values_list("at", flat=True).first(),
        Artifact.objects.filter(run=run).aggregate(at=Max("modified_at"))["at"],
    ]
    return max(at for at in newest if at is not None)


def failure(run: Run, base: str) -> Banner:
    """What broke, where, and what to try."""
    reason = EndReason(run.reason) if run.reason else EndReason.STUDIO_ERROR
    error: dict[str, Any] = run.error or {}
    kind, message = str(error.get("type") or ""), str(error.get("message") or "")
    last_line = f"{kind}: {message}" if kind and message else kind or message
    cause = str(reason.label)
    if reason in (EndReason.EXIT_CODE, EndReason.REPORTED_FAILED) and last_line:
        cause, last_line = last_line, ""
    if reason is EndReason.SIGNAL and run.signal:
        cause = f"The script was ended by {signal_name(run.signal)}"
    if reason is EndReason.TIMED_OUT and (limit := (run.config or {}).get("max_run_duration_seconds")):
        cause = f"The time limit of {duration(limit)} was reached"
    since = run.started_at or run.created_at
    verb = "Canceled" if run.status == S.CANCELED else "Failed"
    after = f" after {duration((run.ended_at - since).total_seconds())}" if run.ended_at else ""
    detail, trace = str(error.get("detail") or "").strip("\n"), ""
    if "\n" in detail:
        detail, trace = "", detail[-TRACE:]
    facts = [last_line, detail]
    if run.exit_code is not None:
        facts.append(f"Exit code {run.exit_code}.")
    if run.signal:
        facts.append(f"Signal {run.signal} ({signal_name(run.signal)}).")
    links: list[tuple[str, str]] = []
    advice = TRY.get(reason, "")
    if run.told_by is not None:
        advice = f"The script of #{run.told_by.number} said so: its log may tell more."
        links.append((f"/{run.workspace.slug}/runs/{run.told_by.number}/logs", "Open its log"))
    elif reason is EndReason.ENVIRONMENT_FAILED and run.build_id is not None:
        links.append((f"/{run.workspace.slug}/environments/builds/{run.build_id}/log", "Open the build log"))
    elif isinstance(line := error.get("line"), int) and line > 0:
        links.append((f"{base}/logs#L{line}", f"Go to line {line:,}"))
    if (file := error.get("file")) and isinstance(at := error.get("file_line"), int):
        links.append((f"{base}/snapshot/{quote(str(file))}#L{at}", f"{short(str(file), 60)}, line {at:,}"))
    return Banner(
        "fail" if run.status == S.FAILED else "warn",
        f"{verb}{after}: {short(cause)}",
        " ".join(short(fact, 400) for fact in facts if fact),
        advice,
        tuple(links),
        trace,
    )


def short(text: str, limit: int = 160) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def signal_name(number: int) -> str:
    try:
        return signals.Signals(number).name
    except ValueError:
        return f"signal {number}"
