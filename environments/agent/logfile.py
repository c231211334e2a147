"""The run's log as the supervisor writes it: masked, capped, digested, timed."""

import hashlib
import os
import struct
import time

from .ending import Tail
from .masking import Masker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterable, List, Optional

_TIME = struct.Struct("<Qd")
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_EVERY = 0.01


class Log(object):
    """Takes the script's bytes; never raises for a full disk, but counts what was lost."""

    def __init__(self, folder: str, secrets: "Iterable[str]", cap: int) -> None:
        self._path = os.path.join(folder, "log")
        self._fd = os.open(self._path, _FLAGS, 0o600)
        self._times = os.open(os.path.join(folder, "log.times"), _FLAGS, 0o600)
        self._masker = Masker(secrets)
        self._cap = cap
        self._sha = hashlib.sha256()
        self._last_time = 0.0
        self.tail = Tail()
        self.bytes = 0
        self.total = 0
        self.lost = 0

    @property
    def identity(self) -> "List[int]":
        """Device and inode: who finds another file under the log's name knows that it was replaced."""
        found = os.fstat(self._fd)
        return [found.st_dev, found.st_ino]

    def add(self, data: "Any") -> None:
        """Bytes of the script, as they come. `data` may be a view of a buffer that is used again
        afterwards."""
        if self._masker:
            data = self._masker.feed(bytes(data))
        if data:
            self._write(data)

    def finish(self) -> None:
        """The script writes no more: let go of what was held back."""
        data = self._masker.finish()
        if data:
            self._write(data)

    def _write(self, data: "Any") -> None:
        self.total += len(data)
        self.tail.add(data)
        room = self._cap - self.bytes
        kept = data if len(data) <= room else data[: max(room, 0)]
        if not kept:
            return
        start, done = self.bytes, 0
        try:
            while done < len(kept):
                done += os.write(self._fd, kept[done:] if done else kept)
        except OSError:
            self.lost += len(kept) - done
        if done < len(kept):
            kept = kept[:done]
        self._sha.update(kept)
        self.bytes += done
        now = time.time()
        if done and not 0 <= now - self._last_time < _EVERY:
            self._last_time = now
            try:
                os.write(self._times, _TIME.pack(start, now))
            except OSError:
                pass  # times are a comfort; the log itself says what was lost

    def record(self) -> "Dict[str, Any]":
        """The log's part of the exit record."""
        record = {
            "bytes": self.bytes,
            "sha256": self._sha.hexdigest(),
            "total": self.total,
            "lost": self.lost,
        }
        try:
            found = os.lstat(self._path)
            if [found.st_dev, found.st_ino] != self.identity or found.st_size != self.bytes:
                record["replaced"] = True
        except OSError:
            record["replaced"] = True
        return record

    def error(self, code: str = "") -> "Optional[Dict[str, Any]]":
        """The last traceback as {"type", "message", "line", "file", "file_line"}; `line` (from 1) is None when it is not in the
        log, the file is missing when none below the folder `code` is named."""
        error = self.tail.error(os.fsencode(code))
        if error is not None:
            whole = self.total == self.bytes
            error["line"] = self._newlines(self.tail.start) + error["line"] + 1 if whole else None
        return error

    def _newlines(self, end: int) -> int:
        """Line ends before an offset. Counted only when a run has failed: counting as they come would cost
        every run."""
        count = place = 0
        while place < end:
            data = os.pread(self._fd, min(end - place, 1 << 20), place)
            if not data:
                break
            count += data.count(b"\n")
            place += len(data)
        return count

    @property
    def refused(self) -> bool:
        """Whether the disk took less than it was given."""
        return self.lost > 0
