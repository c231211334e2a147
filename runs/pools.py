"""Runs that were sent to a pool: given to the first of its targets with a free slot, and taken back while nothing has started.

A run of a pool has no target until it is placed. Which of them goes where is decided by ``place`` alone, one pool at a time: it holds
the pool's row, and those of its members, since pools may share them. Until a run is launched its target can lose it again: it goes
back to the pool when that target is drained, quarantined, detached or does not answer. The write that takes it back and the one that
says ``launched`` each ask for the target, the attempt and that it was not launched, so only one of them changes the row; and whoever
prepares the run on the old target finds that the row is no longer as it held it (``Run.as_held``).
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import lru_cache, partial
from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from environments.models import ComputeTarget, EnvironmentVersion, Pool, PoolMember
from environments.pools import OUT_OF_USE, Node, nodes, out_of_use
from runs.fitting import misfit
from runs.models import GivenUp, Run, RunEvent
from runs.queue import HOLD_AFTER
from runs.status import WAITING, RunStatus
from studio.database import AWAY
from studio.queues import ring

log = logging.getLogger("runstead.pools")

UNPLACED = Q(target=None, ended_at=None, status=RunStatus.NOT_STARTED)
"""Of a run with a pool: it waits to be given to a target."""
MOVABLE = Q(target__isnull=False, pool__isnull=False, ended_at=None, launched=False, status__in=sorted(WAITING))
"""It was given to one, and may go back."""
PIECE = 200
"""Waiting runs that are read at once."""
GONE = {
    "detached": "was detached",
    "quarantined": "was quarantined",
    "draining": "is draining",
    "unreachable": "does not answer",
}


def unplaced(pool_id: int) -> "QuerySet[Run]":
    """Runs that wait in a pool, in their order."""
    return Run.objects.filter(UNPLACED, pool=pool_id).order_by("-priority", "number")


# -- placed


def place(pool_id: int) -> int:
    """Give waiting runs of a pool to members with a free slot; how many were given. What stays is told why it waits."""
    if not unplaced(pool_id).exists():
        return 0
    with transaction.atomic():
        pool = Pool.objects.select_for_update(no_key=True).get(pk=pool_id)
        members = PoolMember.objects.filter(pool=pool).values("target_id")
        # Held in the order of their ids, as all who hold several do. Another pool, and a submit, wait here.
        list(ComputeTarget.objects.select_for_update(no_key=True).filter(pk__in=members).order_by("pk").values("pk"))
        return Placement(pool).all()


class Placement:
    """One pass over what waits in a pool. Called in the transaction that holds the pool."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.nodes = nodes(pool)
        self.used = sum(node.ours > 0 for node in self.nodes)
        self.kept: set[int] = set()
        """Members whose GPUs are kept for a run that has waited long."""
        self.versions = EnvironmentVersion.objects.select_related("environment")
        self.fitting = lru_cache(maxsize=None)(self._fitting)

    def all(self) -> int:
        fields = (
            "pk",
            "gpus",
            "environment_id",
            "config__framework",
            "config__spark",
            "created_at",
            "priority",
            "number",
        )
        placed = 0
        now = timezone.now()
        behind = Q()
        # As long as there is a slot: ten thousand that wait are not read for one that has ended.
        while self.is_open() and (rows := self.able().filter(behind).values_list(*fields)[:PIECE]):
            for pk, gpus, version, framework, spark, created_at, priority, number in rows:
                fitting = self.fitting(gpus, version, framework or "python", _frozen(spark))
                node = self.first(gpus, fitting, now - created_at)
                placed += node is not None and self.give(pk, gpus, node)
                behind = Q(priority__lt=priority) | Q(priority=priority, number__gt=number)
                if not self.is_open():
                    break
        self.explain()
        return placed

    def able(self) -> "QuerySet[Run]":
        """Those of the waiting runs that could be given now: none that ask for GPUs where no open member has a free one."""
        rows = unplaced(self.pool.pk)
        some = any(node.free and node.gpus_free and self.allowed(node) for node in self.nodes)
        return rows if some else rows.filter(gpus=0)

    def is_open(self) -> bool:
        return any(node.free and self.allowed(node) for node in self.nodes)

    def allowed(self, node: Node) -> bool:
        """Whether ``max_nodes`` lets a run of the pool be there."""
        return self.pool.max_nodes is None or node.ours > 0 or self.used < self.pool.max_nodes

    def first(self, gpus: int, fitting: frozenset[int], waited: timedelta) -> Node | None:
        """The first member, in their order, that takes a run now."""
        able = [node for node in self.nodes if node.target.pk in fitting and node.usable and self.allowed(node)]
        for node in able:
            if node.free and (not gpus or (node.gpus_free >= gpus and node.target.pk not in self.kept)):
                return node
        if gpus and able and waited >= HOLD_AFTER:
            # Smaller ones would take each GPU that comes free before there are as many as this run needs.
            self.kept.add(able[0].target.pk)
        return None

    def give(self, pk: int, gpus: int, node: Node) -> bool:
        waits = Run.objects.filter(UNPLACED, pk=pk, pool=self.pool)
        if not waits.update(target=node.target, waiting_for=""):
            return False  # cancelled at this moment
        RunEvent.objects.create(run_id=pk, detail=f"Placed on {node.target.name}, of pool {self.pool.name}.")
        self.used += not node.ours
        node.waiting, node.ours, node.gpus_taken = node.waiting + 1, node.ours + 1, node.gpus_taken + gpus
        ring(node.target.pk)
        return True

    def _fitting(self, gpus: int, version_id: int | None, framework: str, spark: Any) -> frozenset[int]:
        """Ids of the members that a run can be on."""
        if version_id is None:
            return frozenset()
        version = self.versions.get(pk=version_id)
        own = _thawed(spark)
        return frozenset(
            node.target.pk
            for node in self.nodes
            if not misfit(node.target, version, gpus=gpus, framework=framework, spark=own)
        )

    def explain(self) -> None:
        """Write down why those wait that still do; one write for all that wait for the same."""
        for gpus, version in unplaced(self.pool.pk).order_by().values_list("gpus", "environment_id").distinct():
            why = self.words(gpus, self.fitting(gpus, version, "python", ()))[:300]
            alike = unplaced(self.pool.pk).filter(gpus=gpus, environment=version).order_by()
            alike.exclude(waiting_for=why).update(waiting_for=why)

    def words(self, gpus: int, fitting: frozenset[int]) -> str:
        return words(self.pool, [(node, self.why_not(node, gpus, fitting)) for node in self.nodes])

    def why_not(self, node: Node, gpus: int, fitting: frozenset[int]) -> str:
        if node.trouble:
            return node.trouble
        if node.target.pk not in fitting:
            return "too small" if gpus > node.target.gpus else "without a container engine"
        if not node.free or node.gpus_free < gpus:
            return "busy"
        return "held back by the pool's limit" if not self.allowed(node) else "busy"


