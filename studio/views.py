"""Pages that belong to the house and to no room: the front door, the jump box, the capacity, the health check."""

from django.db import connection
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_safe

from studio.context import last_workspace
from studio.jump import find
from studio.workspaces.access import MemberRequest, member, public, signed_in, to_sign_in
from studio.workspaces.models import Role


@require_safe
@signed_in
def front(request: HttpRequest) -> HttpResponseBase:
    """To the workspace the person was in last, else to any of theirs, else to making one."""
    workspace = last_workspace(request)
    return redirect(f"/{workspace.slug}/" if workspace else "workspaces:create")


@public
@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return HttpResponse("ok\n", content_type="text/plain")


@public
@require_safe
def admin_door(request: HttpRequest) -> HttpResponse:
    """The admin panel has no sign-in of its own: one door, one rate limit."""
    if request.user.is_authenticated:
        return redirect("front")
    return to_sign_in(request)


@require_safe
@member(Role.READER)
def capacity(request: MemberRequest) -> HttpResponse:
    return render(request, "studio/_capacity_poll.html")


@require_safe
@member(Role.READER)
def jump(request: MemberRequest) -> HttpResponse:
    query = request.GET.get("q", "").strip()[:200]
    page = "studio/_jump.html" if request.headers.get("X-Jump") else "studio/jump.html"
    return render(request, page, {"q": query, "groups": find(request.workspace, query, staff=request.user.is_staff)})
