"""Snapshots over HTTP: say what a folder holds, send what is missing, record it.

1. ``POST missing`` with the manifest: which of its files' contents are not here.
2. ``PUT blobs``: small contents, many in one body. ``PUT blobs/<digest>``: a large one, in pieces.
3. ``POST``: record the snapshot.

Each may be repeated; after a cut, the first says where to go on.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.conf import settings
from django.http import FileResponse, HttpRequest
from ninja import Router, Schema

from runs import snapshots
from runs.artifact_api import BODY, GONE
from runs.log_api import BYTES
from runs.manifest import Manifest, SnapshotError, max_bytes
from runs.models import Snapshot
from studio.blobs import SMALL, BlobError, BlobStore, PartOffset
from studio.once import claimed
from studio.rest import REFUSED, Body, Member, Problem, Refusal, blocks, not_found, paged, read_body
from studio.workspaces.models import Role

router = Router(tags=["snapshots"])
RECORD = struct.Struct(">32sBQ")
"""Before each content of a body of many: digest, flags (1: zlib), length; the same as between studio and
target."""
ZLIB = 1
DIGEST = re.compile(r"[0-9a-f]{64}\Z")
PAGE = 50
PLACE = {"type": "string", "minLength": 1, "description": "A path below the folder, its parts separated by /"}
FILE = {
    "type": "array",
    "description": "Path, mode (420: as usual, 493: executable), size in bytes, SHA-256",
    "prefixItems": [
        PLACE,
        {"enum": [0o644, 0o755]},
        {"type": "integer", "minimum": 0},
        {"type": "string", "pattern": "^[0-9a-f]{64}$"},
    ],
    "minItems": 4,
    "maxItems": 4,
}
LINK = {"type": "array", "description": "Path, target", "items": PLACE, "minItems": 2, "maxItems": 2}
FOLDER = {
    "type": "object",
    "description": "What a folder holds, each list sorted by its paths",
    "required": ["v", "files", "links", "dirs"],
    "properties": {
        "v": {"const": 1},
        "files": {"type": "array", "items": FILE},
        "links": {"type": "array", "items": LINK},
        "dirs": {"type": "array", "items": PLACE, "description": "Empty folders"},
    },
}
MANIFEST = {"requestBody": {"required": True, "content": {"application/json": {"schema": FOLDER}}}}


class ContentsWanted(Schema):
    """``missing``: ranges [first, end) of positions in the manifest's files. ``have``: bytes of large ones
    that are here."""

    snapshot: str
    known: bool
    missing: list[tuple[int, int]]
    have: dict[str, int]
    small: int


class NewSnapshot(Body):
    snapshot: str
    name: str = ""


class Stored(Schema):
    """How many contents were new."""

    stored: int


class Have(Schema):
    """How many bytes of the content are here."""

    have: int


class SnapshotRow(Schema):
    snapshot: str
    name: str
    files_count: int
    size: int
    created_at: datetime


class Snapshots(Schema):
    """``next``: the ``before`` of the page that follows; null on the last one."""

    snapshots: list[SnapshotRow]
    next: int | None


class SnapshotListed(SnapshotRow):
    """``files``: path, mode, size, SHA-256 of each. ``links``: path and target. ``dirs``: empty folders."""

    files: list[tuple[str, int, int, str]]
    links: list[tuple[str, str]]
    dirs: list[str]


@router.post(
    "/missing", auth=Member(Role.CONTRIBUTOR), response={200: ContentsWanted, REFUSED: Refusal}, openapi_extra=MANIFEST
)
def missing(request: HttpRequest) -> dict[str, Any]:
    """Take a manifest, and answer which contents it names are not here. Files up to ``small`` bytes go many
    in one body."""
    workspace = request.workspace  # type: ignore[attr-defined]
    manifest = parsed(read_body(request, max_bytes()))
    store = BlobStore(workspace.pk)
    known = Snapshot.objects.filter(workspace=workspace, digest=manifest.digest).exists()
    absent = set() if known else store.missing(manifest.contents())
    if not known:
        # Kept now, so that recording the snapshot needs its id only and the manifest travels once.
        store.put_many([(manifest.digest, manifest.data)])
    positions = []
    have = {}
    for position, entry in enumerate(manifest.files):
        if entry.digest in absent:
            absent.remove(entry.digest)
            positions.append(position)
            if entry.size > SMALL and (here := store.have(entry.digest)):
                have[entry.digest] = here
    return {
        "snapshot": manifest.digest,
        "known": known,
        "missing": ranges(positions),
        "have": have,
        "small": SMALL,
    }


@router.put("/blobs", auth=Member(Role.CONTRIBUTOR), response={200: Stored, REFUSED: Refusal}, openapi_extra=BODY)
def put_blobs(request: HttpRequest) -> dict[str, int]:
    """Store many small contents: ``digest(32) flags(u8) length(u64, big endian) data``, one after the
    other."""
    try:
        return {"stored": BlobStore(request.workspace.pk).put_many(records(request))}  # type: ignore[attr-defined]
    except BlobError as error:
        raise Problem.of(422, "body", str(error), "Send the content that the digest names.") from error


@router.put(
    "/blobs/{digest}", auth=Member(Role.CONTRIBUTOR), response={200: Have, REFUSED: Refusal}, openapi_extra=BODY
)
def put_blob(request: HttpRequest, digest: str, offset: int, size: int) -> dict[str, int]:
    """Add a piece of one content at ``offset``; ``size`` is that of the whole. Answers how many bytes are
    here now."""
    if not DIGEST.match(digest):
        raise Problem.of(422, "digest", "It is no SHA-256.", "Use 64 lower-case hex digits.")
    if not 0 <= offset <= size or size > settings.SNAPSHOT_MAX_BYTES:
        raise Problem.of(
            422, "offset", "It is not within the size, or the size is over the limit.", "Check offset and size."
        )
    try:
        have = BlobStore(request.workspace.pk).part(digest, offset, size, blocks(request))  # type: ignore[attr-defined]
    except PartOffset as error:
        raise Problem.of(409, "offset", str(error), "Send on from there.", have=error.have) from error
    except BlobError as error:
        raise Problem.of(422, "body", str(error), "Send the whole content again.", have=0) from error
    return {"have": have}


@router.post("", auth=Member(Role.CONTRIBUTOR), response={200: SnapshotRow, REFUSED: Refusal})
def create(request: HttpRequest, data: NewSnapshot) -> dict[str, Any]:
    """Record the snapshot whose manifest and contents are here; the same one again gives the first."""
    workspace = request.workspace  # type: ignore[attr-defined]
    store = BlobStore(workspace.pk)
    if not DIGEST.match(data.snapshot) or data.snapshot not in (sizes := store.sizes([data.snapshot])):
        raise Problem.of(409, "snapshot", "Its manifest is not here.", "Send it to snapshots/missing first.")
    if sizes[data.snapshot] > max_bytes():
        raise Problem.of(422, "snapshot", "It is no manifest.", "Send the manifest to snapshots/missing first.")
    with claimed(request, data.model_dump()):
        try:
            row = snapshots.create(workspace, store.read(data.snapshot), request.user, data.name)  # type: ignore[arg-type]
        except snapshots.MissingContents as error:
            raise Problem.of(409, error.path, error.rule, error.fix, missing=len(error.digests)) from error
        except SnapshotError as error:
            raise Problem.of(422, error.path, error.rule, error.fix) from error
    return described(row)


@router.get("", auth=Member(Role.READER), response={200: Snapshots, REFUSED: Refusal})
def listed(request: HttpRequest, before: int | None = None, limit: int = PAGE) -> dict[str, Any]:
    """The newest first; ``next`` is the ``before`` of the page that follows."""
    limit = paged(limit)
    rows = Snapshot.objects.filter(workspace=request.workspace).order_by("-pk")  # type: ignore[attr-defined]
    if before is not None:
        rows = rows.filter(pk__lt=before)
    page = list(rows[: limit + 1])
    return {
        "snapshots": [described(row) for row in page[:limit]],
        "next": page[limit - 1].pk if len(page) > limit else None,
    }


class Limits(Schema):
    """Of one snapshot."""

    files: int
    bytes: int


@router.get("/limits", auth=Member(Role.READER), response=Limits)
def limits(request: HttpRequest) -> dict[str, int]:
    """What a snapshot may hold, so that a client need not read what is too much."""
    return {"files": settings.SNAPSHOT_MAX_FILES, "bytes": settings.SNAPSHOT_MAX_BYTES}


@router.get("/{digest}", auth=Member(Role.READER), response={200: SnapshotListed, GONE: Refusal})
def shown(request: HttpRequest, digest: str) -> dict[str, Any]:
    """One snapshot and its files: path, mode, size, digest."""
    row = find(request, digest)
    manifest = snapshots.manifest_of(row)
    return {**described(row), "files": manifest.files, "links": manifest.links, "dirs": manifest.dirs}


@router.get("/{digest}/files/{path:path}", auth=Member(Role.READER), response={GONE: Refusal}, openapi_extra=BYTES)
def download(request: HttpRequest, digest: str, path: str) -> FileResponse:
    """One file as it was, always as a download: a user's file is never a page of the studio."""
    row = find(request, digest)
    try:
        entry = snapshots.file_entry(row, path)
    except KeyError:
        raise not_found("file") from None
    response = FileResponse(
        BlobStore(row.workspace_id).open(entry.digest),
        as_attachment=True,
        filename=path.rpartition("/")[2],
        content_type="application/octet-stream",
    )
    response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    return response


