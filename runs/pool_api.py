"""Pools over HTTP: what the operations about compute targets take and answer where one is a pool."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from django.http import HttpRequest
from ninja import Schema

from environments import pools
from environments.attaching import Refused
from environments.models import Pool
from environments.options import TITLES, kind_of
from environments.pools import Node
from runs.detaching import remove_pool
from runs.models import Run
from runs.pools import UNPLACED, place
from studio.once import once
from studio.rest import Problem, page_url, person, refused, workspace_of

TARGETS_OWN = (
    "transport",
    "launcher",
    "options",
    "credentials",
    "slots",
    "gpu_slots",
    "fingerprint",
    "jump_fingerprint",
    "anyway",
)
POOLS_OWN = ("members", "min_nodes", "max_nodes", "description")


class PoolNode(Schema):
    """A member. ``state``: idle, preparing, running, leaving (draining), or unusable (detached, quarantined, unreachable);
    ``running`` and ``waiting``: all runs there, however they came; ``free``: slots."""

    name: str
    kind: str
    state: str
    health: str
    slots: int
    free: int
    gpus: int
    running: int
    waiting: int
    of_pool: int


class PoolShown(Schema):
    """A pool of attached targets. ``nodes``: state → how many members are in it; ``usable``: how many may be given runs; ``running``:
    its runs that were launched; ``waiting``: those that were not, ``unplaced`` of them on no member yet; ``max_nodes`` null: all."""

    name: str
    kind: Literal["pool"]
    type: Literal["pool"]
    description: str
    health: str
    members: list[PoolNode]
    nodes: dict[str, int]
    usable: int
    min_nodes: int
    max_nodes: int | None
    running: int
    waiting: int
    unplaced: int
    notice: str
    created_at: datetime
    updated_at: datetime
    created_by: str | None
    url: str


class PoolRemoved(Schema):
    """``canceled``: how many runs that waited in it were cancelled."""

    removed: bool
    canceled: int


def shown(request: HttpRequest, pool: Pool) -> dict[str, Any]:
    """A pool as the API shows it."""
    found = pools.nodes(pool)
    active = Run.objects.filter(pool=pool, ended_at__isnull=True)
    return {
        "name": pool.name,
        "kind": "pool",
        "type": "pool",
        "description": pool.description,
        "health": pools.pool_health(pool, found).words,
        "members": [node_shown(node) for node in found],
        "nodes": pools.counts(found),
        "usable": sum(node.usable for node in found),
        "min_nodes": pool.min_nodes,
        "max_nodes": pool.max_nodes,
        "running": active.filter(launched=True).count(),
        "waiting": active.filter(launched=False).count(),
        "unplaced": active.filter(UNPLACED).count(),
        "notice": pools.NOTICE,
        "created_at": pool.created_at,
        "updated_at": pool.updated_at,
        "created_by": str(pool.created_by) if pool.created_by else None,
        "url": page_url(request, f"compute/pools/{pool.name}"),  # type: ignore[arg-type]
    }


def node_shown(node: Node) -> dict[str, Any]:
    target = node.target
    return {
        "name": target.name,
        "kind": TITLES[kind_of(target.transport, target.launcher, target.options)],
        "state": node.state,
        "health": node.health.words,
        "slots": target.slots,
        "free": node.free,
        "gpus": target.gpus,
        "running": node.running,
        "waiting": node.waiting,
        "of_pool": node.ours,
    }


def pools_of(request: HttpRequest) -> Any:
    return Pool.objects.there().filter(workspace=workspace_of(request)).select_related("workspace", "created_by")


def pool_named(request: HttpRequest, name: str) -> Pool | None:
    found: Pool | None = pools_of(request).filter(name=name).first()
    return found


def refuse_pool(request: HttpRequest, name: str) -> None:
    """Raises Problem where something is to be done to a target and the name is a pool's."""
    if pool_named(request, name) is not None:
        rule = f"{name} is a pool, and this is done to a target."
        raise Problem.of(409, "name", rule, "Name one of its members.")


def created(request: HttpRequest, name: str, given: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """(the pool, whether it is new). ``given``: what was sent besides the name. Raises Problem."""
    only(given, POOLS_OWN, "a pool", "Its members have that: leave it out.")
    new = False

    def make() -> dict[str, Any]:
        nonlocal new
        values = {key: value for key, value in given.items() if value is not None}
        try:
            pool, new = pools.create(workspace_of(request), person(request), name, **values)
        except Refused as error:
            raise refused(error.errors) from error
        return {"pool": pool.pk}

    pk = once(request, {"name": name, **given}, make)["pool"]
    pool = pools_of(request).filter(pk=pk).first()
    if pool is None:
        raise Problem.of(409, "Idempotency-Key", "The pool of the first request was removed.", "Use a new key.")
    return shown(request, pool), new


def changed(request: HttpRequest, pool: Pool, given: dict[str, Any]) -> dict[str, Any]:
    """Change what was sent. ``max_nodes`` null means all. Raises Problem."""
    only(given, (*POOLS_OWN, "name"), "a pool", "Its members have that: change them.")
    values = {key: value for key, value in given.items() if value is not None}
    if "max_nodes" in given and given["max_nodes"] is None:
        values["max_nodes"] = ""
    try:
        pools.update(pool, person(request), **values)
    except Refused as error:
        raise refused(error.errors) from error
    place(pool.pk)
    return shown(request, pool)


def removed(request: HttpRequest, pool: Pool, force: str) -> dict[str, Any]:
    """Take the pool away. 409 while runs wait in it and ``force`` is not ``cancel``."""
    if force not in {"", "cancel"}:
        raise Problem.of(422, "force", f"{force[:40]!r} is not known for a pool.", "Send cancel, or nothing.")
    try:
        canceled = remove_pool(pool, person(request), cancel_waiting=bool(force))
    except Refused as error:
        rule = error.errors.get("runs", str(error)).partition(". ")[0]
        fix = "Wait until they have started, or send force=cancel. Runs that execute are not touched."
        raise Problem.of(409, "runs", f"{rule}.", fix, live_runs=pools.waiting_runs(pool)) from error
    return {"removed": True, "canceled": canceled}


def only(given: dict[str, Any], known: Sequence[str], what: str, fix: str) -> None:
    """Raises Problem for a field that the kind has not."""
    for name in given:
        if name not in known:
            raise Problem.of(422, name, f"{what.capitalize()} has no {name}.", fix)
