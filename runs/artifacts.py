"""Files that a client keeps with a run. What a target's run wrote is collected at its end, see ``runs.finishing``."""

import hashlib
import tempfile
from collections.abc import Iterable
from typing import BinaryIO

from django.conf import settings
from django.db import transaction
from django.db.models import Q, Sum
from django.db.models.functions import Substr
from django.db.models.lookups import Exact
from django.utils import timezone

from runs.manifest import SnapshotError, check_name, readable
from runs.metrics.records import MAX_PATH
from runs.models import Artifact, Run
from studio.blobs import SMALL, BlobStore

BLOCK = 1024 * 1024
IN_MEMORY = 2 * SMALL
MAX_FILES = 100_000
"""Artifacts of one run."""


class ArtifactRefused(ValueError):
    """A file that cannot be kept. ``large``: because of a limit of bytes."""

    def __init__(self, path: str, rule: str, fix: str, *, large: bool = False) -> None:
        self.path = path
        self.rule = rule
        self.fix = fix
        self.large = large
        super().__init__(f"{path!r}: {rule} {fix}")


class NotKept(LookupError):
    """The artifact is listed and its content is not kept; the text says why."""


def keep(run: Run, path: str, stream: BinaryIO | Iterable[bytes]) -> Artifact:
    """Keep a file with a run, in the place of one of the same path. All of it is read before anything is written.

    Raises ArtifactRefused for a path that is none, a file where others lie below it, and what is over the limits.
    """
    check_path(path)
    check_place(run, path)
    room = settings.OUTPUT_MAX_BYTES - held(run, but=path)
    with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY, dir=settings.FILE_UPLOAD_TEMP_DIR) as file:
        sha256 = hashlib.sha256()
        size = 0
        for block in blocks_of(stream):
            size += len(block)
            if size > room:
                raise too_large(path)
            sha256.update(block)
            file.write(block)
        file.seek(0)
        store, digest = BlobStore(run.workspace_id), sha256.hexdigest()
        if size <= SMALL:
            store.put_many([(digest, file.read())])
        else:
            store.put_file(file, digest, size)  # type: ignore[arg-type]  # it reads as a file does
    with transaction.atomic():
        Run.objects.select_for_update().filter(
            pk=run.pk
        ).first()  # one after the other, or two would pass the checks together
        check_place(run, path)
        if held(run, but=path) + size > settings.OUTPUT_MAX_BYTES:
            raise too_large(path)
        row, _ = Artifact.objects.update_or_create(
            run=run,
            path=path,
            defaults={
                "size": size, "digest": digest, "mode": 0o644, "skipped": "", "modified_at": timezone.now(), "sent": True
            },
        )  # fmt: skip
    return row


def open_(artifact: Artifact) -> BinaryIO:
    """A readable, seekable file of its content. Raises NotKept, and BlobMissing when the content is gone."""
    if not artifact.digest:
        raise NotKept(artifact.skipped or "Its content was not collected.")
    return BlobStore(artifact.run.workspace_id).open(artifact.digest)


def check_path(path: str) -> None:
    """Whether it is a plain relative path. Raises ArtifactRefused."""
    try:
        check_name(path)
    except SnapshotError as error:
        raise ArtifactRefused(error.path, error.rule, error.fix) from None
    if len(path) > MAX_PATH:
        raise ArtifactRefused(
            f"{path[:60]}…", f"The path has {len(path):,} characters; the limit is {MAX_PATH:,}.", "Shorten it."
        )


def check_place(run: Run, path: str) -> None:
    """A path is a file or a folder, never both; and a run has so many files at most. Raises ArtifactRefused."""
    rows = Artifact.objects.filter(run=run)
    if rows.filter(path=path).exists():
        return
    parts = path.split("/")
    above = ["/".join(parts[:n]) for n in range(1, len(parts))]
    for other in rows.filter(Q(path__in=above) | below(path)).values_list("path", flat=True)[:1]:
        rule = (
            f"{other!r} is a file of this run."
            if other in above
            else f"It is a folder of this run: {other!r} lies below it."
        )
        raise ArtifactRefused(path, rule, "Choose another path.")
    if rows.count() >= MAX_FILES:
        raise ArtifactRefused(
            path, f"The run has {MAX_FILES:,} files, the most it may.", "Send many small files as one archive."
        )


def below(folder: str) -> Q:
    """Paths inside a folder. Not ``startswith``, for which SQLite holds ``A`` and ``a`` to be the same."""
    return Q(Exact(Substr("path", 1, len(folder) + 1), f"{folder}/"))


def held(run: Run, *, but: str) -> int:
    """Bytes of a run's artifacts together, without one of them."""
    total = Artifact.objects.filter(run=run).exclude(path=but).aggregate(total=Sum("size"))["total"]
    return int(total or 0)


def too_large(path: str) -> ArtifactRefused:
    limit = readable(settings.OUTPUT_MAX_BYTES)
    rule = f"With it the run's files would have over {limit} together (RUNSTEAD_OUTPUT_MAX_BYTES)."
    return ArtifactRefused(path, rule, "Keep large data elsewhere and log its address.", large=True)


def blocks_of(stream: BinaryIO | Iterable[bytes]) -> Iterable[bytes]:
    read = getattr(stream, "read", None)
    return iter(lambda: read(BLOCK), b"") if read is not None else stream
