"""Pools as the pages of Compute list them."""

from typing import Any

from django.db.models import QuerySet

from environments import pools
from environments.models import Pool
from studio.workspaces.access import MemberRequest
from studio.workspaces.models import Role, Workspace


def pools_of(workspace: Workspace) -> "QuerySet[Pool]":
    return Pool.objects.there().filter(workspace=workspace).select_related("created_by", "workspace")


def seen(pool: Pool) -> dict[str, Any]:
    """A pool as pages show it."""
    found = pools.nodes(pool)
    return {
        "pool": pool,
        "nodes": found,
        "health": pools.pool_health(pool, found),
        "usable": sum(node.usable for node in found),
        "lacking": pools.lacking(pool, found),
        "free": sum(node.free for node in found),
        "running": pool.runs.filter(ended_at__isnull=True, launched=True).count(),
        "waiting": pool.runs.filter(ended_at__isnull=True, launched=False).count(),
    }


def list_page(request: MemberRequest) -> dict[str, Any]:
    rows = [seen(pool) for pool in pools_of(request.workspace)]
    return {"pools": rows, "may_manage": request.may(Role.OWNER)}
