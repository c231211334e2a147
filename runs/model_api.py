"""Registered models over HTTP: names with versions, whose files are those of runs."""

from datetime import datetime
from typing import Any, Literal
from urllib.parse import quote

from django.http import HttpRequest, HttpResponseBase
from ninja import Router, Schema

from runs import registering
from runs.artifact_api import GONE, download
from runs.changing import PropertyTaken, checked_properties
from runs.log_api import BYTES
from runs.models import ModelVersion, RegisteredModel
from runs.rest import PAGE, checked_tags, run_named
from studio.blobs import BlobStore
from studio.once import once
from studio.rest import REFUSED, Body, Member, Problem, Refusal, not_found, page_url, paged, person, workspace_of
from studio.workspaces.models import Role

router = Router(tags=["models"])


class ModelFile(Schema):
    """``path`` is below the model's own; ``digest`` the SHA-256."""

    path: str
    size: int
    digest: str


class ModelVersionShown(Schema):
    """A version of a model. ``id`` is ``name:version``; ``run`` a run's number, null when that is gone."""

    id: str
    name: str
    version: int
    run: int | None
    run_id: str | None
    experiment: str | None
    path: str
    source: str
    size: int
    files: list[ModelFile]
    description: str
    tags: dict[str, str | None]
    properties: dict[str, Any]
    stage: str
    aliases: list[str]
    created_by: str | None
    created_at: datetime
    updated_at: datetime
    url: str


class Model(Schema):
    """``latest`` is the newest version; null when there is none."""

    name: str
    description: str
    tags: dict[str, str | None]
    created_by: str | None
    created_at: datetime
    updated_at: datetime
    archived_at: datetime | None
    versions: int
    latest: int | None
    url: str


class ModelWithVersions(Model):
    """The newest version first, at most 1,000 of them."""

    all_versions: list[ModelVersionShown]


class ModelsPage(Schema):
    """``next``: the ``after`` of the page that follows; null on the last one."""

    models: list[Model]
    next: str | None


class NewVersion(Body):
    """Files of a run to register. ``path``: an artifact or a folder of artifacts; empty: all of them."""

    name: str
    run: int
    path: str = ""
    description: str = ""
    tags: dict[str, str | None] = {}
    properties: dict[str, Any] = {}


class ModelChange(Body):
    """What is absent stays. ``tags`` replace all that there are."""

    description: str | None = None
    tags: dict[str, str | None] | None = None
    archived: bool | None = None


class VersionChange(Body):
    """What is absent stays. ``tags`` and ``aliases`` replace all that there are; an alias leaves the version that had it."""

    description: str | None = None
    tags: dict[str, str | None] | None = None
    stage: str | None = None
    aliases: list[str] | None = None
    properties: dict[str, Any] = {}


class ModelRemoved(Schema):
    removed: bool


VERSIONS = 1000


@router.get("", auth=Member(Role.READER), response={200: ModelsPage, REFUSED: Refusal})
def listed(
    request: HttpRequest,
    *,
    after: str = "",
    limit: int = PAGE,
    search: str = "",
    archived: Literal["no", "yes", "any"] = "no",
) -> dict[str, Any]:
    """By name; ``search`` is a part of it."""
    limit = paged(limit)
    rows = registering.models_of(workspace_of(request), search).order_by("name")
    if archived != "any":
        rows = rows.filter(archived_at__isnull=archived == "no")
    if after:
        rows = rows.filter(name__gt=after)
    page = list(rows[: limit + 1])
    return {
        "models": [described(request, row) for row in page[:limit]],
        "next": page[limit - 1].name if len(page) > limit else None,
    }


@router.post("", auth=Member(Role.CONTRIBUTOR), response={200: ModelVersionShown, REFUSED: Refusal})
def registered(request: HttpRequest, data: NewVersion) -> dict[str, Any]:
    """Register files of a run as the next version of a model. With ``Idempotency-Key`` a repeated request makes no other one."""

    def make() -> dict[str, Any]:
        run = run_named(request, data.run, "run")
        row = registering.register(
            workspace_of(request), person(request), data.name, run, data.path, description=data.description,
            tags=checked_tags(data.tags), properties=checked_properties(data.properties),
        )  # fmt: skip
        return version_described(request, row)

    return once(request, data.model_dump(), make)


@router.get("/{name}", auth=Member(Role.READER), response={200: ModelWithVersions, REFUSED: Refusal})
def shown(request: HttpRequest, name: str) -> dict[str, Any]:
    """A model with its versions."""
    row = find(request, name)
    rows = row.versions.select_related("run__experiment", "created_by")[:VERSIONS]
    return {**described(request, row), "all_versions": [version_described(request, each) for each in rows]}


