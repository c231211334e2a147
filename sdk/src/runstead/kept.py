"""Files that are kept with a run: sent, listed, fetched."""

from __future__ import annotations

import http.client
import os
import tempfile
import time
import warnings
from urllib.parse import quote

from .errors import RunsteadError, SnapshotException, UserError
from .files import plain_name
from .needed import file_path
from .places import apart, parts_of
from .transport import ApiError, Unreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any, Dict, List, Optional, Union

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


def fetch_model(workspace: Any, name: str, version: int, path: str, place: str) -> None:
    """Fetch a file of a registered model."""
    where = "models/%s/versions/%d/content" % (quote(name, safe=""), version)
    _fetch(workspace.transport, where, {"path": path}, place)


def _fetch(transport: Transport, path: str, query: Optional[Dict[str, Any]], place: str) -> None:
    """Write an answer to a file, which appears whole or not at all; after a cut it goes on where it was."""
    folder = os.path.dirname(os.path.abspath(place))
    try:
        os.makedirs(folder, exist_ok=True)
        handle, draft = tempfile.mkstemp(prefix=".runstead-", dir=folder)
    except OSError as error:
        raise UserError("The file %s cannot be written: %s." % (place, error.strerror)) from None
    try:
        with os.fdopen(handle, "wb") as file:
            _pieces(transport, path, query, file)
        os.chmod(draft, 0o666 & ~_umask())
        os.replace(draft, place)
    except OSError as error:
        raise RunsteadError("The file %s was not written: %s." % (place, error.strerror)) from None
    finally:
        if os.path.exists(draft):
            os.unlink(draft)


def _pieces(transport: Transport, path: str, query: Optional[Dict[str, Any]], file: IO[bytes]) -> None:
    tries, start, wanted, tag = 0, -1, -1, ""
    while True:
        have = file.tell()
        tries = tries + 1 if have == start else 1
        start = have
        try:
            headers = {"Range": "bytes=%d-" % have, "If-Range": tag} if have and tag else None
            answer, found = transport.stream(path, query, headers)
            if answer.status != 206:
                file.seek(0)
                file.truncate()
                have = 0
            tag = found.get("etag", "")
            if "content-length" in found:
                wanted = have + int(found["content-length"])
            while True:
                data = answer.read(1 << 20)
                if not data:
                    break
                _write(file, data)
        except (http.client.HTTPException, ConnectionError, TimeoutError, Unreachable):
            transport.close()
            if tries > 4:
                raise
            time.sleep(0.2 * tries)
            continue
        if wanted in (-1, file.tell()):
            return
        transport.close()
        if tries > 4:
            raise RunsteadError("The connection to the studio breaks off again and again. Try again.")


def _write(file: IO[bytes], data: bytes) -> None:
    try:
        file.write(data)
    except OSError as error:
        raise RunsteadError("The file was not written: %s." % error.strerror) from None


def _umask() -> int:
    old = os.umask(0)
    os.umask(old)
    return old
