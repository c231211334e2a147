"""A version of an environment: where it is built, what is in it, and what a person may do with it."""

from typing import Any
from urllib.parse import quote

from django.contrib import messages
from django.http import Http404, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from environments import builds, registry, service_only, snippets
from environments.contents import Package, frameworks_of, packages_of
from environments.definition import Definition
from environments.forms import KINDS, typed
from environments.models import Build, BuildStatus, ComputeTarget, EnvironmentVersion, Lock
from environments.places import Place, places_of
from environments.registry import latest
from environments.views.software import COUNTED, own, the_environment
from studio import errors
from studio.queues import ring
from studio.workspaces.access import MemberRequest, fetch, member
from studio.workspaces.models import Role

SHOWN_RUNS = 8


@require_GET
@member(Role.READER)
def newest(request: MemberRequest, name: str) -> HttpResponseBase:
    """``/environments/vision`` leads to its newest version, ``/environments/vision@stable`` to the one so labelled."""
    if "@" in name or ":" in name:
        try:
            version = registry.named(request.workspace, name)
        except registry.NoSuchEnvironment:
            raise Http404("No such page.") from None
        return page_of(request, version)
    row = the_environment(request, name)
    found = latest(row) or row.versions.order_by("-number").first()
    if found is None:
        raise Http404("No such page.")
    return redirect("environments:version", request.workspace.slug, row.name, found.number)


def page_of(request: MemberRequest, version: EnvironmentVersion) -> HttpResponse:
    return redirect("environments:version", request.workspace.slug, version.environment.name, version.number)


def the_version(request: MemberRequest, name: str, number: int) -> EnvironmentVersion:
    return fetch(the_environment(request, name).versions.select_related("environment"), number=number)


def own_version(request: MemberRequest, name: str, number: int) -> EnvironmentVersion:
    return fetch(own(request, name).versions.select_related("environment"), number=number)


def on_targets(request: MemberRequest, version: EnvironmentVersion) -> dict[str, Any]:
    """What the builds' card shows."""
    targets = list(ComputeTarget.objects.attached().filter(workspace=request.workspace))
    places = places_of([version], targets)[version.key]
    definition = Definition.from_json(version.definition)
    return {
        "environment": version.environment,
        "version": version,
        "definition": definition,
        "left_out": service_only.note(definition),
        "places": places,
        "failed": [place for place in places if place.failed],
        "going_on": any(place.going_on for place in places),
        "may_change": request.may(Role.CONTRIBUTOR),
    }


def installed(places: list[Place], on: str, definition: Definition) -> tuple[Place | None, list[Package]]:
    """The packages of one place where it is ready: the one asked for, else where it was built last."""
    ready = [(place, place.build) for place in places if place.ready and place.build is not None]
    ready.sort(key=lambda pair: (pair[0].target.name != on, -(pair[1].ended_at or pair[1].created_at).timestamp()))
    for place, build in ready:
        found = packages_of(Build.objects.get(pk=build.pk), definition)
        if found or place.target.name == on:
            return place, found
    return None, []


def contents(request: MemberRequest, page: dict[str, Any]) -> dict[str, Any]:
    """What the cards of packages and locks show."""
    row, definition = page["version"], page["definition"]
    place, packages = installed(page["places"], request.GET.get("on", ""), definition)
    search = request.GET.get("package", "").strip()[:100]
    return {
        "place": place,
        "others": [other for other in page["places"] if other.ready and other != place],
        "packages": [(package, matches(package, search)) for package in packages],
        "packages_shown": sum(matches(package, search) for package in packages),
        "packages_total": len(packages),
        "package_search": search,
        "licensed": any(package.license for package in packages),
        "importable": any(package.modules for package in packages),
        "locks": list(Lock.objects.filter(workspace=request.workspace, key=row.key).order_by("platform")),
    }


@require_GET
@member(Role.READER)
def version(request: MemberRequest, name: str, number: int) -> HttpResponseBase:
    row = the_version(request, name, number)
    page = on_targets(request, row)
    definition = page["definition"]
    runs = row.runs.filter(workspace=request.workspace)
    versions = list(row.environment.versions.order_by("-number").prefetch_related("labels"))
    older = [other for other in versions if other.number < row.number]
    page |= contents(request, page) | {
        "section": "environments",
        "kind": KINDS[typed(definition)["kind"]][0],
        "frameworks": frameworks_of(definition),
        "labels": list(row.labels.all()),
        "snippets": snippets.of_version(row.environment.name, row.environment.description, definition),
        "runs": runs.select_related("experiment").order_by("-number")[:SHOWN_RUNS],
        "runs_count": runs.values("pk")[: COUNTED + 1].count(),
        "counted": COUNTED,
        "versions": versions,
        "newest": latest(row.environment),
        "all_labels": row.environment.labels.select_related("version"),
        "before": older[0] if older else None,
        "may_own": page["may_change"] and not row.environment.curated,
        "refreshed": bool(row.salt),
    }
    return render(request, "environments/version.html", page)


def matches(package: Package, search: str) -> bool:
    """As the filter of the page does it while one types."""
    text = " ".join([package.name, package.version, package.license, *package.modules]).lower()
    return all(word in text for word in search.lower().split())


