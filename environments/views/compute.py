"""Compute: what the targets are, whether they answer, what runs and waits there, and the connection test."""

import os
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from django.http import HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from environments import doctor, waiting
from environments.cleaning import policy, space
from environments.models import ComputeTarget, Pool
from environments.options import TITLES, kind_of
from environments.target import Health, Isolation, health, isolation_of
from environments.target_forms import SlotsForm
from environments.transports.connection import fingerprint
from environments.views.attach import pin
from environments.views.pool_rows import list_page as pool_list
from environments.views.testing import answer_test
from studio.models import AuditEvent
from studio.workspaces.access import MemberRequest, fetch, member
from studio.workspaces.models import Role, Workspace

BLOCKS = 64
"""More slots than this are a number, not a row of blocks."""
SHOWN_QUEUE = 50
SHOWN_HISTORY = 10
ENGINE_SOCKET = "/var/run/docker.sock"
# What an attendant noted that only a person can settle: words of its message → which banner.
TROUBLES = {
    "has changed: confirmed was": "host_key_changed",
    "has not been confirmed": "host_key_unknown",
    "is not the one it was": "root_changed",
}
WORDS = {
    "target.attach": "attached it", "target.edit": "edited it", "target.detach": "detached it", "target.drain": "drained it",
    "target.resume": "resumed it", "target.make_key": "had a new key made", "target.rotate_key": "changed its key",
    "target.give_up": "gave up its runs", "target.host_key": "confirmed its host key", "target.root": "accepted its new root folder",
    "target.quarantine": "put it in quarantine", "target.clean": "cleaned it",
}  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """A target as pages show it."""

    target: ComputeTarget
    running: int
    waiting: int
    gpus_taken: int = 0

    @property
    def health(self) -> Health:
        return health(self.target)

    @property
    def kind(self) -> str:
        return TITLES[kind_of(self.target.transport, self.target.launcher, self.target.options)]

    @property
    def trouble(self) -> str:
        """What only a person can settle; empty when there is nothing of the kind."""
        if self.target.unreachable_since is None:
            return ""
        return next((name for words, name in TROUBLES.items() if words in self.target.last_error), "")

    @property
    def free(self) -> int:
        return max(0, self.target.slots - self.running) if self.target.takes_runs else 0

    @property
    def blocks(self) -> list[str]:
        """A class name per slot; none past what a row can hold."""
        return self._row(self.running, self.target.slots)

    @property
    def gpus_free(self) -> int:
        return max(0, self.target.gpus - self.gpus_taken) if self.target.takes_runs else 0

    @property
    def gpu_blocks(self) -> list[str]:
        """The same for GPUs."""
        return self._row(self.gpus_taken, self.target.gpus)

    def _row(self, taken: int, size: int) -> list[str]:
        if size > BLOCKS:
            return []
        rest = "free" if self.target.takes_runs else "off"
        return [""] * min(taken, size) + [rest] * max(0, size - taken)

    @property
    def disk(self) -> dict[str, float] | None:
        disk = self.target.facts.get("disk") or {}
        if not disk.get("total"):
            return None
        return {**disk, "share": round(100 * (1 - disk["free"] / disk["total"]), 1)}

    @property
    def isolation(self) -> Isolation:
        return isolation_of(self.target, self.target.facts)


def targets_of(workspace: Workspace) -> "QuerySet[ComputeTarget]":
    return (
        ComputeTarget.objects.attached().filter(workspace=workspace).select_related("lease", "created_by", "workspace")
    )


def seen(target: ComputeTarget) -> Seen:
    # A run holds a slot from its launch to the end of its script.
    active = target.runs.filter(ended_at__isnull=True)
    holding = active.filter(launched=True).exclude(status="Finalizing")
    granted = list(holding.values_list("granted", flat=True))
    taken = sum(len((grant or {}).get("gpus", ())) for grant in granted)
    return Seen(target, len(granted), active.filter(launched=False).count(), taken)


def list_page(request: MemberRequest) -> dict[str, Any]:
    rows = [seen(row) for row in targets_of(request.workspace)]
    return {"section": "compute", "rows": rows, "may_manage": request.may(Role.OWNER)}


