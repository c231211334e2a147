"""What the shell around every page needs. All of it is lazy: a fragment that shows no shell asks for nothing."""

from functools import cached_property
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest

from studio.capacity import Capacity, capacity_of
from studio.workspaces.models import Workspace


def last_workspace(request: HttpRequest) -> Workspace | None:
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return None
    mine = Workspace.objects.filter(memberships__user=user).order_by("pk")
    last = request.session.get("workspace")
    return (mine.filter(slug=last).first() if last else None) or mine.first()


class Shell:
    """``shell`` in templates: the workspace of the page, those of the person, and how busy the targets are."""

    def __init__(self, request: HttpRequest) -> None:
        self.request = request

    @cached_property
    def workspace(self) -> Workspace | None:
        """The page's own; on a page of no workspace, as the account, the one that the person was in last."""
        return getattr(self.request, "workspace", None) or last_workspace(self.request)

    @cached_property
    def workspaces(self) -> "QuerySet[Workspace] | list[Workspace]":
        user = getattr(self.request, "user", None)
        if user is None or not user.is_authenticated:
            return []
        return Workspace.objects.filter(memberships__user=user).order_by("name", "pk")

    @cached_property
    def capacity(self) -> Capacity | None:
        return capacity_of(self.workspace) if self.workspace else None


def shell(request: HttpRequest) -> dict[str, Any]:
    return {"shell": Shell(request)}
