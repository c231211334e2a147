"""`get_details()` and logs as files."""

from __future__ import annotations

import os
from urllib.parse import quote

from .fetching import writing
from .following import failure
from .places import parts_of
from .status import FINAL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List


def details(run: Any) -> Dict[str, Any]:
    """By the names of the reference; times are ISO 8601."""
    data = run._fresh()
    found = {
        "runId": data["id"],
        "target": data["target"] or data["pool"],
        "status": data["status"],
        "startTimeUtc": data["started_at"],
        "warnings": [],
        "properties": _properties(data),
        "runDefinition": data["config"],
        "logFiles": {row["name"]: _address(run, row["name"]) for row in _logs(run)},
        "submittedBy": data["created_by"],
    }
    if data["status"] in FINAL:
        found["endTimeUtc"] = data["ended_at"]
    if data["error"]:
        found["error"] = {"code": data["error"].get("type") or data["reason"], **data["error"]}
    elif data["status"] == "Failed":
        found["error"] = {"code": data["reason"], "message": failure(data)}
    return found


def _properties(data: Dict[str, Any]) -> Dict[str, Any]:
    snapshot = {"ContentSnapshotId": data["snapshot"]} if data["snapshot"] else {}
    return {**snapshot, **data["properties"]}


def with_logs(run: Any) -> Dict[str, Any]:
    """`details`, with each log's text in place of its address."""
    found = details(run)
    found["logFiles"] = {name: _read(run, name).decode("utf-8", "replace") for name in found["logFiles"]}
    return found


def save_logs(run: Any, destination: Any) -> List[str]:
    """Write every log below a folder; the paths."""
    base = os.fspath(destination) if destination is not None else run.id
    paths = []
    for row in _logs(run):
        place = os.path.join(base, *parts_of(row["name"]))
        data = _read(run, row["name"])
        with writing(place):
            os.makedirs(os.path.dirname(place), exist_ok=True)
            with open(place, "wb") as file:
                file.write(data)
        paths.append(place)
    return paths


def _logs(run: Any) -> List[Dict[str, Any]]:
    return list(run.workspace.transport.rows("runs/%d/logs" % run.number, "logs"))


def _address(run: Any, name: str) -> str:
    transport = run.workspace.transport
    return "%s/api/v1/%s/runs/%d/log?name=%s" % (transport.url, transport.workspace, run.number, quote(name, safe=""))


def _read(run: Any, name: str) -> bytes:
    parts: List[bytes] = []
    offset = 0
    while True:
        query = {"name": name, "offset": offset}
        data = run.workspace.transport.request("GET", "runs/%d/log" % run.number, query=query).data
        if not data:
            return b"".join(parts)
        parts.append(data)
        offset += len(data)
