"""Waiting for a run, and its log as it grows."""

from __future__ import annotations

import codecs
import sys
import time

from .errors import RunFailed
from .log_stream import LONGEST_PAUSE, PAUSE, LogStream, patiently
from .status import FINAL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any, Dict, Optional

    from .submitted import SubmittedRun

PATIENCE = 600.0
"""Seconds that a studio which does not answer is waited for: the run goes on meanwhile."""


def wait(run: SubmittedRun, show_output: bool, raise_on_error: bool) -> Dict[str, Any]:
    """Until the run has ended: its details. Raises RunFailed for a failed run, if it is to."""
    try:
        if show_output:
            print("RunId: %s\nWeb View: %s\n" % (run.id, run.get_portal_url()), flush=True)
            if run.type == "script":
                print("Streaming log\n=============\n", flush=True)
                follow(run, None)
        pause = PAUSE
        while patiently(run.get_status, PATIENCE) not in FINAL:
            time.sleep(pause)
            pause = min(pause * 1.5, LONGEST_PAUSE)
    except KeyboardInterrupt:
        print("\nStopped waiting. The run continues: %s" % run.get_portal_url(), file=sys.stderr, flush=True)
        raise
    details = patiently(run.get_details, PATIENCE)
    if show_output:
        print("\nExecution Summary\n=================\nRunId: %s\nWeb View: %s" % (run.id, run.get_portal_url()))
        print("Status: %s" % run.status, flush=True)
    if raise_on_error and run.status == "Failed":
        raise RunFailed(run.failure(), details)
    return details


def follow(run: SubmittedRun, out: Optional[IO[str]]) -> None:
    """Write the log as it grows, until the run has ended."""
    shown = sys.stdout if out is None else out
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    log = LogStream(run.workspace.transport, run.number)
    for data in log.pieces(PATIENCE):
        shown.write(decoder.decode(data))
        shown.flush()
    shown.write("\n[a part of the log is lost: %s]\n" % log.lost if log.lost else decoder.decode(b"", final=True))
    shown.flush()
