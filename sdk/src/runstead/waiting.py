"""Waiting for a run, and its log as it grows."""

from __future__ import annotations

import codecs
import http.client
import sys
import time
from functools import partial

from .errors import RunFailed
from .submitted import FINAL
from .transport import ApiError, Unreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any, Callable, Dict, Optional, Tuple, TypeVar

    from .submitted import SubmittedRun

    T = TypeVar("T")

PAUSE, LONGEST_PAUSE, BUSY_PAUSE = 0.1, 0.8, 0.5
PATIENCE = 600.0
"""Seconds that a studio which does not answer is waited for: the run goes on meanwhile."""
PIECE = 65536
WAITING = ("NotStarted", "Preparing", "Queued", "CancelRequested")


def wait(run: SubmittedRun, show_output: bool, raise_on_error: bool) -> Dict[str, Any]:
    """Until the run has ended: its details. Raises RunFailed for a failed run, if it is to."""
    try:
        if show_output:
            print("RunId: %s\nWeb View: %s\n" % (run.id, run.get_portal_url()), flush=True)
            if run.type == "script":
                print("Streaming log\n=============\n", flush=True)
                follow(run, None)
        pause = PAUSE
        while patiently(run.get_status) not in FINAL:
            time.sleep(pause)
            pause = min(pause * 1.5, LONGEST_PAUSE)
    except KeyboardInterrupt:
        print("\nStopped waiting. The run continues: %s" % run.get_portal_url(), file=sys.stderr, flush=True)
        raise
    details = patiently(run.get_details)
    if show_output:
        print("\nExecution Summary\n=================\nRunId: %s\nWeb View: %s" % (run.id, run.get_portal_url()))
        print("Status: %s" % run.status, flush=True)
    if raise_on_error and run.status == "Failed":
        raise RunFailed(run.failure(), details)
    return details


def patiently(ask: Callable[[], T]) -> T:
    """The answer, though the studio may be away for a while. Raises Unreachable after ten minutes."""
    end = time.monotonic() + PATIENCE
    told = False
    while True:
        try:
            return ask()
        except Unreachable as error:
            if time.monotonic() > end:
                raise
            if not told:
                print("[%s Waiting for it.]" % error, file=sys.stderr, flush=True)
                told = True
            time.sleep(LONGEST_PAUSE)


def piece(run: SubmittedRun, offset: int) -> Tuple[bytes, int]:
    """Bytes of the log from an offset on, and how many there are; the run's status is taken along."""
    answer = run.workspace.transport.request("GET", "runs/%d/log" % run.number, query={"offset": offset})
    run._data["status"] = answer.headers.get("runstead-run-status", run.status)
    return answer.data, int(answer.headers.get("runstead-log-size", "0"))


def follow(run: SubmittedRun, out: Optional[IO[str]]) -> None:
    """Write the log as it grows, until the run has ended."""
    shown = sys.stdout if out is None else out
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    offset, pause, told = 0, PAUSE, ""
    while True:
        try:
            data, size = patiently(partial(piece, run, offset))
        except ApiError as error:
            if error.status != 410:
                raise
            shown.write("\n[a part of the log is lost: %s]\n" % error)
            return
        if data:
            offset += len(data)
            pause = PAUSE
            shown.write(decoder.decode(data))
            shown.flush()
        elif run.status in FINAL and offset >= size:
            shown.write(decoder.decode(b"", final=True))
            shown.flush()
            return
        elif offset == 0 and run.status in WAITING:
            if run.status != told:
                told = run.status
                print("[%s]" % told, file=sys.stderr, flush=True)
            time.sleep(pause)
            pause = min(pause * 1.2, LONGEST_PAUSE)
        else:
            # One answer that lasts: bytes are here as soon as the studio has them.
            offset += _stream(run, offset, decoder, shown)


def _stream(run: SubmittedRun, offset: int, decoder: codecs.IncrementalDecoder, shown: IO[str]) -> int:
    """Write what one streaming answer brings; how many bytes that was. An answer that breaks off is no error: the next goes on."""
    transport = run.workspace.transport
    count = 0
    try:
        answer, _ = transport.stream("runs/%d/log/follow" % run.number, {"offset": offset})
        while True:
            data = answer.read1(PIECE)
            if not data:
                return count
            count += len(data)
            shown.write(decoder.decode(data))
            shown.flush()
    except (http.client.HTTPException, OSError, Unreachable):
        transport.close()
        time.sleep(PAUSE)
        return count
    except ApiError as error:
        if error.status != 429:
            raise
        time.sleep(BUSY_PAUSE)  # as many follow as may: what has come meanwhile is asked for
        return count
    except BaseException:
        # What is left of the answer is in the way of the next request.
        transport.close()
        raise
