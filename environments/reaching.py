"""Connections for questions that somebody waits for: opened once, kept warm for a minute, never the attendant's own.

A page that checks a run asks its target several times while a person types. Signing in each time would cost half a second; asking
the attendant would disturb it. So each process of the site keeps what it opened for a while, and opens one connection to a target at
a time, however many ask: a machine that does not answer is waited for once, and nobody waits longer than he has time.
"""

import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field

from environments.host import Host
from environments.models import ComputeTarget
from environments.target import root_of, transport_of
from environments.transports.base import Transport, TransportError

KEPT_SECONDS = 60.0
TIDY_SECONDS = 10.0
FAILED_SECONDS = 5.0
"""A failure is the answer for so long."""


@dataclass
class _Line:
    transport: Transport
    opened: "Future[Host]" = field(default_factory=Future)
    used: float = 0.0
    """When somebody last asked for it, by the monotonic clock."""
    users: int = 0

    @property
    def failed(self) -> bool:
        return self.opened.done() and self.opened.exception() is not None

    def over(self, now: float) -> bool:
        if not self.opened.done():
            return False
        if self.failed:
            return now - self.used > FAILED_SECONDS
        return self.opened.result().lost or (not self.users and now - self.used > KEPT_SECONDS)

    def close(self) -> None:
        if self.opened.done() and not self.failed:
            self.opened.result().close()
        self.transport.close()


_lines: dict[str, _Line] = {}
_lock = threading.Lock()
_tidying = False


class NotInTime(TransportError):
    """The target has not answered yet. It may still."""


@contextlib.contextmanager
def reached(target: ComputeTarget, seconds: float) -> Iterator[Host]:
    """The target's agent, for as long as the block lasts. Raises TransportError, NotInTime after so many seconds."""
    line = begin(target)
    with _lock:
        line.users += 1
    try:
        try:
            host = line.opened.result(max(seconds, 0))
        except FutureTimeout:
            raise NotInTime(f"{target.name} has not answered within {seconds:.1f} s") from None
        yield host
    finally:
        with _lock:
            line.users -= 1


def begin(target: ComputeTarget) -> _Line:
    """Start to reach a target, and do not wait for it: what follows can be prepared meanwhile."""
    global _tidying
    options = json.dumps([target.pk, target.transport, target.options], sort_keys=True, default=str).encode()
    # A target that was changed is another one.
    name = hashlib.sha256(options + bytes(target.credentials or b"")).hexdigest()
    _tidy()
    with _lock:
        line = _lines.get(name)
        if line is not None:
            if not line.failed:
                line.used = time.monotonic()
            return line
        line = _lines[name] = _Line(transport_of(target), used=time.monotonic())
        if not _tidying:
            _tidying = True
            threading.Thread(target=_keep_tidy, name="reach-tidy", daemon=True).start()
    threading.Thread(target=_open, args=(line, root_of(target)), name=f"reach-{target.pk}", daemon=True).start()
    return line


def _open(line: _Line, root: str) -> None:
    try:
        line.opened.set_result(Host(line.transport, root))
    except BaseException as error:
        line.used = time.monotonic()
        line.opened.set_exception(error)


def _tidy() -> None:
    """Close what nobody has asked for lately."""
    now = time.monotonic()
    with _lock:
        old = [_lines.pop(name) for name, line in list(_lines.items()) if line.over(now)]
    for line in old:
        with contextlib.suppress(Exception):
            line.close()


def _keep_tidy() -> None:
    global _tidying
    while True:
        time.sleep(TIDY_SECONDS)
        _tidy()
        with _lock:
            if not _lines:
                _tidying = False
                return


def close_all() -> None:
    """End every connection that is kept here. For tests, and for whoever goes."""
    with _lock:
        old = list(_lines.values())
        _lines.clear()
    for line in old:
        with contextlib.suppress(Exception):
            line.close()
