"""Environments: list, version, form, and what a person may do with them."""

from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.db import IntegrityError, transaction
from django.http import Http404, HttpResponse, HttpResponseBase, QueryDict
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from environments import builds
from environments.definition import Definition
from environments.forms import EnvironmentForm, typed
from environments.models import Build, BuildStatus, ComputeTarget, Environment, EnvironmentVersion
from environments.registry import find, latest, register, visible
from studio import audit
from studio.queues import ring
from studio.workspaces.access import MemberRequest, fetch, member
from studio.workspaces.models import Role, Workspace

FORM = ["GET", "HEAD", "POST"]
COUNTED = 1_000
"""Runs are counted up to here: nobody needs to know whether it was 61,204 or 61,205 that used an environment."""
SHOWN_RUNS = 10

# Status of a build → icon, tone, word.
STATES = {
    BuildStatus.WAITING: ("clock", "idle", "Waiting"),
    BuildStatus.BUILDING: ("prep", "run", "Building"),
    BuildStatus.READY: ("ok", "ok", "Ready"),
    BuildStatus.FAILED: ("fail", "fail", "Failed"),
}


@dataclass(frozen=True)
class Place:
    """A version on a target: built, being built, or not asked for yet."""

    target: ComputeTarget
    build: Build | None
    user_managed: bool = False

    @property
    def state(self) -> tuple[str, str, str]:
        if self.gone:
            return ("slash", "idle", "No longer there")
        return (
            STATES[BuildStatus(self.build.status)]
            if self.build
            else ("clock", "idle", "Not checked yet" if self.user_managed else "Not built yet")
        )

    @property
    def gone(self) -> bool:
        return self.build is not None and self.build.status == BuildStatus.FAILED and self.build.ended_at is None

    @property
    def failed(self) -> bool:
        return self.build is not None and self.build.status == BuildStatus.FAILED and not self.gone

    @property
    def going_on(self) -> bool:
        return self.build is not None and self.build.status in {BuildStatus.WAITING, BuildStatus.BUILDING}


@dataclass(frozen=True)
class Row:
    environment: Environment
    version: EnvironmentVersion
    definition: Definition
    places: list[Place]
    used: int


def places_of(versions: list[EnvironmentVersion], targets: list[ComputeTarget]) -> dict[str, list[Place]]:
    """For the key of each version its state on every target, in one query."""
    managed = {v.key: bool(v.definition.get("user_managed")) for v in versions}
    found = {(b.key, b.target_id): b for b in Build.objects.filter(key__in=managed, target__in=targets)}
    return {key: [Place(target, found.get((key, target.pk)), managed[key]) for target in targets] for key in managed}


def used_by(workspace: Workspace, environment: Environment) -> int:
    """How many of the workspace's runs used any version, counted to just past COUNTED."""
    rows = EnvironmentVersion.objects.filter(environment=environment, runs__workspace=workspace)
    return int(rows.values("runs")[: COUNTED + 1].count())


@require_GET
@member(Role.READER)
def listing(request: MemberRequest) -> HttpResponseBase:
    archived = "archived" in request.GET
    rows = visible(request.workspace).filter(archived_at__isnull=not archived).order_by("workspace_id", "name")
    newest: dict[int, EnvironmentVersion] = {}
    for version in EnvironmentVersion.objects.filter(environment__in=rows).order_by("number"):
        newest[version.environment_id] = version
    targets = list(ComputeTarget.objects.attached().filter(workspace=request.workspace))
    places = places_of(list(newest.values()), targets)
    shown = [
        Row(
            environment=row,
            version=newest[row.pk],
            definition=Definition.from_json(newest[row.pk].definition),
            places=places[newest[row.pk].key],
            used=used_by(request.workspace, row),
        )
        for row in rows
        if row.pk in newest
    ]
    page = {
        "section": "environments",
        "rows": sorted(shown, key=lambda r: (r.environment.curated, r.environment.name.lower())),
        "archived": archived,
        "has_archived": visible(request.workspace).filter(archived_at__isnull=False).exists(),
        "several": len(targets) > 1,
        "counted": COUNTED,
        "may_make": request.may(Role.CONTRIBUTOR),
    }
    return render(request, "environments/list.html", page)


