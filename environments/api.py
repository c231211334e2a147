"""Environments over HTTP: what a program may name in a run."""

from typing import Any

from django.db.models import Q
from django.http import HttpRequest
from ninja import Router

from environments.models import Environment
from studio.rest import Member
from studio.workspaces.models import Role

environments = Router(tags=["environments"])


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
