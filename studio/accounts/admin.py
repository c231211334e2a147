from typing import Any

import django.contrib.auth.admin  # noqa: F401 registers Group before it is taken out below
from django.contrib import admin, messages
from django.contrib.auth.models import Group
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from studio.accounts.links import sign_in_link
from studio.accounts.models import User

# Roles are memberships of workspaces; Django's groups would be a second way that nothing reads.
admin.site.unregister(Group)


@admin.register(User)
class UserAdmin(ModelAdmin):
    """People. Passwords are set by the people themselves: here an administrator makes a one-time link."""

    list_display = ("email", "name", "is_active", "is_staff", "last_login", "created_at")
    list_filter = ("is_active", "is_staff")
    search_fields = ("email", "name")
    ordering = ("email",)
    fields = ("email", "name", "is_active", "is_staff", "is_superuser", "last_login", "created_at")
    readonly_fields = ("last_login", "created_at")
    actions = ("make_link",)

    @admin.action(description="Make a one-time sign-in link")
    def make_link(self, request: HttpRequest, people: "QuerySet[User]") -> None:
        for user in people.filter(is_active=True)[:10]:
            messages.info(request, f"{user.email}: {sign_in_link(user)}")

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        obj.email = obj.email.lower()
        if not change:
            obj.set_unusable_password()
        super().save_model(request, obj, form, change)
