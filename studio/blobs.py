"""The content-addressed store of a workspace: rows say what is there, objects of Django's storage hold it.

Small contents are packed: one object holds those that came together, because an object each costs 2.5 s of
10,000. A large content is an object of its own, not compressed, so that any part of it can be read. Objects
have random names, so that two uploads of the same content never meet; rows appear only after the object is on
the disk, and the loser of a race is removed.
"""

import hashlib
import io
import json
import os
import secrets
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import zstandard
from django.conf import settings
from django.core.files.base import ContentFile, File
from django.core.files.storage import default_storage
from django.db import connection, transaction
from django.db.models.expressions import RawSQL

from studio.models import Blob, Pack
from studio.paths import private_dir

SMALL = 1024 * 1024
"""Contents up to this many bytes are packed."""
PACK = 16 * 1024 * 1024
PIECE = 1024 * 1024
PART_AGE = 7 * 24 * 3600
UNNEST = {
    "sqlite": "SELECT value FROM json_each(%s)",
    "postgresql": "SELECT jsonb_array_elements_text(%s::jsonb)",
}

INSERT = """INSERT INTO studio_blob (workspace_id, pack_id, digest, size, "offset", length, compressed)
VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"""
Row = tuple[str, int, int, int, bool]
"""Digest, size, offset, length and compressed of a content to be recorded: objects would take a second for 10,000."""


class BlobError(ValueError):
    """A content that does not fit what was said about it."""


class BlobMissing(LookupError):
    """The workspace has no content of this digest."""


class PartOffset(BlobError):
    """A piece that does not join what is there; ``have`` says where to go on."""

    def __init__(self, have: int, offset: int) -> None:
        self.have = have
        super().__init__(f"offset: {have:,} bytes are here, so the next piece begins there, not at {offset:,}.")