def find(request: HttpRequest, digest: str) -> Snapshot:
    row = Snapshot.objects.filter(workspace=request.workspace, digest=digest).first()  # type: ignore[attr-defined]
    if row is None:
        raise not_found("snapshot")
    return row


def described(row: Snapshot) -> dict[str, Any]:
    return {
        "snapshot": row.digest,
        "name": row.name,
        "files_count": row.file_count,
        "size": row.size,
        "created_at": row.created_at,
    }


def parsed(data: bytes) -> Manifest:
    try:
        return Manifest.parse(data)
    except SnapshotError as error:
        raise Problem.of(422, error.path, error.rule, error.fix) from error


def ranges(positions: list[int]) -> list[tuple[int, int]]:
    """Ascending positions as ranges [first, end)."""
    found: list[tuple[int, int]] = []
    for position in positions:
        if found and found[-1][1] == position:
            found[-1] = (found[-1][0], position + 1)
        else:
            found.append((position, position + 1))
    return found


def records(request: HttpRequest) -> Iterator[tuple[str, bytes]]:
    """The contents of a body of many, one at a time."""
    held = bytearray()
    stream = blocks(request)

    def take(count: int) -> bytes:
        while len(held) < count:
            block = next(stream, b"")
            if not block:
                raise Problem.of(400, "body", "It ends within a content.", "Send what is missing again.")
            held.extend(block)
        taken = bytes(held[:count])
        del held[:count]
        return taken

    while True:
        if not held:
            held.extend(next(stream, b""))
            if not held:
                return
        digest, flags, length = RECORD.unpack(take(RECORD.size))
        if length > SMALL or flags & ~ZLIB:
            raise Problem.of(
                422,
                digest.hex(),
                f"Contents in this body have up to {SMALL:,} bytes.",
                "Send larger ones in pieces to blobs/<digest>.",
            )
        data = take(length)
        yield digest.hex(), inflate(digest, data) if flags & ZLIB else data


def inflate(digest: bytes, data: bytes) -> bytes:
    unpack = zlib.decompressobj()
    try:
        content = unpack.decompress(data, SMALL + 1)
    except zlib.error as error:
        raise Problem.of(422, digest.hex(), f"It is no zlib ({error}).", "Pack it again.") from None
    if len(content) > SMALL or not unpack.eof:
        raise Problem.of(
            422, digest.hex(), f"Unpacked it has over {SMALL:,} bytes, or ends early.", "Send it in pieces."
        )
    return content
