"""Digests of files that were read before, known again by size, times and inode."""

from __future__ import annotations

import hashlib
import os
import time

from .pending import cache_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, Optional

CACHE_VERSION = "runstead hashes 1"
YOUNG_NS = 100_000_000
YOUNG_COARSE_NS = 3_000_000_000  # where time stamps are whole seconds


class HashCache:
    """Digests of the files of one folder, in a small file below the user's cache directory."""

    def __init__(self, folder: str) -> None:
        name = hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:32]
        self._path = os.path.join(cache_folder(), "hashes", name)
        self._entries: Dict[str, str] = {}
        try:
            with open(self._path, encoding="utf-8", errors="surrogateescape", newline="") as file:
                head, *texts = file.read().split("\0")
            if head == CACHE_VERSION and len(texts) % 2 == 1:
                self._entries = dict(zip(texts[::2], texts[1::2]))
        except OSError:
            pass

    def get(self, path: str, stamp: str) -> Optional[str]:
        """The digest of a file with this stamp, if it is known."""
        entry = self._entries.get(path)
        return entry[-64:] if entry is not None and entry[:-65] == stamp else None

    def replace(self, entries: Dict[str, str]) -> None:
        """Keep exactly these; written by rename, and not at all where the cache directory is not writable."""
        if entries == self._entries:
            return
        texts = [CACHE_VERSION]
        for pair in entries.items():
            texts += pair
        draft = "%s.%d.%d" % (self._path, os.getpid(), time.monotonic_ns())
        try:
            os.makedirs(os.path.dirname(self._path), 0o700, exist_ok=True)
            with open(draft, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
                file.write("\0".join([*texts, ""]))
            os.replace(draft, self._path)
        except OSError:
            try:
                os.unlink(draft)
            except OSError:
                pass


def stamp_of(facts: os.stat_result) -> str:
    """What changes when a file is written, as a text."""
    return "%d %d %d %d" % (facts.st_size, facts.st_mtime_ns, facts.st_ino, facts.st_ctime_ns)


def settled(facts: os.stat_result) -> bool:
    """Whether a later write would show in the time stamps."""
    coarse = facts.st_mtime_ns % 1_000_000_000 == 0 and facts.st_ctime_ns % 1_000_000_000 == 0
    age = time.time_ns() - max(facts.st_mtime_ns, facts.st_ctime_ns)
    return age > (YOUNG_COARSE_NS if coarse else YOUNG_NS)
