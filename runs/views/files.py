"""Files of runs and snapshots: as a tree with a preview, one by one, and as a zip.

A path in an address is looked up among the rows; nothing is ever resolved against a disk. Contents go out as downloads; only
pictures, recognised by their first bytes, are shown in place, in a sandbox of their own.
"""

from collections.abc import Callable, Iterator
from urllib.parse import quote

from django.http import FileResponse, Http404, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import render
from django.urls import path, register_converter
from django.urls.converters import PathConverter
from django.views.decorators.http import require_safe

from runs import snapshots
from runs.browse import Leaf, artifact_leaves, preview, shown_type, tree
from runs.diffing import MAX_FILES, Change, changes, look_into
from runs.models import RegisteredModel, Run
from runs.views.detail import get_run, same_code
from runs.zipstream import zipped
from studio.blobs import BlobMissing, BlobStore
from studio.workspaces.access import MemberRequest, member
from studio.workspaces.models import Role


class FilePath(PathConverter):
    """A path as it is, also with a line break in a name: what a script wrote can be fetched."""

    regex = "(?s:.+)"


register_converter(FilePath, "file")
SANDBOX = "default-src 'none'; sandbox"
Reader = Callable[[Run], list[Leaf]]


def output_leaves(run: Run) -> list[Leaf]:
    return artifact_leaves(run.artifacts.all())


def snapshot_leaves(run: Run) -> list[Leaf]:
    """The files of the run's snapshot; none when its manifest is no longer kept."""
    if run.snapshot is None:
        return []
    try:
        return [Leaf(entry.path, entry.size, entry.digest, mode=entry.mode) for entry in snapshots.files(run.snapshot)]
    except BlobMissing:
        return []


READERS: dict[str, Reader] = {"outputs": output_leaves, "snapshot": snapshot_leaves}


@require_safe
@member(Role.READER)
def outputs(request: MemberRequest, number: int, file: str = "") -> HttpResponseBase:
    return browse(request, number, "outputs", file)


@require_safe
@member(Role.READER)
def snapshot(request: MemberRequest, number: int, file: str = "") -> HttpResponseBase:
    return compared(request, number) if "diff" in request.GET else browse(request, number, "snapshot", file)


def compared(request: MemberRequest, number: int) -> HttpResponseBase:
    """``?diff=<number>``: what of the code differs from that of another run. An unknown number says so, and loses nothing."""
    run = get_run(request, number)
    typed = request.GET["diff"].strip().lstrip("#")
    rows = Run.objects.filter(workspace=request.workspace).select_related("snapshot")
    other = rows.filter(number=int(typed)).first() if typed.isdecimal() and len(typed) < 16 else None
    found: list[Change] = []
    if other is not None:
        found = changes(snapshot_leaves(other), snapshot_leaves(run))
        store = BlobStore(run.workspace_id)
        for change in found[:MAX_FILES]:
            look_into(store, change)
    context = {
        "section": "runs",
        "run": run,
        "other": other,
        "typed": typed,
        "count": len(found),
        "changes": found[:MAX_FILES],
        "more": found[MAX_FILES:],
        "suggested": suggested(run),
    }
    return render(request, "runs/snapshot_diff.html", context)


def suggested(run: Run) -> int | str:
    """The number of the run with which a person most likely wants to compare: the one it was copied from, else the one before."""
    if run.copied_from is not None:
        return run.copied_from.number
    earlier = Run.objects.filter(experiment=run.experiment, number__lt=run.number, snapshot__isnull=False)
    return earlier.order_by("-number").values_list("number", flat=True).first() or ""


def browse(request: MemberRequest, number: int, kind: str, file: str) -> HttpResponseBase:
    """The tree, and the file (or folder) that the address names; 404 for a path that is not in it."""
    run = get_run(request, number)
    leaves = READERS[kind](run)
    store = BlobStore(run.workspace_id)
    leaf = next((leaf for leaf in leaves if leaf.path == file), None)
    if file and leaf is None and not any(each.path.startswith(file + "/") for each in leaves):
        raise Http404("No such file.")
    shown = leaf or (entry(leaves, run) if not file else None)
    look = None
    if shown is not None:
        try:
            look = preview(store, shown)
        except BlobMissing:
            shown, look = Leaf(shown.path, shown.size, "", "Its content is no longer kept."), None
    context = {
        "section": "runs",
        "run": run,
        "kind": kind,
        "rows": tree(leaves, file or (shown.path if shown else "")),
        "selected": shown.path if shown else file,
        "leaf": shown,
        "look": look,
        "count": len(leaves),
        "size": sum(leaf.size for leaf in leaves),
        "same": same_code(run) if kind == "snapshot" and run.snapshot else None,
        "suggested": suggested(run) if kind == "snapshot" else None,
        "model_names": model_names(run) if kind == "outputs" else (),
    }
    return render(request, f"runs/{kind}.html", context)


