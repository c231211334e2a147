from typing import Any, cast

from django.contrib import admin, messages
from django.db import transaction
from django.http import HttpRequest
from unfold.admin import ModelAdmin, TabularInline

from studio import audit
from studio.accounts.models import User
from studio.workspaces import members
from studio.workspaces.forms import WorkspaceForm
from studio.workspaces.models import Membership, Role, Workspace


class MembershipInline(TabularInline):
    model = Membership
    extra = 0
    fields = ("user", "role", "created_at")
    readonly_fields = ("created_at",)
    autocomplete_fields = ("user",)


@admin.register(Workspace)
class WorkspaceAdmin(ModelAdmin):
    """Workspaces and who belongs to them, by the same rules as in their settings. Their address is changed there."""

    form = WorkspaceForm
    list_display = ("name", "slug", "members_shown", "created_at", "last_number")
    search_fields = ("name", "slug")
    fields = ("name", "slug", "created_at", "last_number")
    inlines = (MembershipInline,)

    @admin.display(description="Members")
    def members_shown(self, workspace: Workspace) -> str:
        people = workspace.memberships.select_related("user").order_by("user__email")
        return ", ".join(f"{row.user} ({row.role})" for row in people[:10]) or "–"

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("created_at", "last_number", *(("slug",) if obj is not None else ()))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # runs, their results and the audit would go with it

    def save_model(self, request: HttpRequest, obj: Workspace, form: Any, change: bool) -> None:
        with transaction.atomic():
            super().save_model(request, obj, form, change)
            if form.changed_data or not change:
                action = "workspace.rename" if change else "workspace.create"
                told = ", ".join(f"{name}: {getattr(obj, name)}" for name in form.changed_data)
                audit.note(cast(User, request.user), action, workspace=obj, subject=obj.slug, detail=told)

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        """Memberships, by the rules of the domain: they end tokens, keep an owner, and tell the audit."""
        by = cast(User, request.user)
        formset.save(commit=False)
        workspace = form.instance
        try:
            with transaction.atomic():
                for row in formset.new_objects:
                    members.add(workspace, row.user.email, Role(row.role), by)
                for row, changed in formset.changed_objects:
                    if "user" in changed:
                        messages.error(request, "A membership stays its person's: remove it, and add the other person.")
                        continue
                    members.change(Membership.objects.get(pk=row.pk), Role(row.role), by)
                for row in formset.deleted_objects:
                    members.remove(row, by)
        except members.LastOwner as error:
            messages.error(request, f"The members stay as they were. {error}")
