"""A run seen from a shell: its log byte for byte as it grows, its end."""

from __future__ import annotations

import contextlib
import time

from .log_stream import LONGEST_PAUSE, PAUSE, LogStream, patiently
from .shell import tell
from .status import FINAL

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
        for data in log.pieces():
            out.write(data)
            out.flush()
    if log.lost:
        tell("[a part of the log is lost: %s]" % log.lost)
    return not log.lost


def wait(transport: Transport, number: int, *, shown: bool) -> Dict[str, Any]:
    """Wait until the run has ended; returns it as the API shows it. `shown`: each new status is told."""
    pause, last = PAUSE, ""
    with _looking(transport, number):
        while True:
            run: Dict[str, Any] = patiently(lambda: transport.request("GET", "runs/%d" % number).json())
            if run["status"] in FINAL:
                return run
            if shown and run["status"] != last:
                last = run["status"]
                tell("[%s]" % last)
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
        error = run.get("error") or {}
        if error.get("file") and error.get("file_line"):
            # As compilers do, so that editors find the place.
            tell("%s:%s: error: %s" % (error["file"], error["file_line"], " ".join(failure(run).split())))
    code = run.get("exit_code")
    return code if isinstance(code, int) and 0 < code < 256 else 1


def failure(run: Dict[str, Any]) -> str:
    """Why a run failed, in one line."""
    error, reason = run.get("error") or {}, run.get("reason") or ""
    what = ": ".join(str(error[key]) for key in ("type", "message") if error.get(key))
    if what:
        return what
    return "exit code %s" % run["exit_code"] if run.get("exit_code") is not None else reason.replace("_", " ")
