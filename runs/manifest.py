"""What a snapshot holds, as bytes: the manifest. Names are validated first, all of them, and rejected, never
repaired.

A manifest that passed can be laid out on any target: no name leaves the tree, none is reached through a link,
and none meets another on a file system that folds case or Unicode forms.
"""

import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Self

from django.conf import settings

MAX_PATH = 4096
MAX_PART = 255
MAX_DEPTH = 100
MAX_HOPS = 40
MODES = frozenset({0o644, 0o755})
EMPTY = hashlib.sha256(b"").hexdigest()
ENTRY_BYTES = 512
"""What an entry takes at most on average; the size of a manifest is limited to this many bytes a file."""

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
DRIVE = re.compile(r"[A-Za-z]:")
DIGEST = re.compile(r"[0-9a-f]{64}\Z")
TOP = re.compile(rb'\["([^"/\\]*)[/"]')
KEYS = {"v", "files", "links", "dirs"}


class SnapshotError(ValueError):
    """A folder that cannot become a snapshot: which path, which rule, and how to mend it."""

    def __init__(self, path: str, rule: str, fix: str) -> None:
        self.path = path
        self.rule = rule
        self.fix = fix
        super().__init__(f"{path!r}: {rule} {fix}" if path else f"{rule} {fix}")


class FileEntry(NamedTuple):
    path: str
    mode: int
    size: int
    digest: str


