"""Frames of the stream between the studio and the agent."""

import json
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Optional, Tuple

VERSION = 1
MAX_HEADER = 64 * 1024 * 1024
MAX_BODY = 16 * 1024 * 1024
_SIZES = struct.Struct(">II")


class ProtocolError(Exception):
    """The other side sent what is no frame; the stream cannot be used any more."""


def encode(header: "Dict[str, Any]", body_size: int = 0) -> bytes:
    """Length prefix and header of a frame whose body of `body_size` bytes the caller sends next."""
    if body_size > MAX_BODY:
        raise ProtocolError("a body of %d bytes is over the limit of %d" % (body_size, MAX_BODY))
    text = json.dumps(header, separators=(",", ":")).encode()
    if len(text) > MAX_HEADER:
        raise ProtocolError("a header of %d bytes is over the limit of %d" % (len(text), MAX_HEADER))
    return _SIZES.pack(len(text), body_size) + text


def read_exactly(reader: "Any", size: int) -> bytes:
    """`size` bytes of a binary reader; fewer only at its end."""
    data = reader.read(size)
    if data is None or len(data) == size:
        return data or b""
    pieces = [data]
    missing = size - len(data)
    while missing and pieces[-1]:
        pieces.append(reader.read(missing) or b"")
        missing -= len(pieces[-1])
    return b"".join(pieces)


def read_frame(reader: "Any") -> "Optional[Tuple[Dict[str, Any], bytes]]":
    """The next (header, body), or None where the stream ends between two frames.

    Raises ProtocolError for an over-long or broken frame and EOFError for one cut in the middle.
    """
    prefix = read_exactly(reader, _SIZES.size)
    if not prefix:
        return None
    if len(prefix) < _SIZES.size:
        raise EOFError("the stream ended inside a frame")
    header_size, body_size = _SIZES.unpack(prefix)
    if header_size > MAX_HEADER or body_size > MAX_BODY:
        raise ProtocolError("a frame of %d + %d bytes is over the limit" % (header_size, body_size))
    text = read_exactly(reader, header_size)
    body = read_exactly(reader, body_size) if body_size else b""
    if len(text) < header_size or len(body) < body_size:
        raise EOFError("the stream ended inside a frame")
    try:
        header = json.loads(text.decode())
    except ValueError as error:
        raise ProtocolError("a frame's header is no JSON: %s" % error)
    if not isinstance(header, dict):
        raise ProtocolError("a frame's header is no JSON object")
    return header, body
