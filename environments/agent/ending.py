"""How a run ended: the words of its exit record."""

import re
import signal

from . import processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Match, Optional

_TRACEBACK = re.compile(
    rb"^(?P<rank>\[rank\d+\]: )?(?P<lead>[ |+]*)(?:Exception Group )?Traceback \(most recent call last\):[ \r]*$",
    re.MULTILINE,
)
_FRAME = re.compile(rb'^(?:\[rank\d+\]: )?[ |]*File "(?P<path>[^"\n]+)", line (?P<line>\d+)', re.MULTILINE)
# Of the script itself Python says it without a head.
_SYNTAX = re.compile(
    rb'^(?:\[rank\d+\]: )?  File "(?P<path>[^"\n]+)", line (?P<number>\d+)\r?\n(?:.*\n){0,3}'
    rb"(?:\[rank\d+\]: )?(?P<type>SyntaxError|IndentationError|TabError): (?P<message>[^\r\n]*)",
    re.MULTILINE,
)
_FINAL = re.compile(r"(?P<type>[A-Za-z_][\w.]*)(?:: (?P<message>.*))?\Z", re.DOTALL)
# What a launcher says when one of the processes that it started has failed: the error is that process's own, further up.
_MESSENGERS = ("ChildFailedError",)


class Tail(object):
    """The last 64 KiB of a log."""

    KEPT = 64 * 1024

    def __init__(self) -> None:
        self._data = bytearray()
        self._dropped = 0

    def add(self, data: "Any") -> None:
        """Follow bytes as they are written."""
        if len(data) >= self.KEPT:
            self._dropped += len(self._data) + len(data) - self.KEPT
            self._data[:] = data[-self.KEPT :]
            return
        self._data += data
        if len(self._data) > 4 * self.KEPT:
            drop = len(self._data) - self.KEPT
            self._dropped += drop
            del self._data[:drop]

    @property
    def start(self) -> int:
        """Offset in the log of the first byte that is still here."""
        return self._dropped

    def error(self, code: bytes = b"") -> "Optional[Dict[str, Any]]":
        """The last traceback's final line as {"type", "message", "line"}, `line` from 1; None where there is none.

        With "file" and "file_line": its innermost frame in a file of the project, whose folder is `code`.
        """
        data = bytes(self._data)
        messenger = None
        for found in reversed(list(_TRACEBACK.finditer(data))):
            error = _final_line(data, found, code)
            if error is None or error["type"].rpartition(".")[2] not in _MESSENGERS:
                return error or messenger
            messenger = messenger or error
        return _syntax_error(data, code) or messenger


def _final_line(data: bytes, found: "Match[bytes]", code: bytes) -> "Optional[Dict[str, Any]]":
    # PyTorch puts the rank before each line; lines of other ranks may stand between.
    rank = found.group("rank") or b""
    inside = found.group("lead").replace(b"+", b"|").rstrip() + b" " if b"|" in found.group("lead") else b""
    place = found.end() + 1
    while place < len(data):
        end = data.find(b"\n", place)
        end = len(data) if end < 0 else end
        line = data[place:end].rstrip(b"\r")
        if line.startswith(rank):
            line = line[len(rank) :]
            if inside and line.startswith(inside):
                line = line[len(inside) :]
            if line and not line[:1].isspace() and not line.startswith((b"+", b"|")):
                match = _FINAL.match(line.decode("utf-8", "replace"))
                if match is None:
                    return None
                number = data.count(b"\n", 0, place)
                message = (match.group("message") or "")[:4000]
                error = {"type": match.group("type"), "message": message, "line": number}
                error.update(_position(data[found.end() : place], code))
                return error
        place = end + 1
    return None


def _syntax_error(data: bytes, code: bytes) -> "Optional[Dict[str, Any]]":
    every = list(_SYNTAX.finditer(data))
    if not every:
        return None
    found = every[-1]
    error = {
        "type": found.group("type").decode(),
        "message": found.group("message").decode("utf-8", "replace")[:4000],
        "line": data.count(b"\n", 0, found.start("type")),
    }  # type: Dict[str, Any]
    error.update(_position(data[found.start() : found.end()], code))
    return error


def _position(frames: bytes, code: bytes) -> "Dict[str, Any]":
    """Where in the project a traceback leads: {"file", "file_line"}, or nothing."""
    for frame in reversed(list(_FRAME.finditer(frames))):
        path = frame.group("path")
        if code and path.startswith(code + b"/"):
            path = path[len(code) + 1 :]
        # Before Python 3.9 a script's own frames name it as it was called.
        if not path.startswith((b"/", b"<", b"../")):
            return {"file": path.decode("utf-8", "replace"), "file_line": int(frame.group("line"))}
    return {}


def oom_kills() -> int:
    """How often this machine, and this cgroup, ended a process for want of memory."""
    total = 0
    try:
        with open("/proc/vmstat", "rb") as file:
            text = file.read()
            place = text.find(b"\noom_kill ")
            total += int(text[place + 10 : text.index(b"\n", place + 1)]) if place >= 0 else 0
    except OSError:
        pass
    try:
        with open("/proc/self/cgroup") as file:
            groups = [line.rstrip("\n").split(":", 2)[2] for line in file if line.startswith("0::")]
        for group in groups:
            with open("/sys/fs/cgroup%s/memory.events" % group.rstrip("/")) as file:
                total += sum(int(line.split()[1]) for line in file if line.startswith("oom_kill "))
    except (OSError, ValueError, IndexError):
        pass
    return total


def reason_of(code: int, error: "Optional[Dict[str, Any]]", killed_by_us: bool, oom: bool, refused: bool) -> str:
    """The reason for a wait status's code (negative: a signal) of a run that nobody asked to stop.

    `error` is the last traceback, `refused` whether the disk took no more bytes of the log.
    """
    if code == 0:
        return "exited"
    if code == -signal.SIGKILL and oom and not killed_by_us:
        return "out_of_memory"
    kind = error["type"].rpartition(".")[2] if error else ""
    if kind == "MemoryError":
        return "out_of_memory"
    if refused or (error and kind in ("OSError", "IOError") and "[Errno 28]" in error["message"]):
        return "disk_full"
    return "exit_code" if code > 0 else "signal"


def identity(pid: int) -> "Dict[str, Any]":
    """What tells a process from every other that ever had its number."""
    return {"pid": pid, "start_time": processes.start_time(pid), "boot_id": processes.boot_id()}
