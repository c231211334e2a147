"""Experiments and runs in the administration: to look at, and to archive. What a run is, its page and the target decide."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from unfold.admin import ModelAdmin, TabularInline

from runs.models import Experiment, Run, RunEvent, RunTag
from studio.admin import LookOnly
from studio.templatetags.studio import duration, status_word


class EventInline(LookOnly, TabularInline):
    model = RunEvent
    fields = ["at", "old", "new", "reason", "detail"]
    extra = 0


class TagInline(LookOnly, TabularInline):
    model = RunTag
    fields = ["name", "value"]
    extra = 0


@admin.register(Run)
class RunAdmin(ModelAdmin):
    list_display = ["label", "workspace", "experiment", "state", "reason", "target", "created_by", "created_at", "took"]
    list_filter = ["status", "reason", "workspace", "target"]
    list_select_related = ["workspace", "experiment", "target", "created_by"]
    search_fields = ["name", "uid", "=number"]
    ordering = ["-pk"]
    show_full_result_count = False
    list_per_page = 50
    actions = ["archive", "restore"]
    inlines = [EventInline, TagInline]

    def get_readonly_fields(self, request: HttpRequest, obj: Run | None = None) -> list[str]:
        """Everything but name, notes and archive: states have one writer, and that is not this page."""
        return [field.name for field in Run._meta.fields if field.name not in {"name", "notes", "archived_at"}] + [
            "page"
        ]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Run | None = None) -> bool:
        return False

    @admin.display(description="Run", ordering="number")
    def label(self, run: Run) -> str:
        return str(run)

    @admin.display(description="Status", ordering="status")
    def state(self, run: Run) -> str:
        return status_word(run)

    @admin.display(description="Took")
    def took(self, run: Run) -> str:
        return duration(run.ended_at - run.started_at) if run.ended_at and run.started_at else "–"

    @admin.display(description="Page")
    def page(self, run: Run) -> str:
        return format_html('<a href="/{}/runs/{}">Open run #{}</a>', run.workspace.slug, run.number, run.number)

    @admin.action(description="Archive")
    def archive(self, request: HttpRequest, rows: "QuerySet[Run]") -> None:
        self.message_user(request, f"{rows.filter(archived_at=None).update(archived_at=timezone.now())} archived.")

    @admin.action(description="Restore from the archive")
    def restore(self, request: HttpRequest, rows: "QuerySet[Run]") -> None:
        self.message_user(request, f"{rows.exclude(archived_at=None).update(archived_at=None)} restored.")


@admin.register(Experiment)
class ExperimentAdmin(ModelAdmin):
    list_display = ["name", "workspace", "primary_metric", "created_by", "last_run_at", "archived_at"]
    list_filter = ["workspace"]
    list_select_related = ["workspace", "created_by"]
    search_fields = ["name", "description"]
    ordering = ["-last_run_at"]
    readonly_fields: list[Any] = ["workspace", "name", "created_by", "created_at", "last_run_at"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Experiment | None = None) -> bool:
        return False


@admin.register(RunEvent)
class RunEventAdmin(LookOnly, ModelAdmin):
    """What happened to runs, newest first."""

    list_display = ("at", "run", "old", "new", "reason", "detail", "page")
    list_filter = ("new", "reason")
    list_select_related = ("run__workspace",)
    search_fields = ("=run__number", "run__name", "detail")
    ordering = ("-pk",)
    fields = ("at", "run", "old", "new", "reason", "detail", "page")
    show_full_result_count = False
    list_per_page = 50

    @admin.display(description="Page")
    def page(self, event: RunEvent) -> str:
        run = event.run
        return format_html('<a href="/{}/runs/{}">Open run #{}</a>', run.workspace.slug, run.number, run.number)
