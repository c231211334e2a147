"""Files as a tree, level by level, and a look into one of them.

What a run or a person wrote is data here: its kind follows from its first bytes and its name, never from what it claims, and
nothing in it is executed, unpickled or served as a page.
"""

import csv
import io
import json
import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.utils.safestring import SafeString

from runs.text import MAX_SOURCE_BYTES, markdown, source_lines
from studio.blobs import BlobMissing, BlobStore

EXPAND = 200
"""Trees up to this many files are shown open."""
MAX_LEVEL = 1000
MAX_PREVIEW_BYTES = 5_000_000
MAX_PIXELS = 40_000_000
MAX_ROWS = 200
MAX_COLUMNS = 100
MAX_CELL = 300
CSV_BYTES = 1_000_000
IMAGE_HEAD = 256 * 1024
IMAGE_TYPES = {"png": "image/png", "jpeg": "image/jpeg", "gif": "image/gif", "webp": "image/webp"}


@dataclass(frozen=True)
class Leaf:
    """A file with a content; ``digest`` empty: listed, not kept, and ``why`` says the reason."""

    path: str
    size: int
    digest: str
    why: str = ""
    mode: int = 0o644


@dataclass(frozen=True)
class Row:
    """One line of a tree."""

    path: str
    name: str
    depth: int
    folder: bool
    size: int
    files: int = 0
    open: bool = False
    why: str = ""
    more: int = 0
    """Entries of this folder that are not shown."""


@dataclass
class _Folder:
    folders: "dict[str, _Folder]" = field(default_factory=dict)
    leaves: list[Leaf] = field(default_factory=list)
    files: int = 0
    size: int = 0


def tree(leaves: Sequence[Leaf], selected: str = "") -> list[Row]:
    """The lines of a tree, folders first. Large trees show only the way to ``selected`` (a file or a folder)."""
    root = _Folder()
    for leaf in leaves:
        at = root
        for part in leaf.path.split("/")[:-1]:
            at = at.folders.setdefault(part, _Folder())
            at.files += 1
            at.size += leaf.size
        at.leaves.append(leaf)
    way = {"/".join(selected.split("/")[:n]) for n in range(1, selected.count("/") + 2)} if selected else set()
    rows: list[Row] = []
    _walk(root, "", 0, way, len(leaves) <= EXPAND, rows)
    return rows


def natural(name: str) -> list[tuple[int, int, str]]:
    """A key by which ``epoch_2`` comes before ``epoch_10``."""
    parts = re.split(r"([0-9]+)", name)
    return [(0, int(part), "") if place % 2 else (1, 0, part.casefold()) for place, part in enumerate(parts)]


def _walk(folder: _Folder, base: str, depth: int, way: set[str], expand: bool, rows: list[Row]) -> None:
    names = sorted(folder.folders, key=natural)
    for name in names[:MAX_LEVEL]:
        below, path = folder.folders[name], base + name
        is_open = expand or path in way
        rows.append(Row(path, name, depth, True, below.size, below.files, is_open))
        if is_open:
            _walk(below, path + "/", depth + 1, way, expand, rows)
    leaves = sorted(folder.leaves, key=lambda leaf: natural(leaf.path))
    shown = leaves[:MAX_LEVEL]
    shown += [leaf for leaf in leaves[MAX_LEVEL:] if leaf.path in way]
    rows.extend(Row(leaf.path, leaf.path.rsplit("/", 1)[-1], depth, False, leaf.size, why=leaf.why) for leaf in shown)
    hidden = max(0, len(names) - MAX_LEVEL) + len(leaves) - len(shown)
    if hidden:
        rows.append(Row(base, "", depth, False, 0, more=hidden))


@dataclass(frozen=True)
class Preview:
    """What to show of a file. ``kind``: ``image``, ``huge``, ``markdown``, ``table``, ``source``, ``binary``, ``large``, ``empty``."""

    kind: str
    note: str = ""
    lines: Sequence[SafeString] = ()
    html: SafeString | None = None
    rows: Sequence[Sequence[str]] = ()
    width: int = 0
    height: int = 0


