"""What the studio is asked about environments. A reference is `name`, `name:version` or `name@label`."""

from __future__ import annotations

import uuid
from urllib.parse import quote

from .errors import UserError
from .needed import workspace_of
from .transport import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Mapping, Optional, Tuple

    from .client import Workspace

ENDED = ("Ready", "Failed")


def listed(workspace: Workspace) -> List[Dict[str, Any]]:
    """The newest version of every environment that the workspace can use."""
    return workspace_of(workspace).transport.rows("environments", "environments")  # type: ignore[no-any-return]


def fetch(workspace: Workspace, reference: str) -> Dict[str, Any]:
    """The version that a reference names. Raises UserError when there is none."""
    try:
        return dict(_ask(workspace, "GET", _path(reference)))
    except ApiError as error:
        if error.status != 404:
            raise
        raise UserError(_absent(workspace, reference)) from None


def register(workspace: Workspace, name: str, definition: Mapping[str, Any]) -> Dict[str, Any]:
    """Keep a definition: the version that has it."""
    return dict(_ask(workspace, "POST", "", {"name": name, "definition": definition}))


def register_text(workspace: Workspace, name: str, kind: str, text: str) -> Dict[str, Any]:
    """Keep what a file says, read by the studio: `kind` is conda, requirements, dockerfile or definition."""
    return dict(_ask(workspace, "POST", "", {"name": name, "format": kind, "text": text}))


def refresh(workspace: Workspace, reference: str) -> Dict[str, Any]:
    """A new version of the same definition, resolved anew."""
    # The key makes a repeated request answer with the version of the first.
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    return dict(_ask(workspace, "POST", _path(reference) + "/refresh", headers=headers))


def set_label(workspace: Workspace, reference: str, label: str) -> Dict[str, Any]:
    return dict(_ask(workspace, "PUT", "%s/labels/%s" % (_path(reference), quote(label, safe=""))))


def compare(workspace: Workspace, reference: str, other: str) -> Dict[str, Any]:
    """What differs, from the first to the second."""
    return dict(_ask(workspace, "GET", _path(reference) + "/compare", query={"with": other}))


def build(workspace: Workspace, reference: str, target: str) -> Dict[str, Any]:
    """Have it built on a target: the build."""
    return dict(_ask(workspace, "POST", _path(reference) + "/builds", {"target": target}))


def builds(workspace: Workspace, reference: str) -> List[Dict[str, Any]]:
    path = "environments" + _path(reference) + "/builds"
    return workspace_of(workspace).transport.rows(path, "builds")  # type: ignore[no-any-return]


def build_on(workspace: Workspace, reference: str, target: str) -> Dict[str, Any]:
    return dict(_ask(workspace, "GET", "%s/builds/%s" % (_path(reference), quote(target, safe=""))))


def build_log(
    workspace: Workspace, reference: str, target: str, offset: int = 0, attempt: str = ""
) -> Tuple[bytes, int, str]:
    """(bytes of a build's log, where they end, of which attempt): those from an offset on, as far as they are written. Of another
    attempt than the one that is given, all."""
    path = "environments%s/builds/%s/log" % (_path(reference), quote(target, safe=""))
    data = b""
    while True:
        answer = workspace.transport.request("GET", path, query={"offset": offset})
        found = answer.headers.get("runstead-build-attempt", "")
        if attempt not in ("", found) and offset:
            offset, attempt, data = 0, found, b""
            continue
        attempt = found
        data += answer.data
        offset += len(answer.data)
        if not answer.data or offset >= int(answer.headers.get("runstead-log-size", "0")):
            return data, offset, attempt


def keep_password(workspace: Workspace, name: str, password: str) -> None:
    """Keep it as a secret of the workspace. Raises UserError for those who may not."""
    try:
        workspace_of(workspace).transport.request("PUT", "secrets/" + quote(name, safe=""), {"value": password})
    except ApiError as error:
        if error.status != 403:
            raise
        raise UserError(
            "docker.base_image_registry.password: only an owner of the workspace may store it. Have it stored as a secret, and "
            "name that: docker.base_image_registry.secret = %r." % name
        ) from None


def _ask(
    workspace: Workspace,
    method: str,
    path: str,
    body: Any = None,
    query: Optional[Mapping[str, Any]] = None,
    headers: Optional[Mapping[str, str]] = None,
) -> Any:
    return workspace_of(workspace).transport.request(method, "environments" + path, body, query, headers).json()


def _path(reference: str) -> str:
    return "/" + quote(reference, safe=":@")


def _absent(workspace: Workspace, reference: str) -> str:
    rows = listed(workspace)
    name = reference.partition("@")[0].partition(":")[0]
    row = next((row for row in rows if row["name"].lower() == name.lower()), None)
    if row is None:
        return "name: there is no environment %r. There are: %s." % (name, ", ".join(row["name"] for row in rows))
    if "@" in reference:
        return "label: %s has no label %s." % (name, reference.partition("@")[2])
    numbers = ", ".join(str(number) for number in row["versions"])
    return "version: %s has no version %s. There are: %s." % (name, reference.partition(":")[2], numbers)