def words(pool: Pool, found: Sequence[tuple[Node, str]]) -> str:
    """Why a run waits in a pool: members and what each of them is."""
    if not found:
        return f"Pool {pool.name} has no targets."
    counts = Counter(why for _, why in found)
    if len(found) == 1:
        return f"Pool {pool.name}: its target is {found[0][1]}."
    if len(counts) == 1:
        return f"Pool {pool.name}: its {len(found)} targets are {found[0][1]}."
    return f"Pool {pool.name}: its {len(found)} targets are {', '.join(f'{why} ({n})' for why, n in counts.items())}."


def _frozen(spark: Any) -> Any:
    """``deploy_mode`` and ``conf`` of a run's Spark settings: what of them decides where it can be."""
    conf = (spark or {}).get("conf") or {}
    return ((spark or {}).get("deploy_mode"), tuple(sorted(conf.items()))) if spark else ()


def _thawed(spark: Any) -> dict[str, Any]:
    return {"deploy_mode": spark[0], "conf": dict(spark[1])} if spark else {}


# -- taken back


def put_back(target_id: int, why: str) -> list[int]:
    """Take from a target what of its pools has not been launched; ids of the pools that have runs again. ``why``: a word of GONE."""
    pools: set[int] = set()
    for run in Run.objects.filter(MOVABLE, target=target_id).select_related("target", "pool").order_by("pk"):
        if back(run, GONE[why]) and run.pool_id is not None:
            pools.add(run.pool_id)
    for pool_id in sorted(pools):
        soon(pool_id)
    return sorted(pools)


