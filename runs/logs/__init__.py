"""Logs: bytes at their offset, kept as zstd frames; read by line or by byte, searched, rendered.

While a run lives its log is rows (``LogChunk``), so that the offset moves in the transaction that holds the bytes. Afterwards
``seal`` makes one object of them. ``Reader`` hides which of the two it reads.
"""

from runs.logs.frames import LogLost
from runs.logs.reader import Line, Reader
from runs.logs.store import LogGap, append, digest, restart, seal

__all__ = ["Line", "LogGap", "LogLost", "Reader", "append", "digest", "restart", "seal"]
