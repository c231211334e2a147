"""Bytes in: appended to the live chunks, sealed into one object after the end."""

import hashlib
import struct
import tempfile
from collections.abc import Iterator

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from runs.logs.frames import CHUNK, ENTRY, Frame, compress, frame_of, sealed_piece
from runs.logs.problems import Counter, count
from runs.logs.reader import Reader
from runs.models import LogChunk, LogStream
from studio.blobs import BlobStore

SMALL = 64 * 1024
"""A last chunk below this size takes in what comes next, so that one line a second does not make a row each."""
CARRY = 8 * 1024
"""How much of an unfinished line is looked at again when its rest comes."""
_OFFSET = struct.Struct("<Q")


class LogGap(ValueError):
    """Bytes that do not join what is there; ``size`` says at which offset to go on."""

    def __init__(self, size: int, offset: int) -> None:
        self.size = size
        super().__init__(
            f"offset: {size:,} bytes of the log are here, so the next ones begin there, not at {offset:,}."
        )


def append(stream: LogStream, offset: int, data: bytes, times: bytes = b"") -> int:
    """Store the bytes of a log from ``offset`` on; return how many it has now.

    Call inside the transaction that moves the reader's cursor. What is there already is dropped. ``times`` holds entries of
    16 bytes (offset u64, unix time f64, little endian), of these bytes or of later ones. Raises LogGap when bytes in between
    are missing, or when somebody else appended meanwhile, or when the log is sealed.
    """
    size = stream.size
    if offset > size:
        raise LogGap(size, offset)
    data = data[size - offset :]
    if not data:
        return size
    if stream.sealed:
        raise LogGap(size, offset)
    times_given = times
    last = LogChunk.objects.filter(stream=stream).order_by("-offset").first()
    carry = b""
    start, first_line = size, stream.lines
    fresh = data
    if last is not None:
        held = frame_of(last)
        carry = held.data[max(held.data.rfind(b"\n") + 1, len(held.data) - CARRY) :]
        if last.length < SMALL:
            data, times = held.data + data, held.packed_times + times
            start, first_line = last.offset, last.first_line
        else:
            times = _valid_at(held.packed_times, size) + times
            last = None
    chunks = list(_chunks(stream, start, first_line, data, times))
    # Lines count as errors and warnings once they are complete; the last one of a log when it is sealed.
    whole = fresh.rfind(b"\n") + 1
    found = count(carry + fresh[:whole]) if whole else (0, 0)
    end = chunks[-1]
    values = {
        "size": size + len(fresh),
        "lines": end.first_line + end.lines,
        "errors": stream.errors + found[0],
        "warnings": stream.warnings + found[1],
        "updated_at": timezone.now(),
    }
    if not LogStream.objects.filter(pk=stream.pk, size=size, sealed="").update(**values):
        raise LogGap(size, offset)
    if last is not None:
        chunks[0].pk = last.pk
        chunks[0].save(force_update=True)
    LogChunk.objects.bulk_create(chunks[0 if last is None else 1 :])
    late = times_given[: _entries_below(times_given, start) * 16]
    if late:
        _add_late(stream, late, start)
    for name, value in values.items():
        setattr(stream, name, value)
    return stream.size


def restart(stream: LogStream) -> None:
    """Forget what a log held: its file was begun anew. Call inside the transaction that moves the reader's cursor."""
    LogChunk.objects.filter(stream=stream).delete()
    values = {"size": 0, "lines": 0, "errors": 0, "warnings": 0}
    LogStream.objects.filter(pk=stream.pk).update(**values)
    for name, value in values.items():
        setattr(stream, name, value)


def _chunks(stream: LogStream, start: int, first_line: int, data: bytes, times: bytes) -> Iterator[LogChunk]:
    """Rows of at most a chunk each. The times of each begin with the entry that holds at its first byte."""
    for begin in range(0, len(data), CHUNK):
        piece = data[begin : begin + CHUNK]
        offset = start + begin
        lines = piece.count(b"\n")
        yield LogChunk(
            stream=stream,
            offset=offset,
            length=len(piece),
            first_line=first_line,
            lines=lines,
            data=compress(piece),
            times=_valid_at(times, offset),
        )
        first_line += lines


