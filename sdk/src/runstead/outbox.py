"""What an interactive run logs, on its way: a thread of its own sends it, so that `log` waits for no network."""

from __future__ import annotations

import os
import sys
import threading
import time
import uuid

from . import ending
from .errors import RunsteadError
from .transport import ApiError, Unreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List, Optional

    from .transport import Transport

MOST = 1_000_000
"""Bytes of one request."""
FULL = 64_000_000
"""Bytes that may wait; then `log` waits."""
PAUSE = 0.2
"""Seconds in which lines gather."""
TRIES = 4
"""How often a batch that the studio fails on is sent again."""
LONGEST = 15.0
"""Seconds between two tries to reach a studio that does not answer."""
SECONDS_AT_EXIT = 30
"""How long a process stays for what has not arrived."""


class Sender:
    """Lines in order, each batch under a key of its own: one that is sent again after a lost answer counts once."""

    def __init__(self, transport: Transport, path: str, what: str) -> None:
        self._transport = transport
        self._path = path
        self._what = what
        self._process = os.getpid()
        """In which `put` was called last."""
        self._lines: List[str] = []
        self._size = 0
        self._changed = threading.Condition()
        self._hurry = False
        self._refused: Optional[Exception] = None
        self._away = ""
        self._thread: Optional[threading.Thread] = None
        self.sent_at = 0.0
        """When the studio last took something (monotonic)."""
        self._say_last()

    def put(self, line: str) -> None:
        """Take a line. Raises RunsteadError when an earlier one was refused."""
        if self._process != os.getpid():
            # Forked: what waited then is sent by the process that logged it.
            self._process, self._lines, self._size = os.getpid(), [], 0
            self._changed, self._thread, self._hurry = threading.Condition(), None, False
            self._say_last()
        with self._changed:
            self._raise()
            while self._size > FULL and self._refused is None:
                self._changed.wait(1)
            self._lines.append(line)
            self._size += len(line)
            self._start()
            if len(self._lines) == 1 or self._size > MOST:
                self._changed.notify_all()

    def flush(self, seconds: float) -> None:
        """Wait until everything has arrived. Raises RunsteadError when it has not within this time, or was refused."""
        if self._process != os.getpid():
            return  # nothing was logged here, though maybe in the process that this was forked from
        end = time.monotonic() + seconds
        with self._changed:
            self._hurry = True
            self._start()
            self._changed.notify_all()
            while self._lines and self._refused is None:
                left = end - time.monotonic()
                if left <= 0:
                    raise Unreachable(
                        "%s: %d lines of what was logged have not arrived after %g seconds.%s They are sent on while this process lives."
                        % (self._what, len(self._lines), seconds, " " + self._away if self._away else "")
                    )
                self._changed.wait(min(left, 1))
            self._hurry = False
            self._raise()

    def _say_last(self) -> None:
        ending.at_end(self._last)
        ending.at_sigterm(self._last)

    def _last(self) -> None:
        try:
            self.flush(SECONDS_AT_EXIT)
        except RunsteadError as problem:
            print("runstead: %s" % problem, file=sys.stderr)

    def _start(self) -> None:
        if self._lines and (self._thread is None or not self._thread.is_alive()):
            self._thread = threading.Thread(target=self._run, name="runstead-log", daemon=True)
            self._thread.start()

    def _raise(self) -> None:
        if self._refused is not None:
            found, self._refused = self._refused, None
            raise RunsteadError("%s: what was logged before was refused: %s" % (self._what, found))

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._lines:
                    self._changed.wait()
                end = time.monotonic() + PAUSE
                while not self._hurry and self._size < MOST and end > time.monotonic():
                    self._changed.wait(end - time.monotonic())
                batch = self._batch()
            self._send(batch)
            with self._changed:
                del self._lines[: len(batch)]
                self._size -= sum(map(len, batch))
                self._changed.notify_all()

    def _batch(self) -> List[str]:
        size, count = 0, 0
        for line in self._lines:
            size += len(line)
            if count and size > MOST:
                break
            count += 1
        return self._lines[:count]

    def _send(self, batch: List[str]) -> None:
        headers = {"Idempotency-Key": str(uuid.uuid4()), "Content-Type": "application/x-ndjson"}
        data = "".join(batch).encode("ascii")
        pause, failures = 0.5, 0
        while True:
            try:
                self._transport.request("POST", self._path, data, headers=headers)
            except ApiError as error:
                failures += error.status != 429
                if failures > (TRIES if error.status >= 500 else 0):
                    self._refused = error
                    return
                self._away = str(error)
            except RunsteadError as error:
                self._away = str(error)
            else:
                self._away, self.sent_at = "", time.monotonic()
                return
            with self._changed:
                self._changed.wait(pause)
            pause = min(pause * 2, LONGEST)
