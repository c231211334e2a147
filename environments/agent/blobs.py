"""The cache of contents, received from the studio."""

import fcntl
import hashlib
import json
import os
import struct
import threading
import time
import zlib

from . import files
from .laying import Tree
from .layout import Layout, Refused, digest_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Set

_RECORD = struct.Struct(">32sQ")
_MOST = 64 << 20
ZLIB = 1
_TOUCH_AFTER = 600.0
_unique = threading.local()


def _scratch(path: str) -> str:
    """A name beside `path` that no other thread or process uses."""
    _unique.count = getattr(_unique, "count", 0) + 1
    return "%s.%d-%d-%d.new" % (path, os.getpid(), threading.get_ident(), _unique.count)


class Blobs(object):
    """Contents by SHA-256. Safe for several threads and several agents: everything appears by rename."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._folders: "Set[str]" = set()
        self._order = threading.Condition()
        self._pieces: "Dict[str, Set[int]]" = {}
        self._hashes: "Dict[str, Any]" = {}

    def missing(self, digests: bytes) -> bytes:
        """Of the digests (32 bytes each) those whose contents are not here."""
        if len(digests) % 32:
            raise Refused("bad_request", "blobs.missing: the body must be digests of 32 bytes each")
        lacking = []
        for place in range(0, len(digests), 32):
            digest = digests[place : place + 32]
            try:
                path = self._layout.blob(digest.hex())
                _used(path, os.stat(path))
            except OSError:
                lacking.append(digest)
        return b"".join(lacking)

    def put(self, body: bytes, flags: int) -> int:
        """Store the records of a body (digest, length, data); how many. A wrong digest raises Refused."""
        body = _unpack(body, flags)
        view, place, stored = memoryview(body), 0, 0
        while place < len(body):
            if place + _RECORD.size > len(body):
                raise Refused("bad_request", "blobs.put: the body ends inside a record")
            digest, length = _RECORD.unpack_from(body, place)
            place += _RECORD.size
            data = view[place : place + length]
            if len(data) < length:
                raise Refused("bad_request", "blobs.put: the body ends inside a record")
            place += length
            self._store(digest.hex(), data)
            stored += 1
        return stored

    def _store(self, digest: str, data: "Any") -> None:
        if hashlib.sha256(data).hexdigest() != digest:
            raise _mismatch(digest)
        path = self._ready(digest)
        temp = _scratch(path)
        fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
        try:
            files.write_all(fd, data)
        except BaseException:
            os.unlink(temp)
            raise
        finally:
            os.close(fd)
        os.rename(temp, path)

    def _ready(self, digest: str) -> str:
        """Path of a blob whose folder exists."""
        path = self._layout.blob(digest)
        folder = digest[:2]
        if folder not in self._folders:
            os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
            self._folders.add(folder)
        return path

    def expect(self, digest: "Any", offset: "Any") -> None:
        """A piece has arrived, and will be given to `part`. Called in the order of the stream."""
        if isinstance(digest, str) and isinstance(offset, int):
            with self._order:
                self._pieces.setdefault(digest, set()).add(offset)

    def part(self, request: "Dict[str, Any]", body: bytes) -> int:
        """A piece of a large blob at `offset`; how many bytes are here now. `offset` None only asks.

        A piece that does not continue what is here is not written: the answer says where to go on. One that arrived behind
        others waits for them.
        """
        digest, offset = digest_of(request.get("digest")), request.get("offset")
        if not isinstance(offset, int):
            return self._part(request, digest, b"")
        try:
            data = _unpack(body, int(request.get("flags") or 0))
            with self._order:
                while any(place < offset for place in self._pieces.get(digest, ())):
                    self._order.wait()
            return self._part(request, digest, data)
        finally:
            with self._order:
                waiting = self._pieces.get(digest, set())
                waiting.discard(offset)
                if not waiting:
                    self._pieces.pop(digest, None)
                self._order.notify_all()

    def _part(self, request: "Dict[str, Any]", digest: str, data: bytes) -> int:
        offset, size = request.get("offset"), request.get("size")
        path = self._ready(digest)
        if os.path.exists(path):
            found = os.stat(path)
            _used(path, found)
            return found.st_size
        part = path + ".part"
        if offset is None:
            return os.path.getsize(part) if os.path.exists(part) else 0
        if not isinstance(size, int) or offset < 0 or size < 0:
            raise Refused("bad_request", "blobs.part: offset and size must be numbers of bytes")
        fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)  # two agents may receive the same content
            have = os.fstat(fd).st_size
            if have != offset:
                return have
            if have + len(data) > size:
                os.ftruncate(fd, 0)
                raise Refused("bad_request", "blobs.part: more bytes than the size %d" % size)
            os.lseek(fd, have, os.SEEK_SET)
            try:
                files.write_all(fd, data)
            except OSError:
                os.ftruncate(fd, have)
                raise
            known, sha = self._hashes.pop(digest, (0, None))
            sha = sha if known == have and sha is not None else hashlib.sha256() if not have else None
            have += len(data)
            if sha is not None:
                sha.update(data)
            if have == size:
                self._complete(fd, digest, part, path, sha or _hash_of(fd))
            elif sha is not None:
                self._hashes[digest] = have, sha
            return have
        finally:
            os.close(fd)

    @staticmethod
    def _complete(fd: int, digest: str, part: str, path: str, sha: "Any") -> None:
        if sha.hexdigest() != digest:
            os.unlink(part)
            raise _mismatch(digest)
        os.fchmod(fd, 0o400)
        os.rename(part, path)

    def tree(self, manifest: str) -> Tree:
        """What the manifest of this digest lists. Raises Refused("blobs_missing") when it is not here, and what Tree raises."""
        data = files.read_small(self._layout.blob(digest_of(manifest)), 1 << 30)
        if data is None or hashlib.sha256(data).hexdigest() != manifest:
            raise Refused("blobs_missing", "the manifest %s is not on this target" % manifest, permanent=False)
        self._has(manifest, len(data))
        return Tree(json.loads(data.decode()))

    def need(self, entries: "List[List[Any]]") -> None:
        """Raises Refused("blobs_missing") unless the contents of these files (path, mode, size, digest) are here."""
        lacking = sum(not self._has(digest, size) for _, _, size, digest in entries)
        if lacking:
            text = "%d contents of the snapshot are not on this target" % lacking
            raise Refused("blobs_missing", text, permanent=False)

    def open(self, digest: str, size: int) -> int:
        """Descriptor of a content, at its beginning. Raises Refused("blobs_missing") where it is not here with all its bytes."""
        fd = -1
        try:
            fd = os.open(self._layout.blob(digest_of(digest)), os.O_RDONLY | os.O_CLOEXEC)
            found = os.fstat(fd)
            if found.st_size == size:
                _used(fd, found)
                return fd
        except FileNotFoundError:
            pass
        if fd >= 0:
            os.close(fd)
        raise Refused("blobs_missing", "the content %s is not on this target" % digest, permanent=False)

    def _has(self, digest: str, size: int) -> bool:
        path = self._layout.blob(digest_of(digest))
        try:
            found = os.stat(path)
            if found.st_size == size:
                _used(path, found)
                return True
            os.unlink(path)  # a power cut can leave a renamed file without its bytes
        except OSError:
            pass
        return False


def _unpack(body: bytes, flags: int) -> bytes:
    if not flags & ZLIB:
        return body
    inflate = zlib.decompressobj()
    data = inflate.decompress(body, _MOST)
    if inflate.unconsumed_tail or not inflate.eof:
        raise Refused("bad_request", "a compressed body must be whole, and hold at most %d bytes" % _MOST)
    return data


def _hash_of(fd: int) -> "Any":
    os.lseek(fd, 0, os.SEEK_SET)
    sha = hashlib.sha256()
    while True:
        piece = os.read(fd, 1 << 20)
        if not piece:
            return sha
        sha.update(piece)


def _used(place: "Any", found: os.stat_result) -> None:
    """Note the use of a content (a path or a descriptor) by its time, so that a cleaning takes others first; not each time, since
    that is a write."""
    if time.time() - found.st_mtime > _TOUCH_AFTER:
        os.utime(place)


def _mismatch(digest: str) -> Refused:
    text = "the bytes received for %s have another SHA-256" % digest
    return Refused("digest_mismatch", text, permanent=False)