def _add_late(stream: LogStream, late: bytes, end: int) -> None:
    """Give times that came after their bytes to the chunks that hold these: the target sends bytes first when it has many."""
    (first,) = _OFFSET.unpack_from(late)
    rows = LogChunk.objects.filter(stream=stream, offset__gt=first - CHUNK, offset__lt=end)
    for pk, offset, length, times in rows.order_by("offset").values_list("pk", "offset", "length", "times"):
        mine = late[: _entries_below(late, offset + length) * 16]
        known = bytes(times) + _valid_at(mine, offset)
        entries = sorted({known[at : at + 16] for at in range(0, len(known), 16)}, key=_OFFSET.unpack_from)
        LogChunk.objects.filter(pk=pk).update(times=_valid_at(b"".join(entries), offset))


def _entries_below(times: bytes, offset: int) -> int:
    """How many entries of ``times`` are of bytes before ``offset``."""
    low, high = 0, len(times) // 16
    while low < high:
        middle = (low + high) // 2
        if _OFFSET.unpack_from(times, middle * 16)[0] < offset:
            low = middle + 1
        else:
            high = middle
    return low


def _valid_at(times: bytes, offset: int) -> bytes:
    """The entry that holds at ``offset``, and all after it."""
    return times[max(_entries_below(times, offset + 1) - 1, 0) * 16 :]


def seal(stream: LogStream, store: BlobStore) -> None:
    """Make one compressed object of an ended log and drop its chunks. May be repeated; memory stays flat.

    Raises LogLost when chunks are missing, and keeps what is there.
    """
    if stream.sealed or not stream.size:
        return
    index = bytearray()
    digest = hashlib.sha256()
    counter = Counter()
    with tempfile.TemporaryFile(dir=settings.FILE_UPLOAD_TEMP_DIR) as file:
        position = 0
        for frame in _regrouped(Reader(stream).frames()):
            counter.feed(frame.data)
            piece = sealed_piece(frame.data, frame.packed_times)
            index += ENTRY.pack(frame.offset, frame.first_line, position)
            digest.update(piece)
            file.write(piece)
            position += len(piece)
        errors, warnings = counter.finish()
        file.seek(0)
        name = digest.hexdigest()
        store.put_file(file, name, position)
    values = {"sealed": name, "index": bytes(index), "errors": errors, "warnings": warnings}
    with transaction.atomic():
        if not LogStream.objects.filter(pk=stream.pk, size=stream.size, sealed="").update(**values):
            return
        LogChunk.objects.filter(stream=stream).delete()
    for field, value in values.items():
        setattr(stream, field, value)


def _regrouped(frames: Iterator[Frame]) -> Iterator[Frame]:
    """Join small frames to about a chunk each."""
    group: list[Frame] = []
    size = 0
    for frame in frames:
        if group and size + len(frame.data) > CHUNK:
            yield _joined(group)
            group, size = [], 0
        group.append(frame)
        size += len(frame.data)
    if group:
        yield _joined(group)


def _joined(group: list[Frame]) -> Frame:
    times = [group[0].packed_times[: _entries_below(group[0].packed_times, group[0].end) * 16]]
    for frame in group[1:]:
        # Entries of earlier bytes are in the frame before, those of later ones in the frame behind.
        packed = frame.packed_times
        times.append(packed[_entries_below(packed, frame.offset) * 16 : _entries_below(packed, frame.end) * 16])
    return Frame(group[0].offset, group[0].first_line, b"".join(frame.data for frame in group), b"".join(times))


def digest(stream: LogStream) -> tuple[int, str]:
    """Bytes held, and their SHA-256 in hex, with flat memory."""
    sha256, size = hashlib.sha256(), 0
    for piece in Reader(stream).iter():
        sha256.update(piece)
        size += len(piece)
    return size, sha256.hexdigest()
