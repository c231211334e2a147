"""Reading a log by byte and by line, live or sealed, with bounded memory."""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from runs.logs.ansi import is_blank
from runs.logs.frames import Frame, Live, LogLost, Sealed, Source
from runs.models import LogStream
from studio.blobs import BlobStore


@dataclass(frozen=True, slots=True)
class Line:
    """One line as it is shown. Of a line with carriage returns only the last update is."""

    number: int
    """From 1."""
    offset: int
    """Of its first byte in the log."""
    size: int
    """Bytes of the whole line, without its break."""
    text: bytes
    """The last update, cut to the limit."""
    cut: int
    """Bytes of the last update that are not in ``text``."""
    folded: int
    """Earlier updates of the same line that are not shown."""
    time: float | None
    """Unix time at which its first byte was written."""


class Reader:
    """One log as it was when this object was made: later bytes are not seen."""

    def __init__(self, stream: LogStream) -> None:
        self.stream = stream
        self.size = stream.size
        self._source: Source | None = None
        self._count: int | None = None

    @property
    def count(self) -> int:
        """Lines, the last of which may lack its break."""
        if self._count is None:
            partial = self.size > 0 and not self.read(self.size - 1, 1).endswith(b"\n")
            self._count = self.stream.lines + partial
        return self._count

    # By byte.

    def read(self, offset: int, limit: int) -> bytes:
        """At most ``limit`` bytes from ``offset``; fewer only at the end."""
        return b"".join(self.iter(offset, limit))

    def iter(self, offset: int = 0, count: int | None = None) -> Iterator[bytes]:
        """``count`` bytes from ``offset`` on (all of the log) in pieces, for a download."""
        end = self.size if count is None else min(offset + count, self.size)
        for frame in self.frames(offset):
            yield frame.data[max(offset - frame.offset, 0) : end - frame.offset]
            if frame.end >= end:
                return

    def frames(self, offset: int = 0) -> Iterator[Frame]:
        """The frames from the one that holds ``offset`` on. Raises LogLost where one is missing."""
        while offset < self.size:
            frame = self._at_offset(offset)
            yield frame
            offset = frame.end

    def frames_before(self, offset: int) -> Iterator[Frame]:
        """The frames that begin before ``offset``, last first."""
        while offset > 0:
            frame = self._at_offset(offset - 1)
            yield frame
            offset = frame.offset

    def _at_offset(self, offset: int) -> Frame:
        return self._found(lambda source: source.at_offset(offset), offset)

    def _found(self, look: Callable[[Source], Frame | None], offset: int) -> Frame:
        frame = look(self._open())
        if frame is None and not self.stream.sealed:
            # The log may have been sealed, or its last chunk rewritten, between two looks.
            self.stream.refresh_from_db(fields=["sealed", "index"])
            self._source = None
            frame = look(self._open())
        if frame is None:
            raise LogLost(f"The log has {self.size:,} bytes, but those from {offset:,} on are missing.")
        if frame.end > self.size:
            return Frame(frame.offset, frame.first_line, frame.data[: self.size - frame.offset], frame.packed_times)
        return frame

    def _open(self) -> Source:
        if self._source is None:
            stream = self.stream
            if stream.sealed:
                self._source = Sealed(stream, BlobStore(workspace_of(stream)))
            else:
                self._source = Live(stream)
        return self._source

    # By line.

    def line_at(self, offset: int) -> int:
        """Number of the line that holds the byte ``offset``; of the last line when it is past the end."""
        if not self.size:
            return 1
        offset = min(offset, self.size - 1)
        frame = self._at_offset(offset)
        return frame.first_line + frame.data.count(b"\n", 0, offset - frame.offset) + 1

    def offset_of(self, number: int) -> int:
        """Of the first byte of line ``number``; the size when there is no such line."""
        if number <= 1 or not self.size:
            return 0
        if number > self.stream.lines + 1:
            return self.size
        frame = self._found(lambda source: source.at_line(number - 1), self.size)
        return frame.offset + frame.after_break(number - 1 - frame.first_line)

    def lines(self, first: int, count: int, max_chars: int = 4000) -> list[Line]:
        """At most ``count`` lines from number ``first`` (from 1) on.

        Memory is bounded by ``count`` × 4 × ``max_chars`` and two frames, also when a line has 1 GB.
        """
        first = max(first, 1)
        offset = self.offset_of(first)
        made: list[Line] = []
        line = _Partial(max_chars * 4)
        for frame in self.frames(offset):
            position = max(offset - frame.offset, 0)
            while len(made) < count:
                stop = frame.data.find(b"\n", position)
                if line.offset is None:
                    line.offset = frame.offset + position
                    line.time = _time_at(frame, line.offset)
                line.add(frame.data, position, len(frame.data) if stop < 0 else stop)
                if stop < 0:
                    break
                made.append(line.finish(first + len(made)))
                position = stop + 1
                if position == len(frame.data):
                    break
            if len(made) == count:
                return made
        if line.offset is not None:
            made.append(line.finish(first + len(made)))
        return made

    def tail(self, count: int, max_chars: int = 4000) -> list[Line]:
        """The last ``count`` lines."""
        return self.lines(self.count - count + 1, count, max_chars)


