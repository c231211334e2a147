"""Detaching a target, removing a pool: what goes, what stays, and what its runs do about it."""

from django.contrib import messages
from django.http import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import URLPattern, path
from django.views.decorators.http import require_http_methods

from environments.attaching import Refused
from environments.pools import waiting_runs
from environments.views.compute import targets_of
from environments.views.pool_rows import pools_of
from runs import detaching
from studio.workspaces.access import MemberRequest, fetch, member
from studio.workspaces.models import Role

WHAT = {"detach": "refuse", "cancel": "cancel", "abandon": "abandon"}


@require_http_methods(["GET", "HEAD", "POST"])
@member(Role.OWNER)
def detach(request: MemberRequest, name: str) -> HttpResponseBase:
    target = fetch(targets_of(request.workspace), name=name)
    error = ""
    if request.method == "POST":
        try:
            if detaching.detach(target, request.user, WHAT.get(request.POST.get("what", ""), "refuse")):
                messages.success(request, f"{target.name} is detached. Its runs and what they made stay.")
                return redirect("environments:compute", request.workspace.slug)
            messages.info(
                request, f"{target.name} is draining, and its runs are being canceled. Detach it when they have ended."
            )
            return redirect("environments:target", request.workspace.slug, target.name)
        except Refused as refused:
            error = " ".join(refused.errors.values())
    live = len(detaching.live(target))
    page = {
        "section": "compute", "target": target, "live": live, "ended": target.runs.count() - live, "error": error,
    }  # fmt: skip
    return render(request, "environments/target_detach.html", page, status=422 if error else 200)


@require_http_methods(["GET", "HEAD", "POST"])
@member(Role.OWNER)
def remove_pool(request: MemberRequest, name: str) -> HttpResponseBase:
    pool = fetch(pools_of(request.workspace), name=name)
    error = ""
    if request.method == "POST":
        try:
            detaching.remove_pool(pool, request.user, cancel_waiting=request.POST.get("what") == "cancel")
        except Refused as refused:
            error = " ".join(refused.errors.values())
        else:
            messages.success(request, f"{pool.name} is removed. Its targets stay attached.")
            return redirect("environments:compute", request.workspace.slug)
    page = {"section": "compute", "pool": pool, "waiting": waiting_runs(pool), "error": error}
    return render(request, "environments/pool_remove.html", page, status=422 if error else 200)


urlpatterns: list[URLPattern] = [
    path("compute/pools/<str:name>/remove", remove_pool, name="remove-pool"),
    path("compute/<str:name>/detach", detach, name="detach"),
]
