"""A run whose script has ended comes home: outputs collected, log compared, final status, directory
removed."""

import hashlib
import logging
import tempfile
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from environments.host import Host, HostError
from environments.launchers import Launcher
from environments.models import ComputeTarget
from runs import logs, quarantine, wishes
from runs.applying import guard
from runs.metrics.children import told_of
from runs.models import Artifact, GivenUp, LogStream, Run, RunEvent
from runs.status import FINAL, EndReason
from studio.blobs import BlobStore

log = logging.getLogger("runstead.finishing")

PIECE = 8 * 1024**2
SMALL = 1024**2
LAID_OUT_WITHIN = timedelta(hours=1)
"""After that nobody lays out an attempt any more that was given up meanwhile."""
CHILDREN = ".children/"
"""Where a script keeps files of its children, below ``artifacts/``: a folder for each, named by the id that the script made."""


def finish(run: Run, host: Host, launcher: Launcher, *, target_id: int, token: int) -> None:
    """Collect, compare, end. May be repeated from the start at any point; the last step is the status."""
    found = host.outputs(run.attempt)
    files, skipped = found["files"], found["skipped"]
    rows = {row.path: row for row in collect(run, host, files)}
    for item in skipped:
        rows.setdefault(item["path"][:1024], _skipped(run, item["path"], item["why"]))
    artifacts = list(rows.values())
    owners = hand_over(run, artifacts)
    record = run.final or {}
    complete = compare_log(run, record)
    asked = wishes.open_wishes(run).exists()
    if asked:
        with transaction.atomic():
            guard(target_id, token)
            keep(artifacts, owners)
        wishes.grant(run, lambda: guard(target_id, token))
    with transaction.atomic():
        guard(target_id, token)
        if not asked:
            keep(artifacts, owners)
        LogStream.objects.filter(run=run, name="log").update(total=(record.get("log") or {}).get("total"))
        if record.get("killed"):
            RunEvent.objects.create(run=run, detail=f"{record['killed']} left-over processes of the run were ended.")
        if not run.move_to(EndReason(run.reason).status, log_complete=complete):
            return
        wishes.settle(run)
        quarantine.weigh(run)
    launcher.clean(run.attempt)
    if complete and all(item.digest for item in artifacts):
        clean(run, host)


def keep(artifacts: list[Artifact], owners: list[int]) -> None:
    """Write the rows of what was collected."""
    if not artifacts:
        return
    # Of an earlier try that did not come to its end. What a client sent stays, but where the run itself wrote that file.
    Artifact.objects.filter(run__in=owners, sent=False).delete()
    written = {(item.run_id, item.path) for item in artifacts}
    sent = list(Artifact.objects.filter(run__in=owners).only("run_id", "path"))
    Artifact.objects.filter(pk__in=[item.pk for item in sent if (item.run_id, item.path) in written]).delete()
    Artifact.objects.bulk_create(artifacts, batch_size=500)


def hand_over(run: Run, artifacts: list[Artifact]) -> list[int]:
    """Give files that the script kept for one of its children to that one; whose files there may be."""
    own = {child.uid: child for child in told_of(run)}
    for item in artifacts:
        folder, _, rest = item.path.removeprefix(CHILDREN).partition("/")
        child = own.get(f"{run.uid}_{folder}") if item.path.startswith(CHILDREN) and rest else None
        if child is not None:
            item.run, item.path = child, rest
    return [run.pk, *(child.pk for child in own.values())]


def clean(run: Run, host: Host) -> None:
    """Everything came home: the directory on the target is no longer needed.

    The supervisor writes the exit record a moment before it lets its lock go, so the first answer may be that it lives.
    """
    for pause in (0.0, 0.05, 0.2, 1.0):
        time.sleep(pause)
        try:
            host.remove("runs", run.attempt)
        except HostError as error:
            problem = error
            if error.code == "in_use":
                continue
            break
        Run.objects.filter(pk=run.pk).update(cleaned_at=timezone.now())
        return
    log.warning("run %s: its directory stays on the target: %s", run.pk, problem)


