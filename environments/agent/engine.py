"""HTTP to a container engine on this machine, over its unix socket.

Needs nothing else of the agent: the steps of a build bring this file along.
"""

import errno
import http.client
import json
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterator, Optional, Tuple

_DENIED = (errno.EACCES, errno.EPERM)


class Away(Exception):
    """No answer. `permanent`: nor will there be one until somebody changes something; `silent`: it was waited for in vain."""

    def __init__(self, code: str, message: str, permanent: bool = False) -> None:
        Exception.__init__(self, message)
        self.code = code
        self.permanent = permanent
        self.silent = False


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        http.client.HTTPConnection.__init__(self, "localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def ask(
    path: str,
    method: str,
    target: str,
    body: bytes = b"",
    timeout: float = 60,
    headers: "Optional[Dict[str, str]]" = None,
) -> "http.client.HTTPResponse":
    """Send a request to the engine whose socket is at `path`; the response, its body not read yet. Raises Away."""
    connection = _Connection(path, timeout)
    try:
        sent = {"Content-Type": "application/json", "Connection": "close"} if body else {"Connection": "close"}
        sent.update(headers or {})
        connection.request(method, target, body or None, sent)
        return connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        raise _away(path, error)


def request(path: str, method: str, target: str, body: bytes = b"", timeout: float = 60) -> "Tuple[int, bytes]":
    """Status and body of the engine's answer. Raises Away."""
    response = ask(path, method, target, body, timeout)
    try:
        return response.status, response.read()
    except (OSError, http.client.HTTPException) as error:
        raise _away(path, error)
    finally:
        response.close()


def call(
    path: str, method: str, target: str, value: "Optional[object]" = None, timeout: float = 60
) -> "Tuple[int, Any]":
    """`request` with JSON both ways; what is no JSON comes as {"message": text}."""
    body = json.dumps(value).encode() if value is not None else b""
    status, data = request(path, method, target, body, timeout)
    try:
        return status, json.loads(data.decode("utf-8", "replace")) if data.strip() else None
    except ValueError:
        return status, {"message": data.decode("utf-8", "replace").strip()}


def events(
    path: str, target: str, body: bytes = b"", headers: "Optional[Dict[str, str]]" = None, timeout: float = 60
) -> "Iterator[Dict[str, Any]]":
    """POST what the engine answers bit by bit, as JSON objects: each as it comes. A refusal is an object with `error`, too, and
    `status`. Whoever stops listening has the engine stop. Raises Away, after `timeout` seconds without a word, too."""
    response = ask(path, "POST", target, body, timeout, headers)
    try:
        if response.status >= 300:
            said = response.read().decode("utf-8", "replace").strip()
            yield {"error": _message(said) or "the engine answered %d" % response.status, "status": response.status}
            return
        for line in response:
            if line.strip():
                yield dict(json.loads(line.decode("utf-8", "replace")))
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _away(path, error)
    finally:
        response.close()


def _message(said: str) -> str:
    try:
        return str(json.loads(said).get("message") or said)
    except (ValueError, AttributeError):
        return said


def _away(path: str, error: Exception) -> Away:
    away = _described(path, error)
    away.silent = isinstance(error, socket.timeout)
    return away


def _described(path: str, error: Exception) -> Away:
    number = getattr(error, "errno", None)
    if number in _DENIED:
        return Away(
            "engine_denied",
            "This user may not use the Docker engine at %s. Add the user to the group docker, then sign in anew."
            % path,
            permanent=True,
        )
    if number == errno.ENOENT:
        return Away("engine_away", "The Docker engine does not answer: there is no %s. Start it." % path)
    return Away("engine_away", "The Docker engine does not answer at %s: %s" % (path, error or type(error).__name__))
