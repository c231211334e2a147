"""Programs that the studio sends because builds want them: placed once, by content, used by several builds at once."""

import hashlib
import os
import re
import subprocess
import threading

from .layout import Layout, Refused, digest_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Set

_NAME = re.compile(r"([a-z][a-z0-9]{0,20})-[A-Za-z0-9][A-Za-z0-9.+-]{0,40}\Z")
_SECONDS = 20
_placing = threading.Lock()
_tried: "Set[str]" = set()


def place(layout: Layout, request: "Dict[str, Any]") -> "Dict[str, Any]":
    """{"path"} of the program `digest` as `tools/<name>/<program>`; name is program-version. Refused "blobs_missing" when its content is to be
    sent first, "unfit" when it does not start here."""
    name, digest = str(request.get("name")), digest_of(request.get("digest"))
    match = _NAME.match(name)
    if match is None:
        raise Refused("bad_request", "name: program-version is needed, got %r" % name)
    folder = os.path.join(layout.tools, "%s-%s" % (name, digest[:12]))
    path = os.path.join(folder, match.group(1))
    with _placing:
        if not os.path.isfile(path) or (path not in _tried and _digest(path) != digest):
            _put(layout.blob(digest), digest, folder, path)
        if path not in _tried:
            _try(path, match.group(1))
            _tried.add(path)  # once for each connection
    os.utime(folder)  # a cleaning keeps what was asked for
    return {"path": path}


def _put(blob: str, digest: str, folder: str, path: str) -> None:
    # Its own name for each agent: whoever renames last puts the same content there, under those that run it.
    draft = "%s.%d.new" % (path, os.getpid())
    os.makedirs(folder, 0o700, exist_ok=True)
    try:
        os.rename(blob, draft)
    except OSError:
        raise Refused("blobs_missing", "tool: the content %s is not here" % digest, permanent=False)
    try:
        if _digest(draft) != digest:
            raise Refused("blobs_missing", "tool: the content of %s was damaged here" % digest, permanent=False)
        os.chmod(draft, 0o500)
        os.rename(draft, path)
    finally:
        if os.path.exists(draft):
            os.unlink(draft)


def _digest(path: str) -> str:
    found = hashlib.sha256()
    with open(path, "rb") as file:
        for piece in iter(lambda: file.read(1 << 20), b""):
            found.update(piece)
    return found.hexdigest()


def _try(path: str, program: str) -> None:
    try:
        subprocess.check_output(
            [path, "--version"], stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT, cwd="/", timeout=_SECONDS
        )
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "output", None) or b""
        text = said.decode("utf-8", "replace").strip()[-200:] or str(error)
        raise Refused("unfit", "%s does not start on this machine: %s" % (program, text))
