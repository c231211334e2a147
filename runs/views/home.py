"""Home: what needs me. Active runs, failures since the last visit, free slots, recent experiments; or the first steps."""

from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Q
from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_safe

from environments.models import Build, BuildStatus, ComputeTarget, Environment
from runs.header import failure
from runs.listing import listing, revision
from runs.models import Experiment, Run
from runs.status import ACTIVE, RunStatus
from studio.accounts.models import User
from studio.workspaces.access import MemberRequest, member
from studio.workspaces.models import Role, Workspace

ACTIVE_SHOWN = 12
FAILURES_SHOWN = 8
EXPERIMENTS_SHOWN = 6
VISIT = timedelta(minutes=30)
"""Looks at Home within this time of each other are one visit."""
LONGEST = timedelta(days=30)


@require_safe
@member(Role.READER)
def home(request: MemberRequest) -> HttpResponseBase:
    workspace = request.workspace
    context = {
        "section": "home",
        "base": f"/{workspace.slug}",
        "may_act": request.may(Role.CONTRIBUTOR),
        **active(request),
        "failures": failures(workspace, since(request.user, workspace)),
        "targets": targets(workspace),
        "experiments": Experiment.objects.filter(workspace=workspace, archived_at=None)
        .exclude(last_run_at=None)
        .order_by("-last_run_at")[:EXPERIMENTS_SHOWN],
    }
    if not workspace.last_number:
        context["steps"] = steps(workspace)
        context["host"] = request.build_absolute_uri("/").rstrip("/")
    return render(request, "runs/home.html", context)


@require_safe
@member(Role.READER)
def live(request: MemberRequest) -> HttpResponseBase:
    """What moves on Home; 204 while nothing did."""
    context = active(request)
    if request.GET.get("rev") == context["rev"]:
        return HttpResponse(status=204)
    return render(request, "runs/_home_active.html", {"base": f"/{request.workspace.slug}", **context})


def active(request: MemberRequest) -> dict[str, Any]:
    rows = Run.objects.filter(workspace=request.workspace, status__in=sorted(ACTIVE), archived_at=None)
    # Few are active: sorted here, so that no database walks all runs by number to find them.
    newest = sorted(rows.order_by().values_list("number", "pk"), reverse=True)
    ids = [pk for _, pk in newest[: ACTIVE_SHOWN + 1]]
    shown = listing(ids[:ACTIVE_SHOWN])
    return {"active": shown, "more_active": len(ids) > ACTIVE_SHOWN, "rev": f"{revision(shown.rows)}-{len(ids)}"}


def since(user: User, workspace: Workspace) -> datetime:
    """When the person's visit before this one was; also notes this one. A month ago at the most."""
    now = timezone.now()
    visits = dict(user.preferences.get("visits", {}))
    before, newest = (read(text) for text in (visits.get(workspace.slug) or ["", ""]))
    if newest is None or now - newest > VISIT:
        before = newest
    visits[workspace.slug] = [before.isoformat() if before else "", now.isoformat()]
    if newest is None or now - newest > timedelta(minutes=1):
        User.objects.filter(pk=user.pk).update(preferences={**user.preferences, "visits": visits})
    return max(before or now - timedelta(days=7), now - LONGEST)


def read(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except (ValueError, TypeError):
        return None


def failures(workspace: Workspace, after: datetime) -> list[dict[str, Any]]:
    runs = (
        Run.objects.filter(workspace=workspace, status=RunStatus.FAILED, ended_at__gte=after, archived_at=None)
        .select_related("workspace", "experiment", "target", "pool", "environment__environment")
        .order_by("-ended_at")[:FAILURES_SHOWN]
    )
    return [{"run": run, "banner": failure(run, f"/{workspace.slug}/runs/{run.number}")} for run in runs]


def targets(workspace: Workspace) -> list[dict[str, Any]]:
    counts = dict(
        Run.objects.filter(
            workspace=workspace,
            launched=True,
            status__in=[RunStatus.RUNNING, RunStatus.FINALIZING, RunStatus.CANCEL_REQUESTED],
        )
        .values_list("target")
        .annotate(n=Count("pk"))
    )
    found = []
    for target in ComputeTarget.objects.attached().filter(workspace=workspace)[:20]:
        used = min(target.slots, counts.get(target.pk, 0))
        blocks = [""] * used + ["free" if target.enabled else "off"] * (target.slots - used)
        found.append(
            {
                "target": target,
                "busy": used,
                "free": target.slots - used,
                "blocks": blocks if target.slots <= 24 else [],
            }
        )
    return found


def steps(workspace: Workspace) -> list[dict[str, Any]]:
    """The way to the first run; each step is ticked when it is done."""
    base = f"/{workspace.slug}"
    usable = Q(workspace=None) | Q(workspace=workspace)
    return [
        {
            "done": ComputeTarget.objects.attached().filter(workspace=workspace, enabled=True).exists(),
            "title": "A machine to run on",
            "text": "The machine of the studio is there from the start, as local.",
            "address": f"{base}/compute",
            "label": "Compute",
        },
        {
            "done": Environment.objects.filter(usable, archived_at=None).exists()
            or Build.objects.filter(target__workspace=workspace, status=BuildStatus.READY).exists(),
            "title": "An environment",
            "text": "Pick a curated one, or name the packages that your script needs.",
            "address": f"{base}/environments",
            "label": "Environments",
        },
        {
            "done": False,
            "title": "The first run",
            "text": "Choose a project folder, a script, and press Start.",
            "address": f"{base}/runs/new",
            "label": "New run",
        },
    ]


urlpatterns = [path("", home, name="home"), path("live", live, name="home-live")]
