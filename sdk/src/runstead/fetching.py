"""Contents of the studio, read to their end: again from where the connection was cut, and compared with their SHA-256."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.client
import re
import time

from .errors import RunsteadError
from .transport import REPEATED, ApiError, Unreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any, Callable, Iterator, Mapping, Optional, Tuple

    from .transport import Transport

BLOCK = 1 << 20
PAUSES = (0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0)
"""Seconds before each new try. One that brought something begins them anew."""
TAG = re.compile(r'"([0-9a-f]{64})"')


class _Cut(Exception):
    """The connection gave no more; `error` says why."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


@contextlib.contextmanager
def writing(place: str) -> Iterator[None]:
    """What a disk refuses in here is said of this place. Raises RunsteadError."""
    try:
        yield
    except OSError as error:
        raise RunsteadError("The file %s was not written: %s." % (place, error.strerror or error)) from None


def fetch(
    transport: Transport,
    path: str,
    query: Optional[Mapping[str, Any]],
    file: IO[bytes],
    name: str,
    digest: Optional[str] = None,
    told: Optional[Callable[[int], None]] = None,
) -> None:
    """Read a content into a file that is open for reading and writing, behind the part of it that is there already.

    `digest`: its SHA-256; where it is not known before, the one that the studio sends along counts. `told`: how many bytes are here.
    Raises ApiError; Unreachable when the connection is cut again and again; RunsteadError when what came is not what was promised,
    and then the file is empty. An OSError is always the disk's: the network's are dealt with here.
    """
    file.seek(0)
    sha256, have = hashlib.sha256(), 0
    for data in iter(functools.partial(file.read, BLOCK), b""):
        sha256.update(data)
        have += len(data)
    if have and sha256.hexdigest() == digest:
        return
    tag, tries, done = '"%s"' % digest if digest else "", 0, False
    try:
        while not done:
            begin = have
            try:
                answer, found = _asked(transport, path, query, have if tag else 0, tag)
                if answer.status != 206 and have:
                    file.seek(0)
                    file.truncate()
                    sha256, have = hashlib.sha256(), 0
                tag = found.get("etag", "")
                wanted = have + int(found["content-length"]) if "content-length" in found else None
                while data := _read(answer):
                    file.write(data)
                    sha256.update(data)
                    have += len(data)
                    if told is not None:
                        told(have)
                if wanted not in (None, have):
                    raise _Cut(EOFError("after %d of %s bytes" % (have, wanted)))
                done = True
            except _Cut as cut:
                transport.close()
                tries = 0 if have > begin else tries + 1
                if tries > len(PAUSES):
                    raise _given_up(name, cut.error) from None
                time.sleep(PAUSES[max(tries - 1, 0)])
    finally:
        if not done:
            transport.close()
    match = TAG.fullmatch(tag)
    if sha256.hexdigest() != (digest or (match and match.group(1)) or sha256.hexdigest()):
        file.seek(0)
        file.truncate()
        raise RunsteadError("%s: what arrived has another SHA-256 than the studio says. Try again." % name)


def _asked(
    transport: Transport, path: str, query: Optional[Mapping[str, Any]], have: int, tag: str
) -> Tuple[http.client.HTTPResponse, Mapping[str, str]]:
    """The answer from byte `have` on, or from the first where the content is another now. Raises ApiError, _Cut."""
    # A weak tag says nothing of single bytes.
    headers = {"Range": "bytes=%d-" % have, "If-Range": tag} if have and not tag.startswith("W/") else {}
    try:
        return transport.stream(path, query, headers)
    except Unreachable as error:
        raise _Cut(error) from None
    except ApiError as error:
        if error.status == 416 and headers:  # what is here is longer than the whole
            return _asked(transport, path, query, 0, "")
        if error.status not in REPEATED:
            raise
        raise _Cut(error) from None


def _read(answer: http.client.HTTPResponse) -> bytes:
    # Before Python 3.10 a read that takes too long is no TimeoutError; every kind is an OSError.
    try:
        return answer.read(BLOCK)
    except (OSError, http.client.HTTPException) as error:
        raise _Cut(error) from None


def _given_up(name: str, error: Exception) -> RunsteadError:
    if isinstance(error, RunsteadError):
        return error
    text = str(error) or type(error).__name__
    return Unreachable("%s: the connection to the studio was cut again and again (%s). Try again." % (name, text))
