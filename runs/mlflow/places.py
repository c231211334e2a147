"""Where artifacts are that a client names: ``<run>/artifacts/…``, ``models/<id>/artifacts/…``, ``versions/<number>/artifacts/…``.

These are addresses of rows. None is ever resolved against a disk or a network.
"""

from dataclasses import dataclass

from runs.artifacts import ArtifactRefused, below, check_path
from runs.mlflow.auth import Caller
from runs.mlflow.lookup import find_run, is_key
from runs.mlflow.models import find_model
from runs.mlflow.problems import Problem
from runs.mlflow.shapes import Json
from runs.models import Artifact, LoggedModel, ModelVersion, Run

Entry = tuple[str, int, str]
"""(path, bytes, digest), as a place lists it; a digest of "" was not kept."""


@dataclass(frozen=True)
class Place:
    """A folder of artifacts, and a path in it."""

    path: str
    run: Run | None = None
    folder: str = ""
    """The folder of the run in which the path lies; empty: all of it."""
    model: LoggedModel | None = None
    version: ModelVersion | None = None

    @property
    def full(self) -> str:
        return "/".join(part for part in (self.folder, self.path) if part)

    def below(self, path: str) -> list[Entry]:
        """All files below a folder of the place; paths as the place has them."""
        if self.version is not None:
            return [
                (name, size, digest)
                for name, size, digest in self.version.files
                if not path or name.startswith(path + "/")
            ]
        if self.run is None:
            return []
        start = "/".join(part for part in (self.folder, path) if part)
        rows = Artifact.objects.filter(run=self.run)
        rows = rows.filter(below(start)) if start else rows
        skip = len(self.folder) + 1 if self.folder else 0
        return [(name[skip:], size, digest) for name, size, digest in rows.values_list("path", "size", "digest")]

    def file(self) -> Entry | None:
        if self.version is not None:
            return next((entry for entry in self.below("") if entry[0] == self.path), None)
        row = Artifact.objects.filter(run=self.run, path=self.full).first() if self.run is not None else None
        return (self.path, row.size, row.digest) if row is not None else None


def place_of(caller: Caller, address: str, *, active: bool = False) -> Place:
    """The place of an address below the proxy. Raises Problem for a path that breaks a rule, and for what is not there."""
    address = address.rstrip("/")
    check(address)
    first, _, rest = address.partition("/")
    if first in {"models", "versions"}:
        key, _, rest = rest.partition("/")
    word, _, path = rest.partition("/")
    if word != "artifacts":
        raise no_artifact(address)
    if first == "models":
        model = find_model(caller, key)
        return Place(path, model.run, model.folder, model)
    if first == "versions":
        row = (
            ModelVersion.objects.filter(model__workspace=caller.workspace, pk=int(key)).first() if is_key(key) else None
        )
        if row is None:
            raise no_artifact(address)
        return Place(path, version=row)
    return Place(path, find_run(caller, first, active=active))


def check(path: str) -> None:
    """Raises Problem unless it is a plain relative path."""
    try:
        check_path(path)
    except ArtifactRefused as error:
        raise Problem("INVALID_PARAMETER_VALUE", f"Invalid path: {error}") from None


def no_artifact(path: str) -> Problem:
    return Problem("RESOURCE_DOES_NOT_EXIST", f"There is no artifact {path[:300]!r}.")


def listed(place: Place) -> list[Json]:
    """What is directly in a folder: ``{"path", "is_dir", "file_size"}``, paths as the place has them.

    Of a run without the folders of its logged models: clients ask for these by themselves, and would have them twice.
    """
    folder = place.path
    hidden = model_folders(place.run) if place.run is not None and place.model is None else frozenset()
    if folder.partition("/")[0] in hidden:
        return []
    skip = len(folder) + 1 if folder else 0
    found: dict[str, Json] = {}
    for path, size, _ in place.below(folder):
        name, slash, _ = path[skip:].partition("/")
        if slash and (folder or name not in hidden):
            found.setdefault(name, {"path": path[: skip + len(name)], "is_dir": True})
        elif not slash:
            found[name] = {"path": path, "is_dir": False, "file_size": size}
    return [found[name] for name in sorted(found)]


def model_folders(run: Run) -> frozenset[str]:
    return frozenset(
        LoggedModel.objects.filter(run=run, own_run=False, deleted_at=None).values_list("folder", flat=True)
    )
