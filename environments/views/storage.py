"""Space on a target: the wish to have it cleaned now."""

from django.contrib import messages
from django.http import HttpResponseBase
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from environments import cleaning
from environments.views.compute import targets_of
from studio.workspaces.access import MemberRequest, fetch, member
from studio.workspaces.models import Role


@require_POST
@member(Role.OWNER)
def clean(request: MemberRequest, name: str) -> HttpResponseBase:
    """Have what nobody needs removed now instead of in some hours, by the same rules."""
    target = fetch(targets_of(request.workspace), name=name)
    cleaning.request(target, request.user)
    messages.success(request, f"{target.name} is being cleaned. What lives, waits or is kept stays.")
    return redirect("environments:target", request.workspace.slug, target.name)
