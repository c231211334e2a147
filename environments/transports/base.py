"""What a transport is: it opens a byte stream to a process on the target, and nothing more."""

from __future__ import annotations

from io import BufferedReader
from typing import BinaryIO, Protocol


class TransportError(Exception):
    """The stream could not be opened. `permanent`: trying again will not help until somebody changes
    something. `code` names the fault for programs, `fix` says to people what to do about it."""

    def __init__(self, message: str, permanent: bool = False, code: str = "failed", fix: str = "") -> None:
        super().__init__(message)
        self.permanent = permanent
        self.code = code
        self.fix = fix


class Stream(Protocol):
    """Stdin and stdout of a process on the target."""

    reader: BufferedReader
    """The process's stdout; buffered, `read(n)` blocks until n bytes or the end, `read1(n)` until some."""
    writer: BinaryIO
    """The process's stdin; unbuffered or flushed by `flush()`."""

    def close(self) -> None:
        """End the stream, and with it the agent. A reader blocked in another thread sees its end. May be
        called twice."""

    def progress(self) -> int:
        """A number that grows when the other side takes bytes that were written a while ago; constant where that
        cannot be known."""

    def stderr_tail(self) -> str:
        """The last few kilobytes that the process wrote to stderr, for an error's message."""


class Transport(Protocol):
    """A way to a target."""

    python: str
    """The interpreter that runs the agent there: a path, or a name on the target's PATH."""

    def open(self, argv: list[str]) -> Stream:
        """Start a process on the target. May be called again while earlier streams live. Raises TransportError."""

    def close(self) -> None:
        """End what the streams share, a connection say. May be called twice."""
