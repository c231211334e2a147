"""Work that goes on beside an attendant's turns: transfers, layouts, builds begun, outputs collected.

A few threads; one errand at a time for each key. What failed waits before it is tried again; who owns the errands decides
what a repeated failure means.
"""

import contextlib
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from django.db import connection

from environments.agent.files import is_full
from environments.host import HostLost
from runs.applying import Key, LeaseLost
from studio.database import AWAY

log = logging.getLogger("runstead.errands")

THREADS = 4


class Errands:
    def __init__(self, name: str, wake: Callable[[], None]) -> None:
        self.pool = ThreadPoolExecutor(THREADS, thread_name_prefix=name)
        self.wake = wake
        self.under_way: dict[Key, Future[None]] = {}
        self.postponed: dict[Key, float] = {}
        self.tries: dict[Key, int] = {}

    def __bool__(self) -> bool:
        return bool(self.under_way)

    def runs(self, key: Key) -> bool:
        return key in self.under_way

    def may_start(self, key: Key) -> bool:
        return key not in self.under_way and time.monotonic() >= self.postponed.get(key, 0.0)

    def start(self, key: Key, job: Callable[[], object]) -> None:
        def guarded() -> None:
            try:
                job()
            except AWAY:
                connection.close()  # this thread's own, which nobody else would ever renew
                raise
            finally:
                self.wake()

        self.under_way[key] = self.pool.submit(guarded)

    def postpone(self, key: Key, seconds: float) -> None:
        self.postponed[key] = time.monotonic() + seconds

    def failures(self, key: Key) -> int:
        """Count one more failure; how many there were without a success."""
        self.tries[key] = self.tries.get(key, 0) + 1
        return self.tries[key]

    def reap(self, failed: Callable[[Key, BaseException], None]) -> None:
        """See which have ended. A lost lease or connection is raised; a database or disk that is away is waited for; every
        other failure is ``failed``'s to judge."""
        for key, future in list(self.under_way.items()):
            if not future.done():
                continue
            del self.under_way[key]
            error = future.exception()
            if error is None:
                self.forget(key)
            elif isinstance(error, LeaseLost | HostLost):
                raise error
            elif isinstance(error, AWAY):
                self.postpone(key, 1.0)
            elif isinstance(error, OSError) and is_full(error):
                log.warning("%s %s waits for room on the studio's disk: %s", *key, error)
                self.postpone(key, 5.0)
            else:
                failed(key, error)

    def forget(self, key: Key) -> None:
        self.postponed.pop(key, None)
        self.tries.pop(key, None)

    def settle(self) -> None:
        """Wait for what is under way on a connection that is gone; it fails by itself."""
        for future in list(self.under_way.values()):
            with contextlib.suppress(Exception):
                future.result(timeout=30)
        self.under_way.clear()

    def end(self) -> None:
        self.pool.shutdown(wait=True, cancel_futures=True)
