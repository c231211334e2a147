"""A folder goes to the studio: the manifest first, then only the contents that are not there yet."""

from __future__ import annotations

import hashlib
import os
import struct
import zlib

from .errors import RunsteadError
from .folder import Folder
from .transport import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional, Tuple

    from .folder import Told
    from .transport import Transport

RECORD = struct.Struct(">32sBQ")
ZLIB = 1
BATCH = 8 * 1024 * 1024
PIECE = 8 * 1024 * 1024
TRIES = 3


def upload(transport: Transport, folder: Folder, told: Optional[Told] = None) -> str:
    """Make the snapshot of a scanned folder; returns its id.

    May be repeated after a cut: what has arrived is not sent again. Raises UserError and RunsteadError.
    """
    folder.check()
    for _ in range(TRIES):
        wanted = transport.request("POST", "snapshots/missing", folder.data).json()
        if wanted["known"]:
            return folder.digest
        entries = [entry for first, end in wanted["missing"] for entry in folder.files[first:end]]
        _send(transport, folder, entries, wanted, told)
        name = os.path.basename(os.path.realpath(folder.path))
        try:
            transport.request("POST", "snapshots", {"snapshot": folder.digest, "name": name})
            return folder.digest
        except ApiError as error:
            if error.status != 409:
                raise
    raise RunsteadError("The studio did not keep all of the folder. Submit again.")


def _send(
    transport: Transport,
    folder: Folder,
    entries: List[Tuple[str, int, int, str]],
    wanted: Dict[str, Any],
    told: Optional[Told],
) -> None:
    total, done = sum(entry[2] for entry in entries), 0

    def tell(count: int) -> None:
        nonlocal done
        done += count
        if told is not None:
            told("sending", done, total)

    parts: List[bytes] = []
    held = sent = 0
    for path, _, size, digest in entries:
        if size > wanted["small"]:
            _send_large(transport, folder, path, size, digest, int(wanted["have"].get(digest, 0)), tell)
            continue
        with folder.open(path) as file:
            data = file.read(size + 1)
        if hashlib.sha256(data).hexdigest() != digest:
            raise _changed(path)
        record = _record(digest, data, not transport.is_local)
        parts.append(record)
        held += len(record)
        sent += size
        if held >= BATCH:
            transport.request("PUT", "snapshots/blobs", b"".join(parts))
            tell(sent)
            parts, held, sent = [], 0, 0
    if parts:
        transport.request("PUT", "snapshots/blobs", b"".join(parts))
        tell(sent)


def _record(digest: str, data: bytes, far: bool) -> bytes:
    # Packing pays on a network, and costs more than it saves on one machine.
    if far and len(data) > 512:
        packed = zlib.compress(data, 1)
        if len(packed) < len(data) * 0.9:
            return RECORD.pack(bytes.fromhex(digest), ZLIB, len(packed)) + packed
    return RECORD.pack(bytes.fromhex(digest), 0, len(data)) + data


def _send_large(
    transport: Transport, folder: Folder, path: str, size: int, digest: str, have: int, tell: Callable[[int], None]
) -> None:
    tell(have)
    conflicts = 0
    with folder.open(path) as file:
        while have < size:
            file.seek(have)
            piece = file.read(min(PIECE, size - have))
            if not piece:
                raise _changed(path)
            try:
                answer = transport.request(
                    "PUT", "snapshots/blobs/" + digest, piece, {"offset": have, "size": size}
                ).json()
            except ApiError as error:
                if error.status == 422 and error.names("body"):
                    raise _changed(path) from None
                conflicts += 1
                if error.status != 409 or conflicts > 100:
                    raise
                answer = error.problem  # somebody else sends the same content, or a repeated piece had arrived
            tell(int(answer["have"]) - have)
            have = int(answer["have"])


def _changed(path: str) -> RunsteadError:
    return RunsteadError("%s changed while the folder was sent. Submit again when nothing writes to it." % path)
