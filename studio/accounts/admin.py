from typing import Any, cast

import django.contrib.auth.admin  # noqa: F401 registers Group before it is taken out below
from django.contrib import admin, messages
from django.contrib.auth.models import Group
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from studio import audit
from studio.accounts import access
from studio.accounts.links import sign_in_link
from studio.accounts.models import User

# Roles are memberships of workspaces; Django's groups would be a second way that nothing reads.
admin.site.unregister(Group)


@admin.register(User)
class UserAdmin(ModelAdmin):
    """People. Passwords are set by the people themselves: here an administrator makes a one-time link."""

    list_display = ("email", "name", "is_active", "is_staff", "is_superuser", "works_in", "last_login", "created_at")
    list_filter = ("is_active", "is_staff", "is_superuser")
    search_fields = ("email", "name")
    ordering = ("email",)
    fields = ("email", "name", "is_staff", "is_superuser", "is_active", "works_in", "last_login", "created_at")
    readonly_fields = ("is_active", "works_in", "last_login", "created_at")
    actions = ("activate", "deactivate", "make_link")

    def get_queryset(self, request: HttpRequest) -> "QuerySet[User]":
        rows: QuerySet[User] = super().get_queryset(request).prefetch_related("memberships__workspace")
        return rows

    @admin.display(description="Workspaces")
    def works_in(self, user: User) -> str:
        return ", ".join(f"{row.workspace.slug} ({row.role})" for row in user.memberships.all()) or "–"

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # what a person made names them: they are deactivated

    @admin.action(description="Deactivate", permissions=["change"])
    def deactivate(self, request: HttpRequest, people: "QuerySet[User]") -> None:
        for user in people:
            try:
                access.deactivate(user, cast(User, request.user))
            except access.Refused as error:
                messages.error(request, str(error))
            else:
                messages.success(request, f"{user} is signed out everywhere, and may not come in again.")

    @admin.action(description="Activate", permissions=["change"])
    def activate(self, request: HttpRequest, people: "QuerySet[User]") -> None:
        for user in people:
            access.activate(user, cast(User, request.user))
            messages.success(request, f"{user} may come in again.")

    @admin.action(description="Make a one-time sign-in link", permissions=["change"])
    def make_link(self, request: HttpRequest, people: "QuerySet[User]") -> None:
        by = cast(User, request.user)
        for user in people.filter(is_active=True)[:10]:
            if user.is_superuser and not by.is_superuser:
                messages.error(request, f"{user} is an administrator: only another one makes a link for them.")
                continue
            messages.info(request, f"{user.email}: {sign_in_link(user)}")
            audit.note(by, "user.link", workspace=None, subject=user.email)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Only administrators make administrators."""
        more = () if cast(User, request.user).is_superuser else ("is_staff", "is_superuser")
        return (*self.readonly_fields, *more)

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        obj.email = obj.email.lower()
        if not change:
            obj.set_unusable_password()
        with transaction.atomic():
            super().save_model(request, obj, form, change)
            detail = ", ".join(f"{name}: {getattr(obj, name)}" for name in form.changed_data)
            by = cast(User, request.user)
            audit.note(by, "user.edit" if change else "user.create", workspace=None, subject=obj.email, detail=detail)
