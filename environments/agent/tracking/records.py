"""`records.jsonl` as this server sees it: appended in one write each, folded again when somebody reads."""

import json
import os
import stat
import threading

from ..files import is_full
from .problems import Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterator, List, Optional, Tuple

PIECE = 1 << 20
SPECIAL = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


def number(value: "Any") -> "Optional[float]":
    """The value of a point: a number, or one of the texts that stand for what is none."""
    if type(value) is float or type(value) is int:
        try:
            return float(value)
        except OverflowError:
            return None
    return SPECIAL.get(value) if isinstance(value, str) else None


def points(record: "Dict[str, Any]") -> "Iterator[Tuple[str, float, Optional[int], float]]":
    """(name, value, step or None, unix time) of each point that the record holds."""
    kind = record.get("op")
    if kind is None:
        items: "List[Tuple[Any, Any]]" = [(record.get("k"), record.get("v"))]
    elif kind == "batch" and isinstance(record.get("m"), dict):
        items = list(record["m"].items())
    else:
        return
    step, at = record.get("s"), number(record.get("t"))
    for name, raw in items:
        value = number(raw)
        if isinstance(name, str) and value is not None:
            yield name, value, step if type(step) is int else None, at or 0.0


class Records(object):
    """The file of one run. Every method may be called from any thread."""

    def __init__(self, path: str) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        self._fd = os.open(path, flags, 0o600)
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):
            raise OSError("records.jsonl is no regular file")
        self._torn = False
        self._lock = threading.Lock()
        self._offset = 0
        self.latest: "Dict[str, Tuple[int, float, float]]" = {}
        """Name → (step, unix time, value) of the newest point."""
        self._next: "Dict[str, int]" = {}
        self.params: "Dict[str, str]" = {}
        self.tags: "Dict[str, str]" = {}
        self.name = ""
        self.note = ""

    def append(self, data: bytes) -> None:
        """Write whole lines in one call. Raises Problem when the disk takes none or only a part of them."""
        if self._torn:
            data = b"\n" + data  # so that the half line before spoils no other
        try:
            done = os.write(self._fd, data)
        except OSError as error:
            if is_full(error):
                raise Problem("IO_ERROR", "The target's disk is full: nothing was stored.")
            raise Problem("IO_ERROR", "The run's records cannot be written: %s" % error)
        self._torn = done < len(data)
        if self._torn:
            raise Problem("IO_ERROR", "The target's disk became full: a part of this call was not stored.")

    def set_params(self, params: "Dict[str, str]", lines: bytes) -> None:
        """Append `lines`, which hold `params`. Raises Problem when one of them has another value already."""
        with self._lock:
            for name, value in params.items():
                old = self.params.get(name)
                if old is not None and old != value:
                    raise Problem(
                        "INVALID_PARAMETER_VALUE",
                        "Changing param values is not allowed. Param '%s' has the value '%s' and was logged "
                        "again as '%s'. "
                        "Use another name, or a tag." % (name, old[:100], value[:100]),
                    )
            self.append(lines)
            self.params.update(params)

    def refresh(self) -> None:
        """Fold in what was appended since, by this server or by the script itself."""
        with self._lock:
            for offset, record in self.scan(self._offset):
                self._fold(record)
                self._offset = offset

    def scan(self, offset: int) -> "Iterator[Tuple[int, Dict[str, Any]]]":
        """(offset after it, record) of each whole line from `offset` on.

        Lines that are no object are skipped.
        """
        rest = b""
        place = offset
        while True:
            data = os.pread(self._fd, PIECE, place)
            if not data:
                return
            place += len(data)
            lines = (rest + data).split(b"\n")
            rest = lines.pop()
            for line in lines:
                offset += len(line) + 1
                try:
                    record = json.loads(line.decode())
                except (ValueError, RecursionError):
                    continue
                if isinstance(record, dict):
                    yield offset, record

    def _fold(self, record: "Dict[str, Any]") -> None:
        kind = record.get("op")
        if kind is None or kind == "batch":
            for key, point, logged_step, at in points(record):
                step = self._next.get(key, 0) if logged_step is None else logged_step
                self._next[key] = step + 1
                old = self.latest.get(key)
                if old is None or (step, at) >= old[:2]:
                    self.latest[key] = (step, at, point)
            return
        name, value = record.get("k"), record.get("v")
        if kind == "name" and isinstance(value, str):
            self.name = value
        elif kind == "note" and isinstance(value, str):
            self.note = value
        elif not isinstance(name, str):
            return
        elif kind == "param" and isinstance(value, str):
            self.params[name] = value
        elif kind == "tag":
            self.tags[name] = value if isinstance(value, str) else ""
        elif kind == "untag":
            self.tags.pop(name, None)

    def history(self, name: str, most: int, token: str) -> "Tuple[List[Tuple[float, int, float]], str]":
        """Points of one metric, oldest first: (value, step, unix time), about `most`; token for more or "".

        The token is `offset-next step`. Raises Problem for another.
        """
        try:
            offset, step_next = (int(part) for part in (token or "0-0").split("-"))
        except ValueError:
            raise Problem("INVALID_PARAMETER_VALUE", "page_token: not one that this server gave.")
        found: "List[Tuple[float, int, float]]" = []
        for after, record in self.scan(offset):
            for key, value, logged_step, at in points(record):
                if key == name:
                    step = step_next if logged_step is None else logged_step
                    step_next = step + 1
                    found.append((value, step, at))
            if len(found) >= most:
                return found, "%d-%d" % (after, step_next)
        return found, ""
