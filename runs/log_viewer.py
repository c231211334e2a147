"""What the log viewer shows of a run or of an environment build: one page, the fragments that it fetches, one template."""

from dataclasses import dataclass
from typing import Any

from environments.models import Build, BuildStatus
from runs.logs import LogLost, Reader
from runs.logs.render import render_lines
from runs.logs.search import next_problem
from runs.models import LogStream, Run
from runs.status import EndReason, RunStatus

BLOCK = 1000
"""Lines that the viewer fetches at a time."""
CONTEXT = 60
"""Lines before a block that say which colours and which traceback go on there."""


@dataclass(frozen=True)
class Log:
    """One log and what it belongs to."""

    stream: LogStream
    live: bool
    """Whether more may come."""
    address: str
    """Of its page; the fragments are below it."""
    run: Run | None = None
    title: str = "Log"

    @property
    def totals(self) -> dict[str, Any]:
        """What the viewer keeps up to date."""
        stream = self.stream
        return {
            "lines": Reader(stream).count,
            "size": stream.size,
            "errors": stream.errors,
            "warnings": stream.warnings,
            "live": self.live,
        }


def log_of_run(run: Run, name: str = "log") -> Log | None:
    """A log of a run; None when it has no such file. The run's own log is there from the start."""
    # The status was read before the bytes: of a final run all bytes are seen.
    stream = LogStream.objects.filter(run=run, build=None, name=name).first()
    if stream is None and name != "log":
        return None
    address = f"/{run.workspace.slug}/runs/{run.number}/logs"
    return Log(stream or LogStream(run=run, name=name), not run.is_final, address, run)


def log_of_build(build: Build) -> Log:
    """The log of an environment build."""
    stream = LogStream.objects.filter(build=build, run=None, name="log").first()
    live = build.status in {BuildStatus.WAITING, BuildStatus.BUILDING}
    address = f"/{build.target.workspace.slug}/environments/builds/{build.pk}/log"
    return Log(stream or LogStream(build=build), live, address, title=f"Build of {build.version or 'the environment'}")


def log_to_read(run: Run) -> Log:
    """What a person wants to read of a run now: while its environment is built, or when that failed, the build's log."""
    waits = run.status == RunStatus.PREPARING and run.build is not None and run.build.status != BuildStatus.READY
    if run.build is not None and (waits or run.reason == EndReason.ENVIRONMENT_FAILED):
        return log_of_build(run.build)
    log = log_of_run(run)
    assert log is not None, "a run's own log is there from the start"
    return log


def rows(reader: Reader, first: int, count: int) -> str:
    """At most ``count`` lines from number ``first`` on, as HTML."""
    begin = max(first - CONTEXT, 1)
    return render_lines(reader.lines(begin, count + first - begin), first)


def viewer(log: Log, *, compact: bool) -> dict[str, Any]:
    """The context of ``runs/_log.html``: the block of lines where reading begins."""
    stream, run = log.stream, log.run
    reader = Reader(stream)
    start: int | None = None
    html, lost = "", ""
    try:
        lines = reader.count
        start = None if compact else opening(log, reader)
        block = max((min(start or lines, lines) - 1) // BLOCK, 0)
        html = rows(reader, block * BLOCK + 1, BLOCK) if lines else ""
    except LogLost as error:
        lines, block, lost = stream.lines, 0, str(error)
    names = ["log"]
    if run is not None:
        names += run.streams.exclude(name="log").order_by("name").values_list("name", flat=True)
    return {
        "log": log,
        "stream": stream,
        "compact": compact,
        "lines": lines,
        "block": block,
        "html": html,
        "start": start or 0,
        "first": block * BLOCK + 1,
        "last": min((block + 1) * BLOCK, lines),
        "names": names,
        "lost": lost,
        "missing": max((stream.total or 0) - stream.size, 0) if not log.live else 0,
        "began": run.started_at.timestamp() if run is not None and run.started_at else None,
        "waiting": waiting(log),
    }


def opening(log: Log, reader: Reader) -> int | None:
    """The line at which a person begins to read: None at the end, while it grows; the error of a failed run; else the top."""
    if log.live:
        return None
    if log.run is None or log.run.status != RunStatus.FAILED:
        return 1
    line = (log.run.error or {}).get("line")
    if isinstance(line, int) and 0 < line <= reader.count and log.stream.name == "log":
        return line
    if log.stream.errors:
        found = next_problem(reader, 0)
        return found[0] if found else 1
    return max(reader.count, 1)


def waiting(log: Log) -> str:
    """What stands in place of an empty log."""
    if log.run is not None and log.run.is_interactive:
        return "An interactive run has no log: its program writes to a screen or a file of its own."
    if not log.live:
        return "Nothing was written."
    if log.run is None:
        return "The build has not written anything yet."
    if log.run.status in {RunStatus.NOT_STARTED, RunStatus.PREPARING, RunStatus.QUEUED}:
        return log.run.waiting_for or "The run has not started yet."
    return "The script has not written anything yet."
