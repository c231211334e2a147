"""HTTP/1.1 on a socket, as little of it as MLflow's clients need: keep-alive, lengths, chunks, 100-continue.

Written by hand because the standard library's server costs five times as much for each call, and this runs
beside training.
"""

import hmac
import json
import os
import socket
from urllib.parse import parse_qs, unquote_to_bytes

from .problems import Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Iterator, Optional

MAX_HEAD = 64 * 1024
MAX_JSON = 16 * 1024 * 1024
MAX_DRAIN = 1024 * 1024
"""Bytes of a refused body that are read away so that the connection lives on."""
PIECE = 256 * 1024
IDLE_SECONDS = 3600
REASONS = {
    200: b"OK",
    400: b"Bad Request",
    401: b"Unauthorized",
    404: b"Not Found",
    409: b"Conflict",
    413: b"Payload Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    507: b"Insufficient Storage",
}
OK_JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
EMPTY = OK_JSON % 2 + b"{}"

# `NaN` and `Infinity` as bare words become the texts that the contract has for them; an overflow such as
# 1e309 stays a float
# that is infinite, and so can be told apart and refused.
_JSON = json.JSONDecoder(parse_constant=str)


class Closed(Exception):
    """The client went away, or sent what is not HTTP."""


class File(object):
    """An answer that is a file: descriptor (closed after sending) and size in bytes."""

    def __init__(self, fd: int, size: int) -> None:
        self.fd = fd
        self.size = size


class Text(object):
    """An answer that is plain text."""

    def __init__(self, text: str) -> None:
        self.data = text.encode()


class Request(object):
    """One request; the body is read by whoever wants it."""

    def __init__(self, connection: "Connection", method: str, target: bytes, headers: "Dict[bytes, bytes]") -> None:
        self.connection = connection
        self.method = method
        path, _, query = target.partition(b"?")
        self.raw_path = path
        self._query = query
        self.headers = headers
        length = headers.get(b"content-length")
        self.chunked = b"transfer-encoding" in headers
        if self.chunked and (length is not None or headers[b"transfer-encoding"].lower() != b"chunked"):
            raise Closed("ambiguous length")
        if length is not None and not (length.isdigit() and len(length) < 19):
            raise Closed("bad length")
        self.left = int(length) if length else 0
        self._continue = headers.get(b"expect", b"").lower() == b"100-continue"
        self.finished = not self.chunked and self.left == 0

    @property
    def path(self) -> str:
        """The path, percent-decoded once. Raises Problem where it is no UTF-8."""
        try:
            return unquote_to_bytes(self.raw_path).decode()
        except UnicodeDecodeError:
            raise Problem("INVALID_PARAMETER_VALUE", "The path is not UTF-8.")

    def query(self) -> "Dict[str, str]":
        """Parameters of the address, the last of each name."""
        try:
            pairs = parse_qs(self._query.decode("ascii"), keep_blank_values=True, errors="strict")
        except ValueError:
            raise Problem("INVALID_PARAMETER_VALUE", "The address's parameters are not UTF-8.")
        return {name: values[-1] for name, values in pairs.items()}

    def pieces(self) -> "Iterator[bytes]":
        """The body, piece by piece. Raises Closed when the client leaves before its end."""
        if self.finished:
            return
        connection = self.connection
        if self._continue:
            self._continue = False
            connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        while not self.finished:
            if self.chunked and self.left == 0:
                line = connection.line().partition(b";")[0].strip()
                try:
                    self.left = int(line, 16)
                except ValueError:
                    raise Closed("bad chunk")
                if self.left <= 0:
                    while connection.line():  # trailers
                        pass
                    self.finished = True
                    return
            piece = connection.take(min(self.left, PIECE))
            self.left -= len(piece)
            if self.left == 0:
                if self.chunked:
                    connection.line()
                else:
                    self.finished = True
            yield piece

    def json(self) -> "Dict[str, Any]":
        """The body as a JSON object. Raises Problem for another content type, size or form."""
        kind = self.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if kind != b"application/json":
            raise Problem(
                "INVALID_PARAMETER_VALUE",
                "Content-Type must be application/json, not %r." % kind.decode("latin-1"),
            )
        if self.left > MAX_JSON:
            raise Problem("REQUEST_LIMIT_EXCEEDED", "A request may have %d bytes." % MAX_JSON)
        body, size = [], 0
        for piece in self.pieces():
            body.append(piece)
            size += len(piece)
            if size > MAX_JSON:
                raise Problem("REQUEST_LIMIT_EXCEEDED", "A request may have %d bytes." % MAX_JSON)
        try:
            value = _JSON.decode(b"".join(body).decode())
        except (ValueError, RecursionError) as error:
            raise Problem("INVALID_PARAMETER_VALUE", "The body is no JSON: %s" % str(error)[:200])
        if not isinstance(value, dict):
            raise Problem("INVALID_PARAMETER_VALUE", "The body must be a JSON object.")
        return value

    def drain(self) -> bool:
        """Read away what the handler left; False when that is too much and the connection has to end."""
        if self.finished:
            return True
        if self._continue or self.left > MAX_DRAIN:
            return False
        seen = 0
        for piece in self.pieces():
            seen += len(piece)
            if seen > MAX_DRAIN:
                return False
        return True


