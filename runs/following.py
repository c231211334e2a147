"""A log followed while it grows: bytes as they come, for a bounded time, by a bounded number of programs at once.

A web process answers each follower with a thread of its own for as long as it follows. So that some threads are always free for
everybody else, a process has few places; a place that its follower never gave back is free again after its time.
"""

import threading
import time
from collections.abc import Callable, Iterator

from runs.logs import LogLost, Reader
from runs.models import LogStream, Run
from runs.status import FINAL

PAUSE = 0.25
"""Seconds between two looks at the database while nothing comes."""
PIECE = 256 * 1024
LATE = 30.0
"""Seconds after its time at which a place counts as free, whatever became of its follower."""


class Places:
    """Places for followers in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: dict[object, float] = {}

    def take(self, count: int, seconds: float) -> Callable[[], None] | None:
        """Take one of ``count`` places for so long; returns what gives it back, or None when all are taken."""
        now = time.monotonic()
        place = object()
        with self._lock:
            self._taken = {held: until for held, until in self._taken.items() if until > now}
            if len(self._taken) >= count:
                return None
            self._taken[place] = now + seconds + LATE
        return lambda: self._give_back(place)

    def _give_back(self, place: object) -> None:
        with self._lock:
            self._taken.pop(place, None)


PLACES = Places()


def follow(run: Run, name: str, offset: int, seconds: float) -> Iterator[bytes]:
    """Bytes of a log from ``offset`` on, until the run has ended and all are sent, or until the time is over."""
    until = time.monotonic() + seconds
    while True:
        # The status is read before the bytes: of a final run all bytes are seen.
        ended = Run.objects.filter(pk=run.pk, status__in=FINAL).exists()
        stream = LogStream.objects.filter(run=run, build=None, name=name).first()
        came = False
        while stream is not None and offset < stream.size and time.monotonic() < until:
            try:
                data = Reader(stream).read(offset, PIECE)
            except LogLost:
                return  # reading the log itself says what is lost
            if not data:
                break
            came = True
            offset += len(data)
            yield data
        if ended or time.monotonic() >= until:
            return
        if not came:
            time.sleep(min(PAUSE, max(0.0, until - time.monotonic())))
