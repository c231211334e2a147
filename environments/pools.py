"""How a pool comes to be, is changed, and goes, and what its members are doing. The pages and the REST API all call this.

A pool and a target of a workspace never have the same name, whatever the case: ``--target cluster`` means one of them. Who gives a
name away holds the workspace's row, so that two cannot do it at once. Whatever is refused raises Refused with a message per field.
"""

import copy
import difflib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Count, Q, Sum
from django.utils import timezone

from environments.attaching import RESERVED_NAMES, Refused, hold_names
from environments.models import ComputeTarget, Pool, PoolMember
from environments.target import Health, health
from studio import audit
from studio.accounts.models import User
from studio.workspaces.models import Workspace, name_rule

MAX_MEMBERS = 1_000
MAX_NODES = 10_000
MAX_DESCRIPTION = 500
NOTICE = "No cloud machine is started: a pool uses the machines that are attached."
HOLDING = ("NotStarted", "Preparing", "Queued", "Running", "CancelRequested")
"""Statuses of a run that is on a member, or will be: those of one that has not ended, but for the collecting of its outputs."""
STATES = ("idle", "preparing", "running", "leaving", "unusable")

OUT_OF_USE = (
    Q(attached_at=None) | Q(detached_at__isnull=False) | Q(enabled=False) | Q(quarantined_at__isnull=False)
    | Q(unreachable_since__isnull=False)
)  # fmt: skip
"""Of a target: nothing is sent there by a pool. One that was never contacted may be well."""


def out_of_use(target: ComputeTarget) -> str:
    """Why nothing is sent there by a pool, in a few words; empty when something is."""
    if target.detached_at is not None or target.attached_at is None:
        return "detached"
    if target.quarantined_at is not None:
        return "quarantined"
    if not target.enabled:
        return "draining"
    return "unreachable" if target.unreachable_since is not None else ""


@dataclass
class Node:
    """A member and how busy it is. Slots and GPUs count from the moment at which a run is given to the target."""

    target: ComputeTarget
    running: int = 0
    """Runs, of the pool or not, that hold a slot."""
    waiting: int = 0
    """Runs that were given to it and have not been launched."""
    gpus_taken: int = 0
    ours: int = 0
    """Of both, those that came by the pool."""

    @property
    def trouble(self) -> str:
        return out_of_use(self.target)

    @property
    def state(self) -> str:
        """One of STATES."""
        if self.trouble == "draining":
            return "leaving"
        if self.trouble:
            return "unusable"
        return "running" if self.running else "preparing" if self.waiting else "idle"

    @property
    def usable(self) -> bool:
        return not self.trouble

    @property
    def free(self) -> int:
        return max(0, self.target.slots - self.running - self.waiting) if self.usable else 0

    @property
    def gpus_free(self) -> int:
        return max(0, self.target.gpus - self.gpus_taken) if self.usable else 0

    @property
    def blocks(self) -> list[str]:
        """A class name per slot, as the pages of targets show them; none past what a row can hold."""
        slots = self.target.slots
        taken = min(self.running + self.waiting, slots)
        return [] if slots > 16 else [""] * taken + ["free" if self.usable else "off"] * (slots - taken)

    @property
    def health(self) -> Health:
        return health(self.target) if self.target.detached_at is None else Health("warn", "Detached")


def find_place(workspace: Workspace, name: str) -> ComputeTarget | Pool | None:
    """What a run is sent to by this name: an attached target, or a pool."""
    target = ComputeTarget.objects.attached().filter(workspace=workspace, name=name).first()
    return target or Pool.objects.there().filter(workspace=workspace, name=name).first()


def nodes(pool: Pool) -> list[Node]:
    """The members in their order, with what they are doing: two queries."""
    rows = PoolMember.objects.filter(pool=pool).select_related("target")
    found = {member.target_id: Node(member.target) for member in rows}
    # Asked of the runs themselves: over a join SQLite would read all that ever ran on each target, and not those that have not ended.
    active = pool.runs.model._default_manager.filter(
        target__in=list(found), ended_at=None, status__in=HOLDING
    ).order_by()
    groups = active.values("target_id", "launched", "pool_id").annotate(number=Count("pk"), taken=Sum("gpus"))
    for row in groups:
        node, number = found[row["target_id"]], row["number"]
        if row["launched"]:
            node.running += number
        else:
            node.waiting += number
        node.gpus_taken += row["taken"]
        node.ours += number if row["pool_id"] == pool.pk else 0
    return list(found.values())


def counts(found: Iterable[Node]) -> dict[str, int]:
    """State → how many members are in it."""
    number = Counter(node.state for node in found)
    return {state: number[state] for state in STATES}