def _time_at(frame: Frame, offset: int) -> float | None:
    """When the byte at ``offset`` was written: the entry at or before it. Each frame has the one that holds at its begin."""
    offsets, times = frame.times
    found = bisect_right(offsets, offset)
    return times[found - 1] if found else None


class _Partial:
    """A line while its pieces come: what its last update says, and how much was passed over."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._reset()

    def _reset(self) -> None:
        self.offset: int | None = None
        self.time: float | None = None
        self._size = 0
        self._returns = 0
        self._leading = False
        self._ends_with_return = False
        self._now = b""
        """Begin of what follows the last carriage return, and how long that is."""
        self._now_size = 0
        self._last = b""
        """The same of the last update before it that shows anything."""
        self._last_size = 0

    def add(self, data: bytes, start: int, stop: int) -> None:
        if start == stop:
            return
        if not self._size:
            self._leading = data[start] == 0x0D
        self._size += stop - start
        self._ends_with_return = data[stop - 1] == 0x0D
        returns = data.count(b"\r", start, stop)
        if returns:
            self._returns += returns
            self._turn(data, start, stop)
        else:
            self._keep(data, start, stop)

    def _turn(self, data: bytes, start: int, stop: int) -> None:
        """Go to the last update of this piece; remember the last one before it that shows anything."""
        first = data.find(b"\r", start, stop)
        begin = data.rfind(b"\r", first, stop) + 1
        self._keep(data, start, first)
        if not is_blank(self._now):
            self._last, self._last_size = self._now, self._now_size
        end = begin - 1
        for _ in range(16):
            if end <= first:
                break
            previous = data.rfind(b"\r", first, end) + 1
            update = data[previous : min(end, previous + self._limit)]
            if not is_blank(update):
                self._last, self._last_size = update, end - previous
                break
            end = previous - 1
        self._now, self._now_size = data[begin : min(stop, begin + self._limit)], stop - begin

    def _keep(self, data: bytes, start: int, stop: int) -> None:
        self._now_size += stop - start
        room = self._limit - len(self._now)
        if room > 0:
            self._now += data[start : min(stop, start + room)]

    def finish(self, number: int) -> Line:
        text, size = self._now, self._now_size
        if self._returns and is_blank(text):
            text, size = self._last, self._last_size
        folded = max(self._returns - self._leading - self._ends_with_return, 0)
        assert self.offset is not None
        line = Line(number, self.offset, self._size, text, size - len(text), folded, self.time)
        self._reset()
        return line


def workspace_of(stream: LogStream) -> int:
    """Id of the workspace that holds the object of a log."""
    if stream.run is not None:
        return stream.run.workspace_id
    assert stream.build is not None
    return stream.build.target.workspace_id
