"""What takes the space below the root."""

import os
import re
import time

from . import files, publishing
from .layout import KINDS, Layout, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Tuple

ALL = ("agent", "lib", "envs", "builds", "blobs", "cache", "runs", "tools", "spares")
KEY = re.compile(r"[0-9a-f]{64}\Z")


class Walk(object):
    """Measures folders until its time is up; then what it says is the least there is."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self.whole = True

    def size(self, path: str) -> int:
        """Bytes that the disk gets back when `path` is removed: a file that has a name elsewhere too gives nothing."""
        total, todo = 0, [path]
        linked: "Dict[Tuple[int, int], int]" = {}
        while todo:
            if time.monotonic() > self._end:
                self.whole = False
                break
            place = todo.pop()
            try:
                entries = list(os.scandir(place))
            except NotADirectoryError:
                total += os.lstat(place).st_blocks * 512
                continue
            except OSError:
                continue
            for entry in entries:
                try:
                    found = entry.stat(follow_symlinks=False)
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(entry.path)
                        continue
                except OSError:
                    continue
                if found.st_nlink == 1:
                    total += found.st_blocks * 512
                else:
                    key = (found.st_dev, found.st_ino)
                    linked[key] = linked.get(key, 0) + 1
                    if linked[key] == found.st_nlink:
                        total += found.st_blocks * 512
        return total


def disk(root: str) -> "Dict[str, int]":
    """Free and total bytes of the disk that the root is on; and free files, since a disk may run out of them first."""
    found = os.statvfs(root)
    return {
        "free": found.f_bavail * found.f_frsize,
        "total": found.f_blocks * found.f_frsize,
        "files_free": found.f_favail,
        "files_total": found.f_files,
    }


def usage(layout: Layout, kinds: "Any", seconds: float) -> "Dict[str, Any]":
    """{"disk", "kinds": {kind: {"bytes", "count", "oldest", "newest", "whole"}}}; times are unix seconds of the last use.

    It walks for about `seconds`; what it could not see by then is not counted, and `whole` is false.
    """
    if not isinstance(kinds, list) or any(kind not in ALL for kind in kinds):
        raise Refused("bad_request", "kinds: a list of %s is needed" % ", ".join(ALL))
    walk = Walk(seconds)
    found = {}
    for kind in [kind for kind in ALL if kind in kinds]:
        walk.whole = True
        parts = _parts(layout, kind, walk)
        times = [used for used, _ in parts]
        found[kind] = {
            "bytes": sum(size for _, size in parts),
            "count": len(parts),
            "oldest": min(times) if times else None,
            "newest": max(times) if times else None,
            "whole": walk.whole,
        }
    return {"disk": disk(layout.root), "kinds": found}


def _parts(layout: Layout, kind: str, walk: Walk) -> "List[Tuple[float, int]]":
    """(last use, bytes) of each thing of a kind."""
    if kind in KINDS:
        folders = [os.path.join(layout.root, kind, name) for name in layout.attempts(kind)]
        return [(last_sign(folder), walk.size(folder)) for folder in folders]
    if kind == "blobs":
        return [(used, size) for used, size, _ in contents(layout)]
    place = os.path.join(layout.root, kind)
    parts = []
    for name in names_in(place):
        path = os.path.join(place, name)
        if kind == "envs" and KEY.match(name):
            mark = os.path.join(path, publishing.MARK)
            size = (files.read_json(mark, files.MAX_RESULT) or {}).get("size")
            parts.append((mtime(mark) or mtime(path), size if isinstance(size, int) else walk.size(path)))
        elif kind != "envs" and not name.startswith("."):
            parts.append((mtime(path), walk.size(path)))
    return parts


def names_in(place: str) -> "List[str]":
    """Names in a folder, sorted; none where it is not there."""
    try:
        return sorted(os.listdir(place))
    except OSError:
        return []


def mtime(path: str) -> float:
    """Time of the last write; 0 where there is nothing."""
    try:
        return os.lstat(path).st_mtime
    except OSError:
        return 0.0


def last_sign(folder: str) -> float:
    """When an attempt last showed a sign of itself."""
    return max(mtime(os.path.join(folder, name)) for name in ("exit.json", "heartbeat", "spec.json", "claim"))


def contents(layout: Layout) -> "List[Tuple[float, int, str]]":
    """(last use, bytes, path) of every content."""
    found = []
    for folder in names_in(layout.blobs):
        try:
            entries = list(os.scandir(os.path.join(layout.blobs, folder)))
        except OSError:
            continue
        for entry in entries:
            if not KEY.match(entry.name):
                continue
            try:
                seen = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            found.append((seen.st_mtime, seen.st_blocks * 512, entry.path))
    return found


def changed(path: str) -> float:
    """Time of the last change, of the name too; 0 where there is nothing."""
    try:
        return os.lstat(path).st_ctime
    except OSError:
        return 0.0
