"""Files that are kept with a run: sent, listed, fetched."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from urllib.parse import quote

from .errors import SnapshotException, UserError
from .fetching import fetch, writing
from .files import plain_name
from .needed import file_path
from .places import apart, parts_of
from .transport import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any, Dict, Iterable, List, Mapping, Optional, Union

    from .transport import Transport

PIECE = 8 * 1024 * 1024
"""Bytes that are asked for at once."""


def upload(run: Any, name: str, source: Union[str, os.PathLike[str], IO[bytes]]) -> None:
    """Keep a file, or what a stream gives, as an artifact. Raises UserError."""
    name = plain_name(name)
    with tempfile.TemporaryFile() if hasattr(source, "read") else _opened(source) as file:  # type: ignore[arg-type]
        if hasattr(source, "read"):
            while True:
                piece = source.read(PIECE)
                if not piece:
                    break
                file.write(piece.encode() if isinstance(piece, str) else piece)
        run.workspace.transport.request("PUT", "runs/%d/artifacts/content" % run.number, file, query={"path": name})


def _opened(path: Union[str, os.PathLike[str]]) -> IO[bytes]:
    place = file_path("path_or_stream", path, "a path or an open file")
    try:
        return open(place, "rb")
    except OSError as error:
        raise UserError(
            "path: %s cannot be read: %s. The working directory is %s." % (path, error.strerror, os.getcwd())
        ) from None


def listed(run: Any, prefix: str = "") -> List[Dict[str, Any]]:
    """The run's artifacts, by path."""
    query = {"prefix": prefix} if prefix else {}
    rows: List[Dict[str, Any]] = []
    while True:
        page = run._ask("GET", "/artifacts", query=query)
        rows += page["artifacts"]
        if page["next"] is None:
            return rows
        query = {**query, "after": page["next"]}


def names(run: Any) -> List[str]:
    return [str(row["path"]) for row in listed(run)]


def download(run: Any, name: str, place: Optional[str]) -> None:
    """Fetch one. Raises UserError when there is none of this name."""
    path = os.path.basename(name) if place is None else os.fspath(place)
    if os.path.isdir(path) or path.endswith(("/", os.sep)):
        path = os.path.join(path, os.path.basename(name))
    try:
        _fetch(run.workspace.transport, "runs/%d/artifacts/content" % run.number, {"path": name}, path)
    except ApiError as error:
        if error.status != 404:
            raise
        raise UserError("name: %s" % _absent(name, names(run))) from None


def _absent(name: str, there: List[str]) -> str:
    import difflib

    close = difflib.get_close_matches(name, there, n=1, cutoff=0.5)
    hint = " Did you mean %s?" % close[0] if close else " get_file_names() lists them."
    return "the run has no artifact %r.%s" % (name, hint)


def download_all(
    run: Any,
    prefix: Optional[str],
    folder: Optional[str],
    places: Optional[List[str]],
    append_prefix: bool,
) -> None:
    """Fetch all below a prefix. Raises UserError."""
    rows = listed(run, prefix or "")
    for row in rows:
        if not row["digest"]:
            warnings.warn("%s was not kept, so it is not fetched: %s" % (row["path"], row["skipped"]), stacklevel=4)
    found = [str(row["path"]) for row in rows if row["digest"]]
    if places is not None and len(places) != len(found):
        raise UserError("output_paths: %d are needed, one for each file, got %d." % (len(found), len(places)))
    base = os.fspath(folder) if folder is not None else "."
    if places is None:
        apart(found)
    for number, name in enumerate(found):
        # Names come from the run's script; the studio lets only plain relative ones in, and here they are looked at again.
        inner = plain_name(name)
        if prefix and not append_prefix:
            inner = inner[len(prefix) :].lstrip("/") or os.path.basename(inner)
        place = places[number] if places is not None else os.path.join(base, *parts_of(inner))
        download(run, name, place)


def snapshot(run: Any, place: str) -> str:
    """Fetch the run's snapshot as a zip."""
    try:
        _fetch(run.workspace.transport, "runs/%d/snapshot/zip" % run.number, None, place)
    except ApiError as error:
        raise SnapshotException(str(error)) from None
    return place


def fetch_model(workspace: Any, name: str, version: int, files: Mapping[str, Mapping[str, Any]], place: str) -> None:
    """Fetch a registered model to `place`, which appears whole or not at all. `files`: the studio's rows by their path below `place`;
    the path of a model that is one file is empty. In a folder that is there, files of these names are replaced. Raises UserError.
    """
    where = "models/%s/versions/%d/content" % (quote(name, safe=""), version)
    folder = os.path.dirname(os.path.abspath(place))
    try:
        os.makedirs(folder, exist_ok=True)
        draft = tempfile.mkdtemp(prefix=".runstead-", dir=folder)
    except OSError as error:
        raise UserError("The file %s cannot be written: %s." % (place, error.strerror)) from None
    new = os.path.join(draft, "model")
    try:
        with writing(place):
            for inner, row in files.items():
                target = _below(new, inner)
                os.makedirs(os.path.dirname(target), exist_ok=True)
                with open(target, "w+b") as file:
                    fetch(workspace.transport, where, {"path": row["path"]}, file, row["path"], row["digest"])
            _placed(new, place, files)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _placed(new: str, place: str, files: Iterable[str]) -> None:
    if os.path.isdir(new):
        try:
            os.rename(new, place)
        except OSError:  # there is a folder, perhaps of another process that was faster
            for inner in files:
                target = _below(place, inner)
                os.makedirs(os.path.dirname(target), exist_ok=True)
                os.replace(_below(new, inner), target)
    else:
        os.replace(new, place)


def has_model(files: Mapping[str, Mapping[str, Any]], place: str) -> bool:
    """Whether all these files are there, by their sizes."""
    for inner, row in files.items():
        target = _below(place, inner)
        if not os.path.isfile(target) or os.path.getsize(target) != row["size"]:
            return False
    return True


def _below(place: str, inner: str) -> str:
    return os.path.join(place, *inner.split("/")) if inner else place


def _fetch(transport: Transport, path: str, query: Optional[Dict[str, Any]], place: str) -> None:
    """Write an answer to a file, which appears whole or not at all."""
    folder = os.path.dirname(os.path.abspath(place))
    try:
        os.makedirs(folder, exist_ok=True)
        handle, draft = tempfile.mkstemp(prefix=".runstead-", dir=folder)
    except OSError as error:
        raise UserError("The file %s cannot be written: %s." % (place, error.strerror)) from None
    try:
        with writing(place):
            with os.fdopen(handle, "w+b") as file:
                fetch(transport, path, query, file, query["path"] if query else os.path.basename(place))
            os.chmod(draft, 0o666 & ~_umask())
            os.replace(draft, place)
    finally:
        if os.path.exists(draft):
            os.unlink(draft)


def _umask() -> int:
    old = os.umask(0)
    os.umask(old)
    return old
