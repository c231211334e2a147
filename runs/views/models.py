"""Registered models: the list, a model with its versions and their files, and registering what a run left."""

from typing import Any
from urllib.parse import quote

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import FileResponse, Http404, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import path
from django.views.decorators.http import require_POST, require_safe

from runs import registering
from runs.config import ConfigError
from runs.models import ModelVersion, RegisteredModel
from runs.views.detail import get_run
from runs.views.files import guarded
from studio.blobs import BlobMissing, BlobStore
from studio.workspaces.access import MemberRequest, fetch, member
from studio.workspaces.models import Role

PAGE = 50
VERSIONS = 200
FILES = 500


@require_safe
@member(Role.READER)
def models(request: MemberRequest) -> HttpResponseBase:
    """By name; ``?after=`` goes on behind a name."""
    search = request.GET.get("search", "").replace("\0", "")[:255]
    archived = request.GET.get("archived") == "yes"
    rows = registering.models_of(request.workspace, search).filter(archived_at__isnull=not archived).order_by("name")
    if after := request.GET.get("after", "").replace("\0", "")[:255]:
        rows = rows.filter(name__gt=after)
    page = list(rows[: PAGE + 1])
    newest = ModelVersion.objects.filter(model__in=[row.pk for row in page]).select_related("run__experiment")
    latest = {(version.model_id, version.number): version for version in newest.defer("files")}
    context = {
        "section": "models",
        "base": f"/{request.workspace.slug}/models",
        "rows": [{"model": row, "latest": latest.get((row.pk, getattr(row, "latest", 0)))} for row in page[:PAGE]],
        "more": page[PAGE - 1].name if len(page) > PAGE else "",
        "search": search,
        "archived": archived,
        "none_at_all": not page and not search and not after and not archived,
    }
    return render(request, "runs/models.html", context)


@require_safe
@member(Role.READER)
def model(request: MemberRequest, name: str, number: int | None = None) -> HttpResponseBase:
    """A model: one of its versions, the newest unless the address names another, and the list of all."""
    row = get_model(request, name)
    versions = list(row.versions.select_related("run__experiment", "created_by").defer("files")[:VERSIONS])
    shown = get_version(row, number) if number is not None else row.versions.first()
    context = {
        "section": "models",
        "base": f"/{request.workspace.slug}/models",
        "model": row,
        "versions": versions,
        "version": shown,
        "files": shown.files[:FILES] if shown else [],
        "more_files": max(0, len(shown.files) - FILES) if shown else 0,
        "may_edit": request.may(Role.CONTRIBUTOR),
        "may_own": request.may(Role.OWNER),
    }
    return render(request, "runs/model.html", context)


@require_safe
@member(Role.READER)
def file(request: MemberRequest, name: str, number: int, file: str) -> HttpResponseBase:
    """A file of a version, as a download."""
    version = get_version(get_model(request, name), number)
    digest = next((digest for path, _, digest in version.files if path == file), None)
    try:
        content = BlobStore(request.workspace.pk).open(digest) if digest else None
    except BlobMissing:
        content = None
    if content is None:
        raise Http404("No such file.")
    response = FileResponse(content, content_type="application/octet-stream")
    return guarded(response, "attachment", file.rsplit("/", 1)[-1])


@require_POST
@member(Role.CONTRIBUTOR)
def register(request: MemberRequest, number: int) -> HttpResponseBase:
    """Make a version of what the form of the Outputs tab names."""
    run = get_run(request, number)
    name, chosen = request.POST.get("name", "").strip(), request.POST.get("path", "").replace("\0", "")
    try:
        version = registering.register(request.workspace, request.user, name, run, chosen)
    except ConfigError as error:
        messages.error(request, " ".join(f"{field}: {words}" for field, words in error.errors.items()))
        return redirect(f"/{request.workspace.slug}/runs/{run.number}/outputs")
    messages.success(request, f"{version.model.name} has version {version.number}.")
    return redirect(address(request, version.model, version.number))


@require_POST
@member(Role.CONTRIBUTOR)
def edit(request: MemberRequest, name: str) -> HttpResponseBase:
    """Description, archive; for an owner also the removal of a version. Only what the form holds."""
    row = get_model(request, name)
    if "remove" in request.POST:
        if not request.may(Role.OWNER):
            raise PermissionDenied("This needs the role owner.")
        text = request.POST["remove"]
        version = get_version(row, int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0)
        registering.remove([version], request.user)
        messages.success(request, f"Version {version.number} is removed. Its files stay with their run.")
        return redirect(address(request, row))
    archived = request.POST["archived"] == "1" if "archived" in request.POST else None
    try:
        registering.change_model(row, description=request.POST.get("description"), archived=archived)
    except ConfigError as error:
        messages.error(request, " ".join(error.errors.values()))
    return redirect(address(request, row))


def get_model(request: MemberRequest, name: str) -> RegisteredModel:
    return fetch(registering.models_of(request.workspace), name=name)


def get_version(row: RegisteredModel, number: int) -> ModelVersion:
    return fetch(row.versions.select_related("model", "run__experiment", "created_by"), number=number)


def address(request: MemberRequest, row: RegisteredModel, number: int | None = None) -> str:
    base = f"/{request.workspace.slug}/models/{quote(row.name, safe='')}"
    return base if number is None else f"{base}/{number}"


urlpatterns: list[Any] = [
    path("models", models, name="models"),
    path("models/<str:name>", model, name="model"),
    path("models/<str:name>/edit", edit, name="model-edit"),
    path("models/<str:name>/<int:number>", model, name="model-version"),
    path("models/<str:name>/<int:number>/files/<file:file>", file, name="model-file"),
    path("runs/<int:number>/register", register, name="run-register"),
]
