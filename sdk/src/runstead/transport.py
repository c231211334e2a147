"""The studio's HTTP API as the client uses it: one kept connection, JSON, repeated where repeating is safe."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import re
import ssl
import threading
import time
import warnings
from urllib.parse import quote, urlencode, urlsplit

from . import __version__
from .errors import RunsteadError, ServiceException, UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Mapping, Optional, Tuple

TIMEOUT = 60
PAUSES = (0.2, 0.5, 1.0, 2.0)
REPEATED = (502, 503, 504)
MOVED = (301, 302, 303, 307, 308)
VERSION = "runstead-version"
LOCAL = ("127.0.0.1", "localhost", "::1")


class ApiError(ServiceException):
    """The studio refused. `status` is HTTP's; `errors` lists field, rule and fix of each mistake."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.problem = problem
        self.errors = problem.get("errors") or []
        super().__init__(str(problem.get("detail") or problem.get("title") or "The studio answered %d." % status))

    def names(self, field: str) -> bool:
        """Whether the refusal is about this field."""
        return any(isinstance(item, dict) and item.get("field") == field for item in self.errors)


class Unreachable(RunsteadError):
    """Nobody answered. The same call can be made again later."""


class Answer:
    """Status, headers (names in lower case) and body."""

    def __init__(self, status: int, headers: Dict[str, str], data: bytes) -> None:
        self.status = status
        self.headers = headers
        self.data = data

    def json(self) -> Any:
        try:
            return json.loads(self.data.decode())
        except ValueError:
            raise RunsteadError("The studio's answer is no JSON: is there a Runstead studio at this address?") from None


class _Plain(http.client.HTTPConnection):
    """Closed with whom it served: no thread is sure to say that it ends."""

    def __del__(self) -> None:
        self.close()


class _Secure(http.client.HTTPSConnection):
    __del__ = _Plain.__del__


