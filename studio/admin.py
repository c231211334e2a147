"""The audit in the administration, and what its pages that only show have in common."""

from typing import Any

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from studio.models import AuditEvent


class LookOnly:
    """Rows that nobody makes, changes or deletes by hand."""

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


@admin.register(AuditEvent)
class AuditEventAdmin(LookOnly, ModelAdmin):
    """Who did what, newest first."""

    list_display = ("at", "who", "action", "subject", "workspace", "detail")
    list_filter = (
        "at",
        "action",
        ("workspace", admin.RelatedOnlyFieldListFilter),
        ("user", admin.RelatedOnlyFieldListFilter),
    )
    list_select_related = ("user", "workspace")
    search_fields = ("subject", "detail", "user__email", "user__name")
    ordering = ("-at", "-pk")
    fields = ("at", "who", "action", "subject", "workspace", "detail")
    show_full_result_count = False
    list_per_page = 50

    @admin.display(description="Who", ordering="user")
    def who(self, event: Any) -> str:
        return str(event.user) if event.user is not None else "The studio"
