"""A run seen from a shell: its log byte for byte as it grows, its end. Whatever becomes of the studio meanwhile, the run goes on, and
so does the looking."""

from __future__ import annotations

import contextlib
import time

from .shell import FINAL, tell
from .transport import ApiError, Unreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Iterator, TypeVar

    from .transport import Transport

    T = TypeVar("T")

PAUSE, LONGEST_PAUSE = 0.1, 0.5
AWAY = 1.0
BUSY = (429, 500)


def follow(transport: Transport, number: int, out: Any, *, name: str = "log", offset: int = 0) -> bool:
    """Write a log to the binary stream `out` from `offset` on until the run has ended and all is written.

    Returns whether it was all: False when a part of it is lost. A studio that is away is waited for.
    """
    path, pause, shown, silent = "runs/%d/log" % number, PAUSE, "", True
    with _looking(transport, number):
        while True:
            query = {"offset": offset, "name": name}
            try:
                answer = patient(lambda query=query: transport.request("GET", path, query=query))  # type: ignore[misc]
            except ApiError as error:
                if error.status != 410:
                    raise
                tell("[a part of the log is lost: %s]" % error)
                return False
            status = answer.headers.get("runstead-run-status", "")
            if answer.data:
                offset += len(answer.data)
                out.write(answer.data)
                out.flush()
                pause, silent = PAUSE, False
                continue
            if status in FINAL and offset >= int(answer.headers.get("runstead-log-size", "0")):
                return True
            if silent and status not in (shown, "Running", *FINAL):
                shown = status
                tell("[%s]" % status)
            time.sleep(pause)
            # Quick while lines come, slower while a run waits or is silent.
            pause = min(pause * 1.2, LONGEST_PAUSE)


def wait(transport: Transport, number: int, *, shown: bool) -> Dict[str, Any]:
    """Wait until the run has ended; returns it as the API shows it. `shown`: each new status is told."""
    pause, last = PAUSE, ""
    with _looking(transport, number):
        while True:
            run: Dict[str, Any] = patient(lambda: transport.request("GET", "runs/%d" % number).json())
            if run["status"] in FINAL:
                return run
            if shown and run["status"] != last:
                last = run["status"]
                tell("[%s]" % last)
            time.sleep(pause)
            pause = min(pause * 1.5, LONGEST_PAUSE)


def patient(ask: Callable[[], T]) -> T:
    """What `ask` answers, asked again for as long as the studio is away."""
    away = False
    while True:
        try:
            found = ask()
        except (Unreachable, ApiError) as error:
            if isinstance(error, ApiError) and error.status not in BUSY:
                raise
            if not away:
                away = True
                tell("[%s Still trying; the run goes on.]" % str(error).partition(" Is it running?")[0])
            time.sleep(AWAY)
            continue
        if away:
            tell("[The studio answers again.]")
        return found


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
