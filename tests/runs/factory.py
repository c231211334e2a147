"""Rows for tests of pages: a run with what its page shows."""

import hashlib
import json
import uuid
from collections.abc import Mapping
from typing import Any

from django.utils import timezone

from environments.models import Build, BuildStatus, ComputeTarget, Environment, EnvironmentVersion
from runs.config import ScriptRunConfig
from runs.models import Artifact, Experiment, Run, Snapshot
from studio.blobs import BlobStore
from studio.workspaces.models import Workspace


def make_target(workspace: Workspace, name: str = "local", **fields: Any) -> ComputeTarget:
    fields.setdefault("last_seen_at", timezone.now())
    target, _ = ComputeTarget.objects.get_or_create(workspace=workspace, name=name, defaults=fields)
    return target


def make_version(
    workspace: Workspace | None, name: str = "base", number: int = 1, **definition: Any
) -> EnvironmentVersion:
    environment, _ = Environment.objects.get_or_create(workspace=workspace, name=name)
    key = hashlib.sha256(json.dumps([name, number, definition]).encode()).hexdigest()
    row, _ = EnvironmentVersion.objects.get_or_create(
        environment=environment,
        number=number,
        defaults={"definition": definition or {"user_managed": True}, "key": key},
    )
    return row


def make_build(
    target: ComputeTarget, version: EnvironmentVersion, status: BuildStatus = BuildStatus.READY, **fields: Any
) -> Build:
    return Build.objects.create(target=target, key=version.key, version=version, status=status, **fields)


def put(workspace: Workspace, data: bytes) -> str:
    digest = hashlib.sha256(data).hexdigest()
    BlobStore(workspace.pk).put_many([(digest, data)])
    return digest


def make_snapshot(workspace: Workspace, files: Mapping[str, bytes], name: str = "digits") -> Snapshot:
    entries = [[path, 0o644, len(data), put(workspace, data)] for path, data in sorted(files.items())]
    manifest = json.dumps(
        {"v": 1, "files": entries, "links": [], "dirs": []}, ensure_ascii=False, separators=(",", ":")
    ).encode()
    snapshot, _ = Snapshot.objects.get_or_create(
        workspace=workspace,
        digest=put(workspace, manifest),
        defaults={"name": name, "file_count": len(files), "size": sum(map(len, files.values()))},
    )
    return snapshot


SCRIPT = {"train.py": b"print('hello')\n", "configs/base.yaml": b"lr: 0.1\n"}


def make_run(
    workspace: Workspace, *, files: Mapping[str, bytes] = SCRIPT, config: ScriptRunConfig | None = None, **fields: Any
) -> Run:
    experiment, _ = Experiment.objects.get_or_create(workspace=workspace, name=fields.pop("experiment", "digits"))
    number = workspace.next_number()
    config = config or ScriptRunConfig(script="train.py", arguments=("--lr", "0.1"))
    fields.setdefault("target", make_target(workspace))
    fields.setdefault("environment", make_version(None))
    fields.setdefault("snapshot", make_snapshot(workspace, files))
    fields.setdefault("name", f"{experiment.name}-{number}")
    fields.setdefault("gpus", config.gpus)
    return Run.objects.create(
        workspace=workspace,
        number=number,
        uid=f"x_{uuid.uuid4().hex}",
        experiment=experiment,
        config=config.to_json(),
        **fields,
    )


def make_artifact(run: Run, path: str, data: bytes | None, **fields: Any) -> Artifact:
    digest = "" if data is None else put(run.workspace, data)
    return Artifact.objects.create(run=run, path=path, size=len(data or b""), digest=digest, **fields)
