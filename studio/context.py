"""What the shell around every page needs. All of it is lazy: a fragment that shows no shell asks for nothing."""

from functools import cached_property
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest

from studio.capacity import Capacity, capacity_of
from studio.workspaces.models import Workspace


class Shell:
    """``shell`` in templates: the workspace of the page, those of the person, and how busy the targets are."""

    def __init__(self, request: HttpRequest) -> None:
        self.request = request

    @property
    def workspace(self) -> Workspace | None:
        return getattr(self.request, "workspace", None)

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
