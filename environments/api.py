"""Environments and compute targets over HTTP: what a program may name in a run."""

from typing import Any

from django.db.models import Q
from django.http import HttpRequest
from ninja import Router

from environments.models import ComputeTarget, Environment
from studio.rest import Member
from studio.workspaces.models import Role

environments = Router(tags=["environments"])
targets = Router(tags=["targets"])


@environments.get("", auth=Member(Role.READER))
def listed_environments(request: HttpRequest) -> dict[str, Any]:
    """Environments that runs of the workspace may use, with their versions, the newest first. The workspace's own hide
    curated ones of the same name."""
    workspace = request.workspace  # type: ignore[attr-defined]
    rows = Environment.objects.filter(Q(workspace=workspace) | Q(workspace=None), archived_at=None)
    found: dict[str, dict[str, Any]] = {}
    for row in rows.order_by("workspace", "name").prefetch_related("versions"):
        versions = [version.number for version in row.versions.all()]
        if versions and (row.name not in found or not row.curated):
            found[row.name] = {
                "name": row.name,
                "description": row.description,
                "curated": row.curated,
                "versions": versions,
            }
    return {"environments": sorted(found.values(), key=lambda item: item["name"])}


@targets.get("", auth=Member(Role.READER))
def listed_targets(request: HttpRequest) -> dict[str, Any]:
    """Compute targets of the workspace."""
    rows = ComputeTarget.objects.attached().filter(workspace=request.workspace)  # type: ignore[attr-defined]
    return {
        "targets": [
            {
                "name": row.name,
                "type": f"{row.transport}/{row.launcher}",
                "slots": row.slots,
                "enabled": row.enabled,
                "last_seen_at": row.last_seen_at,
                "unreachable_since": row.unreachable_since,
            }
            for row in rows
        ]
    }