@router.patch("/{name}", auth=Member(Role.CONTRIBUTOR), response={200: Model, REFUSED: Refusal})
def changed(request: HttpRequest, name: str, data: ModelChange | None = None) -> dict[str, Any]:
    """Change a model's description or tags; archive or restore it."""
    row, data = find(request, name), data or ModelChange()
    tags = None if data.tags is None else checked_tags(data.tags)
    registering.change_model(row, description=data.description, tags=tags, archived=data.archived)
    return described(request, row)


@router.delete("/{name}", auth=Member(Role.OWNER), response={200: ModelRemoved, REFUSED: Refusal})
def removed(request: HttpRequest, name: str) -> dict[str, bool]:
    """Remove a model with all its versions. The files stay with their runs."""
    registering.remove_model(find(request, name), person(request))
    return {"removed": True}


@router.get("/{name}/versions/{version}", auth=Member(Role.READER), response={200: ModelVersionShown, REFUSED: Refusal})
def version_shown(request: HttpRequest, name: str, version: str) -> dict[str, Any]:
    """One version, by its number, an alias, or ``latest``."""
    return version_described(request, find_version(request, name, version))


@router.patch(
    "/{name}/versions/{version}", auth=Member(Role.CONTRIBUTOR), response={200: ModelVersionShown, REFUSED: Refusal}
)
def version_changed(request: HttpRequest, name: str, version: str, data: VersionChange | None = None) -> dict[str, Any]:
    """Change what is said of a version; its files stay what they are. A property that has another value is refused with 409."""
    row, data = find_version(request, name, version), data or VersionChange()
    tags = None if data.tags is None else checked_tags(data.tags)
    try:
        registering.change_version(
            row,
            description=data.description,
            tags=tags,
            stage=data.stage,
            aliases=data.aliases,
            properties=data.properties,
        )
    except PropertyTaken as error:
        raise Problem.of(409, "properties", error.rule, error.fix) from error
    return version_described(request, find_version(request, name, str(row.number)))


@router.delete("/{name}/versions/{version}", auth=Member(Role.OWNER), response={200: ModelRemoved, REFUSED: Refusal})
def version_removed(request: HttpRequest, name: str, version: str) -> dict[str, bool]:
    """Remove a version. Its number is not used again, and its files stay with their run."""
    registering.remove([find_version(request, name, version)], person(request))
    return {"removed": True}


@router.get(
    "/{name}/versions/{version}/content", auth=Member(Role.READER), openapi_extra=BYTES, response={GONE: Refusal}
)
def content(request: HttpRequest, name: str, version: str, path: str) -> HttpResponseBase:
    """The bytes of one of its files, as they were when it was registered. ``Range`` as for artifacts."""
    row = find_version(request, name, version)
    found = next(((size, digest) for held, size, digest in row.files if held == path), None)
    if found is None:
        raise not_found("file")
    return download(request, BlobStore(row.model.workspace_id), found[1], found[0], path.rpartition("/")[2])


def find(request: HttpRequest, name: str) -> RegisteredModel:
    row = registering.models_of(workspace_of(request)).filter(name=name).first()
    if row is None:
        raise not_found("model")
    return row


def find_version(request: HttpRequest, name: str, text: str) -> ModelVersion:
    row = registering.find_version(find(request, name), text)
    if row is None:
        raise not_found("version")
    return row


def described(request: HttpRequest, row: RegisteredModel) -> dict[str, Any]:
    return {
        "name": row.name,
        "description": row.description,
        "tags": row.tags,
        "created_by": str(row.created_by) if row.created_by else None,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
        "archived_at": row.archived_at,
        "versions": getattr(row, "version_count", 0),
        "latest": getattr(row, "latest", None),
        "url": page_url(request, f"models/{quote(row.name, safe='')}"),  # type: ignore[arg-type]
    }


def version_described(request: HttpRequest, row: ModelVersion) -> dict[str, Any]:
    return {
        "id": str(row),
        "name": row.model.name,
        "version": row.number,
        "run": row.run.number if row.run else None,
        "run_id": row.run.uid if row.run else None,
        "experiment": row.run.experiment.name if row.run else None,
        "path": row.path,
        "source": row.source,
        "size": row.size,
        "files": [{"path": path, "size": size, "digest": digest} for path, size, digest in row.files],
        "description": row.description,
        "tags": row.tags,
        "properties": row.properties,
        "stage": row.stage,
        "aliases": row.aliases,
        "created_by": str(row.created_by) if row.created_by else None,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
        "url": page_url(request, f"models/{quote(row.model.name, safe='')}/{row.number}"),  # type: ignore[arg-type]
    }