@require_GET
@member(Role.READER)
def listing(request: MemberRequest) -> HttpResponseBase:
    page = list_page(request)
    offer = page["may_manage"] and offers_containers(request.workspace, [row.target for row in page["rows"]])
    return render(request, "environments/compute_list.html", {**pool_list(request), **page, "offer_containers": offer})


def offers_containers(workspace: Workspace, targets: list[ComputeTarget]) -> bool:
    """Several people share the workspace, and runs here are processes of one user, though there is an engine."""
    local = [target for target in targets if target.transport == "local"]
    return (
        any(target.launcher == "process" for target in local)
        and not any(target.launcher == "docker" for target in local)
        and workspace.memberships.count() > 1
        and os.access(ENGINE_SOCKET, os.R_OK | os.W_OK)
    )


@require_GET
@member(Role.READER)
def rows(request: MemberRequest) -> HttpResponseBase:
    """The list's rows, polled."""
    return render(request, "environments/_compute_rows.html", list_page(request))


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
        "space": space(target),
        "policy": policy(target),
        "trouble": shown.trouble,
        "options": target.options,
        "local_root": str(settings.LOCAL_ROOT),
        "prints": prints(target),
        "test_steps": target.steps,
        "failed": next((step for step in target.steps if not step["ok"] and step.get("needed", True)), None),
        "pools": Pool.objects.there().filter(members__target=target),
        "may_test": request.may(Role.CONTRIBUTOR),
        "may_manage": request.may(Role.OWNER),
    }


def prints(target: ComputeTarget) -> dict[str, str]:
    """Fingerprints of the host keys that are confirmed."""
    ssh = target.options.get("ssh") or {} if target.transport == "ssh" else {}
    hops = {"host": ssh, "jump": ssh.get("jump") or {}}
    return {name: fingerprint(hop["host_key"]) for name, hop in hops.items() if hop.get("host_key")}


def reason(run: Any, place: int, shown: Seen) -> str:
    """Why a run waits, in words: what the attendant noted, else what follows from the target."""
    if run.waiting_for:
        return str(run.waiting_for)
    return waiting.words(shown.target, gpus=run.gpus, ahead=place, running=shown.running, gpus_taken=shown.gpus_taken)


def whole_page(request: MemberRequest, name: str) -> dict[str, Any]:
    """All of a target's page."""
    page = live_page(request, name)
    target = page["target"]
    history = target.runs.filter(workspace=request.workspace, ended_at__isnull=False).select_related("experiment")
    events = AuditEvent.objects.filter(workspace=request.workspace, action__startswith="target.", subject=target.name)
    form = SlotsForm(initial={"slots": target.slots, "gpu_slots": "" if target.gpu_slots is None else target.gpu_slots})
    return {
        **page,
        "form": form,
        "history": history.order_by("-number")[:SHOWN_HISTORY],
        "events": [
            (event, WORDS.get(event.action, event.action)) for event in events.select_related("user")[:SHOWN_HISTORY]
        ],
    }


@require_GET
@member(Role.READER)
def detail(request: MemberRequest, name: str) -> HttpResponseBase:
    if Pool.objects.there().filter(workspace=request.workspace, name=name).exists():
        return redirect("environments:pool", request.workspace.slug, name)  # the names are of one kind to people
    return render(request, "environments/compute.html", whole_page(request, name))


@require_GET
@member(Role.READER)
def live(request: MemberRequest, name: str) -> HttpResponseBase:
    """What changes on a target's page, polled."""
    return render(request, "environments/_compute_live.html", {**live_page(request, name), "swap": True})


@require_POST
@member(Role.CONTRIBUTOR)
def test(request: MemberRequest, name: str) -> HttpResponseBase:
    """The connection test. The only page that talks to a target itself, because a person asks for that. An owner may confirm a host
    key with it."""
    target = fetch(targets_of(request.workspace), name=name)
    if request.may(Role.OWNER):
        pin(request, target)
    return answer_test(
        request,
        doctor.examining(target),
        lambda: {**whole_page(request, name), "opened": True},
        "environments/compute.html",
        "environments/_tested.html",
    )