def model_names(run: Run) -> list[str]:
    """Names under which this experiment's files were registered, the newest first: what a person most likely wants again."""
    rows = RegisteredModel.objects.filter(workspace=run.workspace, versions__run__experiment=run.experiment)
    return list(rows.order_by("-updated_at").values_list("name", flat=True).distinct()[:10])


def entry(leaves: list[Leaf], run: Run) -> Leaf | None:
    """What a tree opens with: the script of a snapshot, else its first file with a content."""
    script = (run.config or {}).get("script")
    by_name = {leaf.path: leaf for leaf in leaves}
    if script in by_name:
        return by_name[script]
    return next((leaf for leaf in leaves if leaf.digest), None)


@require_safe
@member(Role.READER)
def raw(request: MemberRequest, number: int, kind: str, file: str) -> HttpResponseBase:
    """One file's bytes: a download, or with ``?show=1`` a picture inside its own sandbox."""
    run = get_run(request, number)
    leaf = find(run, kind, file)
    store = BlobStore(run.workspace_id)
    shown = shown_type(store, leaf) if request.GET.get("show") else None
    try:
        response = FileResponse(store.open(leaf.digest), content_type=shown or "application/octet-stream")
    except BlobMissing:
        raise Http404("Its content is no longer kept.") from None
    response.headers["Content-Length"] = str(leaf.size)
    return guarded(response, "inline" if shown else "attachment", leaf.path.rsplit("/", 1)[-1])


def find(run: Run, kind: str, file: str) -> Leaf:
    """The file of this exact path with a content, or 404."""
    if kind == "outputs":
        row = run.artifacts.filter(path=file).exclude(digest="").first()
        if row is not None:
            return Leaf(row.path, row.size, row.digest)
    elif run.snapshot is not None:
        try:
            found = snapshots.file_entry(run.snapshot, file)
            return Leaf(found.path, found.size, found.digest)
        except (KeyError, BlobMissing):
            pass
    raise Http404("No such file.")


def guarded(response: HttpResponseBase, disposition: str, name: str) -> HttpResponseBase:
    """Headers under which a user's bytes leave: never as a page of the studio, never sniffed."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "._- ") else "_" for c in name) or "file"
    response.headers["Content-Disposition"] = (
        f"{disposition}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
    )
    response.headers["Content-Security-Policy"] = SANDBOX
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    response.headers["Cache-Control"] = "private, no-cache"
    return response


@require_safe
@member(Role.READER)
def archive(request: MemberRequest, number: int, kind: str) -> HttpResponseBase:
    """All files of one kind as a zip, made while it is sent."""
    run = get_run(request, number)
    leaves = READERS[kind](run)
    if not leaves:
        raise Http404("There are no files.")
    store = BlobStore(run.workspace_id)
    body: Iterator[bytes] = zipped(store, leaves) if request.method == "GET" else iter(())
    response = StreamingHttpResponse(body, content_type="application/zip")
    return guarded(response, "attachment", f"{run.experiment.name}-{run.number}-{kind}.zip")


urlpatterns = [
    path("runs/<int:number>/outputs", outputs, name="run-outputs"),
    path("runs/<int:number>/outputs.zip", archive, {"kind": "outputs"}, name="run-outputs-zip"),
    path("runs/<int:number>/outputs/<file:file>", outputs, name="run-output"),
    path("runs/<int:number>/snapshot", snapshot, name="run-snapshot"),
    path("runs/<int:number>/snapshot.zip", archive, {"kind": "snapshot"}, name="run-snapshot-zip"),
    path("runs/<int:number>/snapshot/<file:file>", snapshot, name="run-snapshot-file"),
    path("runs/<int:number>/raw/outputs/<file:file>", raw, {"kind": "outputs"}, name="run-output-raw"),
    path("runs/<int:number>/raw/snapshot/<file:file>", raw, {"kind": "snapshot"}, name="run-snapshot-raw"),
]