def preview(store: BlobStore, leaf: Leaf) -> Preview:
    """Look into a file. Raises BlobMissing when its content is gone."""
    if not leaf.digest:
        return Preview("binary", leaf.why)
    if not leaf.size:
        return Preview("empty", "The file is empty.")
    head = store.read(leaf.digest, 0, IMAGE_HEAD)
    image = image_size(head)
    if image is not None:
        _, width, height = image
        if width * height > MAX_PIXELS or leaf.size > 4 * MAX_PREVIEW_BYTES:
            return Preview(
                "huge", f"{width:,} × {height:,} pixels is too large to show here.", width=width, height=height
            )
        return Preview("image", width=width, height=height)
    ending = leaf.path.rsplit(".", 1)[-1].lower()
    if ending in {"csv", "tsv"}:
        return table(store.read(leaf.digest, 0, CSV_BYTES), "\t" if ending == "tsv" else ",", leaf.size)
    if leaf.size > MAX_PREVIEW_BYTES:
        return Preview("large", "Files over 5 MB are not shown here.")
    text = as_text(store.read(leaf.digest))
    if text is None:
        return Preview("binary", "It is not a text file.")
    if ending == "md":
        return Preview("markdown", html=markdown(text))
    note = ""
    if ending == "json":
        text = pretty(text)
    if len(text) > MAX_SOURCE_BYTES:
        text, note = text[:MAX_SOURCE_BYTES], "Only the first 512 KB are shown. Download the file for the rest."
    return Preview("source", note, source_lines(text, leaf.path))


def as_text(data: bytes) -> str | None:
    """The text of UTF-8 bytes, or None when they are something else."""
    if b"\0" in data:
        return None
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError:
        return None


def pretty(text: str) -> str:
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


def table(data: bytes, delimiter: str, size: int) -> Preview:
    text = data.decode("utf-8-sig", "replace").replace("\0", "�")
    if len(data) < size:
        text = text.rpartition("\n")[0]
    rows: list[list[str]] = []
    try:
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
            if len(rows) > MAX_ROWS:
                break
            rows.append([cell if len(cell) <= MAX_CELL else cell[:MAX_CELL] + "…" for cell in row[:MAX_COLUMNS]])
    except csv.Error:
        return Preview(
            "source", "This is no table that can be read; here is its text.", source_lines(text[:MAX_SOURCE_BYTES], "")
        )
    more = len(rows) > MAX_ROWS or len(data) < size
    return Preview("table", f"The first {MAX_ROWS} rows are shown." if more else "", rows=rows[: MAX_ROWS + 1])


def image_size(head: bytes) -> tuple[str, int, int] | None:
    """(kind, width, height) of a picture from its first bytes; None when it is none that a browser may show here."""
    try:
        if head.startswith(b"\x89PNG\r\n\x1a\n") and head[12:16] == b"IHDR":
            width, height = struct.unpack(">II", head[16:24])
            return "png", width, height
        if head[:6] in {b"GIF87a", b"GIF89a"}:
            width, height = struct.unpack("<HH", head[6:10])
            return "gif", width, height
        if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
            return _webp(head)
        if head.startswith(b"\xff\xd8\xff"):
            return _jpeg(head)
    except (struct.error, IndexError):
        return None
    return None


def _webp(head: bytes) -> tuple[str, int, int] | None:
    kind = head[12:16]
    if kind == b"VP8X":
        return "webp", 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return "webp", 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", head[26:30])
        return "webp", width & 0x3FFF, height & 0x3FFF
    return None


def _jpeg(head: bytes) -> tuple[str, int, int] | None:
    at = 2
    while at + 9 < len(head):
        if head[at] != 0xFF:
            return None
        marker = head[at + 1]
        if marker in {0x01, 0xFF} or 0xD0 <= marker <= 0xD8:
            at += 1 if marker == 0xFF else 2
            continue
        if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:
            height, width = struct.unpack(">HH", head[at + 5 : at + 9])
            return "jpeg", width, height
        (length,) = struct.unpack(">H", head[at + 2 : at + 4])
        at += 2 + length
    return None


def shown_type(store: BlobStore, leaf: Leaf) -> str | None:
    """The content type under which a picture may be shown inside a page; None: only as a download."""
    try:
        found = image_size(store.read(leaf.digest, 0, IMAGE_HEAD)) if leaf.digest else None
    except BlobMissing:
        return None
    if found is None or found[1] * found[2] > MAX_PIXELS:
        return None
    return IMAGE_TYPES[found[0]]


def artifact_leaves(artifacts: Iterable[Any]) -> list[Leaf]:
    return [Leaf(item.path, item.size, item.digest, item.skipped) for item in artifacts]
