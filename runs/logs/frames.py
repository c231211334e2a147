"""The pieces a log is kept in, and how to find one by line or by byte.

A sealed log is one valid ``.zst`` file: for each frame of text a skippable frame before it, which decoders pass over, with the
times. ``LogStream.index`` holds 24 bytes for each: offset in the log, line breaks before it, position in the object.
"""

import struct
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import zstandard

from runs.models import LogChunk, LogStream
from studio.blobs import BlobMissing, BlobStore

CHUNK = 1024 * 1024
ENTRY = struct.Struct("<QQQ")
_SKIPPABLE = struct.Struct("<II")
_MAGIC = 0x184D2A50

Times = tuple[list[int], list[float]]


class LogLost(LookupError):
    """Bytes that a log should have are not there."""


def compress(data: bytes) -> bytes:
    """One frame. Level 1: a log is written once at full speed and read seldom."""
    return zstandard.ZstdCompressor(level=1).compress(data)


def decompress(frame: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompress(frame)


def read_times(packed: bytes) -> Times:
    """Entries of 16 bytes (offset u64, unix time f64) as two lists."""
    view = memoryview(packed)[: len(packed) // 16 * 16]
    return list(view.cast("Q")[::2]), list(view.cast("d")[1::2])


@dataclass(frozen=True)
class Frame:
    """A piece of a log: ``data`` begins at byte ``offset``, after ``first_line`` line breaks."""

    offset: int
    first_line: int
    data: bytes
    packed_times: bytes

    @property
    def end(self) -> int:
        return self.offset + len(self.data)

    @cached_property
    def times(self) -> Times:
        return read_times(self.packed_times)

    def after_break(self, count: int) -> int:
        """Position in ``data`` just after its line break number ``count``; 0 for none."""
        low, high, below = 0, len(self.data), 0
        if count <= 0:
            return 0
        # Halving by counts: two passes of C over the data instead of a step of Python for each line.
        while high - low > 512:
            middle = (low + high) // 2
            found = below + self.data.count(b"\n", low, middle)
            if found < count:
                low, below = middle, found
            else:
                high = middle
        while below < count:
            low = self.data.index(b"\n", low) + 1
            below += 1
        return low


class Source(Protocol):
    """Where frames come from. Both return None past the end."""

    def at_line(self, breaks: int) -> Frame | None:
        """The frame in which the line after ``breaks`` line breaks begins (at its very end when the break is its last byte)."""

    def at_offset(self, offset: int) -> Frame | None:
        """The frame that holds the byte ``offset``."""


class Live:
    """Chunks in the database."""

    def __init__(self, stream: LogStream) -> None:
        self._rows = LogChunk.objects.filter(stream=stream)

    def at_line(self, breaks: int) -> Frame | None:
        if not breaks:
            return self.at_offset(0)
        # A line of 1 GB is a thousand chunks with the same first_line: sort offsets, not rows with their data.
        found = (
            self._rows.filter(first_line__lt=breaks).order_by("-first_line", "-offset").values_list("offset", flat=True)
        )
        offset = found.first()
        return None if offset is None else self._frame(offset)

    def at_offset(self, offset: int) -> Frame | None:
        found = self._rows.filter(offset__lte=offset).order_by("-offset").values_list("offset", flat=True).first()
        frame = None if found is None else self._frame(found)
        return frame if frame is not None and offset < frame.end else None

    def _frame(self, offset: int) -> Frame | None:
        row = self._rows.filter(offset=offset).first()
        return None if row is None else frame_of(row)


def frame_of(row: LogChunk) -> Frame:
    return Frame(row.offset, row.first_line, decompress(bytes(row.data)), bytes(row.times))


class Sealed:
    """One object in the storage."""

    def __init__(self, stream: LogStream, store: BlobStore) -> None:
        self._store = store
        self._digest = stream.sealed
        self._size = stream.size
        entries = list(ENTRY.iter_unpack(bytes(stream.index)))
        self._offsets = [entry[0] for entry in entries]
        self._lines = [entry[1] for entry in entries]
        self._positions = [entry[2] for entry in entries]

    def at_line(self, breaks: int) -> Frame | None:
        return self._frame(max(bisect_left(self._lines, breaks) - 1, 0)) if self._offsets else None

    def at_offset(self, offset: int) -> Frame | None:
        return self._frame(bisect_right(self._offsets, offset) - 1) if 0 <= offset < self._size else None

    def _frame(self, number: int) -> Frame:
        start = self._positions[number]
        length = self._positions[number + 1] - start if number + 1 < len(self._positions) else None
        try:
            piece = self._store.read(self._digest, start, length)
        except (BlobMissing, OSError) as error:
            raise LogLost(f"The object {self._digest} of this log cannot be read: {error}") from error
        _, packed = _SKIPPABLE.unpack_from(piece)
        text = _SKIPPABLE.size + packed
        times = piece[_SKIPPABLE.size : text]
        return Frame(
            self._offsets[number],
            self._lines[number],
            decompress(piece[text:]),
            decompress(times) if times else b"",
        )


def sealed_piece(data: bytes, times: bytes) -> bytes:
    """A frame of a sealed log with its times before it."""
    packed = compress(times) if times else b""
    return _SKIPPABLE.pack(_MAGIC, len(packed)) + packed + compress(data)