@dataclass(frozen=True)
class Manifest:
    """The parsed form. ``data`` are the bytes, and their SHA-256 is the snapshot's id."""

    files: tuple[FileEntry, ...]
    links: tuple[tuple[str, str], ...]
    dirs: tuple[str, ...]
    data: bytes

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(entry.size for entry in self.files)

    def contents(self) -> dict[str, int]:
        """Digest → bytes of every content."""
        return {entry.digest: entry.size for entry in self.files}

    @classmethod
    def build(
        cls,
        files: Iterable[FileEntry],
        links: Iterable[tuple[str, str]] = (),
        dirs: Iterable[str] = (),
    ) -> Self:
        """Make a manifest of what a folder holds, in any order. Not validated: ``check`` does that."""
        listed = tuple(sorted(files)), tuple(sorted(links)), tuple(sorted(dirs))
        return cls(*listed, encode(*listed))

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a manifest and check every rule. Raises SnapshotError for the first that is broken."""
        check_length(data)
        try:
            body = json.loads(data.decode("utf-8"))
        except (UnicodeDecodeError, ValueError, RecursionError) as error:
            raise SnapshotError("", f"The manifest is no JSON in UTF-8 ({error}).", "Send it as documented.") from None
        check_shape(body)
        manifest = cls._of(body, data).check()
        if encode(manifest.files, manifest.links, manifest.dirs) != data:
            raise SnapshotError(
                "",
                "The manifest is not in its one form.",
                "Send compact JSON: no white space, no escapes beyond the needed.",
            )
        return manifest

    def check(self) -> Self:
        """Return self when names, sizes and limits keep the rules. Raises SnapshotError for the first that is
        broken."""
        check_limits(self.files)
        Names().check(self.files, self.links, self.dirs)
        check_sizes(self.files)
        return self

    @classmethod
    def trusted(cls, data: bytes) -> Self:
        """Read a manifest that ``parse`` has passed before, with names as pages and databases can show them."""
        found = cls._of(json.loads(data), data)
        if rb"\udc" not in data:
            return found
        files = tuple(entry._replace(path=shown(entry.path)) for entry in found.files)
        links = tuple((shown(path), shown(target)) for path, target in found.links)
        return cls(files, links, tuple(map(shown, found.dirs)), data)

    @classmethod
    def _of(cls, body: Any, data: bytes) -> Self:
        links = tuple((path, target) for path, target in body["links"])
        return cls(tuple(map(FileEntry._make, body["files"])), links, tuple(body["dirs"]), data)


def encode(files: Sequence[FileEntry], links: Sequence[tuple[str, str]], dirs: Sequence[str]) -> bytes:
    """The one form of a manifest's bytes, so that equal folders have equal ids.

    A byte of a name that is not UTF-8 is half of a surrogate pair, as ``os.fsdecode`` makes it, and stands there as its escape.
    """
    body = {"v": 1, "files": files, "links": links, "dirs": dirs}
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


def shown(path: str) -> str:
    """A name as text: ``\\xff`` for a byte that is not UTF-8. Two names never look alike, since no name holds a backslash."""
    return path if path.isascii() else path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def max_bytes() -> int:
    """The longest manifest that is read at all."""
    return 65_536 + int(settings.SNAPSHOT_MAX_FILES) * ENTRY_BYTES


def check_length(data: bytes) -> None:
    """Refuse, before parsing takes memory, what cannot be within the limit of files."""
    limit = int(settings.SNAPSHOT_MAX_FILES)
    count = data.count(b"],[")
    if len(data) > max_bytes() or count > 2 * limit + 1000:
        tops = Counter(match[1].decode("utf-8", "replace") for match in TOP.finditer(data))
        raise _too_many(f"about {count + 1:,}", limit, tops)


def _too_many(count: str, limit: int, tops: "Counter[str]") -> SnapshotError:
    largest = ", ".join(f"{name}/ ({number:,} files)" for name, number in tops.most_common(3))
    return SnapshotError(
        "",
        f"The folder has {count} files; the limit is {limit:,}.",
        f"Most are in {largest}: list what the script does not need in .runignore, or ask an administrator "
        "to raise RUNSTEAD_SNAPSHOT_MAX_FILES.",
    )


def check_limits(files: Sequence[FileEntry]) -> None:
    limit = int(settings.SNAPSHOT_MAX_FILES)
    if len(files) > limit:
        raise _too_many(f"{len(files):,}", limit, Counter(entry.path.partition("/")[0] for entry in files))
    total = sum(entry.size for entry in files)
    if total > settings.SNAPSHOT_MAX_BYTES:
        tops: Counter[str] = Counter()
        for path, _, size, _ in files:
            tops[path.partition("/")[0]] += size
        largest = ", ".join(f"{name} ({readable(size)})" for name, size in tops.most_common(3))
        raise SnapshotError(
            "",
            f"The folder has {readable(total)}; the limit is {readable(settings.SNAPSHOT_MAX_BYTES)}.",
            f"The largest are {largest}: list what the script does not need in .runignore, or ask an "
            "administrator to raise RUNSTEAD_SNAPSHOT_MAX_BYTES.",
        )


def readable(size: float) -> str:
    units = ["bytes", "KB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size /= 1000
        del units[0]
    return f"{size:,.0f} {units[0]}" if units[0] == "bytes" or size >= 10 else f"{size:.1f} {units[0]}"


def check_shape(body: Any) -> None:
    """Whether the parsed JSON has the lists and entries that a manifest has, with plausible modes, sizes and
    digests."""
    fix = "Send it as documented."
    if not isinstance(body, dict) or set(body) != KEYS or body["v"] != 1 or isinstance(body["v"], bool):
        raise SnapshotError("", "The manifest must have exactly v (1), files, links and dirs.", fix)
    files, links, dirs = body["files"], body["links"], body["dirs"]
    if not (isinstance(files, list) and isinstance(links, list) and isinstance(dirs, list)):
        raise SnapshotError("", "files, links and dirs must be lists.", fix)
    for entry in files:
        if type(entry) is not list or len(entry) != 4 or type(entry[0]) is not str:
            raise SnapshotError("", "An entry of files must be [path, mode, size, sha256].", fix)
        path, mode, size, digest = entry
        if type(mode) is not int or mode not in MODES:
            raise SnapshotError(path, f"Mode {mode!r} is not allowed.", "Use 420 (0644) or 493 (0755).")
        if type(size) is not int or not 0 <= size < 2**53:
            raise SnapshotError(path, f"Size {size!r} is no number of bytes.", fix)
        if type(digest) is not str or not DIGEST.match(digest):
            raise SnapshotError(path, "The digest is no SHA-256.", "Use 64 lower-case hex digits.")
    for entry in links:
        if type(entry) is not list or len(entry) != 2 or not all(type(text) is str for text in entry):
            raise SnapshotError("", "An entry of links must be [path, target].", fix)
    if not all(type(path) is str for path in dirs):
        raise SnapshotError("", "An entry of dirs must be a path.", fix)


def check_sizes(files: Sequence[FileEntry]) -> None:
    sizes: dict[str, int] = {}
    for path, _, size, digest in files:
        if (size == 0) != (digest == EMPTY):
            raise SnapshotError(path, "Size and digest contradict each other.", "Hash the file again.")
        if sizes.setdefault(digest, size) != size:
            raise SnapshotError(path, "Another file has the same digest and another size.", "Hash the file again.")


class Names:
    """The rules of names, over all entries of a manifest together."""

    def __init__(self) -> None:
        self.folders: dict[str, str] = {"": ""}
        """Folded → written form of every folder that an entry lies in."""
        self.leaves: dict[str, str] = {}
        """Folded → written form of every file, link and empty folder."""
        self.known: set[str] = {""}

    def check(self, files: Sequence[FileEntry], links: Sequence[tuple[str, str]], dirs: Sequence[str]) -> None:
        for paths in ([entry[0] for entry in files], [entry[0] for entry in links], dirs):
            before = ""
            for path in paths:
                self._add(path)
                if path <= before:
                    raise SnapshotError(path, f"It is listed after {before!r}.", "Sort by path, by code points.")
                before = path
        for folded, path in self.leaves.items():
            if folded in self.folders:
                raise self._below(path, links, dirs)
        targets = dict(links)
        for path, target in targets.items():
            check_target(path, target, targets)

    def _add(self, path: str) -> None:
        head, _, tail = path.rpartition("/")
        # Most files share their folder with the one before: only the last part is new.
        if head in self.known and tail:
            if not head and DRIVE.match(tail):
                raise _drive(path)
            check_parts(path, (tail,))
            if len(path) > MAX_PATH // 4 and len(path.encode("utf-8", "surrogateescape")) > MAX_PATH:
                raise _too_long(path)
        else:
            check_name(path)
            self._enter(head)
        folded = fold(path)
        if (twin := self.leaves.setdefault(folded, path)) is not path:
            raise _twin(path, twin)

    def _enter(self, head: str) -> None:
        while head not in self.known:
            self.known.add(head)
            if (twin := self.folders.setdefault(fold(head), head)) != head:
                raise _twin(head, twin)
            head = head.rpartition("/")[0]

    def _below(self, path: str, links: Sequence[tuple[str, str]], dirs: Sequence[str]) -> SnapshotError:
        folder = self.folders[fold(path)]
        if path in dirs:
            return SnapshotError(path, "It is listed as an empty folder and has files.", "List only empty folders.")
        kind = "link" if any(path == entry[0] for entry in links) else "file"
        return SnapshotError(
            path,
            f"It is a {kind}, and other entries lie below {folder!r}.",
            "Rename or leave out one of them.",
        )


def check_name(path: str) -> None:
    """Check one path by itself. Raises SnapshotError."""
    if not path:
        raise SnapshotError(path, "The name is empty.", "Give every entry a path.")
    if path.startswith("/"):
        raise SnapshotError(path, "The path is absolute.", "Use paths relative to the folder.")
    if DRIVE.match(path):
        raise _drive(path)
    parts = path.split("/")
    check_parts(path, parts)
    if len(parts) > MAX_DEPTH:
        raise SnapshotError(
            f"{path[:60]}…", f"It lies {len(parts):,} folders deep; the limit is {MAX_DEPTH}.", "Move it up."
        )
    if len(path.encode("utf-8", "surrogateescape")) > MAX_PATH:
        raise _too_long(path)


def check_parts(path: str, parts: Iterable[str]) -> None:
    for part in parts:
        if part in {"", ".", ".."}:
            rule = "The path has an empty part." if not part else f"The path has the part {part!r}."
            raise SnapshotError(path, rule, "Use the plain path inside the folder.")
        if "\\" in part:
            raise SnapshotError(path, "The name holds a backslash.", "Use '/' between folders, and no '\\' in names.")
        if CONTROL.search(part):
            raise SnapshotError(path, "The name holds a control character.", "Rename the file.")
        length = len(part) if part.isascii() else _length(part)
        if length < 0:
            raise SnapshotError(ascii(path), "The name is none that a file can have.", "Rename the file.")
        if length > MAX_PART:
            raise SnapshotError(
                f"{path[:60]}…", f"A name in it has {length:,} bytes; the limit is {MAX_PART}.", "Rename it."
            )


def check_target(path: str, target: str, links: dict[str, str]) -> None:
    """Follow a link through the manifest's own links, as a target machine would; it must stay inside the
    tree.

    Joining the texts would not do: ``a/..`` is the parent of what ``a`` points to.
    """
    rule, fix = "The link leads out of the folder.", "Point it inside the folder, or leave it out."
    if not target or len(target.encode("utf-8", "replace")) > MAX_PATH or "\\" in target or CONTROL.search(target):
        raise SnapshotError(path, "The link's target is no plain path.", fix)
    if _length(target) < 0:
        raise SnapshotError(path, "The link's target is no plain path.", fix)
    if target.startswith("/") or DRIVE.match(target):
        raise SnapshotError(path, "The link is absolute.", fix)
    at = path.split("/")[:-1]
    rest = target.split("/")[::-1]
    hops = 0
    while rest:
        part = rest.pop()
        if part in {"", "."}:
            continue
        if part == "..":
            if not at:
                raise SnapshotError(path, rule, fix)
            at.pop()
            continue
        at.append(part)
        onward = links.get("/".join(at))
        if onward is not None:
            hops += 1
            if hops > MAX_HOPS:
                raise SnapshotError(path, "The link leads in a circle.", fix)
            if onward.startswith("/"):
                raise SnapshotError(path, rule, fix)
            at.pop()
            rest.extend(onward.split("/")[::-1])


def fold(path: str) -> str:
    """The form in which two names meet on a file system that ignores case and Unicode forms."""
    if path.isascii():
        return path.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def _length(text: str) -> int:
    """Bytes of a name on a disk; -1 when it is not the one text for its bytes."""
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return -1
    return len(data) if data.decode("utf-8", "surrogateescape") == text else -1


def _drive(path: str) -> SnapshotError:
    return SnapshotError(path, "The path begins with a drive letter.", "Use paths relative to the folder.")


def _too_long(path: str) -> SnapshotError:
    length = len(path.encode())
    return SnapshotError(f"{path[:60]}…", f"The path has {length:,} bytes; the limit is {MAX_PATH:,}.", "Shorten it.")


def _twin(path: str, twin: str) -> SnapshotError:
    if path == twin:
        return SnapshotError(path, "It is listed twice.", "List every path once.")
    return SnapshotError(path, f"It differs from {twin!r} only by case or Unicode form.", "Rename one of them.")