def lacking(pool: Pool, found: Sequence[Node]) -> int:
    """How many usable members are missing to ``min_nodes``."""
    return max(0, pool.min_nodes - sum(node.usable for node in found))


def pool_health(pool: Pool, found: Sequence[Node]) -> Health:
    """Computed, as that of a target."""
    usable = sum(node.usable for node in found)
    if not usable:
        return Health("warn", "No usable target")
    if lacking(pool, found):
        return Health("warn", f"Too few targets: {usable} of at least {pool.min_nodes}")
    return Health("ok", f"{usable} of {len(found)} usable")


# -- made, changed, removed


def create(
    workspace: Workspace,
    user: User,
    name: str,
    *,
    members: Sequence[str] | None = None,
    min_nodes: int = 0,
    max_nodes: int | None = None,
    description: str = "",
) -> tuple[Pool, bool]:
    """Make a pool; whether it is new: asked again for the same, it is the one that is there.

    ``members``: names of attached targets in the order in which they are asked; None: all that are attached now, by name.
    Raises Refused.
    """
    pool = Pool(
        workspace=workspace, name=name, created_by=user, min_nodes=min_nodes, max_nodes=max_nodes, description=description
    )  # fmt: skip
    with transaction.atomic():
        hold_names(workspace.pk)
        chosen, errors = chosen_members(workspace, members)
        there = Pool.objects.there().filter(workspace=workspace, name=name).first()
        if there is not None and not errors and same(there, pool, chosen):
            return there, False
        errors |= check_name(pool) | check(pool, len(chosen))
        if errors:
            raise Refused(errors)
        pool.save()
        place_members(pool, chosen)
        names = ", ".join(target.name for target in chosen)
        audit.note(user, "pool.create", workspace=workspace, subject=name, detail=names)
    return pool, True


def update(
    pool: Pool,
    user: User,
    *,
    name: str | None = None,
    members: Sequence[str] | None = None,
    min_nodes: int | None = None,
    max_nodes: "int | str | None" = None,
    description: str | None = None,
) -> Pool:
    """Change a pool; what is None stays, and a ``max_nodes`` of "" means all. Runs that were placed stay where they are. Raises Refused;
    then nothing is changed."""
    with transaction.atomic():
        row = Pool.objects.select_for_update(no_key=True).get(pk=pool.pk)
        hold_names(pool.workspace_id)  # after the pool, as a submit does
        if row.removed_at is not None:
            raise Refused({"name": f"{pool.name} was removed. Make it anew."})
        fresh = copy.copy(row)  # and not of the caller's: somebody may have changed it since that was read
        before = [member.target for member in row.members.select_related("target")]
        chosen, errors = chosen_members(pool.workspace, members, before) if members is not None else (before, {})
        if name is not None and name != row.name:
            fresh.name = name
            errors |= check_name(fresh)
        given = {"min_nodes": min_nodes, "description": description}
        for field, value in given.items():
            if value is not None:
                setattr(fresh, field, value)
        if max_nodes is not None:
            fresh.max_nodes = None if max_nodes == "" else max_nodes
        errors |= check(fresh, len(chosen))
        if errors:
            raise Refused(errors)
        fresh.updated_at = timezone.now()
        fresh.save(update_fields=["name", "min_nodes", "max_nodes", "description", "updated_at"])
        told = described(row, fresh)
        if members is not None and chosen != before:
            place_members(pool, chosen)
            told.append(f"targets: {', '.join(target.name for target in chosen)}")
        if told:
            audit.note(user, "pool.edit", workspace=pool.workspace, subject=fresh.name, detail="; ".join(told))
    for field in ("name", "min_nodes", "max_nodes", "description", "updated_at"):
        setattr(pool, field, getattr(fresh, field))
    return pool


def waiting_runs(pool: Pool) -> int:
    """How many runs of the pool have neither been launched nor cancelled."""
    waits = ("NotStarted", "Preparing", "Queued")
    return int(pool.runs.filter(ended_at__isnull=True, launched=False, status__in=waits).count())


def remove(pool: Pool, user: User) -> None:
    """Take a pool away; its targets, and the runs that execute on them, are not touched. Raises Refused while runs wait in it."""
    with transaction.atomic():
        row = Pool.objects.select_for_update(no_key=True).get(pk=pool.pk)
        if row.removed_at is not None:
            raise Refused({"name": f"{pool.name} was removed already."})
        if waits := waiting_runs(row):
            are = "1 run waits" if waits == 1 else f"{waits} runs wait"
            raise Refused({"runs": f"{are} in {row.name}. Cancel them, or wait until they have started."})
        row.removed_at = timezone.now()
        row.save(update_fields=["removed_at"])
        audit.note(user, "pool.remove", workspace=row.workspace, subject=row.name)
    pool.removed_at = row.removed_at