def the_environment(request: MemberRequest, name: str) -> Environment:
    row = find(request.workspace, name)
    if row is None:
        raise Http404("No such page.")
    return row


def own(request: MemberRequest, name: str) -> Environment:
    """One that members may change: curated ones are the administrator's."""
    return fetch(Environment.objects.filter(workspace=request.workspace), name=name)


@require_GET
@member(Role.READER)
def newest(request: MemberRequest, name: str) -> HttpResponseBase:
    row = the_environment(request, name)
    version = latest(row)
    if version is None:
        raise Http404("No such page.")
    return redirect("environments:version", request.workspace.slug, row.name, version.number)


def version_page(request: MemberRequest, name: str, number: int) -> dict[str, Any]:
    row = the_environment(request, name)
    version = fetch(row.versions.select_related("environment"), number=number)
    definition = Definition.from_json(version.definition)
    targets = list(ComputeTarget.objects.attached().filter(workspace=request.workspace))
    places = places_of([version], targets)[version.key]
    locked = next((p.build for p in places if p.build and p.build.status == BuildStatus.READY and p.build.lock), None)
    return {
        "section": "environments",
        "environment": row,
        "version": version,
        "definition": definition,
        "places": places,
        "failed": [p for p in places if p.failed],
        "going_on": any(p.going_on for p in places),
        "locked": locked,
        "packages": locked.lock.splitlines() if locked else [],
        "may_change": request.may(Role.CONTRIBUTOR),
        "may_own": request.may(Role.CONTRIBUTOR) and not row.curated,
    }


@require_GET
@member(Role.READER)
def version(request: MemberRequest, name: str, number: int) -> HttpResponseBase:
    page = version_page(request, name, number)
    runs = page["version"].runs.filter(workspace=request.workspace)
    page["runs"] = runs.select_related("experiment").order_by("-number")[:SHOWN_RUNS]
    page["versions"] = list(page["environment"].versions.order_by("-number"))
    return render(request, "environments/version.html", page)


@require_GET
@member(Role.READER)
def version_builds(request: MemberRequest, name: str, number: int) -> HttpResponseBase:
    """The builds' card alone, polled while something is being built."""
    return render(request, "environments/_builds.html", version_page(request, name, number))


@require_http_methods(FORM)
@member(Role.CONTRIBUTOR)
def create(request: MemberRequest) -> HttpResponseBase:
    """A new environment; ``?from=name`` or ``?from=name/number`` begins with a copy."""
    source = source_of(request)
    initial = {}
    if source is not None:
        initial = typed(Definition.from_json(source.definition))
        initial["name"] = free_name(request.workspace, source.environment.name)
        initial["description"] = source.environment.description
    data = request.POST if request.method == "POST" else None
    form = EnvironmentForm(request.workspace, None, data, initial=initial)
    if request.method == "POST" and form.is_valid() and form.definition is not None:
        try:
            with transaction.atomic():
                row = Environment.objects.create(
                    workspace=request.workspace,
                    name=form.cleaned_data["name"],
                    description=form.cleaned_data["description"],
                )
                made = register(row, form.definition, request.user)
        except IntegrityError:  # made by somebody else at this moment
            form.add_error("name", f"{form.cleaned_data['name']} is in this workspace already. Choose another name.")
        else:
            return redirect("environments:version", request.workspace.slug, row.name, made.number)
    return form_page(request, form, source=source)


@require_http_methods(FORM)
@member(Role.CONTRIBUTOR)
def new_version(request: MemberRequest, name: str) -> HttpResponseBase:
    row = own(request, name)
    before = latest(row)
    initial = {"name": row.name, "description": row.description}
    if before is not None:
        initial |= typed(Definition.from_json(before.definition))
    data = request.POST if request.method == "POST" else None
    form = EnvironmentForm(request.workspace, row, data, initial=initial)
    if request.method == "POST" and form.is_valid() and form.definition is not None:
        Environment.objects.filter(pk=row.pk).update(description=form.cleaned_data["description"])
        made = register(row, form.definition, request.user)
        if before is not None and made.pk == before.pk:
            messages.info(request, f"The definition is unchanged, so this is still version {made.number}.")
        return redirect("environments:version", request.workspace.slug, row.name, made.number)
    return form_page(request, form, environment=row, before=before)


