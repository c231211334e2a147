"""The administrator's view of targets, environments, builds, and who attends what."""

import json
from typing import Any, cast

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import path, reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST
from unfold.admin import ModelAdmin, TabularInline

from environments import attaching, builds
from environments.attention import state_words, troubles
from environments.doctor import examine
from environments.models import Build, ComputeTarget, Environment, EnvironmentVersion, Lease, Pool, PoolMember
from environments.options import TITLES, kind_of
from environments.pools import nodes, pool_health, waiting_runs
from studio.accounts.models import User
from studio.admin import LookOnly
from studio.templatetags.studio import ago
from studio.workspaces.models import Role, Workspace


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """What the administration's first page shows."""
    return {**context, "troubles": troubles()}


# What an administrator does to a target: its name in addresses, and on its button.
DEEDS = {"test": "Test", "drain": "Drain", "resume": "Resume", "rotate": "Rotate credentials"}


@admin.register(ComputeTarget)
class ComputeTargetAdmin(LookOnly, ModelAdmin):
    """Targets as they are, and what keeps them running. They are attached and edited in the studio, by one set of rules."""

    list_display = (
        "name", "workspace", "state", "kind", "slots_taken", "gpus_taken", "active_runs", "last_seen", "deeds",
    )  # fmt: skip
    list_filter = ("workspace", "enabled", ("quarantined_at", admin.EmptyFieldListFilter), "transport", "launcher")
    list_select_related = ("workspace",)
    search_fields = ("name", "workspace__slug")
    ordering = ("workspace__slug", "name")
    fields = (
        "name", "workspace", "state", "trouble", "kind", "slots_taken", "gpus_taken", "active_runs", "settings", "facts",
        "attached_at", "created_by", "last_seen_at", "checked_at", "on_site",
    )  # fmt: skip
    actions = ("test_all", "drain_all", "resume_all", "rotate_all")
    list_before_template = "admin/targets/before.html"
    list_after_template = "admin/targets/form.html"
    change_form_before_template = "admin/targets/bar.html"

    def get_queryset(self, request: HttpRequest) -> "QuerySet[ComputeTarget]":
        """Without drafts, which are one person's, and without the detached ones, of which only the runs are left."""
        rows: QuerySet[ComputeTarget] = super().get_queryset(request)
        active = Q(runs__ended_at__isnull=True)
        held = active & Q(runs__launched=True) & ~Q(runs__status="Finalizing")
        return rows.filter(attached_at__isnull=False, detached_at=None).annotate(
            n_active=Count("runs", filter=active), n_running=Count("runs", filter=held)
        )

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        user = cast(User, request.user)
        homes = Workspace.objects.filter(memberships__user=user, memberships__role=Role.OWNER)
        more = {**(extra_context or {}), "homes": homes.order_by("slug")}
        answer: HttpResponse = super().changelist_view(request, more)
        return answer

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        target = self.get_object(request, object_id)
        buttons = self.deeds(target) if target is not None else ""
        more = {**(extra_context or {}), "buttons": buttons}
        answer: HttpResponse = super().change_view(request, object_id, form_url, more)
        return answer

    # What is shown.

    @admin.display(description="State")
    def state(self, target: ComputeTarget) -> str:
        return state_words(target)

    @admin.display(description="Trouble")
    def trouble(self, target: ComputeTarget) -> str:
        return target.quarantine_reason or target.last_error or "–"

    @admin.display(description="Kind")
    def kind(self, target: ComputeTarget) -> str:
        title = TITLES[kind_of(target.transport, target.launcher, target.options)]
        return f"{title} ({target.transport} × {target.launcher})"

    @admin.display(description="Slots")
    def slots_taken(self, target: Any) -> str:
        return f"{target.n_running} of {target.slots} busy"

    @admin.display(description="GPUs")
    def gpus_taken(self, target: ComputeTarget) -> str:
        if not target.gpus:
            return "–"
        active = target.runs.filter(ended_at=None, launched=True).exclude(status="Finalizing")
        taken = sum(len((granted or {}).get("gpus", ())) for granted in active.values_list("granted", flat=True))
        return f"{taken} of {target.gpus} busy"

    @admin.display(description="Active runs", ordering="n_active")
    def active_runs(self, target: Any) -> int:
        return int(target.n_active)

    @admin.display(description="Last seen", ordering="last_seen_at")
    def last_seen(self, target: ComputeTarget) -> str:
        return ago(target.last_seen_at)

    @admin.display(description="Settings")
    def settings(self, target: ComputeTarget) -> SafeString:
        """The options; none of them is secret, and what a wizard remembers is not theirs."""
        options = {name: value for name, value in target.options.items() if name != "typed"}
        return format_html("<pre>{}</pre>", json.dumps(options, indent=2, ensure_ascii=False))

    @admin.display(description="Page")
    def on_site(self, target: ComputeTarget) -> SafeString:
        return format_html(
            '<a href="/{}/compute/{}">Open {} in the studio</a>', target.workspace.slug, target.name, target.name
        )

    @admin.display(description="")
    def deeds(self, target: ComputeTarget) -> SafeString:
        """Buttons of a form that stands outside the table: they post, and Enter in the table does not press them."""
        names = ["test", "resume" if not target.enabled or target.quarantined_at else "drain"]
        names += ["rotate"] if target.transport == "ssh" else []
        return format_html(
            '<span class="flex gap-3 whitespace-nowrap">{}<a class="text-primary-600 dark:text-primary-400" href="/{}/compute/{}">Open</a></span>',
            format_html_join(
                "",
                '<button type="submit" form="target-deed" formaction="{}" class="cursor-pointer text-primary-600 dark:text-primary-400">{}</button>',
                ((reverse("admin:target-deed", args=[target.pk, name]), self.label(target, name)) for name in names),
            ),
            target.workspace.slug,
            target.name,
        )

    def label(self, target: ComputeTarget, name: str) -> str:
        return "Use the new key" if name == "rotate" and attaching.next_key(target) else DEEDS[name]

    # What is done.

    def get_urls(self) -> list[Any]:
        deed = self.admin_site.admin_view(require_POST(self.deed))
        return [path("<int:pk>/do/<str:name>/", deed, name="target-deed"), *super().get_urls()]

    def deed(self, request: HttpRequest, pk: int, name: str) -> HttpResponse:
        target = self.get_queryset(request).filter(pk=pk).first()
        if target is None or name not in DEEDS:
            raise Http404
        if not self.has_manage_permission(request):
            raise PermissionDenied
        self.do(request, target, name)
        back = request.headers.get("Referer", "")
        if back and url_has_allowed_host_and_scheme(back, {request.get_host()}, require_https=request.is_secure()):
            return redirect(back)
        return redirect("admin:environments_computetarget_changelist")

    def do(self, request: HttpRequest, target: ComputeTarget, name: str) -> None:
        user = cast(User, request.user)
        if name == "test":
            self.test(request, target)
        elif name == "rotate":
            self.rotate(request, target, user)
        else:
            attaching.set_enabled(target, user, name == "resume")
            told = "taking runs again" if name == "resume" else "what runs goes on, and nothing new starts"
            messages.success(request, f"{target.name}: {told}.")

    def test(self, request: HttpRequest, target: ComputeTarget) -> None:
        steps = examine(target)
        failed = next((step for step in steps if not step.ok and step.needed), None)
        if failed is None:
            took = sum(step.milliseconds for step in steps)
            messages.success(request, f"{target.name} answers: {len(steps)} steps in {took:.0f} ms.")
        else:
            messages.error(request, f"{target.name}: {failed.title}: {failed.detail} {failed.fix}")

    def rotate(self, request: HttpRequest, target: ComputeTarget, user: User) -> None:
        """Two presses: a key is made and its public line shown; once the machine lets it in it replaces what was used before."""
        if target.transport != "ssh":
            messages.info(request, f"{target.name} is this machine: there are no credentials to rotate.")
        elif not attaching.next_key(target):
            line = attaching.make_key(target, user)
            ssh = target.options.get("ssh") or {}
            messages.info(
                request,
                f"{target.name}: add this line to ~/.ssh/authorized_keys of {ssh.get('user')} on {ssh.get('host')}, then press "
                f"Use the new key. Until then the old one stays in use. {line}",
            )
        else:
            try:
                attaching.use_new_key(target, user)
            except attaching.Refused as error:
                messages.error(request, f"{target.name}: {' '.join(error.errors.values())}")
            else:
                messages.success(request, f"{target.name}: the new key works, and is used from now on.")

    def has_manage_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("environments.change_computetarget")

    @admin.action(description="Test", permissions=["manage"])
    def test_all(self, request: HttpRequest, rows: "QuerySet[ComputeTarget]") -> None:
        self.do_all(request, rows, "test")

    @admin.action(description="Drain", permissions=["manage"])
    def drain_all(self, request: HttpRequest, rows: "QuerySet[ComputeTarget]") -> None:
        self.do_all(request, rows, "drain")

    @admin.action(description="Resume", permissions=["manage"])
    def resume_all(self, request: HttpRequest, rows: "QuerySet[ComputeTarget]") -> None:
        self.do_all(request, rows, "resume")

    @admin.action(description="Rotate credentials", permissions=["manage"])
    def rotate_all(self, request: HttpRequest, rows: "QuerySet[ComputeTarget]") -> None:
        self.do_all(request, rows, "rotate")

    def do_all(self, request: HttpRequest, rows: "QuerySet[ComputeTarget]", name: str) -> None:
        for target in rows:
            self.do(request, target, name)


