"""The administrator's view of targets and environments."""

from typing import Any, cast

from django.contrib import admin, messages
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import action

from environments import builds
from environments.doctor import examine
from environments.models import Build, ComputeTarget, Environment, EnvironmentVersion
from environments.target import health
from studio.accounts.models import User
from studio.queues import ring
from studio.templatetags.studio import ago


@admin.register(ComputeTarget)
class ComputeTargetAdmin(ModelAdmin):
    list_display = ("name", "workspace", "shown_health", "slots", "last_seen", "active_runs", "on_site")
    list_filter = ("workspace", "enabled", "transport")
    list_select_related = ("workspace",)
    search_fields = ("name",)
    readonly_fields = ("facts", "last_seen_at", "unreachable_since", "last_error", "created_at")
    actions = ("test_all", "drain_all", "resume_all")
    actions_row = ("test_one",)  # a row's action is a GET: only what changes nothing

    def get_queryset(self, request: HttpRequest) -> "QuerySet[ComputeTarget]":
        rows: QuerySet[ComputeTarget] = super().get_queryset(request)
        return rows.annotate(n_active=Count("runs", filter=Q(runs__ended_at__isnull=True)))

    @admin.display(description="Health")
    def shown_health(self, target: ComputeTarget) -> str:
        return health(target).words

    @admin.display(description="Last seen", ordering="last_seen_at")
    def last_seen(self, target: ComputeTarget) -> str:
        return ago(target.last_seen_at)

    @admin.display(description="Active runs", ordering="n_active")
    def active_runs(self, target: Any) -> int:
        return int(target.n_active)

    @admin.display(description="")
    def on_site(self, target: ComputeTarget) -> SafeString:
        return format_html('<a href="/{}/compute/{}">Open in the studio</a>', target.workspace.slug, target.name)

    @admin.action(description="Test", permissions=["change"])
    def test_all(self, request: HttpRequest, rows: "QuerySet[ComputeTarget]") -> None:
        for target in rows:
            self.test(request, target)

    @admin.action(description="Drain", permissions=["change"])
    def drain_all(self, request: HttpRequest, rows: "QuerySet[ComputeTarget]") -> None:
        self.enable(request, rows, False)

    @admin.action(description="Resume", permissions=["change"])
    def resume_all(self, request: HttpRequest, rows: "QuerySet[ComputeTarget]") -> None:
        self.enable(request, rows, True)

    @action(description="Test", url_path="test", permissions=["change"])  # type: ignore[untyped-decorator]
    def test_one(self, request: HttpRequest, object_id: int) -> HttpResponse:
        self.test_all(request, ComputeTarget.objects.filter(pk=object_id))
        return redirect("admin:environments_computetarget_changelist")

    def test(self, request: HttpRequest, target: ComputeTarget) -> None:
        steps = examine(target)
        last = steps[-1]
        if last.ok:
            took = sum(step.milliseconds for step in steps)
            messages.success(request, f"{target.name} answers: {len(steps)} steps in {took:.0f} ms.")
        else:
            messages.error(request, f"{target.name}: {last.title}: {last.detail}. {last.fix}")

    def enable(self, request: HttpRequest, rows: "QuerySet[ComputeTarget]", enabled: bool) -> None:
        names = []
        for target in rows:
            ComputeTarget.objects.filter(pk=target.pk).update(enabled=enabled)
            ring(target.pk)
            names.append(target.name)
        messages.success(request, f"{', '.join(names)}: {'taking runs again' if enabled else 'nothing new starts'}.")


class VersionInline(TabularInline):
    model = EnvironmentVersion
    extra = 0
    can_delete = False
    fields = ("number", "definition", "key", "created_at")
    readonly_fields = fields

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Environment)
class EnvironmentAdmin(ModelAdmin):
    list_display = ("name", "workspace", "description", "created_at", "archived_at")
    list_filter = ("workspace",)
    search_fields = ("name", "description")
    readonly_fields = ("created_at",)
    inlines = (VersionInline,)


@admin.register(Build)
class BuildAdmin(ModelAdmin):
    list_display = ("version", "target", "status", "attempts", "size", "started_at", "ended_at", "used_at")
    list_filter = ("status", "target")
    list_select_related = ("version__environment", "target")
    search_fields = ("key", "version__environment__name")
    actions = ("cancel_all",)

    @admin.action(description="Cancel", permissions=["cancel"])
    def cancel_all(self, request: HttpRequest, rows: "QuerySet[Build]") -> None:
        user = cast(User, request.user)
        asked = [build for build in rows.select_related("target__workspace") if builds.cancel(build, user)]
        messages.success(request, f"{len(asked)} {'build is' if len(asked) == 1 else 'builds are'} being canceled.")

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("environments.change_build")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
