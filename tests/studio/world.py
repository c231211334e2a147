"""A workspace with one object of each kind, for tests that walk all addresses of the site."""

from dataclasses import dataclass, field
from typing import Any

from environments.models import ComputeTarget, Label, Lock, Pool, PoolMember
from runs.logs import append
from runs.models import Artifact, LogStream, MetricSeries, ModelVersion, RegisteredModel, Run, RunTag
from studio.accounts.models import Token, User
from studio.workspaces.models import Membership, Secret, Workspace
from tests.runs import factory


@dataclass(frozen=True)
class World:
    """What the addresses of a workspace name. ``marks`` are words that only its own members may ever read."""

    workspace: Workspace
    run: Run
    values: dict[str, Any]
    marks: list[str] = field(default_factory=list)


def fill(workspace: Workspace, member: User, other: User, *, name: str, number: int) -> World:
    """Objects called after ``name`` and a run ``number``: choose others in another workspace, to tell them apart.

    ``member`` owns the objects; ``other`` is the member whom an address about members names.
    """
    Workspace.objects.filter(pk=workspace.pk).update(last_number=number - 1)
    workspace.refresh_from_db()
    text = f"print('{name}')\n".encode()
    target = factory.make_target(workspace, f"{name}-box", slots=2)
    draft = ComputeTarget.objects.create(workspace=workspace, name=f"{name}-draft", attached_at=None)
    pool = Pool.objects.create(workspace=workspace, name=f"{name}-pool")
    PoolMember.objects.create(pool=pool, target=target, position=0)
    version = factory.make_version(workspace, f"{name}-env")
    build = factory.make_build(target, version)
    label = Label.objects.create(environment=version.environment, name=f"{name}-label", version=version)
    Lock.objects.create(
        workspace=workspace, key=version.key, platform="linux-x86_64-py3.11", text=f"{name}-lock==1.0\n"
    )
    run = factory.make_run(
        workspace,
        files={"train.py": text},
        experiment=f"{name}-experiment",
        name=f"{name}-run",
        created_by=member,
        target=target,
        environment=version,
    )
    assert run.number == number
    RunTag.objects.create(run=run, workspace=workspace, name=f"{name}-tag")
    digest = factory.put(workspace, text)
    Artifact.objects.get_or_create(run=run, path=f"{name}.txt", defaults={"size": len(text), "digest": digest})
    for held in ({"run": run}, {"build": build}):
        stream, _ = LogStream.objects.get_or_create(**held, name="log")
        append(stream, 0, f"{name}-log-line\n".encode())
    series = MetricSeries.objects.create(run=run, workspace=workspace, name=f"{name}-loss")
    model = RegisteredModel.objects.create(workspace=workspace, name=f"{name}-model", last_number=number)
    files = [[f"{name}.txt", len(text), digest]]
    version_made = ModelVersion.objects.create(model=model, number=number, run=run, path=f"{name}.txt", files=files)
    token, _ = Token.issue(user=member, workspace=workspace, name=f"{name}-token")
    secret = Secret(workspace=workspace, name=f"{name}_SECRET", created_by=member)
    secret.seal(f"{name}-hidden-value")
    secret.save()
    values = {
        "number": run.number,
        "experiment": run.experiment.name,
        "target": target.name,
        "draft": draft.pk,
        "pool": pool.name,
        "environment": version.environment.name,
        "version": version.number,
        "reference": str(version),
        "label": label.name,
        "platform": "linux-x86_64-py3.11",
        "digest": run.snapshot.digest if run.snapshot else digest,
        "build": build.pk,
        "series": series.pk,
        "metric": series.name,
        "uid": run.uid,
        "model": model.name,
        "model_version": version_made.number,
        "token": token.pk,
        "secret": secret.pk,
        "member": Membership.objects.get(workspace=workspace, user=other).pk,
        "output": f"{name}.txt",
    }
    return World(
        workspace,
        run,
        values,
        marks=[
            f"{name}-run",
            f"{name}-log-line",
            f"{name}-tag",
            f"{name}-env",
            f"{name}-lock",
            f"{name}-model",
            f"{name}-pool",
            f"print('{name}')",
        ],
    )
