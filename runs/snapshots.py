"""Snapshots: immutable copies of project folders, made from a manifest and the contents it names."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from django.db import transaction

from runs.manifest import FileEntry, Manifest, SnapshotError
from runs.models import Snapshot
from runs.scanning import Scan, scan
from studio.accounts.models import User
from studio.blobs import SMALL, BlobError, BlobStore
from studio.workspaces.models import Workspace


class MissingContents(SnapshotError):
    """Contents that a manifest names are not there; ``digests`` are these."""

    def __init__(self, path: str, digests: set[str]) -> None:
        self.digests = digests
        super().__init__(
            path,
            f"{len(digests):,} contents have not been sent, this file's among them.",
            "Send them, then try again.",
        )


def create(workspace: Workspace, manifest_bytes: bytes, user: User | None, name: str = "") -> Snapshot:
    """Record the snapshot of a manifest whose contents are all there; the same manifest gives the same row.

    ``name`` is the folder's name, kept of the first time. Raises SnapshotError, and MissingContents.
    """
    manifest = Manifest.parse(manifest_bytes)
    check_contents(BlobStore(workspace.pk), manifest)
    return record(workspace, manifest, user, name)


def check_contents(store: BlobStore, manifest: Manifest) -> None:
    """Compare what a manifest names with what the store has. Raises MissingContents, or SnapshotError for a
    wrong size."""
    sizes = store.sizes(manifest.contents())
    missing = {entry.digest for entry in manifest.files if entry.digest not in sizes}
    for entry in manifest.files:
        if entry.digest in missing:
            raise MissingContents(entry.path, missing)
        if sizes[entry.digest] != entry.size:
            raise SnapshotError(
                entry.path,
                f"The manifest says {entry.size:,} bytes, its content has {sizes[entry.digest]:,}.",
                "Hash the file again.",
            )


def record(workspace: Workspace, manifest: Manifest, user: User | None, name: str) -> Snapshot:
    """Write the row of a checked manifest, and the manifest itself as a content."""
    row = Snapshot.objects.filter(workspace=workspace, digest=manifest.digest).first()
    if row is not None:
        return row
    BlobStore(workspace.pk).put_many([(manifest.digest, manifest.data)])
    with transaction.atomic():
        row, _ = Snapshot.objects.get_or_create(
            workspace=workspace,
            digest=manifest.digest,
            defaults={
                "name": name[:255],
                "file_count": len(manifest.files),
                "size": manifest.size,
                "created_by": user,
            },
        )
    return row


def manifest_of(snapshot: Snapshot) -> Manifest:
    """The manifest of a snapshot; it was validated when it came."""
    return Manifest.trusted(BlobStore(snapshot.workspace_id).read(snapshot.digest))


def files(snapshot: Snapshot) -> tuple[FileEntry, ...]:
    """Path, mode, size and digest of every file, by path."""
    return manifest_of(snapshot).files


def read_file(snapshot: Snapshot, path: str) -> bytes:
    """A file's bytes. Raises KeyError when the snapshot has no such file."""
    return BlobStore(snapshot.workspace_id).read(file_entry(snapshot, path).digest)


def file_entry(snapshot: Snapshot, path: str) -> FileEntry:
    """What a snapshot says about one file. Raises KeyError when it has no such file."""
    for entry in files(snapshot):
        if entry.path == path:
            return entry
    raise KeyError(path)


def submit_folder(workspace: Workspace, folder: str | os.PathLike[str], user: User | None) -> tuple[Snapshot, Scan]:
    """Make the snapshot of a folder on this machine, storing the contents that the workspace lacks.

    Raises SnapshotError, also when a file changed between the reading that hashed it and the one that stored
    it.
    """
    found = scan(folder)
    row = Snapshot.objects.filter(workspace=workspace, digest=found.manifest.digest).first()
    if row is not None:
        return row, found
    manifest = found.manifest.check()
    store = BlobStore(workspace.pk)
    missing = store.missing(manifest.contents())
    absent = {entry.digest: entry for entry in manifest.files if entry.digest in missing}
    store.put_many(_small(found.folder, absent.values()))
    for entry in absent.values():
        if entry.size > SMALL:
            with (found.folder / entry.path).open("rb") as file, _named(entry.path):
                store.put_file(file, entry.digest, entry.size)
    return record(workspace, manifest, user, found.folder.resolve().name), found


def _small(folder: Path, entries: Iterable[FileEntry]) -> Iterator[tuple[str, bytes]]:
    for entry in entries:
        if entry.size > SMALL:
            continue
        data = (folder / entry.path).read_bytes()
        if len(data) != entry.size or hashlib.sha256(data).hexdigest() != entry.digest:
            raise _changed(entry.path)
        yield entry.digest, data


@contextmanager
def _named(path: str) -> Iterator[None]:
    try:
        yield
    except BlobError as error:
        raise _changed(path) from error


def _changed(path: str) -> SnapshotError:
    return SnapshotError(path, "It changed while the folder was read.", "Submit again when nothing writes to it.")