def tidy(target: ComputeTarget, host: Host, launcher: Launcher) -> None:
    """Take away what runs that have ended still have on the target: an attendant that died right after the last status had no
    time to, and a run that was cancelled while it waited has nobody else. What did not come home whole stays."""
    present = set(host.list()["runs"])
    for run in Run.objects.filter(target=target, status__in=FINAL, cleaned_at=None).exclude(attempt=""):
        if run.attempt not in present:
            if run.launched:  # only the answer was lost; what was not launched may still be about to be laid out
                Run.objects.filter(pk=run.pk).update(cleaned_at=timezone.now())
            continue
        if run.launched:
            launcher.clean(run.attempt)
        if not run.launched or (run.log_complete and not run.artifacts.filter(digest="").exists()):
            clean(run, host)
    for left in GivenUp.objects.filter(target=target):
        if left.attempt in present:
            host.remove("runs", left.attempt)
            left.delete()
        elif timezone.now() - left.at > LAID_OUT_WITHIN:
            left.delete()
    launcher.tidy()


def compare_log(run: Run, record: dict[str, Any]) -> bool | None:
    """Whether the kept log equals the target's, by size and SHA-256; None when the target never said."""
    said = record.get("log") or {}
    if "sha256" not in said:
        return None
    stream = LogStream.objects.filter(run=run, name="log").first()
    size, digest = logs.digest(stream) if stream is not None else (0, hashlib.sha256().hexdigest())
    return bool(size == said.get("bytes") and digest == said["sha256"])


def collect(run: Run, host: Host, files: list[dict[str, Any]]) -> list[Artifact]:
    """Fetch contents that the workspace lacks; return the rows to write."""
    store = BlobStore(run.workspace_id)
    total = sum(item["size"] for item in files)
    if total > settings.OUTPUT_MAX_BYTES:
        limit = settings.OUTPUT_MAX_BYTES
        why = f"The outputs have {total:,} bytes together; the limit is {limit:,} (RUNSTEAD_OUTPUT_MAX_BYTES)."
        return [_skipped(run, item["path"], why) for item in files]
    lacking = store.missing({item["sha256"] for item in files})
    rows: list[Artifact] = []
    batch: dict[str, bytes] = {}
    for item in files:
        row = Artifact(
            run=run,
            path=item["path"],
            size=item["size"],
            mode=item["mode"],
            digest=item["sha256"],
            modified_at=_moment(item["mtime"]),
        )
        if item["sha256"] in lacking and item["sha256"] not in batch:
            try:
                if item["size"] <= SMALL:
                    batch[item["sha256"]] = _read_small(run, host, item)
                else:
                    _read_large(run, host, item, store)
            except (HostError, Changed) as error:
                row = _skipped(run, item["path"], f"It could not be collected: {error}")
        rows.append(row)
        if sum(map(len, batch.values())) > 2 * PIECE:
            store.put_many(list(batch.items()))
            lacking -= batch.keys()
            batch.clear()
    store.put_many(list(batch.items()))
    return rows


class Changed(Exception):
    """A file is not what it was when the outputs were listed."""


def _read_small(run: Run, host: Host, item: dict[str, Any]) -> bytes:
    data = host.read(run.attempt, item["path"], 0, item["size"])
    if hashlib.sha256(data).hexdigest() != item["sha256"]:
        raise Changed("it changed after the run had ended")
    return data


def _read_large(run: Run, host: Host, item: dict[str, Any], store: BlobStore) -> None:
    with tempfile.TemporaryFile(dir=settings.FILE_UPLOAD_TEMP_DIR) as file:
        offset = 0
        while offset < item["size"]:
            piece = host.read(run.attempt, item["path"], offset, min(PIECE, item["size"] - offset))
            if not piece:
                raise Changed("it became shorter after the run had ended")
            file.write(piece)
            offset += len(piece)
        file.seek(0)
        try:
            store.put_file(file, item["sha256"], item["size"])
        except ValueError as error:
            raise Changed("it changed after the run had ended") from error


def _moment(unix: float) -> datetime | None:
    """A file's time, which a script may set to anything; None where no calendar has it."""
    try:
        return datetime.fromtimestamp(unix, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _skipped(run: Run, path: str, why: str) -> Artifact:
    return Artifact(run=run, path=path[:1024], size=0, skipped=why[:200])
