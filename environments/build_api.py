"""Builds of environments over HTTP: asked for, looked at, canceled, tried again; what is in them, and what was resolved.

A version has one build on a target. Their logs are kept with those of runs: ``runs.build_log_api``.
"""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils.http import content_disposition_header
from ninja import Path, Query, Router, Status

from environments import api_schemas as schemas
from environments import builds as domain
from environments.api import find, person, workspace_of
from environments.api_schemas import REFUSED, EnvironmentRefusal
from environments.comparing import read_lock
from environments.contents import packages_of
from environments.definition import Definition
from environments.models import Build, BuildStatus, ComputeTarget, EnvironmentVersion, Lock
from environments.places import Place
from studio.once import claimed
from studio.queues import ring
from studio.rest import Member, Position, Problem, not_found, page_of, page_url, sends, slice_of
from studio.workspaces.models import Role

builds = Router(tags=["environments"])
locks = Router(tags=["environments"])


@builds.get("", auth=Member(Role.READER), response={200: schemas.Builds, REFUSED: EnvironmentRefusal})
def listed_builds(request: HttpRequest, reference: Path[str], position: Query[Position]) -> dict[str, Any]:
    """One for each target that has this version, is getting it, or had it once."""
    version = find(request, reference)
    rows = Build.objects.filter(target__in=targets_of(request), key=version.key).defer("lock")
    page, following = page_of(rows.select_related("target", "version"), "target__name", position)
    return {"builds": [described(request, row, version) for row in page], "next": following}


@builds.post(
    "", auth=Member(Role.CONTRIBUTOR), response={200: schemas.Build, 202: schemas.Build, REFUSED: EnvironmentRefusal}
)
def asked(request: HttpRequest, reference: Path[str], data: schemas.BuildWanted | None = None) -> Status[Any]:
    """Have this version built on a target now, before a run needs it: 202, and 200 where it is ready. A failed build is tried again."""
    version, wanted = find(request, reference), (data or schemas.BuildWanted()).target
    target = targets_of(request).filter(name=wanted).first()
    if target is None:
        raise Problem.of(422, "target", f"There is no compute target named {wanted[:255]}.", "Compute lists them.")
    if not Place(target, None, Definition.from_json(version.definition)).possible:
        rule = f"{version} is an image, and {target.name} has no container engine."
        raise Problem.of(422, "target", rule, "Build it on a Docker target.")
    with claimed(request, {"target": wanted}):
        build = domain.ensure(target, version)
        domain.retry(build)
        ring(target.pk)
    return Status(200 if build.status == BuildStatus.READY else 202, described(request, build, version))


@builds.get("/{target}", auth=Member(Role.READER), response={200: schemas.Build, REFUSED: EnvironmentRefusal})
def shown_build(request: HttpRequest, reference: Path[str], target: str) -> dict[str, Any]:
    build, version = find_build(request, reference, target)
    return described(request, build, version)


@builds.post(
    "/{target}/cancel", auth=Member(Role.CONTRIBUTOR), response={200: schemas.BuildAsked, REFUSED: EnvironmentRefusal}
)
def canceled(request: HttpRequest, reference: Path[str], target: str) -> dict[str, Any]:
    """Have a build given up; runs that wait for it fail and name it. One that has ended is answered as it is."""
    build, version = find_build(request, reference, target)
    done = domain.cancel(build, person(request))
    return {**described(request, build, version), "asked": done}


@builds.post(
    "/{target}/retry", auth=Member(Role.CONTRIBUTOR), response={200: schemas.BuildAsked, REFUSED: EnvironmentRefusal}
)
def retried(request: HttpRequest, reference: Path[str], target: str) -> dict[str, Any]:
    """Have a failed build tried again, or one that is no longer there made anew. Any other is answered as it is."""
    build, version = find_build(request, reference, target)
    # By this version's names of secrets: the one that asked first may be gone.
    done = domain.retry(domain.ensure(build.target, version))
    build.refresh_from_db()
    return {**described(request, build, version), "asked": done}


