"""The statuses of a run that the client has to know, and how one that waits is told of."""

import sys
import time

FINAL = ("Completed", "Failed", "Canceled")
STATUSES = (
    "NotStarted", "Preparing", "Queued", "Running", "Finalizing", "CancelRequested", "Completed", "Failed", "Canceled",
)  # fmt: skip
WAITING = ("NotStarted", "Preparing", "Queued", "CancelRequested")
PATIENT = 2.0
"""Seconds that a run waits before it is told why: most do not wait so long."""


class Standing:
    """How a run stands, told on standard error when it changes: `[Queued]`, and why once it has lasted."""

    def __init__(self) -> None:
        self._told = self._status = ""
        self._since = time.monotonic()

    def look(self, status: str, why: str = "") -> None:
        now = time.monotonic()
        if status != self._status:
            self._status, self._since = status, now
        words = "%s: %s" % (status, why) if why and now - self._since >= PATIENT else status
        if words != self._told and not self._told.startswith(words):
            self._told = words
            print("[%s]" % words, file=sys.stderr, flush=True)

    @property
    def lasts(self) -> bool:
        """Whether it is time to ask why."""
        return time.monotonic() - self._since >= PATIENT
