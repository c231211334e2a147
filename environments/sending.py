"""Contents on their way to a target: small ones together, large ones in pieces, and several requests under way at once, so that
neither end waits for the other."""

from __future__ import annotations

import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Protocol

Blob = tuple[str, int, Callable[[], BinaryIO]]
"""SHA-256 (hex), size, and what opens the content."""

BATCH = 2 << 20
"""Bytes of a request: small contents are put together up to this, large ones cut."""
UNDER_WAY = 6
"""Requests that may wait for their answers: enough for 100 ms of a link of 1 Gbit/s."""
TIMEOUT = 600.0
COMPRESSED = 1
_SAMPLES, _SAMPLE = 8, 4096
_WORTH = 0.9


class Requests(Protocol):
    """What of a ``Host`` is used here."""

    def submit(self, op: str, body: bytes = b"", **fields: Any) -> Future[tuple[dict[str, Any], bytes]]: ...

    def result(
        self, future: Future[tuple[dict[str, Any], bytes]], timeout: float | None, op: str = ...
    ) -> tuple[dict[str, Any], bytes]: ...


class ShortContent(Exception):
    """A content held fewer bytes than its size says."""


@dataclass
class _Sent:
    future: Future[tuple[dict[str, Any], bytes]]
    op: str
    size: int
    """Bytes of contents."""
    wire: int
    upto: int | None = None
    """Of a piece: how many bytes are there when it has been taken."""


@dataclass
class Sender:
    """Sends contents over one connection; for one transfer."""

    host: Requests
    compress: bool = False
    progress: Callable[[int], None] | None = None
    _under_way: deque[_Sent] = field(default_factory=deque)
    _began: float = 0.0
    _compressing: float = 0.0
    _answered: int = 0
    """Bytes of the wire that were answered for, since ``_began``."""

    def send(self, blobs: Iterable[Blob]) -> int:
        """Send each; how many. Raises what ``host`` raises, and ShortContent."""
        self._began = time.monotonic()
        count, size = 0, 0
        batch: list[bytes] = []
        for digest, length, opener in blobs:
            count += 1
            if length > BATCH // 2:
                self._large(digest, length, opener)
                continue
            with opener() as file:
                data = file.read()
            if batch and size + len(data) > BATCH:
                self._put(batch, size)
                batch, size = [], 0
            batch += [bytes.fromhex(digest) + len(data).to_bytes(8, "big"), data]
            size += len(data)
        if batch:
            self._put(batch, size)
        self._drain(0)
        return count

    def _put(self, batch: list[bytes], size: int) -> None:
        flags, body = self._squeeze(b"".join(batch))
        self._drain(UNDER_WAY - 1)
        self._under_way.append(_Sent(self.host.submit("blobs.put", body, flags=flags), "blobs.put", size, len(body)))

    def _large(self, digest: str, size: int, opener: Callable[[], BinaryIO]) -> None:
        asked = self.host.submit("blobs.part", digest=digest, offset=None, size=size)
        have = int(self.host.result(asked, TIMEOUT, "blobs.part")[0]["have"])
        self._tell(have)
        with opener() as file:
            while have < size:
                file.seek(have)
                have = self._pieces(digest, size, file, have)

    def _pieces(self, digest: str, size: int, file: BinaryIO, place: int) -> int:
        """Send from ``place`` on to the end; how much is there afterwards: less where a piece was not taken."""
        while place < size:
            piece = file.read(min(BATCH, size - place))
            if not piece:
                raise ShortContent(f"the content {digest} ended after {place} of {size} bytes")
            flags, body = self._squeeze(piece)
            taken = self._drain(UNDER_WAY - 1)
            if taken is not None:
                self._drain(0)
                return taken
            future = self.host.submit("blobs.part", body, digest=digest, offset=place, size=size, flags=flags)
            place += len(piece)
            self._under_way.append(_Sent(future, "blobs.part", len(piece), len(body), place))
        taken = self._drain(0)
        return size if taken is None else taken

    def _drain(self, leave: int) -> int | None:
        """Wait for the oldest answers until at most ``leave`` are missing. Where a piece was not taken as it was sent: how
        much of its content the target has."""
        astray = None
        while len(self._under_way) > leave:
            sent = self._under_way.popleft()
            reply, _ = self.host.result(sent.future, TIMEOUT, sent.op)
            self._answered += sent.wire
            if sent.upto is None or int(reply["have"]) == sent.upto:
                self._tell(sent.size)
            elif astray is None:
                astray = int(reply["have"])
        return astray

    def _tell(self, size: int) -> None:
        if size and self.progress is not None:
            self.progress(size)

    def _squeeze(self, data: bytes) -> tuple[int, bytes]:
        """(flags, data) for the wire: compressed where a sample shrinks, and where the link is so slow that the time spent is
        less than the time won."""
        if not self.compress or len(data) < 256:
            return 0, data
        step = max(len(data) // _SAMPLES, _SAMPLE)
        sample = b"".join(data[place : place + _SAMPLE] for place in range(0, len(data), step))
        began = time.monotonic()
        ratio = len(zlib.compress(sample, 1)) / len(sample)
        cost = (time.monotonic() - began) / len(sample)
        pays = ratio < _WORTH
        elapsed = began - self._began - self._compressing
        if pays and self._answered > BATCH and elapsed > 0:
            pays = (1 - ratio) * elapsed / self._answered > cost
        if pays:
            data = zlib.compress(data, 1)
        self._compressing += time.monotonic() - began
        return (COMPRESSED if pays else 0), data
