"""Compute: what the targets are, whether they answer, and what runs and waits there."""

from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet
from django.http import HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from environments.doctor import examine
from environments.forms import SlotsForm
from environments.models import ComputeTarget
from environments.target import ISOLATION, Health, health
from studio.queues import ring
from studio.workspaces.access import MemberRequest, fetch, member
from studio.workspaces.models import Role, Workspace

BLOCKS = 64
"""More slots than this are a number, not a row of blocks."""
SHOWN_QUEUE = 50
KINDS = {("local", "process"): "This machine"}


@dataclass(frozen=True)
class Seen:
    """A target as pages show it."""

    target: ComputeTarget
    running: int
    waiting: int

    @property
    def health(self) -> Health:
        return health(self.target)

    @property
    def kind(self) -> str:
        key = (self.target.transport, self.target.launcher)
        return KINDS.get(key, f"{self.target.transport}, {self.target.launcher}")

    @property
    def free(self) -> int:
        return max(0, self.target.slots - self.running)

    @property
    def blocks(self) -> list[str]:
        """A class name per slot; none past what a row can hold."""
        if self.target.slots > BLOCKS:
            return []
        rest = "free" if self.target.enabled else "off"
        return [""] * min(self.running, self.target.slots) + [rest] * self.free

    @property
    def disk(self) -> dict[str, float] | None:
        disk = self.target.facts.get("disk") or {}
        if not disk.get("total"):
            return None
        return {**disk, "share": round(100 * (1 - disk["free"] / disk["total"]), 1)}

    @property
    def isolation(self) -> tuple[str, str, str]:
        """Tier, its title, and what it means."""
        tier = str((self.target.facts.get("isolation") or {}).get("tier", ""))
        return (
            (tier, *ISOLATION[tier])
            if tier in ISOLATION
            else ("", "Not known yet", "It is found out by the first test.")
        )


def targets_of(workspace: Workspace) -> "QuerySet[ComputeTarget]":
    return ComputeTarget.objects.attached().filter(workspace=workspace).select_related("lease")


def seen(target: ComputeTarget) -> Seen:
    # A run holds a slot from its launch to the end of its script.
    active = target.runs.filter(ended_at__isnull=True)
    return Seen(target, active.filter(launched=True).count(), active.filter(launched=False).count())


@require_GET
@member(Role.READER)
def listing(request: MemberRequest) -> HttpResponseBase:
    page = {"section": "compute", "rows": [seen(row) for row in targets_of(request.workspace)]}
    return render(request, "environments/compute_list.html", page)


@require_GET
@member(Role.READER)
def rows(request: MemberRequest) -> HttpResponseBase:
    """The list's rows, polled."""
    page = {"rows": [seen(row) for row in targets_of(request.workspace)]}
    return render(request, "environments/_compute_rows.html", page)


def live_page(request: MemberRequest, name: str) -> dict[str, Any]:
    target = fetch(targets_of(request.workspace), name=name)
    active = target.runs.filter(ended_at__isnull=True).select_related("experiment", "created_by")
    running = active.filter(launched=True).order_by("started_at", "number")
    queue = active.filter(launched=False).order_by("-priority", "number")
    shown = seen(target)
    return {
        "section": "compute",
        "seen": shown,
        "target": target,
        "running": running[:SHOWN_QUEUE],
        "queue": [(run, reason(run, place, shown)) for place, run in enumerate(queue[:SHOWN_QUEUE])],
        "more": max(0, shown.waiting - SHOWN_QUEUE),
        "may_test": request.may(Role.CONTRIBUTOR),
        "may_manage": request.may(Role.OWNER),
    }


def reason(run: Any, place: int, shown: Seen) -> str:
    """Why a run waits, in words: what the attendant noted, else what follows from the target."""
    if run.waiting_for:
        return str(run.waiting_for)
    if shown.target.unreachable_since is not None:
        return f"{shown.target.name} does not answer."
    if not shown.target.enabled:
        return f"{shown.target.name} is draining: nothing new starts."
    if shown.free == 0:
        ahead = f", {place} {'run' if place == 1 else 'runs'} ahead" if place else ", next in line"
        return (
            f"All {shown.target.slots} slots are busy{ahead}."
            if shown.target.slots > 1
            else f"The slot is busy{ahead}."
        )
    if place >= shown.free:
        return f"{place} {'run' if place == 1 else 'runs'} ahead."
    return "Starting."


@require_GET
@member(Role.READER)
def detail(request: MemberRequest, name: str) -> HttpResponseBase:
    page = live_page(request, name)
    return render(
        request, "environments/compute.html", {**page, "form": SlotsForm(initial={"slots": page["target"].slots})}
    )


@require_GET
@member(Role.READER)
def live(request: MemberRequest, name: str) -> HttpResponseBase:
    """What changes on a target's page, polled."""
    return render(request, "environments/_compute_live.html", {**live_page(request, name), "swap": True})


@require_POST
@member(Role.CONTRIBUTOR)
def test(request: MemberRequest, name: str) -> HttpResponseBase:
    """The connection test. The only page that talks to a target itself, because a person asks for that."""
    target = fetch(targets_of(request.workspace), name=name)
    steps = examine(target)
    if request.htmx:
        return render(request, "environments/_test.html", {"target": target, "steps": steps})
    page = live_page(request, name)
    form = SlotsForm(initial={"slots": page["target"].slots})
    return render(request, "environments/compute.html", {**page, "steps": steps, "form": form})


@require_POST
@member(Role.OWNER)
def drain(request: MemberRequest, name: str) -> HttpResponseBase:
    """Drain or resume: what runs goes on, and nothing new starts until it is resumed."""
    target = fetch(targets_of(request.workspace), name=name)
    ComputeTarget.objects.filter(pk=target.pk).update(enabled="resume" in request.POST)
    ring(target.pk)
    return redirect("environments:target", request.workspace.slug, target.name)


@require_POST
@member(Role.OWNER)
def slots(request: MemberRequest, name: str) -> HttpResponseBase:
    target = fetch(targets_of(request.workspace), name=name)
    form = SlotsForm(request.POST)
    if form.is_valid():
        ComputeTarget.objects.filter(pk=target.pk).update(slots=form.cleaned_data["slots"])
        ring(target.pk)
        return redirect("environments:target", request.workspace.slug, target.name)
    return render(request, "environments/compute.html", {**live_page(request, name), "form": form}, status=422)
