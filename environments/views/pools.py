"""Pools: which targets are in them and what those do, what runs and waits there; made and edited."""

from typing import Any

from django.contrib import messages
from django.http import HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from environments import pools
from environments.attaching import Refused
from environments.models import ComputeTarget
from environments.target_forms import PoolForm, posted
from environments.views.compute import SHOWN_HISTORY, SHOWN_QUEUE
from environments.views.pool_rows import list_page, pools_of, seen
from studio.models import AuditEvent
from studio.workspaces.access import MemberRequest, fetch, member
from studio.workspaces.models import Role, Workspace

WORDS = {"pool.create": "made it", "pool.edit": "edited it", "pool.remove": "removed it"}


@require_GET
@member(Role.READER)
def rows(request: MemberRequest) -> HttpResponseBase:
    """The list's rows, polled."""
    return render(request, "environments/_pool_rows.html", list_page(request))


def live_page(request: MemberRequest, name: str) -> dict[str, Any]:
    pool = fetch(pools_of(request.workspace), name=name)
    active = pool.runs.filter(ended_at__isnull=True).select_related("experiment", "target")
    running = active.filter(launched=True).order_by("started_at", "number")
    queue = active.filter(launched=False).order_by("-priority", "number")
    shown = seen(pool)
    return {
        "section": "compute",
        **shown,
        "going": running[:SHOWN_QUEUE],
        "queue": queue[:SHOWN_QUEUE],
        "more": max(0, shown["waiting"] - SHOWN_QUEUE),
        "may_manage": request.may(Role.OWNER),
    }


@require_GET
@member(Role.READER)
def detail(request: MemberRequest, name: str) -> HttpResponseBase:
    page = live_page(request, name)
    history = page["pool"].runs.filter(ended_at__isnull=False).select_related("experiment", "target")
    events = AuditEvent.objects.filter(workspace=request.workspace, action__startswith="pool.", subject=name)
    page |= {
        "history": history.order_by("-number")[:SHOWN_HISTORY],
        "events": [(event, WORDS.get(event.action, event.action)) for event in events.select_related("user")[:SHOWN_HISTORY]],
        "notice": pools.NOTICE,
    }  # fmt: skip
    return render(request, "environments/pool.html", page)


@require_GET
@member(Role.READER)
def live(request: MemberRequest, name: str) -> HttpResponseBase:
    """What changes on a pool's page, polled."""
    return render(request, "environments/_pool_live.html", {**live_page(request, name), "swap": True})


@require_http_methods(["GET", "HEAD", "POST"])
@member(Role.OWNER)
def create(request: MemberRequest) -> HttpResponseBase:
    form: Any
    if request.method == "POST":
        form = posted(PoolForm, request.POST)
        if form.is_valid():
            try:
                pool, _ = pools.create(request.workspace, request.user, **form.values())
            except Refused as error:
                form.take(error.errors)
            else:
                messages.success(request, f"{pool.name} takes runs. {pools.NOTICE}")
                return redirect("environments:pool", request.workspace.slug, pool.name)
    else:
        form = PoolForm.of({"members": "\n".join(attached(request.workspace)), "min_nodes": "0"})
    return form_page(request, form)


@require_http_methods(["GET", "HEAD", "POST"])
@member(Role.OWNER)
def edit(request: MemberRequest, name: str) -> HttpResponseBase:
    pool = fetch(pools_of(request.workspace), name=name)
    form: Any
    if request.method == "POST":
        form = posted(PoolForm, request.POST)
        if form.is_valid():
            values = form.values()
            values["max_nodes"] = "" if values["max_nodes"] is None else values["max_nodes"]
            try:
                pools.update(pool, request.user, **values)
            except Refused as error:
                form.take(error.errors)
            else:
                messages.success(request, "Saved. Runs that have been placed stay where they are.")
                return redirect("environments:pool", request.workspace.slug, pool.name)
    else:
        names = pool.members.values_list("target__name", flat=True)
        form = PoolForm.of(
            {
                "name": pool.name, "description": pool.description, "members": "\n".join(names), "min_nodes": str(pool.min_nodes),
                "max_nodes": "" if pool.max_nodes is None else str(pool.max_nodes),
            }
        )  # fmt: skip
    return form_page(request, form, name)


def form_page(request: MemberRequest, form: Any, before: str = "") -> HttpResponseBase:
    page = {
        "section": "compute",
        "form": form,
        "before": before,
        "attached": attached(request.workspace),
        "notice": pools.NOTICE,
    }
    return render(request, "environments/pool_form.html", page, status=422 if form.errors else 200)


def attached(workspace: Workspace) -> list[str]:
    rows = ComputeTarget.objects.attached().filter(workspace=workspace).order_by("name")
    return list(rows.values_list("name", flat=True))
