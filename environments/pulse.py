"""Whether the other end of a stream is still there: who waits for an answer and hears nothing asks, tells, and gives up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

ASK_SECONDS = 3.0
"""Silence while an answer is waited for, after which the other side is asked for a sign of life."""
TELL_SECONDS = 10.0
LOSE_SECONDS = 30.0
_LOOK_SECONDS = 1.0


class Pulse:
    """Watches one stream from a thread of its own.

    `waiting`: whether an answer is due; `progress`: a number that grows when the other side takes bytes; `ask` sends a request that
    is answered at once, and may block; `lose` ends the stream.
    """

    def __init__(
        self,
        waiting: Callable[[], bool],
        progress: Callable[[], int],
        ask: Callable[[], None],
        lose: Callable[[str], None],
    ) -> None:
        self._waiting = waiting
        self._progress = progress
        self._ask = ask
        self._lose = lose
        self._ended = threading.Event()
        self._moved = time.monotonic()
        self._seen = 0
        self._asked = False
        self.silent = False
        """Whether `on_silence` was the last to be called."""
        self.on_silence: Callable[[float], None] = lambda seconds: None
        """Called once, from the thread of this, when nothing was heard for TELL_SECONDS; gets the seconds."""
        self.on_heard: Callable[[], None] = lambda: None
        """Called from the same thread when something is heard again after that."""

    def start(self) -> None:
        threading.Thread(target=self._run, name="agent-pulse", daemon=True).start()

    def end(self) -> None:
        """Stop watching; does not wait."""
        self._ended.set()

    def moved(self) -> None:
        """Bytes came in, or went out."""
        self._moved = time.monotonic()
        self._asked = False

    def silent_for(self) -> float:
        """Seconds since anything moved, either way."""
        return time.monotonic() - self._moved

    def _run(self) -> None:
        was_waiting = False
        while not self._ended.wait(_LOOK_SECONDS):
            progress = self._progress()
            waiting = self._waiting()
            # Silence begins when there is something to wait for.
            if progress > self._seen or not waiting or not was_waiting:  # what we write makes it smaller
                self._seen = progress
                self.moved()
            was_waiting = waiting
            seconds = self.silent_for()
            if seconds < ASK_SECONDS:
                if self.silent:
                    self.silent = False
                    self.on_heard()
                continue
            if not self._asked:
                self._asked = True
                # Asking writes, and that may block as long as the link is dead.
                threading.Thread(target=self._ask, name="agent-ask", daemon=True).start()
            if seconds >= LOSE_SECONDS:
                self._lose(f"nothing was heard of the target for {seconds:.0f} s")
                return
            if seconds >= TELL_SECONDS and not self.silent:
                self.silent = True
                self.on_silence(seconds)