class _Measured(File):  # type: ignore[type-arg]
    """A file whose bytes are counted and hashed while the storage reads them."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        super().__init__(cast("IO[Any]", file), name="content")
        self.source = file
        self.size = size
        self.sha256 = hashlib.sha256()
        self.seen = 0

    def chunks(self, chunk_size: int | None = None) -> Iterator[bytes]:
        # Not ``File.chunks``: that seeks back, which a stream cannot.
        while block := self.source.read(PIECE):
            self.seen += len(block)
            if self.seen > self.size:
                return
            self.sha256.update(block)
            yield block

    def read(self, count: int = -1) -> bytes:
        block = self.source.read(count)
        self.seen += len(block)
        self.sha256.update(block)
        return block


class _Moved(File):  # type: ignore[type-arg]
    """A finished file that a storage on the same disk takes over by renaming it."""

    def temporary_file_path(self) -> str:
        assert self.name is not None
        return self.name


class BlobStore:
    """The contents of one workspace. Digests are SHA-256, 64 lower-case hex digits."""

    def __init__(self, workspace_id: int) -> None:
        self.workspace_id = workspace_id

    # What is there.

    def sizes(self, digests: Iterable[str]) -> dict[str, int]:
        """Digest → bytes, of those that are there."""
        return dict(self._rows(digests, "digest", "size"))

    def missing(self, digests: Iterable[str]) -> set[str]:
        wanted = set(digests)
        return wanted.difference(digest for (digest,) in self._rows(wanted, "digest"))

    def size(self, digest: str) -> int:
        """Bytes of a content. Raises BlobMissing."""
        return self._row(digest).size

    def _rows(self, digests: Iterable[str], *columns: str) -> Iterator[tuple[Any, ...]]:
        # One parameter for all digests: a thousand placeholders at a time take Django three times as long.
        listed = RawSQL(UNNEST[connection.vendor], [json.dumps(list(digests))])  # noqa: S611 fixed text
        yield from Blob.objects.filter(workspace_id=self.workspace_id, digest__in=listed).values_list(*columns)

    def _row(self, digest: str) -> Blob:
        row = Blob.objects.select_related("pack").filter(workspace_id=self.workspace_id, digest=digest).first()
        if row is None:
            raise BlobMissing(digest)
        return row

    # Reading.

    def open(self, digest: str) -> BinaryIO:
        """A readable, seekable file of a content. Raises BlobMissing."""
        row = self._row(digest)
        if row.offset == 0 and row.length == row.pack.size and not row.compressed:
            return cast("BinaryIO", default_storage.open(row.pack.name, "rb"))
        return io.BytesIO(self._content(row))

    def read(self, digest: str, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes of a content, at most ``length`` from ``offset``. Raises BlobMissing."""
        row = self._row(digest)
        if row.compressed:
            data = self._content(row)
            return data[offset : None if length is None else offset + length]
        end = row.size if length is None else min(row.size, offset + length)
        if offset >= end:
            return b""
        with default_storage.open(row.pack.name, "rb") as file:
            file.seek(row.offset + offset)
            return cast("bytes", file.read(end - offset))

    def _content(self, row: Blob) -> bytes:
        with default_storage.open(row.pack.name, "rb") as file:
            file.seek(row.offset)
            stored: bytes = file.read(row.length)
        return zstandard.ZstdDecompressor().decompress(stored, row.size) if row.compressed else stored

    def read_many(self, digests: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Each content once, whole, in the order in which they lie in the storage. Raises BlobMissing before
        the first."""
        wanted = set(digests)
        columns = ("pack_id", "offset", "digest", "pack__name", "length", "size", "compressed")
        rows = sorted(self._rows(wanted, *columns))
        if len(rows) != len(wanted):
            raise BlobMissing(min(wanted.difference(row[2] for row in rows)))
        decompress = zstandard.ZstdDecompressor().decompress
        file: Any = None
        opened = None
        try:
            for pack, offset, digest, name, length, size, compressed in rows:
                if pack != opened:
                    if file is not None:
                        file.close()
                    file, opened = default_storage.open(name, "rb"), pack
                file.seek(offset)
                stored = file.read(length)
                yield digest, decompress(stored, size) if compressed else stored
        finally:
            if file is not None:
                file.close()

    # Writing.

    def put_many(self, contents: Iterable[tuple[str, bytes]]) -> int:
        """Store contents that are not there yet; return how many were new.

        At most one pack is held in memory. Raises BlobError for a content that has another digest; what came
        before it may have been stored.
        """
        compress = zstandard.ZstdCompressor(level=1).compress
        rows: list[Row] = []
        pack = bytearray()
        new = 0

        def flush() -> int:
            stored = self._record(default_storage.save(_object_name(), ContentFile(bytes(pack))), len(pack), rows)
            rows.clear()
            pack.clear()
            return stored

        for batch in _batches(contents):
            verified = {digest: data for digest, data in batch if _checked(digest, data)}
            absent = self.missing(verified)
            for digest, data in verified.items():
                if digest not in absent:
                    continue
                if len(data) > SMALL:
                    new += self.put_file(io.BytesIO(data), digest, len(data))
                    continue
                # Below 64 bytes there is nothing to gain; a tenth less is worth a decompression.
                stored = compress(data) if len(data) >= 64 else data
                compressed = len(stored) < len(data) * 0.9
                if not compressed:
                    stored = data
                rows.append((digest, len(data), len(pack), len(stored), compressed))
                pack += stored
                if len(pack) >= PACK:
                    new += flush()
        if rows:
            new += flush()
        return new

    def put_file(self, file: BinaryIO, digest: str, size: int) -> bool:
        """Stream a content into an object of its own; return whether it was new.

        Raises BlobError when size or digest are not what was said; nothing is kept then.
        """
        if not self.missing([digest]):
            return False
        measured = _Measured(file, size)
        name = default_storage.save(_object_name(), measured)
        found = measured.sha256.hexdigest()
        if measured.seen != size or found != digest:
            default_storage.delete(name)
            if measured.seen != size:
                what = "more" if measured.seen > size else f"{measured.seen:,}"
                raise BlobError(f"size: {size:,} bytes were announced, {what} came.")
            raise BlobError(f"digest: the content is {found}, not {digest}.")
        return bool(self._record(name, size, [(digest, size, 0, size, False)]))

    def _record(self, name: str, size: int, rows: list[Row]) -> int:
        """Write the rows of a stored object; return how many were new."""
        _settle(name)
        with transaction.atomic():
            pack = Pack.objects.create(name=name, size=size)
            with connection.cursor() as cursor:
                cursor.executemany(INSERT, [(self.workspace_id, pack.pk, *row) for row in rows])
            kept = pack.blobs.count()
            if not kept:
                pack.delete()
        if not kept:
            default_storage.delete(name)
        return kept

    # Large contents in pieces, resumable.

    def have(self, digest: str) -> int:
        """Bytes of a content that are here: all of it when it is stored, else what its pieces add up to."""
        row = self.sizes([digest])
        if row:
            return row[digest]
        try:
            return self._part(digest).stat().st_size
        except FileNotFoundError:
            return 0

    def part(self, digest: str, offset: int, size: int, data: bytes | Iterable[bytes]) -> int:
        """Add a piece at ``offset`` of a content of ``size`` bytes; return how many are here now.

        The last piece verifies and stores it. Raises PartOffset when the piece leaves a gap, BlobError when
        there are too many bytes or the whole has another digest; the pieces are dropped then.
        """
        path = self._part(digest)
        if offset == 0:
            _sweep(path.parent)
        with path.open("ab") as file:
            _lock(file.fileno())
            if not path.exists() or not os.path.samestat(path.stat(), os.fstat(file.fileno())):
                # Whoever held the lock before finished or dropped this file.
                return self.part(digest, offset, size, data)
            stored = self.sizes([digest])
            if stored:
                path.unlink()
                return stored[digest]
            have = file.seek(0, os.SEEK_END)
            if offset > have:
                raise PartOffset(have, offset)
            # A repeated piece is cut to what is new; the digest at the end proves that the old bytes were the
            # same.
            skip = have - offset
            for block in [data] if isinstance(data, bytes) else data:
                fresh = block[skip:]
                skip -= len(block) - len(fresh)
                have += len(fresh)
                if have > size:
                    file.close()
                    path.unlink(missing_ok=True)
                    raise BlobError(f"size: {size:,} bytes were announced, more came.")
                file.write(fresh)
            file.flush()
            if have == size:
                self._finish(path, digest, size)
        return have

    def _finish(self, path: Path, digest: str, size: int) -> None:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != digest:
            path.unlink(missing_ok=True)
            raise BlobError(f"digest: the content is {found}, not {digest}.")
        with path.open("rb") as file:
            name = default_storage.save(_object_name(), _Moved(file, name=str(path)))
        self._record(name, size, [(digest, size, 0, size, False)])
        path.unlink(missing_ok=True)

    def _part(self, digest: str) -> Path:
        folder = private_dir(Path(settings.FILE_UPLOAD_TEMP_DIR) / "parts")
        return folder / f"{self.workspace_id}-{digest}.part"


def _object_name() -> str:
    token = secrets.token_hex(16)
    return f"blobs/{token[:2]}/{token}"


def _checked(digest: str, data: bytes) -> bool:
    found = hashlib.sha256(data).hexdigest()
    if found != digest:
        raise BlobError(f"digest: the content is {found}, not {digest}.")
    return True


def _batches(contents: Iterable[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
    """Groups of about a pack, so that one query asks for many."""
    batch: list[tuple[str, bytes]] = []
    held = 0
    for digest, data in contents:
        batch.append((digest, data))
        held += len(data)
        if held >= PACK:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def _settle(name: str) -> None:
    """Bring an object to the disk before a row says that it is there. Storages without local files do so
    themselves."""
    try:
        path = default_storage.path(name)
    except NotImplementedError:
        return
    for place in (path, str(Path(path).parent)):
        descriptor = os.open(place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _lock(descriptor: int) -> None:
    import fcntl  # noqa: PLC0415 not where a client runs on another system

    fcntl.flock(descriptor, fcntl.LOCK_EX)


def _sweep(folder: Path) -> None:
    """Forget pieces that nobody went on with for a week."""
    limit = time.time() - PART_AGE
    for path in folder.glob("*.part"):
        try:
            if path.stat().st_mtime < limit:
                path.unlink()
        except FileNotFoundError:
            continue
