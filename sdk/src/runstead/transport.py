"""The studio's HTTP API as the client uses it: one kept connection, JSON, repeated where repeating is safe."""

from __future__ import annotations

import gzip
import http.client
import json
import ssl
import time
from urllib.parse import urlencode, urlsplit

from . import __version__
from .errors import RunsteadError, UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Mapping, Optional

TIMEOUT = 60
PAUSES = (0.2, 0.5, 1.0, 2.0)
REPEATED = (502, 503, 504)
LOCAL = ("127.0.0.1", "localhost", "::1")


class ApiError(RunsteadError):
    """The studio refused. `status` is HTTP's; `errors` lists field, rule and fix of each mistake."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.problem = problem
        self.errors = problem.get("errors") or []
        super().__init__(str(problem.get("detail") or problem.get("title") or "The studio answered %d." % status))

    def names(self, field: str) -> bool:
        """Whether the refusal is about this field."""
        return any(isinstance(item, dict) and item.get("field") == field for item in self.errors)


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


class Transport:
    """Requests to one workspace of one studio. Not for several threads at once."""

    def __init__(self, url: str, workspace: str, token: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError("url: %r is no address. Use for example http://127.0.0.1:8000." % url)
        if not token.isascii() or not token.isprintable():
            raise UserError("token: it holds characters that no token has.")
        self.url = url.rstrip("/")
        self.workspace = workspace
        self._secure = parts.scheme == "https"
        self._host = parts.hostname
        self._port = parts.port or (443 if self._secure else 80)
        self._base = "%s/api/v1/%s/" % (parts.path.rstrip("/"), workspace)
        self._token = token
        self._connection: Optional[http.client.HTTPConnection] = None

    @property
    def is_local(self) -> bool:
        """Whether the studio is on this machine."""
        return self._host in LOCAL

    def _connect(self) -> http.client.HTTPConnection:
        if self._connection is None:
            if self._secure:
                context = ssl.create_default_context()
                self._connection = http.client.HTTPSConnection(self._host, self._port, timeout=TIMEOUT, context=context)
            else:
                self._connection = http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT)
        return self._connection

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        query: Optional[Mapping[str, Any]] = None,
        headers: Optional[Mapping[str, str]] = None,
    ) -> Answer:
        """Ask, and ask again after a cut: every request of ours may be repeated. Raises ApiError and RunsteadError.

        `body`: bytes are sent as they are, anything else as JSON.
        """
        sent = {
            "Authorization": "Bearer " + self._token,
            "User-Agent": "runstead/" + __version__,
            "Accept": "application/json",
        }
        if body is None:
            data = None
        elif isinstance(body, bytes):
            data = body
            sent["Content-Type"] = "application/octet-stream"
        else:
            data = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        if data is not None and len(data) > 100_000 and not self.is_local and not isinstance(body, bytes):
            data = gzip.compress(data, 1)
            sent["Content-Encoding"] = "gzip"
        sent.update(headers or {})
        address = self._base + path + ("?" + urlencode(query) if query else "")
        last = ""
        for pause in (*PAUSES, None):
            try:
                connection = self._connect()
                connection.request(method, address, data, sent)
                response = connection.getresponse()
                answer = Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
            except ssl.SSLCertVerificationError as error:
                self.close()
                raise RunsteadError(
                    "%s: its certificate is not trusted: %s." % (self.url, error.verify_message)
                ) from None
            except (OSError, http.client.HTTPException) as error:
                self.close()
                last = str(error) or type(error).__name__
            else:
                if answer.status not in REPEATED:
                    return self._checked(answer)
                last = "it answered %d" % answer.status
            if pause is not None:
                time.sleep(pause)
        raise RunsteadError(
            "The studio at %s cannot be reached: %s. Is it running? Start it with 'make up' in its folder, or check the address. "
            "Nothing is lost: the same call can be made again." % (self.url, last)
        )

    def _checked(self, answer: Answer) -> Answer:
        if answer.status < 400:
            return answer
        try:
            problem = json.loads(answer.data.decode())
        except ValueError:
            problem = {}
        if not isinstance(problem, dict):
            problem = {}
        if answer.status == 401 and not problem.get("detail"):
            problem["detail"] = (
                "The studio at %s does not know this token. Make a new one in Settings, Tokens." % self.url
            )
        raise ApiError(answer.status, problem)
