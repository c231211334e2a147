"""What a script's run is asked about itself, read from its folder: files, logs, details."""

from __future__ import annotations

import datetime
import json
import os
import shutil

from . import files
from .errors import RunsteadError, UserError
from .inside import in_run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional


def file_names(run: Any) -> List[str]:
    """Names of all files that are kept so far, in order."""
    run_dir = run._writer.run_dir
    found = _below(files.kept_at(run_dir, run._key))
    if not run._key:
        found = [name for name in found if not name.startswith(files.CHILDREN + "/")]
        for folder in files.COLLECTED:
            found += ["%s/%s" % (folder, name) for name in _below(os.path.join(run_dir, "code", folder))]
    return sorted(set(found))


def _below(base: str) -> List[str]:
    found = []
    for folder, _, names in os.walk(base):
        for name in names:
            path = os.path.join(folder, name)
            if not (name.startswith(".") and name.endswith(".part")) and os.path.isfile(path):
                found.append(os.path.relpath(path, base).replace(os.sep, "/"))
    return found


def copy(run: Any, name: str, place: Optional[str]) -> None:
    """Copy a file of the run. Raises UserError when there is none of this name."""
    source = in_run(run, name)
    if not os.path.isfile(source):
        from .kept import _absent

        raise UserError("name: %s" % _absent(name, file_names(run)))
    target = os.path.basename(name) if place is None else os.fspath(place)
    if os.path.isdir(target) or target.endswith(("/", os.sep)):
        target = os.path.join(target, os.path.basename(name))
    files.store(source, os.path.abspath(target))


def copy_all(
    run: Any, prefix: Optional[str], folder: Optional[str], places: Optional[List[str]], append_prefix: bool
) -> None:
    """Copy all below a prefix. Raises UserError."""
    found = [name for name in file_names(run) if name.startswith(prefix or "")]
    if places is not None and len(places) != len(found):
        raise UserError("output_paths: %d are needed, one for each file, got %d." % (len(found), len(places)))
    base = os.fspath(folder) if folder is not None else "."
    for number, name in enumerate(found):
        inner = name
        if prefix and not append_prefix:
            inner = name[len(prefix) :].lstrip("/") or os.path.basename(name)
        copy(run, name, places[number] if places is not None else os.path.join(base, *inner.split("/")))


def details(run: Any) -> Dict[str, Any]:
    """By the names of the reference; times are ISO 8601."""
    facts = run._facts()
    began = run._began()
    found = {
        "runId": run.id,
        "target": facts.get("target"),
        "status": run.get_status(),
        "startTimeUtc": None if began is None else _iso(began),
        "warnings": [],
        "properties": {
            **({"ContentSnapshotId": facts["snapshot"]} if facts.get("snapshot") else {}),
            **run.get_properties(),
        },
        "runDefinition": facts.get("config") or {},
        "logFiles": {} if run._key else _logs(run),
        "submittedBy": facts.get("submitted_by"),
    }
    error = run._error()
    return {**found, "error": error} if error else found


def began(run_dir: str) -> Optional[float]:
    """Unix time at which the script was started."""
    try:
        with open(os.path.join(run_dir, "state.json"), "rb") as file:
            return float(json.loads(file.read().decode())["started_at"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _iso(unix: float) -> str:
    return datetime.datetime.fromtimestamp(unix, datetime.timezone.utc).isoformat()


def _logs(run: Any) -> Dict[str, str]:
    run_dir = run._writer.run_dir
    own = os.path.join(run_dir, "log")
    found = {"log": own} if os.path.isfile(own) else {}
    for name in _below(os.path.join(run_dir, "code", "logs")):
        found["logs/" + name] = os.path.join(run_dir, "code", "logs", *name.split("/"))
    return found


def details_with_logs(run: Any) -> Dict[str, Any]:
    found = details(run)
    texts = {}
    for name, path in found["logFiles"].items():
        with open(path, "rb") as file:
            texts[name] = file.read().decode("utf-8", "replace")
    return {**found, "logFiles": texts}


def save_logs(run: Any, destination: Any) -> List[str]:
    """Copy every log below a folder; the paths. Raises RunsteadError."""
    base = os.fspath(destination) if destination is not None else run.id
    paths = []
    for name, path in _logs(run).items():
        place = os.path.join(base, *name.split("/"))
        try:
            os.makedirs(os.path.dirname(place), exist_ok=True)
            shutil.copyfile(path, place)
        except OSError as error:
            raise RunsteadError("The log %s was not copied: %s." % (name, error)) from None
        paths.append(place)
    return paths
