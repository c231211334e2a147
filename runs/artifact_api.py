"""Files of runs over HTTP: what they left, whole or in parts, and the snapshot that they ran.

A path is looked up among the rows and never resolved against a disk. Bytes go out as downloads only.
"""

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any, BinaryIO

from django.db.models.functions import Substr
from django.db.models.lookups import Exact
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from ninja import Schema, Status

from runs import artifacts, snapshots
from runs.artifacts import ArtifactRefused
from runs.browse import Leaf
from runs.log_api import BYTES
from runs.models import Artifact, Snapshot
from runs.rest import Closing, find_run, guarded, router
from runs.zipstream import zipped
from studio.blobs import BlobMissing, BlobStore
from studio.rest import REFUSED, Member, Problem, Refusal, blocks, not_found, paged, sends
from studio.workspaces.models import Role

FILES = 1000
MAX_FILES = 10_000
RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})\Z")
GONE = frozenset({*REFUSED, 410, 416})
BODY = {
    "requestBody": {
        "required": False,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
PIECE = 256 * 1024


class File(Schema):
    """``digest`` is the content's SHA-256; empty when it is listed and not kept, and ``skipped`` says why."""

    path: str
    size: int
    digest: str
    skipped: str
    modified_at: datetime | None


class Files(Schema):
    """By path. ``next``: the ``after`` of the page that follows; null on the last one."""

    artifacts: list[File]
    next: str | None


class SnapshotFile(Schema):
    path: str
    mode: int
    size: int
    digest: str


class SnapshotShown(Schema):
    """``links``: path and target of each. ``dirs``: empty folders."""

    snapshot: str
    name: str
    files_count: int
    size: int
    created_at: datetime
    files: list[SnapshotFile]
    links: list[tuple[str, str]]
    dirs: list[str]


@router.get("/{int:number}/artifacts", auth=Member(Role.READER), response={200: Files, REFUSED: Refusal})
def listed(
    request: HttpRequest, number: int, *, prefix: str = "", after: str = "", limit: int = FILES
) -> dict[str, Any]:
    """The files of a run, those whose path begins with ``prefix``."""
    rows = Artifact.objects.filter(run=find_run(request, number)).order_by("path")
    limit = paged(limit, MAX_FILES)
    if prefix:
        rows = rows.filter(Exact(Substr("path", 1, len(prefix)), prefix))
    if after:
        rows = rows.filter(path__gt=after)
    page = list(rows[: limit + 1])
    return {"artifacts": page[:limit], "next": page[limit - 1].path if len(page) > limit else None}


@router.get("/{int:number}/artifacts/content", auth=Member(Role.READER), openapi_extra=BYTES, response={GONE: Refusal})
def content(request: HttpRequest, number: int, path: str) -> HttpResponseBase:
    """A file's bytes. ``Range: bytes=first-last`` gives a part; ``ETag`` is the SHA-256."""
    run = find_run(request, number)
    row = Artifact.objects.filter(run=run, path=path).first()
    if row is None:
        raise not_found("artifact")
    if not row.digest:
        raise Problem.of(410, "path", f"Its content is not kept. {row.skipped}", "There is nothing to download.")
    return download(request, BlobStore(run.workspace_id), row.digest, row.size, row.filename)


@router.put(
    "/{int:number}/artifacts/content",
    auth=Member(Role.CONTRIBUTOR),
    openapi_extra=BODY,
    response={200: File, 201: File, REFUSED: Refusal},
)
def kept(request: HttpRequest, number: int, path: str) -> Status[Artifact]:
    """Keep the body as a file of the run, in the place of one of this path. It may be repeated."""
    run = find_run(request, number)
    there = Artifact.objects.filter(run=run, path=path).exists()
    try:
        row = artifacts.keep(run, path, blocks(request))
    except ArtifactRefused as error:
        raise Problem.of(413 if error.large else 422, "path", error.rule, error.fix, path=error.path) from error
    return Status(200 if there else 201, row)


@router.get("/{int:number}/snapshot", auth=Member(Role.READER), response={200: SnapshotShown, REFUSED: Refusal})
def snapshot(request: HttpRequest, number: int) -> dict[str, Any]:
    """The snapshot of a run, with its files."""
    row = snapshot_of(request, number)
    manifest = snapshots.manifest_of(row)
    return {
        "snapshot": row.digest, "name": row.name, "files_count": row.file_count, "size": row.size, "created_at": row.created_at,
        "files": [entry._asdict() for entry in manifest.files], "links": manifest.links, "dirs": manifest.dirs,
    }  # fmt: skip


@router.get(
    "/{int:number}/snapshot/zip",
    auth=Member(Role.READER),
    openapi_extra=sends("application/zip"),
    response={REFUSED: Refusal},
)
def snapshot_zip(request: HttpRequest, number: int) -> HttpResponseBase:
    """All files of the snapshot as a zip, made while it is sent."""
    row = snapshot_of(request, number)
    leaves = [Leaf(entry.path, entry.size, entry.digest, mode=entry.mode) for entry in snapshots.files(row)]
    response = StreamingHttpResponse(zipped(BlobStore(row.workspace_id), leaves), content_type="application/zip")
    return guarded(response, f"snapshot-{row.short}.zip")


def snapshot_of(request: HttpRequest, number: int) -> Snapshot:
    row = find_run(request, number).snapshot
    if row is None:
        raise not_found("snapshot")
    return row


def download(request: HttpRequest, store: BlobStore, digest: str, size: int, name: str) -> HttpResponseBase:
    """A content, whole or the part that ``Range`` asks for. Raises Problem 410 when it is gone, 416 for a part that is not there."""
    tag = f'"{digest}"'
    if tag in request.headers.get("If-None-Match", ""):
        return guarded(HttpResponse(status=304, headers={"ETag": tag}), name)
    wanted = range_of(request, size, tag)
    first, last = wanted or (0, size - 1)
    try:
        file = store.open(digest)
    except BlobMissing:
        raise Problem.of(410, "path", "Its content is no longer kept.", "There is nothing to download.") from None
    response = StreamingHttpResponse(
        Closing(part(file, first, last - first + 1), file.close),
        status=206 if wanted else 200,
        content_type="application/octet-stream",
    )
    response.headers["Content-Length"] = str(last - first + 1)
    response.headers["Accept-Ranges"] = "bytes"
    response.headers["ETag"] = tag
    if wanted:
        response.headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    return guarded(response, name)


def range_of(request: HttpRequest, size: int, tag: str) -> tuple[int, int] | None:
    """First and last byte that are asked for; None: all. Several parts, and what is no range, count as all, as RFC 9110 allows."""
    found = RANGE.match(request.headers.get("Range", ""))
    if found is None or found[0] == "bytes=-" or request.headers.get("If-Range", tag) != tag:
        return None
    if not found[1]:
        first, last = max(0, size - int(found[2])), size - 1
    else:
        first, last = int(found[1]), min(int(found[2] or size), size - 1)
        if found[2] and int(found[2]) < first:
            return None
    if first > last:
        problem = Problem.of(416, "Range", f"The file has {size:,} bytes.", "Ask for a part of these.")
        problem.headers = {"Content-Range": f"bytes */{size}"}
        raise problem
    return first, last


def part(file: BinaryIO, first: int, count: int) -> Iterator[bytes]:
    file.seek(first)
    while count > 0 and (block := file.read(min(PIECE, count))):
        count -= len(block)
        yield block