def back(run: Run, why: str) -> bool:
    """Take a run back from the target that it was given to, if it was not launched meanwhile. Its next attempt has another id."""
    here, pool, attempt = run.target, run.pool, run.attempt
    held = run.as_held & Q(launched=False)
    fields: dict[str, Any] = {"target": None, "attempt": "", "build": None, "prepared_at": None, "waiting_for": ""}
    with transaction.atomic():
        if run.status == RunStatus.NOT_STARTED:
            moved = bool(Run.objects.filter(held, pk=run.pk, status=run.status).update(**fields))
        else:
            moved = run.move_to(RunStatus.NOT_STARTED, only=held, **fields)
        if moved and attempt and here is not None:
            GivenUp.objects.create(target=here, attempt=attempt)
        if moved:
            RunEvent.objects.create(
                run=run, detail=f"{here} {why} before the run had started there: back to pool {pool}."
            )
    return moved


# -- when


def soon(pool_id: int) -> None:
    """Place after the transaction. If that fails the reconciler does it."""
    transaction.on_commit(partial(place, pool_id), robust=True)


def waiting_pools(target_id: int) -> list[int]:
    """Ids of the pools of a target in which runs wait."""
    pools = PoolMember.objects.filter(target=target_id).order_by("pool_id").values_list("pool_id", flat=True)
    return [pool_id for pool_id in pools if unplaced(pool_id).exists()]  # one by one: one look at the index each


def freed(target_id: int) -> None:
    """A slot of a target came free, or it takes runs again: its pools have use for that."""
    for pool_id in waiting_pools(target_id):
        soon(pool_id)


def on_slot_freed(sender: object, target_id: int, **kwargs: object) -> None:
    transaction.on_commit(partial(freed, target_id), robust=True)


def settle(target_id: int) -> None:
    """Do what follows for pools from what a target is now."""
    target = ComputeTarget.objects.get(pk=target_id)
    if why := out_of_use(target):
        put_back(target_id, why)
    freed(target_id)


def sweep() -> None:
    """What somebody should have done and perhaps did not: the reconciler's part."""
    # Also of a target that is no member any more: its pool placed runs there before.
    unused = ComputeTarget.objects.filter(OUT_OF_USE).order_by().values("pk")
    left = Run.objects.filter(MOVABLE, target__in=unused).order_by().values_list("target_id", flat=True).distinct()
    for target_id in left:
        if target_id is not None:
            apart(settle, target_id)
    for pool_id in Pool.objects.there().order_by("pk").values_list("pk", flat=True):
        apart(place, pool_id)


def apart(act: Callable[[int], object], pk: int) -> None:
    """One pool or target by itself: an error of ours with it must not keep the reconciler from all others."""
    try:
        act(pk)
    except AWAY:
        raise
    except Exception:
        log.exception("%s %s failed; it is tried again", act.__name__, pk)


def wanted_members() -> set[int]:
    """Targets that runs of a pool wait for and that have not answered lately: somebody has to try them, though no run is theirs."""
    pools = Run.objects.filter(UNPLACED, pool__isnull=False).values("pool_id")
    away = ComputeTarget.objects.attached().filter(
        unreachable_since__isnull=False, enabled=True, quarantined_at=None, pool_members__pool__in=pools
    )
    return set(away.values_list("pk", flat=True))