def form_page(request: MemberRequest, form: EnvironmentForm, **words: Any) -> HttpResponse:
    page = {"section": "environments", "form": form, **words}
    return render(request, "environments/form.html", page, status=422 if form.errors else 200)


def source_of(request: MemberRequest) -> EnvironmentVersion | None:
    """The version named by ``?from=``; 404 when there is none."""
    name, _, number = request.GET.get("from", "").partition("/")
    if not name:
        return None
    rows = the_environment(request, name).versions.select_related("environment")
    row = fetch(rows, number=int(number)) if number.isdecimal() else rows.order_by("-number").first()
    if row is None:
        raise Http404("No such page.")
    return row


def free_name(workspace: Workspace, name: str) -> str:
    """A name for a copy: ``name-copy``, ``name-copy-2``, …, without the prefix of curated ones."""
    base = name[len("AzureML-") :] if name.lower().startswith("azureml-") else f"{name}-copy"
    taken = {n.lower() for n in visible(workspace).values_list("name", flat=True)}
    number, candidate = 1, base
    while candidate.lower() in taken:
        number += 1
        candidate = f"{base}-{number}"
    return candidate


@require_POST
@member(Role.CONTRIBUTOR)
def check(request: MemberRequest) -> HttpResponseBase:
    """The errors of one field, while the form is being filled in."""
    field = request.GET.get("field", "")
    data = QueryDict(mutable=True)
    data.update({name: value for name, value in request.POST.items() if isinstance(value, str)})
    form = EnvironmentForm(request.workspace, None, data)
    form.is_valid()
    if field not in form.fields:
        raise Http404("No such field.")
    page = {"errors": form.errors.get(field, []), "id": field, "lines": form.lines if field == "packages" else []}
    return render(request, "environments/_field_errors.html", page)


@require_POST
@member(Role.CONTRIBUTOR)
def archive(request: MemberRequest, name: str) -> HttpResponseBase:
    """Archived ones are not offered for new runs; what ran in them stays as it is."""
    row = own(request, name)
    restore = "restore" in request.POST
    with transaction.atomic():
        Environment.objects.filter(pk=row.pk).update(archived_at=None if restore else timezone.now())
        action = "environment.restore" if restore else "environment.archive"
        audit.note(request.user, action, workspace=request.workspace, subject=row.name)
    messages.success(request, f"{row.name} was {'restored' if restore else 'archived'}.")
    return redirect("environments:list", request.workspace.slug)


@require_POST
@member(Role.CONTRIBUTOR)
def build(request: MemberRequest, name: str, number: int) -> HttpResponseBase:
    """Have this version built on a target now, before a run needs it; a failed build is tried again."""
    row = fetch(the_environment(request, name).versions.select_related("environment"), number=number)
    target = fetch(
        ComputeTarget.objects.attached().filter(workspace=request.workspace), name=request.POST.get("target", "")
    )
    found = builds.ensure(target, row)
    builds.retry(found)
    ring(target.pk)
    return redirect("environments:version", request.workspace.slug, row.environment.name, row.number)


@require_POST
@member(Role.CONTRIBUTOR)
def cancel_build(request: MemberRequest, pk: int) -> HttpResponseBase:
    """Have a build given up that hangs, or that nobody needs any more."""
    row = fetch(
        Build.objects.filter(target__workspace=request.workspace).select_related(
            "version__environment", "target__workspace"
        ),
        pk=pk,
    )
    if builds.cancel(row, request.user):
        messages.success(request, "The build is being canceled." if row.status == BuildStatus.BUILDING else row.error)
    else:
        messages.info(
            request,
            "The build is being canceled already."
            if row.cancel_requested_at and row.status == BuildStatus.BUILDING
            else f"The build is {row.status.lower()} by now.",
        )
    return redirect(f"/{request.workspace.slug}/environments/builds/{row.pk}/log")


@require_POST
@member(Role.CONTRIBUTOR)
def retry(request: MemberRequest, pk: int) -> HttpResponseBase:
    row = fetch(Build.objects.filter(target__workspace=request.workspace).select_related("version__environment"), pk=pk)
    if not builds.retry(row):
        messages.info(request, f"The build is {row.status.lower()} by now.")
    if row.version is None:
        return redirect("environments:list", request.workspace.slug)
    return redirect("environments:version", request.workspace.slug, row.version.environment.name, row.version.number)