@builds.get(
    "/{target}/packages", auth=Member(Role.READER), response={200: schemas.Packages, REFUSED: EnvironmentRefusal}
)
def packages(
    request: HttpRequest, reference: Path[str], target: str, position: Query[Position], search: str = ""
) -> dict[str, Any]:
    """What the build found installed. ``search``: words that are all in a package's name, version, licence or modules."""
    build, version = find_build(request, reference, target)
    words = search[:100].lower().split()
    rows = [vars(package) for package in packages_of(build, Definition.from_json(version.definition))]
    found = [row for row in rows if all(word in said(row) for word in words)]
    page, following = slice_of(found, lambda row: f"{row['name'].lower()} {row['source']} {row['version']}", position)
    about = {"target": build.target.name, "platform": build.platform, "lock": build.lock}
    return {**about, "packages": page, "next": following}


@locks.get("", auth=Member(Role.READER), response={200: schemas.Locks, REFUSED: EnvironmentRefusal})
def listed_locks(request: HttpRequest, reference: Path[str], position: Query[Position]) -> dict[str, Any]:
    """What this version was resolved to, once for each kind of machine: every later build installs that."""
    page, following = page_of(locks_of(request, find(request, reference)), "platform", position)
    found = [
        {"platform": row.platform, "created_at": row.created_at, "packages": len(read_lock(row.text))} for row in page
    ]
    return {"locks": found, "next": following}


@locks.get(
    "/{platform}",
    auth=Member(Role.READER),
    response={REFUSED: EnvironmentRefusal},
    openapi_extra=sends("text/plain; charset=utf-8"),
)
def lock(request: HttpRequest, reference: Path[str], platform: str) -> HttpResponse:
    """The exact packages with their hashes, as text that the installer which wrote it reads."""
    version = find(request, reference)
    row = locks_of(request, version).filter(platform=platform).first()
    if row is None:
        raise not_found("lock")
    name = f"{version.environment.name}-{version.number}-{platform}.txt"
    return HttpResponse(
        row.text,
        content_type="text/plain; charset=utf-8",
        headers={"Content-Disposition": content_disposition_header(True, name) or "attachment"},
    )


def targets_of(request: HttpRequest) -> Any:
    return ComputeTarget.objects.attached().filter(workspace=workspace_of(request))


def locks_of(request: HttpRequest, version: EnvironmentVersion) -> Any:
    return Lock.objects.filter(workspace=workspace_of(request), key=version.key)


def find_build(request: HttpRequest, reference: str, target: str) -> tuple[Build, EnvironmentVersion]:
    """The build of a version on a target of the workspace. Raises Problem 404."""
    version = find(request, reference)
    rows = Build.objects.filter(target__in=targets_of(request), target__name=target, key=version.key)
    build = rows.select_related("version__environment", "target__workspace").first()
    if build is None:
        raise not_found("build")
    return build, version


def said(row: dict[str, Any]) -> str:
    return " ".join([row["name"], row["version"], row["license"], *row["modules"]]).lower()


def described(request: HttpRequest, build: Build, version: EnvironmentVersion) -> dict[str, Any]:
    """A build as the API shows it."""
    place = Place(build.target, build, Definition.from_json(version.definition))
    other = domain.waits_for(build)
    return {
        "target": build.target.name,
        "status": build.status,
        "state": place.state[2],
        "error": build.error,
        "waiting_for": other.name if other is not None else "",
        "canceling": place.going_on and build.cancel_requested_at is not None,
        "attempts": build.attempts,
        "python": build.python,
        "image": build.image,
        "platform": build.platform,
        "size": build.size,
        "packages": len(build.packages),
        "created_at": build.created_at,
        "started_at": build.started_at,
        "ended_at": build.ended_at,
        "used_at": build.used_at,
        "url": page_url(request, f"environments/builds/{build.pk}/log"),  # type: ignore[arg-type]
    }
