"""A zip of stored contents, made while it is sent: flat memory, nothing on the disk."""

import io
import re
import stat
import zipfile
from collections.abc import Iterable, Iterator
from typing import Any

from runs.browse import Leaf
from studio.blobs import BlobMissing, BlobStore

PIECE = 256 * 1024
UNIX = 3


class _Sink(io.RawIOBase):
    """Takes what the zip writer writes, until it is fetched. Not seekable, so that sizes follow the contents."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.parts.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        data = b"".join(self.parts)
        self.parts.clear()
        return data


def written(path: str) -> str:
    """The name that a file has in a zip: a byte that is not UTF-8 becomes ``%FF``. Unpackers agree about UTF-8 only; the bytes
    themselves would be other letters on Windows, and Info-ZIP leaves some of them out."""
    return path if path.isascii() else re.sub("[\udc80-\udcff]", lambda found: f"%{ord(found[0]) - 0xDC00:02X}", path)


def safe_name(path: str) -> bool:
    """Whether an unpacker will put this below its folder. Others are left out: names are never repaired."""
    return bool(path) and "\\" not in path and not any(part in {"", ".", ".."} for part in path.split("/"))


def zipped(store: BlobStore, leaves: Iterable[Leaf]) -> Iterator[bytes]:
    """The bytes of a zip with these files. Contents that are not kept are named in ``MISSING.txt``."""
    sink = _Sink()
    missing: list[str] = []
    names: set[str] = set()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED, allowZip64=True, compresslevel=1) as archive:
        for leaf in leaves:
            name = written(leaf.path)
            if not leaf.digest or not safe_name(leaf.path) or name in names:
                missing.append(f"{leaf.path!r}: {leaf.why or 'its name is not safe to unpack'}")
                continue
            names.add(name)
            try:
                content = store.open(leaf.digest)
            except BlobMissing:
                missing.append(f"{leaf.path!r}: its content is not kept")
                continue
            info = zipfile.ZipInfo(name)
            info.create_system = UNIX  # whose modes are kept
            info.external_attr = (stat.S_IFREG | leaf.mode) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            with content, archive.open(info, "w", force_zip64=leaf.size > 2**31 - 1) as entry:
                while block := content.read(PIECE):
                    entry.write(block)
                    if data := sink.take():
                        yield data
        if missing:
            archive.writestr("MISSING.txt", "\n".join(missing) + "\n")
    yield sink.take()
