"""A submit, from the folder to the run: what is in the folder, what git says of it, what the studio lacks, the run."""

from __future__ import annotations

import difflib
import os
from concurrent.futures import ThreadPoolExecutor

from . import git
from .errors import UserError
from .folder import Folder
from .pending import Pending
from .transport import ApiError
from .upload import upload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional

    from .folder import Told
    from .transport import Transport

MANY_FILES = 20_000
MANY_BYTES = 1 << 30
"""Above either, the studio's limits are asked before anything is read."""


def submit(
    transport: Transport,
    source: str,
    body: Dict[str, Any],
    told: Optional[Told] = None,
    made: Optional[Callable[[Dict[str, Any]], None]] = None,
) -> Dict[str, Any]:
    """Send the folder `source` and start the run that `body` describes; returns the run as the API shows it. `told`: how far it is; `made`: is
    given the run first.

    May be repeated after an interruption at any moment: what has arrived is not sent again, and the same run is answered.
    Raises UserError and RunsteadError.
    """
    # git looks at the same files meanwhile, and waits for the disk as we do.
    with ThreadPoolExecutor(1) as pool:
        facts = pool.submit(git.facts, source)
        folder = Folder(source, lambda found: within_limits(transport, found), told)
        folder.check()
        script = body.get("script")
        if script is not None and script not in {entry[0] for entry in folder.files}:
            raise UserError("script: %s" % absent(script, folder))
        snapshot = upload(transport, folder, told)
        body = {**body, "snapshot": snapshot, "git": facts.result()}
    with Pending(transport.place, body) as pending:
        answer = transport.request("POST", "runs", body, headers={"Idempotency-Key": pending.key})
        run: Dict[str, Any] = answer.json()
        if made is not None:
            made(run)  # before the key is given up: who was killed before this does not know the run yet
    return run


def within_limits(transport: Transport, folder: Folder) -> None:
    """Refuse a folder that the studio will not take before it is read for many minutes. Raises UserError."""
    count, size = folder.found
    if count <= MANY_FILES and size <= MANY_BYTES:
        return
    try:
        limits = transport.request("GET", "snapshots/limits").json()
    except ApiError as error:
        if error.status == 404:
            return  # an older studio, which says so later
        raise
    if count > limits["files"]:
        rule, largest = "%s files; the limit is %s" % (grouped(count), grouped(limits["files"])), folder.largest(False)
        setting = "RUNSTEAD_SNAPSHOT_MAX_FILES"
        listed = ["%s (%s files)" % (name, grouped(number)) for name, number in largest]
    elif size > limits["bytes"]:
        rule, largest = "%s; the limit is %s" % (readable(size), readable(limits["bytes"])), folder.largest(True)
        setting = "RUNSTEAD_SNAPSHOT_MAX_BYTES"
        listed = ["%s (%s)" % (name, readable(number)) for name, number in largest]
    else:
        return
    raise UserError(
        "source_directory: %s has %s. The largest are %s: list what the script does not need in .runignore, or ask an administrator "
        "to raise %s." % (folder.path, rule, ", ".join(listed), setting)
    )


def grouped(number: int) -> str:
    return "{:,}".format(number)


def readable(size: float) -> str:
    """Bytes for people: `12 MB`."""
    units: List[str] = ["bytes", "KB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size /= 1000
        del units[0]
    return "%.0f %s" % (size, units[0]) if units[0] == "bytes" or size >= 10 else "%.1f %s" % (size, units[0])


def absent(script: str, folder: Folder) -> str:
    """Why a script is not among the files, and which one may be meant."""
    for path, why in folder.skipped:
        if script == path or (path.endswith("/") and script.startswith(path)):
            return "%s is left out of the snapshot: %s is %s." % (script, path, why)
    close = difflib.get_close_matches(script, [entry[0] for entry in folder.files], n=1, cutoff=0.5)
    hint = " Did you mean %s?" % close[0] if close else ""
    return "%s is not in %s.%s" % (script, os.path.abspath(folder.path), hint)
