"""The proxy of artifacts: files up, listed, down and away. They are ordinary artifacts of runs."""

from collections.abc import Iterator

from django.http import FileResponse, HttpResponseBase

from runs.artifacts import ArtifactRefused, below, keep
from runs.mlflow.fields import Call
from runs.mlflow.lookup import find_run
from runs.mlflow.models import find_model, run_for_files
from runs.mlflow.places import Place, check, listed, no_artifact, place_of
from runs.mlflow.problems import Problem
from runs.mlflow.shapes import Json, artifact_root
from runs.models import Artifact
from runs.views.files import guarded
from studio.blobs import BlobMissing, BlobStore
from studio.rest import CutShort, incoming

NO_MULTIPART = "Multipart upload is not supported for the current artifact repository: the studio takes a file of any size in one request."


def list_of_run(call: Call) -> Json:
    """Artifacts of a run, with paths from its root."""
    run = find_run(call.caller, call.run_id)
    path = call.text("path", "").rstrip("/")
    if path:
        check(path)
    return {"root_uri": artifact_root(call.run_id), "files": listed(Place(path, run))}


def list_of_model(call: Call) -> Json:
    model = find_model(call.caller, call.parts[0])
    path = call.text("artifact_directory_path", "").rstrip("/")
    if path:
        check(path)
    place = Place(path, model.run, model.folder, model)
    return {"root_uri": f"mlflow-artifacts:/models/{model.uid}/artifacts", "files": listed(place)}


def list_artifacts(call: Call) -> Json:
    """As the client's repository asks: the path is an address, and the answer holds bare names."""
    address = call.text("path", "")
    if not address.strip("/"):
        return {"files": []}
    files = listed(place_of(call.caller, address))
    return {"files": [{**item, "path": item["path"].rpartition("/")[2]} for item in files]}


def download(call: Call) -> HttpResponseBase:
    place = place_of(call.caller, call.parts[0])
    entry = place.file() if place.path else None
    if entry is None:
        raise no_artifact(call.parts[0])
    path, size, digest = entry
    if not digest:
        raise Problem("RESOURCE_DOES_NOT_EXIST", f"The content of {path!r} was not collected.")
    try:
        response = FileResponse(
            BlobStore(call.caller.workspace.pk).open(digest), content_type="application/octet-stream"
        )
    except BlobMissing:
        raise Problem("RESOURCE_DOES_NOT_EXIST", f"The content of {path!r} is no longer kept.") from None
    response.headers["Content-Length"] = str(size)
    return guarded(response, "attachment", path.rpartition("/")[2])


def upload(call: Call) -> Json:
    place = place_of(call.caller, call.parts[0], active=True)
    if place.version is not None:
        raise Problem("INVALID_PARAMETER_VALUE", "The files of a registered version do not change.")
    run = run_for_files(call.caller, place.model) if place.model is not None else place.run
    if run is None or not place.path:
        raise Problem("INVALID_PARAMETER_VALUE", f"{call.parts[0][:300]!r} names no file.")
    try:
        keep(run, place.full, body(call))
    except ArtifactRefused as error:
        raise Problem("REQUEST_LIMIT_EXCEEDED" if error.large else "INVALID_PARAMETER_VALUE", str(error)) from None
    return {}


def body(call: Call) -> Iterator[bytes]:
    """The bytes of a request as they come, and never fewer than it announced."""
    try:
        yield from incoming(call.request)
    except CutShort as error:
        raise Problem("BAD_REQUEST", f"{error} Send the file again.") from None


def delete(call: Call) -> Json:
    """Remove a file, or a folder with all it holds; what is not there is no error."""
    place = place_of(call.caller, call.parts[0], active=True)
    if place.version is not None:
        raise Problem("INVALID_PARAMETER_VALUE", "The files of a registered version do not change.")
    rows = Artifact.objects.filter(run=place.run) if place.run is not None else Artifact.objects.none()
    if place.full:
        rows.filter(path=place.full).delete()
        rows.filter(below(place.full)).delete()
    else:
        rows.delete()
    return {}


def no_multipart(call: Call) -> Json:
    raise Problem("NOT_IMPLEMENTED", NO_MULTIPART)