class Transport:
    """Requests to one workspace of one studio. Each thread, and each process forked from this one, has a connection of its own."""

    def __init__(self, url: str, workspace: str, token: str) -> None:
        url = url.strip()
        scheme, self._host, self._port, path = address_of(url)
        if not token.isascii() or not token.isprintable():
            raise UserError("token: it holds characters that no token has.")
        self.url = url.rstrip("/")
        self.workspace = workspace
        self._secure = scheme == "https"
        self._root = path + "/api/v1/"
        self.token = token
        self._own = threading.local()
        self.version = ""
        """The studio's version, once it has answered."""

    @property
    def place(self) -> str:
        """Studio and workspace, as one text."""
        return "%s %s" % (self.url, self.workspace)

    @property
    def is_local(self) -> bool:
        """Whether the studio is on this machine."""
        return self._host in LOCAL

    def _connect(self) -> http.client.HTTPConnection:
        if getattr(self._own, "process", None) != os.getpid():
            self._own.process, self._own.connection = os.getpid(), None
        if self._own.connection is None:
            if self._secure:
                context = ssl.create_default_context()
                made: http.client.HTTPConnection = _Secure(self._host, self._port, timeout=TIMEOUT, context=context)
            else:
                made = _Plain(self._host, self._port, timeout=TIMEOUT)
            self._own.connection = made
        return self._own.connection  # type: ignore[no-any-return]

    def close(self) -> None:
        """Close this thread's connection; the next request opens another."""
        if getattr(self._own, "connection", None) is not None:
            self._own.connection.close()
            self._own.connection = None

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        query: Optional[Mapping[str, Any]] = None,
        headers: Optional[Mapping[str, str]] = None,
    ) -> Answer:
        """Ask, and ask again after a cut: every request of ours may be repeated. Raises ApiError and RunsteadError.

        `body`: bytes and what an open file holds are sent as they are, anything else as JSON.
        """
        sent = {
            "Authorization": "Bearer " + self.token,
            "User-Agent": "runstead/" + __version__,
            "Accept": "application/json",
        }
        data: Any = None
        if body is None:
            pass
        elif isinstance(body, bytes):
            data = body
            sent["Content-Type"] = "application/octet-stream"
        elif hasattr(body, "read"):
            data = body
            sent["Content-Type"] = "application/octet-stream"
            sent["Content-Length"] = str(body.seek(0, 2))
        else:
            data = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        if isinstance(data, bytes) and data is not body and len(data) > 100_000 and not self.is_local:
            data = gzip.compress(data, 1)
            sent["Content-Encoding"] = "gzip"
        sent.update(headers or {})
        address = self._address(path, query)
        last = ""
        for pause in (*PAUSES, None):
            try:
                if data is body and hasattr(body, "read"):
                    body.seek(0)
                response, found = self._asked(method, address, data, sent)
                answer = Answer(response.status, found, response.read())
            except ssl.SSLCertVerificationError as error:
                self.close()
                raise _untrusted(self.url, error) from None
            except (OSError, http.client.HTTPException) as error:
                self.close()
                last = str(error) or type(error).__name__
                if isinstance(error, ssl.SSLError) and error.reason == "WRONG_VERSION_NUMBER":
                    raise Unreachable("The studio at %s does not speak https. Use http://." % self.url) from None
            else:
                if answer.status not in REPEATED:
                    return self._checked(answer)
                last = "it answered %d" % answer.status
            if pause is not None:
                time.sleep(pause)
        raise Unreachable(
            "The studio at %s cannot be reached: %s. Is it running? Start it with 'make up' in its folder, or check the address. "
            "Nothing is lost: the same call can be made again." % (self.url, last)
        )

    def rows(self, path: str, name: str) -> List[Dict[str, Any]]:
        """All rows of a list, page by page; `name`: what the answers call them."""
        found: List[Dict[str, Any]] = []
        after: Any = ""
        while after is not None:
            page = self.request("GET", path, query={"after": after} if after else None).json()
            found += page[name]
            after = page.get("next")
        return found

    def stream(
        self, path: str, query: Optional[Mapping[str, Any]] = None, headers: Optional[Mapping[str, str]] = None
    ) -> Tuple[http.client.HTTPResponse, Dict[str, str]]:
        """Begin a GET whose body the caller reads piece by piece; also its headers, by names in lower case.

        Not repeated: a body that ends early raises http.client.HTTPException or OSError where it is read, and `close` must
        follow. Raises ApiError, and Unreachable when there is no answer at all.
        """
        sent = {"Authorization": "Bearer " + self.token, "User-Agent": "runstead/" + __version__, **(headers or {})}
        try:
            response, found = self._asked("GET", self._address(path, query), None, sent)
            if response.status >= 300:
                self._checked(Answer(response.status, found, response.read()))
        except ssl.SSLCertVerificationError as error:
            self.close()
            raise _untrusted(self.url, error) from None
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Unreachable("The studio at %s cannot be reached: %s." % (self.url, error)) from None
        return response, found

    def _address(self, path: str, query: Optional[Mapping[str, Any]]) -> str:
        """`path` is below the workspace; one with a leading `/` below the API itself."""
        inner = path[1:] if path.startswith("/") else quote(self.workspace, safe="") + "/" + path
        return self._root + inner + ("?" + urlencode(query, doseq=True) if query else "")

    def _asked(
        self, method: str, address: str, data: Any, headers: Dict[str, str]
    ) -> Tuple[http.client.HTTPResponse, Dict[str, str]]:
        connection = self._connect()
        connection.request(method, address, data, headers)
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        if VERSION in found and found[VERSION] != self.version:
            self.version = found[VERSION]
            if note := self.version_note():
                warnings.warn(note[0].upper() + note[1:] + ".", stacklevel=4)
        return response, found

    def _checked(self, answer: Answer) -> Answer:
        if answer.status < 300:
            return answer
        try:
            problem = json.loads(answer.data.decode())
        except ValueError:
            problem = None
        if not isinstance(problem, dict):
            problem = {"detail": self._no_problem(answer)}
        elif answer.status == 401 and not problem.get("detail"):
            problem["detail"] = (
                "The studio at %s does not know this token. Make a new one in Settings, Tokens." % self.url
            )
        if answer.status in (400, 404, 405, 422) and (note := self.version_note()):
            problem["detail"] = "%s (%s)" % (problem.get("detail") or "It was refused.", note)
        raise ApiError(answer.status, problem)

    def _no_problem(self, answer: Answer) -> str:
        """What to say of an answer that is none of the API's."""
        if answer.status in MOVED:
            where = answer.headers.get("location", "elsewhere")
            return "%s leads on to %s. Give the address that answers itself." % (self.url, where)
        if VERSION not in answer.headers:
            return "%s answered %d, and not as a Runstead studio does. Check the address." % (self.url, answer.status)
        return "The studio at %s answered %d." % (self.url, answer.status)

    def version_note(self) -> str:
        """What to say when studio and client differ in more than the last number of their versions; else nothing."""
        theirs, ours = _main(self.version), _main(__version__)
        if not theirs or theirs == ours:
            return ""
        fix = (
            "update the client: pip install --upgrade runstead"
            if theirs > ours
            else "update the studio, or install a client of its version"
        )
        return "the studio is version %s, this client %s: %s" % (self.version, __version__, fix)


def address_of(url: str) -> Tuple[str, str, int, str]:
    """Scheme, host, port and path of an address, the path without a `/` at its end. Raises UserError."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        host = parts.hostname or ""
        host.encode("idna")  # as the look-up of its name will
    except ValueError:  # a port that is no number, half a bracket, a name with two dots in a row
        host = ""
    if not host or parts.scheme not in ("http", "https") or not parts.path.isascii() or re.search(r"\s", url):
        raise UserError("url: %r is no address. Use for example http://127.0.0.1:8000." % url)
    return parts.scheme, host, port, parts.path.rstrip("/")


def _main(version: str) -> Tuple[int, ...]:
    parts = version.split(".")[:2]
    return tuple(int(part) for part in parts) if len(parts) == 2 and all(part.isdigit() for part in parts) else ()


def _untrusted(url: str, error: ssl.SSLCertVerificationError) -> RunsteadError:
    clock = ""
    if "expired" in error.verify_message or "not yet valid" in error.verify_message:
        clock = " Or this machine's clock is off: it says %s UTC." % time.strftime("%Y-%m-%d %H:%M", time.gmtime())
    return RunsteadError("%s: its certificate is not trusted: %s.%s" % (url, error.verify_message, clock))
