"""Waiting for anything to change in many run directories at once."""

import os
import select
import stat
import threading
import time

from . import evidence, files, notify
from .layout import Layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Tuple

_STREAMS = (
    ("log", "log"),
    ("records", "records.jsonl"),
    ("samples", "samples.jsonl"),
    ("times", "log.times"),
)
_MASK = notify.MODIFY | notify.CREATE | notify.MOVED_TO | notify.MOVED_FROM | notify.DELETE
_UNSEEN = (b"heartbeat", b"exit.reserve")
_LAZY = (b"samples.jsonl", b"log.times")
"""Files whose growth wakes nobody: it is told with whatever comes next, at the end of a wait, or after some seconds."""
_GATHER = 0.002
_LOCKS_EVERY = 1.0
_LAZY_EVERY = 4.0
_LOOK_EVERY = 0.1
_MAX_LINE = 1 << 20
_MAX_FILES = 100
_MAX_DEPTH = 3
_MAX_NAME = 400
_FORGET_AFTER = 60.0


class Folder(object):
    """What is known of one watched attempt."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.generation = 1
        self.numbers: "List[int]" = []
        self.wanted_at = 0.0
        self.locked = ["", ""]
        self.behind = False
        self.probe_at = 0.0
        self.lazy_at = 0.0
        self.settled: "Any" = None
        """(generation, cursors) at which nothing new was found, so that nobody need look again."""


class Watcher(object):
    """Serves any number of `watch` calls. One thread listens to the kernel while somebody waits."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._changed = threading.Condition()
        self._folders: "Dict[str, Folder]" = {}
        self._by_number: "Dict[int, Folder]" = {}
        self._clock = 0
        self._pokes = 0
        self._waiting = 0
        self._turn = 0
        try:
            self._inotify: "Optional[notify.Inotify]" = notify.Inotify()
            threading.Thread(target=self._listen, daemon=True).start()
        except OSError:
            self._inotify = None

    def poke(self) -> None:
        """End the watches that wait now."""
        with self._changed:
            self._pokes += 1
            self._changed.notify_all()

    @property
    def pokes(self) -> int:
        """How often it was poked so far; a watch takes the number at its arrival."""
        return self._pokes

    def watch(self, request: "Dict[str, Any]", pokes: int) -> "Tuple[Dict[str, Any], List[bytes]]":
        """Wait until anything differs from the request's cursors; the reply and its body in pieces."""
        end = time.monotonic() + min(max(float(request.get("timeout") or 0), 0.0), 3600.0)
        limit = min(max(int(request.get("limit") or 1 << 20), 4096), 8 << 20)
        wanted = [(run, self._folder(run)) for run in request.get("runs") or []]
        with self._changed:
            self._waiting += 1
            self._changed.notify_all()
        try:
            next_locks = time.monotonic() + _LOCKS_EVERY
            fresh = True
            while True:
                clock = self._clock
                last = time.monotonic() >= end
                reply, body = self._collect(wanted, limit, fresh, last)
                poked = self._pokes != pokes
                if reply or poked or last:
                    return {"runs": reply, "poked": poked}, body
                fresh = self._wait(clock, pokes, min(end, next_locks)) or self._inotify is None
                if time.monotonic() >= next_locks:
                    next_locks, fresh = time.monotonic() + _LOCKS_EVERY, True
        finally:
            with self._changed:
                self._waiting -= 1

    def _wait(self, clock: int, pokes: int, until: float) -> bool:
        """Sleep until something changes; True when the time is up instead."""
        with self._changed:
            while self._clock == clock and self._pokes == pokes:
                left = until - time.monotonic()
                if left <= 0:
                    return True
                self._changed.wait(left if self._inotify is not None else min(left, _LOOK_EVERY))
                if self._inotify is None:
                    return True
        return False

    # -- what the kernel says

    def _folder(self, run: "Dict[str, Any]") -> Folder:
        path = self._layout.attempt(run.get("dir", "runs"), run.get("attempt"))
        now = time.monotonic()
        with self._changed:
            folder = self._folders.get(path)
            if folder is None:
                self._forget(now)
                folder = self._folders[path] = Folder(path)
            folder.wanted_at = now
            if not folder.numbers and self._inotify is not None:
                for place in (path, os.path.join(path, "code", "logs")):
                    try:
                        number = self._inotify.add(place, _MASK)
                    except OSError:
                        continue
                    folder.numbers.append(number)
                    self._by_number[number] = folder
                folder.generation += 1
        return folder

    def _forget(self, now: float) -> None:
        for path, folder in list(self._folders.items()):
            if now - folder.wanted_at > _FORGET_AFTER and not self._waiting:
                for number in folder.numbers:
                    self._by_number.pop(number, None)
                    if self._inotify is not None:
                        self._inotify.remove(number)
                del self._folders[path]

    def _listen(self) -> None:
        inotify = self._inotify
        if inotify is None:
            return
        poller = select.poll()
        poller.register(inotify.fd, select.POLLIN)
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()  # what happens meanwhile waits in the kernel, merged
            if not poller.poll(1000):
                continue
            time.sleep(_GATHER)
            with self._changed:
                for number, mask, name in inotify.read():
                    if name in _UNSEEN or name.endswith(b".tmp"):
                        continue
                    if name in _LAZY:
                        if number in self._by_number:
                            self._by_number[number].behind = True
                        continue
                    self._clock += 1
                    if mask & notify.OVERFLOW:
                        for folder in self._folders.values():
                            folder.generation += 1
                        continue
                    changed = self._by_number.get(number)
                    if changed is not None:
                        changed.generation += 1
                        if mask & notify.IGNORED:
                            self._by_number.pop(number, None)
                            changed.numbers = [kept for kept in changed.numbers if kept != number]
                self._changed.notify_all()

    # -- what the files say

    def _collect(
        self, wanted: "List[Tuple[Dict[str, Any], Folder]]", limit: int, locks: bool, last: bool
    ) -> "Tuple[List[Dict[str, Any]], List[bytes]]":
        reply: "List[Dict[str, Any]]" = []
        body: "List[bytes]" = []
        self._turn += 1
        now = time.monotonic()
        start = self._turn % len(wanted) if wanted else 0
        for index, (run, folder) in enumerate(wanted[start:] + wanted[:start]):
            generation = folder.generation
            cursors = (generation, run)
            if last or self._inotify is None or (locks and now >= folder.probe_at):
                folder.probe_at = now + _LOCKS_EVERY * 0.8  # a little less, so that a look each second finds it due
                behind = folder.behind and (last or now >= folder.lazy_at)
                locked = evidence.locks(folder.path)
                if behind or locked != folder.locked or self._inotify is None or not folder.numbers:
                    folder.locked, folder.settled = locked, None
                elif run.get("files") is not None and _has_folders(os.path.join(folder.path, "code", "logs")):
                    folder.settled = None  # what lies deeper is looked at now and then
            if folder.settled == cursors:
                continue
            share = max(limit // (len(wanted) - index), 4096)
            found = self._look(folder, run, share, body)
            if found is None:
                folder.settled = cursors
            else:
                limit -= sum(part[2] for part in found["parts"])
                reply.append(found)
                if limit <= 0:
                    break
        return reply, body

    def _look(
        self, folder: Folder, run: "Dict[str, Any]", room: int, body: "List[bytes]"
    ) -> "Optional[Dict[str, Any]]":
        folder.behind = False
        folder.lazy_at = time.monotonic() + _LAZY_EVERY
        seen = evidence.gather(folder.path)
        folder.locked = [seen["sup"], seen["job"]]
        revision = evidence.revision(seen)
        final = seen["exit"] is not None and seen["sup"] != "held"
        parts, more = [], False
        for name, file in _STREAMS:
            if name == "log" and seen.get("log_replaced"):
                continue
            lines = name in ("records", "samples")
            data = _read(os.path.join(folder.path, file), int(run.get(name) or 0), room, lines, final)
            if name == "times":
                data = data[: len(data) // 16 * 16]
            if data:
                parts.append([name, int(run.get(name) or 0), len(data)])
                body.append(data)
                room = max(room - len(data), 0)
            if seen["exit"] is not None and name != "log":
                more = more or _size(os.path.join(folder.path, file)) > int(run.get(name) or 0) + len(data)
        if isinstance(run.get("files"), dict):
            base = os.path.join(folder.path, "code")
            for path, size in _log_files(os.path.join(base, "logs")):
                offset = int(run["files"].get(path) or 0)
                if size == offset:
                    continue
                offset = offset if size > offset else 0  # it was started anew
                data = _read_beneath(base, path, offset, room)
                if data:
                    parts.append([path, offset, len(data)])
                    body.append(data)
                    room = max(room - len(data), 0)
                more = more or len(data) < size - offset
        if not parts and run.get("seen") == revision:
            return None
        return {"attempt": run["attempt"], "evidence": seen, "rev": revision, "parts": parts, "more": more}


def _read(path: str, offset: int, room: int, lines: bool, final: bool) -> bytes:
    """Up to `room` bytes from `offset`; for `lines` only whole ones, save an unfinished one of a run that
    has ended, or one that is
    too long to be anything sensible, which comes in pieces."""
    try:
        if os.lstat(path).st_size <= offset or not room:
            return b""
        fd = files.open_regular(path)
    except OSError:
        return b""
    try:
        data = os.pread(fd, max(room, _MAX_LINE) if lines else room, offset)
        at_end = lines and offset + len(data) >= os.fstat(fd).st_size
    except OSError:
        return b""
    finally:
        os.close(fd)
    if not lines or not data:
        return data
    end = data.rfind(b"\n", 0, room) + 1 or data.find(b"\n") + 1
    if end:
        return data if final and at_end and len(data) <= room else data[:end]
    return data if len(data) >= _MAX_LINE or (final and at_end) else b""


def _size(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0


def _read_beneath(base: str, path: str, offset: int, room: int) -> bytes:
    if not room:
        return b""
    try:
        fd = files.open_beneath(base, path)
    except OSError:
        return b""
    try:
        return os.pread(fd, room, offset)
    except OSError:
        return b""
    finally:
        os.close(fd)


def _has_folders(path: str) -> bool:
    try:
        return os.lstat(path).st_nlink != 2
    except OSError:
        return False


def _can_be_told(path: str) -> bool:
    try:
        return len(path.encode("utf-8")) <= _MAX_NAME
    except UnicodeEncodeError:
        return False


def _log_files(base: str) -> "List[Tuple[str, int]]":
    """Regular files below code/logs: path (from `logs/` on) and size, the first hundred by name."""
    found, todo = [], [(base, "logs", 1)]
    while todo:
        place, shown, depth = todo.pop()
        try:
            if not stat.S_ISDIR(os.lstat(place).st_mode):
                continue
            with os.scandir(place) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        if depth < _MAX_DEPTH:
                            todo.append((entry.path, shown + "/" + entry.name, depth + 1))
                    elif entry.is_file(follow_symlinks=False) and _can_be_told(shown + "/" + entry.name):
                        found.append((shown + "/" + entry.name, entry.stat(follow_symlinks=False).st_size))
        except OSError:
            continue
    return sorted(found)[:_MAX_FILES]
