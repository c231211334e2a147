"""A project folder on this machine: what of it goes into a snapshot, hashed, as a manifest.

Only what changed is read: a cache keeps the digest of each file under its size, times and inode. It is as
good as git's index: a file whose time stamps are too young to tell one write from the next is not kept in it.
"""

import contextlib
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple, TypeVar

from runs.ignore import NAMES, VENV_MARK, IgnoreRules
from runs.manifest import MAX_DEPTH, FileEntry, Manifest, SnapshotError, check_target

THREADS = 2
BLOCK = 1024 * 1024
TRIES = 3
CACHE_VERSION = "runstead hashes 1"
YOUNG_NS = 100_000_000
YOUNG_COARSE_NS = 3_000_000_000  # where time stamps are whole seconds, as on FAT and some network file systems

T = TypeVar("T")


class Skipped(NamedTuple):
    path: str
    why: str


@dataclass(frozen=True)
class Scan:
    """A folder as it was: its manifest (not validated yet), what was left out and why, and how much was
    read."""

    folder: Path
    manifest: Manifest
    skipped: tuple[Skipped, ...]
    hashed_files: int
    hashed_bytes: int
    ignore_file: str = ""


class HashCache:
    """Digests of the files of one folder, in a small file below the user's cache directory.

    The file holds path, stamp and digest of each, every text ended by a NUL, which no path contains.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: dict[str, str] = {}
        with contextlib.suppress(OSError):
            head, *texts = path.read_text("utf-8", "surrogateescape").split("\0")
            if head == CACHE_VERSION and len(texts) % 2 == 1:
                self.entries = dict(zip(texts[::2], texts[1::2], strict=False))

    @classmethod
    def of(cls, folder: Path) -> "HashCache":
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        name = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:32]
        return cls(base / "runstead" / "hashes" / name)

    def get(self, path: str, stamp: str) -> str | None:
        entry = self.entries.get(path)
        return entry[-64:] if entry is not None and entry[:-65] == stamp else None

    def replace(self, entries: dict[str, str]) -> None:
        """Keep exactly these; written by rename, and not at all when the cache directory is not writable."""
        if entries == self.entries:
            return
        self.entries = entries
        draft = self.path.with_name(f"{self.path.name}.{os.getpid()}.{time.monotonic_ns()}")
        texts = [CACHE_VERSION, *chain.from_iterable(entries.items()), ""]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            draft.write_text("\0".join(texts), "utf-8", "surrogateescape")
            draft.replace(self.path)
        except OSError:
            draft.unlink(missing_ok=True)


@dataclass
class _Walk:
    """What the walk of a folder finds, before anything is read."""

    rules: IgnoreRules
    files: list[tuple[str, os.stat_result]] = field(default_factory=list)
    links: dict[str, str] = field(default_factory=dict)
    dirs: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


def scan(folder: str | os.PathLike[str], cache: HashCache | None = None) -> Scan:
    """Read a folder. ``cache`` defaults to the folder's own.

    Raises SnapshotError when the folder cannot be read, is too deep, or a file keeps changing while it is
    read.
    """
    root = Path(folder)
    if not root.is_dir():
        raise SnapshotError(str(folder), "There is no such folder.", "Name the folder that holds the script.")
    cache = HashCache.of(root) if cache is None else cache
    walk = _walk(root)
    entries: dict[str, str] = {}
    todo: list[str] = []
    files: list[FileEntry] = []
    for path, facts in walk.files:
        stamp = _stamp(facts)
        digest = cache.get(path, stamp)
        if digest is None:
            todo.append(path)
        else:
            entries[path] = f"{stamp} {digest}"
            files.append(FileEntry(path, _mode(facts), facts.st_size, digest))
    hashed_bytes = 0
    for path, hashed in zip(todo, _parallel(partial(_hash, root), todo), strict=True):
        if hashed is None:
            continue  # Removed since the walk: a folder without it is as true as one with it.
        facts, digest = hashed
        files.append(FileEntry(path, _mode(facts), facts.st_size, digest))
        hashed_bytes += facts.st_size
        if _settled(facts):
            entries[path] = f"{_stamp(facts)} {digest}"
    cache.replace(entries)
    manifest = Manifest.build(files, walk.links.items(), walk.dirs)
    return Scan(root, manifest, tuple(sorted(walk.skipped)), len(todo), hashed_bytes, walk.rules.name)


def _walk(root: Path) -> _Walk:
    names = {name for name in NAMES if (root / name).is_file()}
    walk = _Walk(IgnoreRules.of(names, lambda name: (root / name).read_bytes()))
    stack = [("", 0)]
    while stack:
        folder, depth = stack.pop()
        if depth >= MAX_DEPTH:
            raise SnapshotError(f"{folder[:60]}…", f"It lies more than {MAX_DEPTH} folders deep.", "Move it up.")
        try:
            found = list(os.scandir(root / folder if folder else root))
        except OSError as error:
            if not folder:
                raise SnapshotError(str(root), f"It cannot be read ({error.strerror}).", "Allow it.") from error
            walk.skipped.append(Skipped(f"{folder}/", f"cannot be read ({error.strerror})"))
            continue
        if folder and any(entry.name == VENV_MARK for entry in found):
            walk.skipped.append(Skipped(f"{folder}/", "a virtual environment"))
            continue
        prefix = f"{folder}/" if folder else ""
        below: list[str] = []
        kept = [_sort(walk, root, prefix + entry.name, entry, below) for entry in found]
        stack += [(path, depth + 1) for path in below]
        if folder and not any(kept):
            walk.dirs.append(folder)
    _check_links(walk)
    return walk


def _sort(walk: _Walk, root: Path, path: str, entry: "os.DirEntry[str]", below: list[str]) -> bool:
    """Put one directory entry where it belongs, a folder into ``below``; return whether it is kept."""
    folder = entry.is_dir(follow_symlinks=False)
    why = walk.rules.why(path, folder=folder)
    if why:
        walk.skipped.append(Skipped(f"{path}/" if folder else path, why))
        return False
    if folder:
        below.append(path)
        return True
    try:
        facts = entry.stat(follow_symlinks=False)
        if stat.S_ISREG(facts.st_mode):
            walk.files.append((path, facts))
        elif stat.S_ISLNK(facts.st_mode):
            walk.links[path] = _relative(root, path, str(Path(entry.path).readlink()))
        else:
            walk.skipped.append(Skipped(path, _kind(facts.st_mode)))
            return False
    except FileNotFoundError:
        return False
    except OSError as error:
        walk.skipped.append(Skipped(path, f"cannot be read ({error.strerror})"))
        return False
    return True


def _relative(root: Path, path: str, target: str) -> str:
    """A link by an absolute path into the folder, as the relative one that means the same anywhere."""
    base = str(root.resolve())
    if target.startswith(f"{base}/"):
        return os.path.relpath(target, (Path(base) / path).parent)
    return target


def _check_links(walk: _Walk) -> None:
    for path in sorted(walk.links):
        try:
            check_target(path, walk.links[path], walk.links)
        except SnapshotError as error:
            walk.skipped.append(Skipped(path, error.rule.rstrip(".")))
            del walk.links[path]
            folder = path.rpartition("/")[0]
            # What was left in this folder may have been this link alone: then the folder is an empty one.
            inside = (*walk.links, *walk.dirs, *(name for name, _ in walk.files))
            if folder and not any(name.startswith(f"{folder}/") for name in inside):
                walk.dirs.append(folder)


def _kind(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "a named pipe"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"


def _stamp(facts: os.stat_result) -> str:
    return f"{facts.st_size} {facts.st_mtime_ns} {facts.st_ino} {facts.st_ctime_ns}"


def _mode(facts: os.stat_result) -> int:
    return 0o755 if facts.st_mode & stat.S_IXUSR else 0o644


def _settled(facts: os.stat_result) -> bool:
    """Whether a later write would show in the time stamps."""
    coarse = facts.st_mtime_ns % 1_000_000_000 == 0 and facts.st_ctime_ns % 1_000_000_000 == 0
    age = time.time_ns() - max(facts.st_mtime_ns, facts.st_ctime_ns)
    return age > (YOUNG_COARSE_NS if coarse else YOUNG_NS)


def _hash(root: Path, path: str) -> tuple[os.stat_result, str] | None:
    """Read a file until it holds still for one whole reading; None when it is gone."""
    full = f"{root}/{path}"
    for _ in range(TRIES):
        try:
            descriptor = os.open(full, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SnapshotError(
                path, f"It cannot be read ({error.strerror}).", "Allow it, or list it in .runignore."
            ) from error
        try:
            before = os.fstat(descriptor)
            sha256 = hashlib.sha256()
            while block := os.read(descriptor, BLOCK):
                sha256.update(block)
            after = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        if _stamp(before) == _stamp(after):
            return after, sha256.hexdigest()
    raise SnapshotError(path, "It changes while it is read.", "Stop what writes to it, or list it in .runignore.")


def _parallel(work: Callable[[str], T], items: list[str]) -> Iterable[T]:
    if len(items) < 32:
        return map(work, items)
    # A chunk each, not a future each: handing one over costs as much as reading a small file.
    chunks = [items[start : start + 64] for start in range(0, len(items), 64)]
    with ThreadPoolExecutor(THREADS) as pool:
        return [result for part in pool.map(lambda chunk: [work(path) for path in chunk], chunks) for result in part]