class Connection(object):
    """Requests of one client, one after the other.

    `api(request)` answers: a dict, File, Text or None for `{}`.
    """

    def __init__(self, sock: socket.socket, api: "Any") -> None:
        self._sock = sock
        self._handle: "Callable[[Request], Any]" = api.handle
        self._authorization = b"Bearer " + api.token.encode()
        self._buffer = b""

    def serve(self) -> None:
        """Answer until the client closes. Never raises."""
        try:
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sock.settimeout(IDLE_SECONDS)
            while self._one():
                pass
        except (Closed, OSError):
            pass
        finally:
            try:
                self._sock.close()
            except OSError:
                pass

    def _one(self) -> bool:
        head = self._head()
        if head is None:
            return False
        lines = head.split(b"\r\n")
        parts = lines[0].split(b" ")
        if len(parts) != 3 or not parts[2].startswith(b"HTTP/1.") or not parts[1].startswith(b"/"):
            raise Closed("not HTTP")
        headers = {}
        for line in lines[1:]:
            name, colon, value = line.partition(b":")
            if not colon:
                raise Closed("bad header")
            headers[name.lower()] = value.strip()
        request = Request(self, parts[0].decode("latin-1"), parts[1], headers)
        keep = parts[2] == b"HTTP/1.1" and headers.get(b"connection", b"").lower() != b"close"
        try:
            if not hmac.compare_digest(headers.get(b"authorization", b""), self._authorization):
                raise Problem(
                    "UNAUTHENTICATED",
                    "A bearer token is needed: the script finds it in MLFLOW_TRACKING_TOKEN.",
                )
            answer = self._handle(request)
        except Problem as problem:
            keep = keep and request.drain()
            self._answer_json(problem.status, {"error_code": problem.code, "message": str(problem)}, keep)
            return keep
        except (Closed, OSError):
            raise
        except Exception as error:  # a bug of ours must not end the connection without a word
            keep = keep and request.drain()
            message = "The run's tracking server failed: %s: %s" % (type(error).__name__, error)
            self._answer_json(500, {"error_code": "INTERNAL_ERROR", "message": message}, keep)
            return keep
        keep = request.drain() and keep
        if answer is None and keep:
            self.send(EMPTY)
        elif isinstance(answer, File):
            self._answer_file(answer, keep)
        elif isinstance(answer, Text):
            self._answer(200, b"text/plain; charset=utf-8", answer.data, keep)
        else:
            self._answer_json(200, answer or {}, keep)
        return keep

    def _answer_json(self, status: int, value: "Dict[str, Any]", keep: bool) -> None:
        self._answer(status, b"application/json", json.dumps(value, separators=(",", ":")).encode(), keep)

    def _answer(self, status: int, kind: bytes, data: bytes, keep: bool) -> None:
        self.send(
            b"HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n%s\r\n"
            % (status, REASONS[status], kind, len(data), b"" if keep else b"Connection: close\r\n")
            + data
        )
        if not keep:
            self._linger()

    def _answer_file(self, answer: File, keep: bool) -> None:
        with os.fdopen(answer.fd, "rb") as file:
            self.send(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
                b"X-Content-Type-Options: nosniff\r\n"
                b"Content-Length: %d\r\n%s\r\n" % (answer.size, b"" if keep else b"Connection: close\r\n")
            )
            left = answer.size
            while left:
                piece = file.read(min(left, PIECE))
                if not piece:
                    raise Closed("the file became shorter")  # the client sees fewer bytes than announced
                self.send(piece)
                left -= len(piece)

    def _linger(self) -> None:
        # Closing with unread bytes would reset the connection and destroy the answer before the client reads
        # it.
        self._sock.shutdown(socket.SHUT_WR)
        self._sock.settimeout(2)
        for _ in range(256):
            if not self._sock.recv(PIECE):
                break

    def send(self, data: bytes) -> None:
        self._sock.sendall(data)

    def _fill(self) -> None:
        data = self._sock.recv(65536)
        if not data:
            raise Closed("ended inside a request")
        self._buffer += data

    def _head(self) -> "Optional[bytes]":
        if not self._buffer:
            data = self._sock.recv(65536)
            if not data:
                return None
            self._buffer = data
        while True:
            end = self._buffer.find(b"\r\n\r\n")
            if end >= 0:
                head, self._buffer = self._buffer[:end], self._buffer[end + 4 :]
                return head
            if len(self._buffer) > MAX_HEAD:
                raise Closed("head too long")
            self._fill()

    def line(self) -> bytes:
        """Up to the next line break, without it."""
        while True:
            end = self._buffer.find(b"\r\n")
            if end >= 0:
                line, self._buffer = self._buffer[:end], self._buffer[end + 2 :]
                return line
            if len(self._buffer) > MAX_HEAD:
                raise Closed("line too long")
            self._fill()

    def take(self, most: int) -> bytes:
        """1 to `most` bytes of the body."""
        if self._buffer:
            piece, self._buffer = self._buffer[:most], self._buffer[most:]
            return piece
        piece = self._sock.recv(most)
        if not piece:
            raise Closed("ended inside a body")
        return piece
