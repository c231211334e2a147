"""Environments over HTTP: found, registered, refreshed, cloned, labelled, compared, archived. Their builds: ``build_api``.

A reference names a version as runs do: ``name`` (the newest), ``name:3``, ``name@label``.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from django.core.exceptions import ValidationError
from django.http import HttpRequest
from ninja import P, Query, QueryEx, Router, Status

from environments import registry
from environments.api_input import check_name, is_curated, keep, own, wanted
from environments.api_schemas import (
    REFUSED,
    CloneWanted,
    Comparison,
    EnvironmentChecked,
    EnvironmentRefusal,
    Environments,
    NewEnvironment,
    Version,
    VersionRegistered,
    Versions,
    VersionShown,
)
from environments.comparing import compare, to_json
from environments.contents import frameworks_of
from environments.definition import Definition
from environments.forms import free, typed
from environments.models import Environment, EnvironmentVersion, Label
from studio.accounts.models import User
from studio.once import claimed, once
from studio.rest import Member, Position, Problem, not_found, page_of, page_url, refused, slice_of
from studio.workspaces.models import Role, Workspace

environments = Router(tags=["environments"])
MAX_KEY = 64


@environments.get("", auth=Member(Role.READER), response={200: Environments, REFUSED: EnvironmentRefusal})
def listed_environments(
    request: HttpRequest, position: Query[Position], archived: bool = False, search: str = ""
) -> dict[str, Any]:
    """The newest version of every environment that runs of the workspace may use. The workspace's own hide curated ones of the same
    name. ``search``: words that are all in its name, description, kind, labels or packages. ``archived``: those instead."""
    rows = registry.visible(workspace_of(request)).filter(archived_at__isnull=not archived)
    offered = EnvironmentVersion.objects.filter(environment__in=rows, archived_at=None)
    newest = dict(offered.order_by("number").values_list("environment_id", "pk"))  # of several the last
    found: dict[str, EnvironmentVersion] = {}
    shown = EnvironmentVersion.objects.filter(pk__in=newest.values()).select_related("environment", "created_by")
    for version in sorted(shown, key=lambda version: version.environment.curated):
        found.setdefault(version.environment.name.lower(), version)
    answers = described(request, [found[name] for name in sorted(found)])
    fitting = [row for row in answers if says(row, search[:200].lower().split())]
    page, following = slice_of(fitting, lambda row: str(row["name"]).lower(), position)
    return {"environments": page, "next": following}


@environments.post(
    "",
    auth=Member(Role.CONTRIBUTOR),
    response={200: VersionRegistered, 201: VersionRegistered, REFUSED: EnvironmentRefusal},
)
def registered(request: HttpRequest, data: NewEnvironment) -> Status[Any]:
    """Keep a definition, or what a text says, under a name: 201 with a new version; 200 with the newest one if it is the same."""
    asked = wanted(workspace_of(request), data)
    with claimed(request, data.model_dump()):
        version, new = keep(workspace_of(request), asked, person(request))
    return Status(201 if new else 200, {**described(request, [version])[0], "notes": asked.notes})


@environments.post(
    "/check", auth=Member(Role.CONTRIBUTOR), response={200: EnvironmentChecked, REFUSED: EnvironmentRefusal}
)
def checked(request: HttpRequest, data: NewEnvironment) -> dict[str, Any]:
    """What would be kept, and nothing is: the errors are those of registering. The name may be left out."""
    asked = wanted(workspace_of(request), data)
    if asked.name:
        check_name(workspace_of(request), asked.name)
    definition = asked.definition
    return {
        "name": asked.name,
        "description": asked.description or "",
        "definition": definition.to_json(),
        "kind": typed(definition)["kind"],
        "key": definition.key(),
        "notes": asked.notes,
    }


@environments.get("/{reference}", auth=Member(Role.READER), response={200: VersionShown, REFUSED: EnvironmentRefusal})
def shown(request: HttpRequest, reference: str) -> dict[str, Any]:
    version = find(request, reference)
    return {**described(request, [version])[0], "runs": version.runs.filter(workspace=workspace_of(request)).count()}


@environments.get(
    "/{reference}/versions", auth=Member(Role.READER), response={200: Versions, REFUSED: EnvironmentRefusal}
)
def listed_versions(request: HttpRequest, reference: str, position: Query[Position]) -> dict[str, Any]:
    """All versions, the newest first, also archived ones."""
    rows = find_environment(request, reference).versions.select_related("created_by").prefetch_related("labels")
    page, following = page_of(rows, "number", position, newest=True)
    return {"versions": [numbered(row, [label.name for label in row.labels.all()]) for row in page], "next": following}


@environments.get(
    "/{reference}/compare", auth=Member(Role.READER), response={200: Comparison, REFUSED: EnvironmentRefusal}
)
def compared(request: HttpRequest, reference: str, other: QueryEx[str, P(alias="with")] = "") -> dict[str, Any]:
    """What differs, from this version to the one that ``with`` names; without it, from the version before to this one."""
    old = find(request, reference)
    if other:
        new = find(request, other, "with")
    else:
        new = old
        before = new.environment.versions.filter(number__lt=new.number).select_related("environment").first()
        if before is None:
            raise Problem.of(422, "with", f"{new} is the first version.", "Name another one to compare it with.")
        old = before
    found = compare(old, new, workspace_of(request))
    return {**to_json(found), "old": str(old), "new": str(new), "same": found.same}


@environments.post(
    "/{reference}/clone",
    auth=Member(Role.CONTRIBUTOR),
    response={200: Version, 201: Version, REFUSED: EnvironmentRefusal},
)
def cloned(request: HttpRequest, reference: str, data: CloneWanted | None = None) -> Status[Any]:
    """A new environment of the workspace that begins with this version: its definition, and what was resolved and built of it.
    Repeated, it answers 200 with the copy of the first call."""
    version, name = find(request, reference), data.name if data else ""

    def make() -> dict[str, Any]:
        row, new = copied(request, version, name)
        return {"new": new, "version": described(request, [row])[0]}

    made = once(request, {"name": name}, make)
    return Status(201 if made["new"] else 200, made["version"])


def copied(request: HttpRequest, version: EnvironmentVersion, name: str) -> tuple[EnvironmentVersion, bool]:
    """The clone of a version, and whether it is new. Raises Problem."""
    workspace = workspace_of(request)
    there = own(workspace, name)
    copy = registry.latest(there) if there is not None else None
    if copy is not None and copy.number == 1 and (copy.key, copy.definition) == (version.key, version.definition):
        return copy, False
    try:
        return registry.clone(version, workspace, free(workspace, name), person(request)), True
    except ValidationError as error:
        raise refused({"name": " ".join(error.messages)}) from None
    except registry.Refused as error:
        raise refused(error.errors) from None


@environments.post(
    "/{reference}/refresh",
    auth=Member(Role.CONTRIBUTOR),
    response={200: Version, 201: Version, REFUSED: EnvironmentRefusal},
)
def refreshed(request: HttpRequest, reference: str) -> Status[Any]:
    """A new version with the same definition, resolved anew where it is built next. With the header ``Idempotency-Key`` a repeated
    request answers 200 with the version of the first."""
    version = own_version(request, reference)
    newest = version.environment.versions.latest("number")
    with claimed(request, None, f"refresh environment {version.environment_id}"):
        made = registry.refresh(version, person(request), idempotency_key(request))
    return Status(201 if made.number > newest.number else 200, described(request, [made])[0])


@environments.put(
    "/{reference}/labels/{label}", auth=Member(Role.CONTRIBUTOR), response={200: Version, REFUSED: EnvironmentRefusal}
)
def labelled(request: HttpRequest, reference: str, label: str) -> dict[str, Any]:
    """Have a label point to this version, and to no other."""
    version = own_version(request, reference)
    try:
        registry.set_label(version, label, person(request))
    except registry.Refused as error:
        raise refused(error.errors) from None
    return described(request, [version])[0]


@environments.delete(
    "/{reference}/labels/{label}", auth=Member(Role.CONTRIBUTOR), response={204: None, REFUSED: EnvironmentRefusal}
)
def unlabelled(request: HttpRequest, reference: str, label: str) -> Status[None]:
    """Take a label away from the environment, whichever version it points to."""
    if not registry.remove_label(own_environment(request, reference), label, person(request)):
        raise not_found("label")
    return Status(204, None)


@environments.post(
    "/{reference}/archive", auth=Member(Role.CONTRIBUTOR), response={200: Version, REFUSED: EnvironmentRefusal}
)
def archived(request: HttpRequest, reference: str) -> dict[str, Any]:
    """``name`` archives the environment, ``name:3`` that version: it is not offered, and a version is never the newest. Whoever names
    it still gets it."""
    return put_away(request, reference, archive=True)


@environments.post(
    "/{reference}/restore", auth=Member(Role.CONTRIBUTOR), response={200: Version, REFUSED: EnvironmentRefusal}
)
def restored(request: HttpRequest, reference: str) -> dict[str, Any]:
    """Offer an archived environment, or version, again."""
    return put_away(request, reference, archive=False)


# -- finding ---------------------------------------------------------------------------------------------------------------


def workspace_of(request: HttpRequest) -> Workspace:
    found: Workspace = request.workspace  # type: ignore[attr-defined]
    return found


def person(request: HttpRequest) -> User:
    return request.user  # type: ignore[return-value]  # signed in: Member saw to it


def find(request: HttpRequest, reference: str, field: str = "environment") -> EnvironmentVersion:
    """The version that a reference names. Raises Problem 404, which says what there is instead."""
    try:
        return registry.named(workspace_of(request), reference)
    except registry.NoSuchEnvironment as error:
        fix = str(error).partition(". ")[2]
        raise Problem.of(404, field, "There is no such environment, version or label.", fix) from None


def find_environment(request: HttpRequest, reference: str) -> Environment:
    """The environment whose name a reference begins with, also where all of its versions are archived."""
    row = registry.find(workspace_of(request), re.split("[:@]", reference, maxsplit=1)[0])
    if row is None:
        raise not_found("environment")
    return row


def own_version(request: HttpRequest, reference: str) -> EnvironmentVersion:
    """One that members may change. Raises Problem 409 for a curated one."""
    version = find(request, reference)
    if version.environment.curated:
        raise is_curated(version.environment)
    return version


def own_environment(request: HttpRequest, reference: str) -> Environment:
    row = find_environment(request, reference)
    if row.curated:
        raise is_curated(row)
    return row


# -- answers ---------------------------------------------------------------------------------------------------------------


def put_away(request: HttpRequest, reference: str, *, archive: bool) -> dict[str, Any]:
    version: EnvironmentVersion | None
    if re.search("[:@]", reference):
        version = own_version(request, reference)
        (registry.archive_version if archive else registry.restore_version)(version, person(request))
    else:
        row = own_environment(request, reference)
        (registry.archive if archive else registry.restore)(row, person(request))
        version = registry.latest(row) or row.versions.first()
        if version is None:
            raise not_found("environment")
    return described(request, [version])[0]


def described(request: HttpRequest, versions: Sequence[EnvironmentVersion]) -> list[dict[str, Any]]:
    """Versions as the API shows them, in two queries more than they were."""
    environments = {version.environment_id for version in versions}
    numbers: dict[int, list[int]] = {pk: [] for pk in environments}
    offered = EnvironmentVersion.objects.filter(environment__in=environments, archived_at=None).order_by("-number")
    for environment, number in offered.values_list("environment_id", "number"):
        numbers[environment].append(number)
    labels: dict[int, list[str]] = {version.pk: [] for version in versions}
    for pk, name in Label.objects.filter(version__in=labels).values_list("version_id", "name"):
        labels[pk].append(name)
    return [one(request, row, labels[row.pk], numbers[row.environment_id]) for row in versions]


def one(request: HttpRequest, row: EnvironmentVersion, labels: list[str], numbers: list[int]) -> dict[str, Any]:
    environment, definition = row.environment, Definition.from_json(row.definition)
    return {
        **numbered(row, labels),
        "name": environment.name,
        "kind": typed(definition)["kind"],
        "curated": environment.curated,
        "description": environment.description,
        "definition": row.definition,
        "frameworks": frameworks_of(definition),
        "versions": numbers,
        "environment_archived_at": environment.archived_at,
        "url": page_url(request, f"environments/{environment.name}/{row.number}"),  # type: ignore[arg-type]
    }


def numbered(row: EnvironmentVersion, labels: list[str]) -> dict[str, Any]:
    return {
        "version": row.number,
        "labels": labels,
        "key": row.key,
        "refreshed": bool(row.salt),
        "created_at": row.created_at,
        "created_by": str(row.created_by) if row.created_by else None,
        "archived_at": row.archived_at,
    }


def says(row: Mapping[str, Any], words: list[str]) -> bool:
    """Whether each word is somewhere in an environment's name, description, kind, labels or packages."""
    definition = row["definition"]
    lists = (row["frameworks"], row["labels"], definition.get("packages", ()), definition.get("conda_packages", ()))
    text = " ".join(
        [row["name"], row["description"], row["kind"], *(part for parts in lists for part in parts)]
    ).lower()
    return all(word in text for word in words)


def idempotency_key(request: HttpRequest) -> str:
    """What a program calls its wish; empty where it does not. Raises Problem."""
    key = request.headers.get("Idempotency-Key", "")
    if len(key) > MAX_KEY or not key.isprintable():
        raise refused({"Idempotency-Key": f"It is no printable text of up to {MAX_KEY} characters. Use a UUID."})
    return key
