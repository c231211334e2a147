"""A container engine on a target: the Docker SDK, whose requests travel over the agent's stream.

So the connection and the credentials are the target's own, whatever the transport, and nothing is installed there. Every method
raises what ``Host`` raises; a refusal of the engine is a HostError with the engine's own words.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from environments.host import Host, HostError

if TYPE_CHECKING:
    from docker import APIClient

T = TypeVar("T")
SOCKET = "/var/run/docker.sock"
BASE_IMAGE = "python:{python}-slim"
_ADDRESS = "http://engine:80"
_SLOW = 180.0
_CODES = {404: "not_found", 409: "conflict"}


def socket_of(options: Mapping[str, Any]) -> str:
    """Path of the engine's socket on a target with these options."""
    return str((options.get("docker") or {}).get("socket") or SOCKET)


def base_image(options: Mapping[str, Any], python: str) -> str:
    """Name of the image from which a target makes environments for this version of Python; empty: any Python 3."""
    name = str((options.get("docker") or {}).get("base_image") or BASE_IMAGE)
    return name.replace("{python}", python or "3")


def client(host: Host, socket: str) -> APIClient:
    """The SDK's client of the engine whose socket is at a path on the target. Asks for the engine's version."""
    import requests  # noqa: PLC0415 they take 0.3 s to import, and few processes need them
    from docker import APIClient  # noqa: PLC0415
    from requests.adapters import BaseAdapter, HTTPAdapter  # noqa: PLC0415
    from urllib3 import HTTPResponse  # noqa: PLC0415

    class Through(BaseAdapter):
        """Passes a request on to the agent, and the engine's answer back."""

        def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
            body = request.body or b""
            data = body.encode() if isinstance(body, str) else body
            status, answer = host.engine(socket, str(request.method), request.path_url, data, _SLOW)
            kind = {"Content-Type": "application/json"}
            raw = HTTPResponse(io.BytesIO(answer), headers=kind, status=status, preload_content=False)
            return HTTPAdapter().build_response(request, raw)

        def close(self) -> None:
            """The stream is the host's."""

    class Client(APIClient):
        trust_env = False

        def get_adapter(self, url: str) -> BaseAdapter:
            return Through()

    return Client(base_url=_ADDRESS, version="auto", timeout=int(_SLOW))


class Engine:
    """The engine of one open connection."""

    def __init__(self, host: Host, options: Mapping[str, Any]) -> None:
        self.host = host
        self.socket = socket_of(options)

    @cached_property
    def api(self) -> APIClient:
        return client(self.host, self.socket)

    @contextlib.contextmanager
    def asking(self) -> Iterator[APIClient]:
        """Every refusal as HostError: "not_found", "conflict", "engine_refused" (all three permanent), "engine_failed", or what
        ``Host.engine`` raises."""
        from docker.errors import APIError, DockerException  # noqa: PLC0415 see ``client``

        try:
            yield self.api
        except APIError as error:
            status = error.status_code or 500
            code = _CODES.get(status, "engine_refused" if status < 500 else "engine_failed")
            said = str(error.explanation or error).strip()[:1000]
            raise HostError(code, said, permanent=status < 500) from error
        except DockerException as error:
            if isinstance(error.__cause__, HostError):  # it was asked for its version, and did not answer
                raise error.__cause__ from None
            raise HostError("engine_failed", str(error)) from error

    def unless_missing(self, ask: Callable[[APIClient], T], otherwise: T, *codes: str) -> T:
        """What the engine answers, or ``otherwise`` where what was asked for is not there."""
        try:
            with self.asking() as api:
                return ask(api)
        except HostError as error:
            if error.code not in ("not_found", *codes):
                raise
            return otherwise

    # -- what it is

    def version(self) -> dict[str, Any]:
        """Version, ApiVersion, Os, Arch, ..."""
        with self.asking() as api:
            return dict(api.version())

    def info(self) -> dict[str, Any]:
        """NCPU, MemTotal, Driver, SecurityOptions, LiveRestoreEnabled, ..."""
        with self.asking() as api:
            return dict(api.info())

    # -- images

    def image(self, name: str) -> dict[str, Any] | None:
        """Id, Size, Config of an image that is there; None when it is not. It is never looked up elsewhere."""
        return self.unless_missing(lambda api: dict(api.inspect_image(name)), None)  # type: ignore[no-untyped-call]

    def images(self) -> set[str]:
        """Ids of all that are there."""
        with self.asking() as api:
            return {str(item["Id"]) for item in api.images(all=True)}

    def remove_image(self, name: str) -> None:
        """Remove an image that no container uses; one that is not there is no error."""
        self.unless_missing(lambda api: api.remove_image(name), None)

    # -- containers

    def create(self, name: str, config: Mapping[str, Any]) -> None:
        """Make a container. HostError "conflict" when there is one of this name."""
        with self.asking() as api:
            api.create_container_from_config(dict(config), name)  # type: ignore[no-untyped-call]

    def start(self, name: str) -> None:
        """Start it; one that runs already is no error."""
        with self.asking() as api:
            api.start(name)

    def container(self, name: str) -> dict[str, Any] | None:
        """State, Config, HostConfig of a container; None when there is none of this name."""
        return self.unless_missing(lambda api: dict(api.inspect_container(name)), None)

    def containers(self, labels: Sequence[str]) -> list[dict[str, Any]]:
        """Id, Labels, State of all that have these labels (``name`` or ``name=value``), running or not."""
        with self.asking() as api:
            return list(api.containers(all=True, filters={"label": list(labels)}))

    def remove(self, name: str) -> None:
        """End and remove a container; one that is not there, or being removed, is no error."""
        self.unless_missing(lambda api: api.remove_container(name, force=True, v=True), None, "conflict")

    def said(self, name: str, lines: int = 20) -> str:
        """The last that a container's main process wrote to stdout and stderr."""
        said = self.unless_missing(lambda api: bytes(api.logs(name, tail=lines)), b"")
        return said.decode("utf-8", "replace").strip()
