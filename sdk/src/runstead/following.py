"""A run seen from a shell: its log byte for byte as it grows, its end."""

from __future__ import annotations

import contextlib
import signal
import sys
import time

from .log_stream import LONGEST_PAUSE, PAUSE, LogStream, patiently
from .shell import tell
from .status import FINAL, Standing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterator

    from .transport import Transport


def follow(transport: Transport, number: int, out: Any, *, name: str = "log", offset: int = 0) -> bool:
    """Write a log to the binary stream `out` from `offset` on until the run has ended and all is written.

    Returns whether it was all: False when a part of it is lost. A studio that is away is waited for.
    """
    log = LogStream(transport, number, name, offset)
    with _looking(transport, number):
        if name == "log" and not offset:
            _prepared(transport, number)
        for data in log.pieces():
            out.write(data)
            out.flush()
    if log.lost:
        tell("[a part of the log is lost: %s]" % log.lost)
    return not log.lost


def _prepared(transport: Transport, number: int) -> None:
    """Until the run is prepared: the log of the build that it waits for, beside the output, which is the run's own log."""
    from .build_log import show

    def write(data: bytes) -> None:
        sys.stderr.buffer.write(data)
        sys.stderr.flush()

    show(transport, number, lambda title: tell("[Build of %s]" % title), write)


def wait(transport: Transport, number: int, *, shown: bool) -> Dict[str, Any]:
    """Wait until the run has ended; returns it as the API shows it. `shown`: each new status is told."""
    pause, standing = PAUSE, Standing()
    with _looking(transport, number):
        while True:
            run: Dict[str, Any] = patiently(lambda: transport.request("GET", "runs/%d" % number).json())
            if run["status"] in FINAL:
                return run
            if shown:
                standing.look(run["status"], run["waiting_for"])
            time.sleep(pause)
            pause = min(pause * 1.5, LONGEST_PAUSE)


@contextlib.contextmanager
def _looking(transport: Transport, number: int) -> Iterator[None]:
    """Ctrl-C ends the looking and says that it does not end the run."""
    try:
        yield
    except KeyboardInterrupt:
        where = "%s/%s/runs/%d" % (transport.url, transport.workspace, number)
        tell("\nStopped looking. The run continues: %s\nTo end it: runstead cancel %d" % (where, number))
        raise


def exit_code(run: Dict[str, Any]) -> int:
    """That of a run that has ended: its script's own, 0 when it completed, else 1; why it failed is told."""
    tell("%s  %s" % (run["status"], run["url"]))
    if run["status"] == "Completed":
        return 0
    if run["status"] == "Failed":
        tell("runstead: run %s failed: %s." % (run["number"], failure(run)))
        tell_place(run)
    code = run.get("exit_code")
    return code if isinstance(code, int) and 0 < code < 256 else 1


def tell_place(run: Dict[str, Any]) -> None:
    """Of a run that failed in a file of its project: the place as compilers say it, so that editors find it."""
    error = run.get("error") or {}
    if run["status"] == "Failed" and error.get("file") and error.get("file_line"):
        tell("%s:%s: error: %s" % (error["file"], error["file_line"], " ".join(failure(run).split())))


def failure(run: Dict[str, Any]) -> str:
    """Why a run failed, in one line."""
    error, reason = run.get("error") or {}, run.get("reason") or ""
    what = ": ".join(str(error[key]) for key in ("type", "message") if error.get(key))
    if what:
        return what
    if run.get("exit_code") is not None:
        return "exit code %s" % run["exit_code"]
    return (
        "signal %d%s" % (run["signal"], _signal_name(run["signal"])) if run.get("signal") else reason.replace("_", " ")
    )


def _signal_name(number: int) -> str:
    try:
        return " (%s)" % signal.Signals(number).name
    except ValueError:  # this system has not all that the target's has
        return ""