# -- what these are made of


def check_name(pool: Pool) -> dict[str, str]:
    """What is wrong with a pool's name; empty when nothing is."""
    if not pool.name:
        return {"name": "Name the pool, for example cpu-cluster."}
    try:
        name_rule(pool.name)
    except ValidationError as error:
        return {"name": error.messages[0]}
    if pool.name.lower() in RESERVED_NAMES:
        return {"name": f"'{pool.name}' is an address of the studio itself. Choose another name."}
    others = Pool.objects.there().filter(workspace=pool.workspace_id, name__iexact=pool.name)
    if others.exclude(pk=pool.pk).exists():
        return {"name": f"There is another pool named {pool.name}. Choose another name."}
    if ComputeTarget.objects.attached().filter(workspace=pool.workspace_id, name__iexact=pool.name).exists():
        return {"name": f"{pool.name} is the name of an attached target. Choose another name."}
    return {}


def check(pool: Pool, size: int) -> dict[str, str]:
    """What is wrong with a pool's numbers; ``size``: how many members it has."""
    errors: dict[str, str] = {}
    low, high = pool.min_nodes, pool.max_nodes
    if not whole(low, 0):
        errors["min_nodes"] = f"{str(low)[:40]} is no number of targets. Use 0 to {MAX_NODES:,}."
    if high is not None and not whole(high, 1):
        errors["max_nodes"] = f"{str(high)[:40]} is no number of targets. Use 1 to {MAX_NODES:,}, or nothing for all."
    if not errors and high is not None and low > high:
        errors["min_nodes"] = f"{low} is more than {high}, the most that it uses at once. Lower it, or raise that."
    if not errors and 0 < size < low:
        errors["min_nodes"] = f"It is {low}, and the pool has {size} targets. Lower it, or add targets."
    if len(pool.description) > MAX_DESCRIPTION:
        errors["description"] = f"It is longer than {MAX_DESCRIPTION} characters. Shorten it."
    return errors


def whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= MAX_NODES


def chosen_members(
    workspace: Workspace, names: Sequence[str] | None, before: Sequence[ComputeTarget] = ()
) -> tuple[list[ComputeTarget], dict[str, str]]:
    """(targets of these names, field → what is wrong). ``before``: a member that was detached may stay one."""
    attached = {row.name: row for row in ComputeTarget.objects.attached().filter(workspace=workspace).order_by("name")}
    if names is None:
        names = list(attached)
        if not names:
            return [], {"members": "No target is attached. Attach one first."}
    if not names:
        return [], {"members": "A pool needs at least one target. Name one, or several in their order."}
    if len(names) > MAX_MEMBERS:
        return [], {"members": f"There are {len(names):,} of them. Name {MAX_MEMBERS:,} at most."}
    known = {row.name: row for row in before} | attached
    if doubled := [name for name, number in Counter(names).items() if number > 1]:
        return [], {"members": f"{doubled[0][:60]} is named twice. Name each target once."}
    unknown = [name for name in names if name not in known]
    if unknown:
        lower = {name.lower(): name for name in known}
        near = difflib.get_close_matches(unknown[0].lower(), lower, 3)
        pool = Pool.objects.there().filter(workspace=workspace, name=unknown[0]).exists()
        what = "is a pool itself" if pool else "is not an attached target"
        advice = f"Did you mean {', '.join(lower[name] for name in near)}?" if near else ""
        there = f"There are: {', '.join(list(attached)[:10]) or 'none'}." if not near else ""
        return [], {"members": f"{unknown[0][:60]!r} {what}. {advice or there}"}
    return [known[name] for name in names], {}


def place_members(pool: Pool, targets: Sequence[ComputeTarget]) -> None:
    pool.members.all().delete()
    PoolMember.objects.bulk_create(
        [PoolMember(pool=pool, target=target, position=place) for place, target in enumerate(targets)]
    )


def same(there: Pool, asked: Pool, members: Sequence[ComputeTarget]) -> bool:
    fields = ("min_nodes", "max_nodes", "description")
    listed = list(there.members.values_list("target_id", flat=True))
    return all(getattr(there, name) == getattr(asked, name) for name in fields) and listed == [t.pk for t in members]


def described(before: Pool, after: Pool) -> list[str]:
    """What an edit changed, in words."""
    changed = [name for name in ("name", "min_nodes", "max_nodes") if getattr(before, name) != getattr(after, name)]
    found = [f"{name}: {getattr(before, name) or '–'} → {getattr(after, name) or '–'}" for name in changed]
    return [*found, *(["description"] if before.description != after.description else [])]
