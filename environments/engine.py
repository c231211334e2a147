"""A container engine on a target, asked through the agent: the same connection and credentials, whatever the transport.

No command line and no library is needed there. Every method raises what ``Host`` raises; a refusal of the engine is a HostError
with the engine's own words.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from environments.host import Host, HostError

SOCKET = "/var/run/docker.sock"
BASE_IMAGE = "python:{python}-slim"
_SLOW = 180.0
_NOT_MODIFIED = 304


def socket_of(options: Mapping[str, Any]) -> str:
    """Path of the engine's socket on a target with these options."""
    return str((options.get("docker") or {}).get("socket") or SOCKET)


def base_image(options: Mapping[str, Any], python: str) -> str:
    """Name of the image from which a target makes environments for this version of Python; empty: any Python 3."""
    name = str((options.get("docker") or {}).get("base_image") or BASE_IMAGE)
    return name.replace("{python}", python or "3")


class Engine:
    """The engine of one open connection."""

    def __init__(self, host: Host, options: Mapping[str, Any]) -> None:
        self.host = host
        self.socket = socket_of(options)

    def call(
        self,
        method: str,
        path: str,
        value: object = None,
        query: Mapping[str, Any] | None = None,
        timeout: float = 60,
    ) -> Any:
        """Ask and wait for the answer's JSON. Raises HostError: "not_found", "conflict", "engine_refused" (all three permanent),
        "engine_failed", or what ``Host.engine`` raises."""
        target = f"{path}?{urlencode(query)}" if query else path
        body = json.dumps(value).encode() if value is not None else b""
        status, data = self.host.engine(self.socket, method, target, body, timeout)
        if status < 300 or status == _NOT_MODIFIED:
            return json.loads(data) if data.strip() else None
        message = _message(data) or f"it answered {status} to {method} {path}"
        code = {404: "not_found", 409: "conflict"}.get(status, "engine_refused" if status < 500 else "engine_failed")
        raise HostError(code, message, permanent=status < 500)

    # -- what it is

    def version(self) -> dict[str, Any]:
        """Version, ApiVersion, Os, Arch, ..."""
        return dict(self.call("GET", "/version"))

    def info(self) -> dict[str, Any]:
        """NCPU, MemTotal, Driver, SecurityOptions, LiveRestoreEnabled, ..."""
        return dict(self.call("GET", "/info"))

    # -- images

    def image(self, name: str) -> dict[str, Any] | None:
        """Id, Size, Config of an image that is there; None when it is not. It is never looked up elsewhere."""
        try:
            return dict(self.call("GET", f"/images/{quote(name, safe=':@/')}/json"))
        except HostError as error:
            if error.code == "not_found":
                return None
            raise

    def images(self) -> set[str]:
        """Ids of all that are there."""
        return {str(item["Id"]) for item in self.call("GET", "/images/json", query={"all": "true"})}

    def remove_image(self, name: str) -> None:
        """Remove an image that no container uses; one that is not there is no error."""
        try:
            self.call("DELETE", f"/images/{quote(name, safe=':@/')}", timeout=_SLOW)
        except HostError as error:
            if error.code != "not_found":
                raise

    # -- containers

    def create(self, name: str, config: Mapping[str, Any]) -> None:
        """Make a container. HostError "conflict" when there is one of this name."""
        self.call("POST", "/containers/create", dict(config), {"name": name}, timeout=_SLOW)

    def start(self, name: str) -> None:
        """Start it; one that runs already is no error."""
        self.call("POST", f"/containers/{name}/start", timeout=_SLOW)

    def container(self, name: str) -> dict[str, Any] | None:
        """State, Config, HostConfig of a container; None when there is none of this name."""
        try:
            return dict(self.call("GET", f"/containers/{name}/json"))
        except HostError as error:
            if error.code == "not_found":
                return None
            raise

    def containers(self, labels: Sequence[str]) -> list[dict[str, Any]]:
        """Id, Labels, State of all that have these labels (``name`` or ``name=value``), running or not."""
        query = {"all": "true", "filters": json.dumps({"label": list(labels)})}
        return list(self.call("GET", "/containers/json", query=query))

    def remove(self, name: str) -> None:
        """End and remove a container; one that is not there, or being removed, is no error."""
        try:
            self.call("DELETE", f"/containers/{name}", query={"force": "true", "v": "true"}, timeout=_SLOW)
        except HostError as error:
            if error.code not in {"not_found", "conflict"}:
                raise

    def said(self, name: str, lines: int = 20) -> str:
        """The last that a container's main process wrote to stdout and stderr."""
        path = f"/containers/{name}/logs?{urlencode({'stdout': 1, 'stderr': 1, 'tail': lines})}"
        status, data = self.host.engine(self.socket, "GET", path)
        return _unframed(data).decode("utf-8", "replace").strip() if status < 300 else ""


def _message(data: bytes) -> str:
    try:
        return str(json.loads(data)["message"]).strip()
    except (ValueError, KeyError, TypeError):
        return data.decode("utf-8", "replace").strip()[:1000]


def _unframed(data: bytes) -> bytes:
    """Both streams of a container as they came: each piece has a head of eight bytes, the length in its last four."""
    text, place = b"", 0
    while place + 8 <= len(data):
        size = int.from_bytes(data[place + 4 : place + 8], "big")
        text += data[place + 8 : place + 8 + size]
        place += 8 + size
    return text
