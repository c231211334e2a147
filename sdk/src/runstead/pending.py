"""One key for one submit, however often it is interrupted and repeated.

The key of a request that makes something is written down before the request leaves and removed when its answer is here. Whoever
is interrupted between the two and asks for the same again finds the key, and the studio answers with what the first made. Two
equal submits at the same time are two: a key belongs to a living process as long as that holds the file's lock.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid

from .transport import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Optional, Type

HOURS = 24
"""A submit that was interrupted longer ago than this is another one."""


class Pending:
    """A context around one request. `key` is what it sends as `Idempotency-Key`; `again` tells that a process before us has sent
    it, or was about to.

    The key stays for another attempt when the block ends by an exception, except by the studio's refusal.
    """

    def __init__(self, place: str, body: Any) -> None:
        text = json.dumps([place, body], sort_keys=True)
        self._base = os.path.join(cache_folder(), "pending", hashlib.sha256(text.encode()).hexdigest()[:32])
        self._fd = -1
        self._path = ""
        self.key = str(uuid.uuid4())
        self.again = False

    def __enter__(self) -> Pending:
        try:
            os.makedirs(os.path.dirname(self._base), 0o700, exist_ok=True)
            self._take()
        except OSError:
            pass  # no place to write: then the key holds for this process only
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if self._fd < 0:
            return
        refused = isinstance(error, ApiError) and 400 <= error.status < 500
        try:
            if error is None or refused:
                os.unlink(self._path)
        except OSError:
            pass
        os.close(self._fd)
        self._fd = -1

    def _take(self) -> None:
        folder, name = os.path.split(self._base)
        left = [found for found in sorted(os.listdir(folder)) if found.startswith(name + ".")]
        for found in [*left, "%s.%s" % (name, self.key)]:
            path = os.path.join(folder, found)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0), 0o600)
            # One that is locked is an equal submit under way; one that is not there any more has just ended.
            if not _lock(fd) or not _same(fd, path):
                os.close(fd)
                continue
            self._fd, self._path = fd, path
            kept = os.read(fd, 64).decode("ascii", "replace")
            if len(kept) == len(self.key) and time.time() - os.fstat(fd).st_mtime < HOURS * 3600:
                self.key, self.again = kept, True
            else:
                os.lseek(fd, 0, os.SEEK_SET)
                os.ftruncate(fd, 0)
                os.write(fd, self.key.encode())
            return


def cache_folder() -> str:
    """Where this user's caches of ours lie. What is in it may be removed at any time."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "runstead")


def _lock(fd: int) -> bool:
    """Lock the file for this process, unless another has it."""
    try:
        import fcntl
    except ImportError:
        import msvcrt

        try:
            # Behind the key: Windows keeps others from reading what is locked.
            os.lseek(fd, 1000, os.SEEK_SET)
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
            os.lseek(fd, 0, os.SEEK_SET)
        except OSError:
            return False
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _same(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False