@require_GET
@member(Role.READER)
def lock(request: MemberRequest, name: str, number: int) -> HttpResponseBase:
    """``?platform=``: the exact packages of one kind of machine, as a file for the installer that made it."""
    row = the_version(request, name, number)
    platform = request.GET.get("platform", "")
    found = fetch(Lock.objects.filter(workspace=request.workspace, key=row.key), platform=platform)
    answer = HttpResponse(found.text, content_type="text/plain; charset=utf-8")
    answer["Content-Disposition"] = (
        f"attachment; filename*=UTF-8''{quote(f'{row.environment.name}-{number}-{platform}.txt')}"
    )
    return answer


@require_GET
@member(Role.READER)
def version_builds(request: MemberRequest, name: str, number: int) -> HttpResponseBase:
    """The builds' card alone, polled while something is being built."""
    page = on_targets(request, the_version(request, name, number))
    if not page["going_on"]:  # with the end came packages and a lock
        page |= contents(request, page) | {"swap": True}
    return render(request, "environments/_live.html", page)


@require_POST
@member(Role.CONTRIBUTOR)
def build(request: MemberRequest, name: str, number: int) -> HttpResponseBase:
    """Have this version built on a target now, before a run needs it; a failed build is tried again."""
    row = the_version(request, name, number)
    wanted = request.POST.get("target", "")
    target = ComputeTarget.objects.attached().filter(workspace=request.workspace, name=wanted).first()
    if target is None:
        return out_of_date(request, f"{wanted or 'The target'} is not attached to this workspace any more.")
    place = Place(target, None, Definition.from_json(row.definition))
    if not place.possible:
        messages.error(
            request, f"{row} is an image, and {target.name} has no container engine. Build it on a Docker target."
        )
        return page_of(request, row)
    found = builds.ensure(target, row)
    builds.retry(found)
    ring(target.pk)
    return page_of(request, row)


def out_of_date(request: MemberRequest, what: str) -> HttpResponse:
    """What the page offered is no longer so."""
    return errors.page(request, 409, "This page is out of date", what, "Go back, reload it, and choose again.")


def the_build(request: MemberRequest, pk: int) -> Build:
    rows = Build.objects.filter(target__workspace=request.workspace)
    return fetch(rows.select_related("version__environment", "target__workspace"), pk=pk)


@require_POST
@member(Role.CONTRIBUTOR)
def cancel_build(request: MemberRequest, pk: int) -> HttpResponseBase:
    """Have a build given up that hangs, or that nobody needs any more."""
    row = the_build(request, pk)
    if builds.cancel(row, request.user):
        messages.success(request, "The build is being canceled." if row.status == BuildStatus.BUILDING else row.error)
    else:
        canceling = row.cancel_requested_at and row.status == BuildStatus.BUILDING
        messages.info(
            request,
            "The build is being canceled already." if canceling else f"The build is {row.status.lower()} by now.",
        )
    return redirect(f"/{request.workspace.slug}/environments/builds/{row.pk}/log")


@require_POST
@member(Role.CONTRIBUTOR)
def retry(request: MemberRequest, pk: int) -> HttpResponseBase:
    row = the_build(request, pk)
    if not builds.retry(row):
        messages.info(request, f"The build is {row.status.lower()} by now.")
    if row.version is None:
        return redirect("environments:list", request.workspace.slug)
    return page_of(request, row.version)


@require_POST
@member(Role.CONTRIBUTOR)
def refresh(request: MemberRequest, name: str, number: int) -> HttpResponseBase:
    """The same definition, resolved again: a new version with the newest packages that it allows."""
    row = own_version(request, name, number)
    made = registry.refresh(row, request.user)
    messages.success(
        request,
        f"Version {made.number} has the definition of version {row.number} and is resolved anew where it is built next. "
        f"Runs that name version {row.number} keep its packages.",
    )
    return page_of(request, made)


@require_POST
@member(Role.CONTRIBUTOR)
def label(request: MemberRequest, name: str, number: int) -> HttpResponseBase:
    """Have a label point to this version, or take it away."""
    row = own_version(request, name, number)
    wanted = request.POST.get("label", "").strip().removeprefix("@")
    if "remove" in request.POST:
        if registry.remove_label(row.environment, request.POST["remove"], request.user):
            messages.success(request, f"@{request.POST['remove']} names no version any more.")
        else:
            messages.info(request, f"@{request.POST['remove']} was removed before.")
        return page_of(request, row)
    before = row.environment.labels.filter(name__iexact=wanted).select_related("version").first()
    try:
        made = registry.set_label(row, wanted, request.user)
    except registry.Refused as error:
        messages.error(request, " ".join(error.errors.values()))
    else:
        moved = f", and no longer version {before.version.number}" if before and before.version_id != row.pk else ""
        messages.success(request, f"{row.environment.name}@{made.name} is version {row.number}{moved}.")
    return page_of(request, row)


@require_POST
@member(Role.CONTRIBUTOR)
def archive_version(request: MemberRequest, name: str, number: int) -> HttpResponseBase:
    """An archived version is never the latest; who names its number still gets it."""
    row = own_version(request, name, number)
    if "restore" in request.POST:
        registry.restore_version(row, request.user)
        messages.success(request, f"Version {row.number} was restored.")
    else:
        registry.archive_version(row, request.user)
        messages.success(request, f"Version {row.number} was archived. Runs that name it still get it.")
    return page_of(request, row)