class MemberInline(TabularInline):
    model = PoolMember
    extra = 0
    can_delete = False
    fields = ("position", "target")
    readonly_fields = fields

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Pool)
class PoolAdmin(LookOnly, ModelAdmin):
    """Pools as they are. They are made and edited in the studio, by one set of rules."""

    list_display = (
        "name",
        "workspace",
        "state",
        "targets",
        "waiting",
        "min_nodes",
        "max_nodes",
        "created_at",
        "removed_at",
    )
    list_filter = ("workspace", ("removed_at", admin.EmptyFieldListFilter))
    list_select_related = ("workspace",)
    search_fields = ("name", "workspace__slug", "members__target__name")
    ordering = ("workspace__slug", "name")
    fields = (
        "name", "workspace", "description", "state", "targets", "waiting", "min_nodes", "max_nodes", "created_by", "created_at",
        "updated_at", "removed_at",
    )  # fmt: skip
    inlines = (MemberInline,)

    @admin.display(description="State")
    def state(self, pool: Pool) -> str:
        return "Removed" if pool.removed_at else pool_health(pool, nodes(pool)).words

    @admin.display(description="Targets")
    def targets(self, pool: Pool) -> str:
        return ", ".join(f"{node.target.name} ({node.state})" for node in nodes(pool)) or "–"

    @admin.display(description="Waiting")
    def waiting(self, pool: Pool) -> int:
        return waiting_runs(pool)


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
class BuildAdmin(LookOnly, ModelAdmin):
    list_display = ("version", "target", "status", "attempts", "size", "started_at", "ended_at", "used_at")
    list_filter = ("status", "target")
    list_select_related = ("version__environment", "target")
    search_fields = ("key", "version__environment__name")
    actions = ("retry_all", "cancel_all")

    @admin.action(description="Retry", permissions=["cancel"])
    def retry_all(self, request: HttpRequest, rows: "QuerySet[Build]") -> None:
        again = [build for build in rows if builds.retry(build)]
        messages.success(request, f"{len(again)} {'build is' if len(again) == 1 else 'builds are'} tried again.")

    @admin.action(description="Cancel", permissions=["cancel"])
    def cancel_all(self, request: HttpRequest, rows: "QuerySet[Build]") -> None:
        user = cast(User, request.user)
        asked = [build for build in rows.select_related("target__workspace") if builds.cancel(build, user)]
        messages.success(request, f"{len(asked)} {'build is' if len(asked) == 1 else 'builds are'} being canceled.")

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("environments.change_build")


@admin.register(Lease)
class LeaseAdmin(LookOnly, ModelAdmin):
    """Which process attends which target."""

    list_display = ("target", "owner", "token", "held", "expires_at")
    list_select_related = ("target",)
    ordering = ("target__name",)
    fields = ("target", "owner", "token", "held", "expires_at")

    @admin.display(description="Held", boolean=True)
    def held(self, lease: Lease) -> bool:
        return bool(lease.owner) and lease.expires_at > timezone.now()
