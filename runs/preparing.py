"""A run made ready on its target: contents sent, directory laid out."""

import io
import secrets
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any

from django.conf import settings

from environments.definition import Definition
from environments.host import Host, HostError
from environments.models import Build
from environments.target import isolated
from runs import snapshots
from runs.command import argv, variables
from runs.config import ScriptRunConfig
from runs.frameworks import FRAMEWORKS, Place
from runs.models import Run, Snapshot
from studio.blobs import BlobStore
from studio.credentials import identity
from studio.workspaces.models import Secret

# Contents above this size are streamed one by one; smaller ones are read together, pack by pack.
STREAMED = 4 * 1024**2


def ship(snapshot: Snapshot, host: Host, *, compress: bool) -> None:
    """Send those contents of a snapshot that the target lacks."""
    store = BlobStore(snapshot.workspace_id)
    manifest = snapshots.manifest_of(snapshot)
    wanted = {snapshot.digest: len(manifest.data), **{entry.digest: entry.size for entry in manifest.files}}
    missing = host.missing_blobs(list(wanted))
    host.put_blobs(_contents(store, {digest: wanted[digest] for digest in missing}), compress=compress)


def _contents(store: BlobStore, wanted: dict[str, int]) -> Iterator[tuple[str, int, Any]]:
    small: Iterable[str] = [digest for digest, size in wanted.items() if size <= STREAMED]
    for digest, data in store.read_many(small):
        yield digest, len(data), lambda data=data: io.BytesIO(data)
    for digest, size in wanted.items():
        if size > STREAMED:
            yield digest, size, lambda digest=digest: store.open(digest)


def lay_out(run: Run, build: Build, host: Host, inrun: str, *, compress: bool) -> None:
    """Make the run's directory on the target. May be repeated."""
    assert run.snapshot is not None
    spec = make_spec(run, build, host.root, inrun)
    try:
        host.prepare("runs", run.attempt, spec, run.snapshot.digest)
    except HostError as error:
        if error.code != "blobs_missing":
            raise
        ship(run.snapshot, host, compress=compress)
        host.prepare("runs", run.attempt, spec, run.snapshot.digest)


def programs_beside(python: str) -> list[str]:
    """The folder whose programs a run finds before others of these names: its environment's own, as if that were activated."""
    folder = PurePosixPath(python).parent
    return [str(folder)] if folder.is_absolute() and str(folder) not in {"/usr/bin", "/bin"} else []


def make_spec(run: Run, build: Build, root: str, inrun: str) -> dict[str, Any]:
    """The run's ``spec.json``, see docs/run-directory.md. ``inrun``: digest of the in-run package on the
    target."""
    assert run.environment is not None and run.target is not None
    config = ScriptRunConfig.from_json(run.config)
    library = f"{root}/lib/{inrun}"
    software = Definition.from_json(run.environment.definition)
    place = Place(
        python=build.python,
        launch=f"{library}/runstead/launch.py",
        name=run.uid,
        spark=run.target.options.get("spark") or {},
        software={**software.spark, **build.extras},
    )
    own = {
        **build.extras.get("variables", {}),
        **FRAMEWORKS[config.framework].env(config, place),
        **(software.docker_arguments.env if run.target.launcher == "docker" else {}),
        **software.variables,
        **variables(run, config),
    }
    rows = {
        row.name: row for row in Secret.objects.filter(workspace=run.workspace_id, name__in=config.secrets.values())
    }
    # The script's folder comes first on Python's path by itself; its project's root and ours follow.
    path = f"{root}/runs/{run.attempt}/code:{library}"
    return {
        "attempt": run.attempt,
        "kind": "run",
        "argv": argv(config, place, own),
        "cwd": "code",
        "env": {**own, "PYTHONPATH": path},
        "path": programs_beside(build.python),
        "secrets": {name: rows[secret].reveal() for name, secret in config.secrets.items() if secret in rows},
        "limits": {
            "log_bytes": settings.LOG_MAX_BYTES,
            "seconds": config.max_run_duration_seconds,
            # A container's own limit counts what is used; this one what is asked for, which is more.
            "memory_bytes": None if run.target.launcher == "docker" else config.memory_bytes,
        },
        "grace": config.grace_seconds,
        "token": secrets.token_hex(16),
        "sample_seconds": 2,
        "tracking": {
            "run_id": run.uid,
            "experiment_id": str(run.experiment_id),
            "experiment": run.experiment.name,
            "user": str(run.created_by or ""),
        },
        "facts": facts(run),
        "isolate": isolated(run.target, root),
        "studio": identity(),
    }


def facts(run: Run) -> dict[str, Any]:
    """What a script may ask of its run without a network: as it is when it is laid out."""
    assert run.target is not None and run.snapshot is not None
    return {
        "name": run.name,
        "notes": run.notes,
        "target": run.target.name,
        "snapshot": run.snapshot.digest,
        "parent": run.parent.uid if run.parent else None,
        "tags": dict(run.tags.values_list("name", "value")),
        "properties": run.properties,
        "config": run.config,
        "submitted_by": str(run.created_by) if run.created_by else None,
        "url": f"{settings.PUBLIC_URL}/{run.workspace.slug}/runs/{run.number}",
    }
