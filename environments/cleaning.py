"""Space on a target: how long things are kept there, when it is cleaned, and what became of it.

What a run leaves is the runs' matter (``runs.cleaning``); this is the policy, the environments, and the record.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from environments.models import Build, BuildStatus, ComputeTarget
from environments.target import root_of
from studio import audit
from studio.accounts.models import User
from studio.credentials import identity
from studio.queues import ring

EVERY = timedelta(hours=6)
SOONER = timedelta(minutes=30)
"""When the disk is nearly full."""
LEAST_FREE = 2 * 10**9
LEAST_SHARE = 0.05
# What the page calls the kinds that the agent counts, in this order.
KINDS = {
    "runs": "Runs",
    "builds": "Build logs",
    "envs": "Environments",
    "blobs": "Project contents",
    "cache": "Package cache",
    "spares": "Projects laid out ahead",
    "lib": "In-run packages",
    "agent": "Agent",
}


@dataclass(frozen=True)
class Policy:
    """``options.cleaning`` of a target."""

    keep_days: float = 7
    """Directories of runs that have ended, as far as they did not come home, and of builds."""
    environment_days: float = 60
    """Environments that no run used."""
    cache_bytes: float = 20e9
    """Contents and packages together."""


def policy(target: ComputeTarget) -> Policy:
    found = target.options.get("cleaning") or {}
    return Policy(**{name: found[name] for name in ("keep_days", "environment_days", "cache_bytes") if name in found})


def nearly_full(disk: Mapping[str, Any] | None) -> bool:
    """Whether less than 5 % or 2 GB of a disk (or 5 % of the files that it can hold) is free. Nothing known: no."""
    if not disk or not disk.get("total"):
        return False
    files = disk.get("files_total") or 0
    few = bool(files) and disk.get("files_free", files) < LEAST_SHARE * files
    return few or bool(disk["free"] < max(LEAST_FREE, LEAST_SHARE * disk["total"]))


def due(target: ComputeTarget, now: datetime, *, full: bool) -> bool:
    """Whether it is to be cleaned now: somebody asked, the last time is long ago, or the disk is nearly full."""
    if target.clean_requested_at is not None:
        return True
    last = target.cleaning.get("at")
    if not last:
        return True
    passed = now - datetime.fromisoformat(last)
    # One that lies in the future is from before the clock was set back.
    return passed > (SOONER if full else EVERY) or passed < -EVERY


def request(target: ComputeTarget, user: User | None) -> None:
    """Somebody asks for a cleaning now. Whoever attends the target makes it."""
    with transaction.atomic():
        ComputeTarget.objects.filter(pk=target.pk).update(clean_requested_at=timezone.now())
        audit.note(user, "target.clean", workspace=target.workspace, subject=target.name)
        ring(target.pk)


def retire(target: ComputeTarget, now: datetime) -> list[Build]:
    """Ready environments that no run used for long and none waits for: from here on the next run has them built again.

    Call it where no run can be given one of them at the same time: from the attendant's own thread, in its transaction.
    """
    since = now - timedelta(days=policy(target).environment_days)
    unused = Q(used_at__lt=since) | Q(used_at=None, ended_at__lt=since)
    active = Build.objects.filter(target=target, runs__ended_at__isnull=True, runs__isnull=False).values("pk")
    rows = Build.objects.filter(unused, target=target, status=BuildStatus.READY, image="").exclude(pk__in=active)
    retired = list(rows)
    days = policy(target).environment_days
    why = f"It was not used for {days:g} days and was removed from the target. The next run that needs it has it built again."
    Build.objects.filter(pk__in=[build.pk for build in retired]).update(
        status=BuildStatus.FAILED, error=why, ended_at=None
    )
    return retired


def sharing(target: ComputeTarget) -> list[int]:
    """Ids of the targets that lie below the same root: this one, those of other workspaces on this machine, the engine beside it."""

    def place(row: ComputeTarget) -> tuple[object, ...]:
        ssh = row.options.get("ssh") or {} if row.transport == "ssh" else {}
        return row.transport, root_of(row), ssh.get("host"), ssh.get("port"), ssh.get("user")

    rows = ComputeTarget.objects.filter(transport=target.transport).exclude(attached_at=None)
    return [row.pk for row in rows if place(row) == place(target)]


def wish(target: ComputeTarget, keep: Sequence[str], *, full: bool) -> dict[str, Any]:
    """What the agent is asked (``clean``, see the contract). ``keep``: attempts that are still needed. With the disk nearly full
    the caches go too: they only save time."""
    limits = policy(target)
    needed = Build.objects.filter(target__in=sharing(target)).exclude(status=BuildStatus.FAILED)
    building = needed.exclude(status=BuildStatus.READY).exclude(attempt="")
    return {
        "studio": identity(),
        "keep_runs": [*keep, *building.values_list("attempt", flat=True)],
        "keep_envs": list(needed.values_list("key", flat=True)),
        "run_days": limits.keep_days,
        "build_days": limits.keep_days,
        "environment_days": limits.environment_days,
        "cache_bytes": 0 if full else limits.cache_bytes,
    }


def settle(retired: Sequence[Build], removed: Sequence[str]) -> None:
    """Environments that were to go: those that are gone have no interpreter any more, the others are ready as before."""
    for build in retired:
        row = Build.objects.filter(pk=build.pk, status=BuildStatus.FAILED, ended_at=None)
        if build.key in removed:
            row.update(python="")
        else:
            row.update(status=BuildStatus.READY, error="", ended_at=build.ended_at)


def note(target: ComputeTarget, asked_at: datetime | None, found: Mapping[str, Any]) -> None:
    """Keep what a cleaning found. A wish that came meanwhile stays."""
    cleaning = {"at": timezone.now().isoformat(), **found}
    rows = ComputeTarget.objects.filter(pk=target.pk)
    rows.update(cleaning=cleaning)
    rows.filter(clean_requested_at=asked_at).update(clean_requested_at=None)
    target.cleaning = cleaning


@dataclass(frozen=True)
class Space:
    """The card of a target's page."""

    at: datetime
    kinds: list[tuple[str, Mapping[str, Any]]]
    """Title, and bytes, count, oldest, newest, whole."""
    freed: int
    removed: list[str]
    """In words."""
    failed: list[Mapping[str, str]]
    unknown: int
    foreign: int
    error: str

    @property
    def total(self) -> int:
        return sum(int(kind["bytes"]) for _, kind in self.kinds)


_COUNTED = {
    "runs": ("run directory", "run directories"),
    "builds": ("build directory", "build directories"),
    "envs": ("environment", "environments"),
    "blobs": ("content", "contents"),
    "cache": ("package cache", "package caches"),
    "spares": ("project laid out ahead", "projects laid out ahead"),
    "lib": ("in-run package", "in-run packages"),
    "agent": ("agent", "agents"),
}


def space(target: ComputeTarget) -> Space | None:
    """What the last cleaning found; None before the first."""
    found = target.cleaning
    if not found.get("at"):
        return None
    kinds = found.get("kinds") or {}
    removed = []
    for kind, (one, many) in _COUNTED.items():
        count = int((found.get("removed") or {}).get(kind) or 0)
        if count:
            removed.append(f"{count} {one if count == 1 else many}")
    return Space(
        at=datetime.fromisoformat(found["at"]),
        kinds=[(title, kinds[kind]) for kind, title in KINDS.items() if kind in kinds],
        freed=int(found.get("freed") or 0),
        removed=removed,
        failed=list(found.get("failed") or []),
        unknown=len(found.get("unknown") or {}),
        foreign=int(found.get("foreign") or 0),
        error=str(found.get("error") or ""),
    )
