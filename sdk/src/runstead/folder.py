"""A project folder: what of it goes into a snapshot, hashed, as the manifest that the studio would make of it.

Digests are cached by path, size, times and inode, so that an unchanged folder is only looked at. A file whose
time stamps are
too young to tell one write from the next is not kept in the cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import time
from concurrent.futures import ThreadPoolExecutor

from .errors import RunsteadError, UserError
from .gitignore import Rules, lines_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Tuple

IGNORE_FILES = (".runignore", ".amlignore", ".gitignore")
ALWAYS = frozenset({".git", "__pycache__", ".ipynb_checkpoints", ".DS_Store"})
VENV_MARK = "pyvenv.cfg"
MAX_DEPTH = 100
MAX_HOPS = 40
MAX_TARGET = 4096
THREADS = 2
BLOCK = 1024 * 1024
TRIES = 3
CACHE_VERSION = "runstead hashes 1"
YOUNG_NS = 100_000_000
YOUNG_COARSE_NS = 3_000_000_000  # where time stamps are whole seconds
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
DRIVE = re.compile(r"[A-Za-z]:")


class Folder:
    """A scanned folder.

    `files`: (path, mode, size, SHA-256), sorted; `data`: the manifest; `digest`: the snapshot's id.
    """

    def __init__(self, path: str) -> None:
        if not os.path.isdir(path):
            raise UserError(
                "source_directory: there is no folder %r. The working directory is %s." % (path, os.getcwd())
            )
        self.path = path
        self.skipped: List[Tuple[str, str]] = []
        self.hashed = 0
        self.files: List[Tuple[str, int, int, str]] = []
        self._found: List[Tuple[str, os.stat_result]] = []
        self._links: Dict[str, str] = {}
        self._dirs: List[str] = []
        self._walk()
        self._hash_all(HashCache(path))
        self.files.sort()
        body = {"v": 1, "files": self.files, "links": sorted(self._links.items()), "dirs": sorted(self._dirs)}
        self.data = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
        self.digest = hashlib.sha256(self.data).hexdigest()

    # Walking

    def _rules(self) -> Tuple[str, Rules]:
        for name in IGNORE_FILES:
            path = os.path.join(self.path, name)
            if os.path.isfile(path):
                with open(path, "rb") as file:
                    return name, Rules(lines_of(file.read()))
        return "", Rules([])

    def _walk(self) -> None:
        self._source, self._ignore = self._rules()
        stack = [("", 0)]
        while stack:
            folder, depth = stack.pop()
            if depth >= MAX_DEPTH:
                raise UserError("%s…: it lies more than %d folders deep. Move it up." % (folder[:60], MAX_DEPTH))
            try:
                entries = list(os.scandir(os.path.join(self.path, folder) if folder else self.path))
            except OSError as error:
                if not folder:
                    raise UserError("source_directory: %s cannot be read: %s." % (self.path, error.strerror)) from None
                self.skipped.append((folder + "/", "cannot be read (%s)" % error.strerror))
                continue
            if folder and any(entry.name == VENV_MARK for entry in entries):
                self.skipped.append((folder + "/", "a virtual environment"))
                continue
            prefix = folder + "/" if folder else ""
            below: List[str] = []
            kept = [self._sort(prefix + entry.name, entry, below) for entry in entries]
            stack += [(path, depth + 1) for path in below]
            if folder and not any(kept):
                self._dirs.append(folder)
        self._check_links()

    def _sort(self, path: str, entry: os.DirEntry[str], below: List[str]) -> bool:
        try:
            path.encode()
        except UnicodeEncodeError:
            self.skipped.append((ascii(path)[1:-1], "its name is no text in UTF-8"))
            return False
        folder = entry.is_dir(follow_symlinks=False)
        why = self._why(path, folder)
        if why:
            self.skipped.append((path + "/" if folder else path, why))
            return False
        if folder:
            below.append(path)
            return True
        try:
            # Not the entry's own answer: on Windows that has no inode and may be stale.
            facts = entry.stat(follow_symlinks=False) if os.name == "posix" else os.lstat(entry.path)
            if stat.S_ISREG(facts.st_mode):
                self._found.append((path, facts))
            elif stat.S_ISLNK(facts.st_mode):
                self._links[path] = self._relative(path, os.readlink(entry.path))
            else:
                self.skipped.append((path, _kind(facts.st_mode)))
                return False
        except FileNotFoundError:
            return False
        except OSError as error:
            self.skipped.append((path, "cannot be read (%s)" % error.strerror))
            return False
        return True

    def _why(self, path: str, folder: bool) -> str:
        if path.rpartition("/")[2] in ALWAYS:
            return "always left out"
        line = self._ignore.why(path, folder)
        return "%s in %s" % (line, self._source) if line else ""

    def _relative(self, path: str, target: str) -> str:
        # A link by an absolute path into the folder becomes the relative one that means the same anywhere.
        base = os.path.realpath(self.path)
        if target.startswith(base + os.sep):
            target = os.path.relpath(target, os.path.dirname(os.path.join(base, *path.split("/"))))
        return target.replace(os.sep, "/")

    def _check_links(self) -> None:
        for path in sorted(self._links):
            why = _leads_out(path, self._links[path], self._links)
            if not why:
                continue
            self.skipped.append((path, why))
            del self._links[path]
            folder = path.rpartition("/")[0]
            inside = [*self._links, *self._dirs, *(name for name, _ in self._found)]
            if folder and not any(name.startswith(folder + "/") for name in inside):
                self._dirs.append(folder)

    # Hashing

    def _hash_all(self, cache: HashCache) -> None:
        entries: Dict[str, str] = {}
        todo: List[str] = []
        for path, facts in self._found:
            stamp = _stamp(facts)
            digest = cache.get(path, stamp)
            if digest is None:
                todo.append(path)
            else:
                entries[path] = "%s %s" % (stamp, digest)
                self.files.append((path, _mode(facts), facts.st_size, digest))
        self.hashed = len(todo)
        for path, found in zip(todo, self._hash_many(todo)):
            if found is None:
                continue  # removed since the walk: a folder without it is as true as one with it
            facts, digest = found
            self.files.append((path, _mode(facts), facts.st_size, digest))
            if _settled(facts):
                entries[path] = "%s %s" % (_stamp(facts), digest)
        cache.replace(entries)

    def _hash_many(self, paths: List[str]) -> List[Optional[Tuple[os.stat_result, str]]]:
        if len(paths) < 32:
            return [self._hash(path) for path in paths]
        # A chunk each, not a task each: handing one over costs as much as reading a small file.
        chunks = [paths[start : start + 64] for start in range(0, len(paths), 64)]
        with ThreadPoolExecutor(THREADS) as pool:
            parts = pool.map(lambda chunk: [self._hash(path) for path in chunk], chunks)
            return [found for part in parts for found in part]

    def _hash(self, path: str) -> Optional[Tuple[os.stat_result, str]]:
        for _ in range(TRIES):
            try:
                fd = _open(os.path.join(self.path, path))
            except FileNotFoundError:
                return None
            except OSError as error:
                raise UserError(
                    "%s cannot be read (%s). Allow it, or list it in .runignore." % (path, error.strerror)
                ) from None
            try:
                before = os.fstat(fd)
                sha256 = hashlib.sha256()
                while True:
                    block = os.read(fd, BLOCK)
                    if not block:
                        break
                    sha256.update(block)
                after = os.fstat(fd)
            finally:
                os.close(fd)
            if _stamp(before) == _stamp(after):
                return after, sha256.hexdigest()
        raise RunsteadError("%s changes while it is read. Stop what writes to it, or list it in .runignore." % path)

    def open(self, path: str) -> Any:
        """The file at `path` of the folder, for reading. Raises RunsteadError when it is gone."""
        try:
            return os.fdopen(_open(os.path.join(self.path, path)), "rb")
        except OSError as error:
            raise RunsteadError("%s cannot be read any more: %s. Submit again." % (path, error.strerror)) from None


class HashCache:
    """Digests of the files of one folder, in a small file below the user's cache directory."""

    def __init__(self, folder: str) -> None:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        name = hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:32]
        self._path = os.path.join(base, "runstead", "hashes", name)
        self._entries: Dict[str, str] = {}
        try:
            with open(self._path, encoding="utf-8", newline="") as file:
                head, *texts = file.read().split("\0")
            if head == CACHE_VERSION and len(texts) % 2 == 1:
                self._entries = dict(zip(texts[::2], texts[1::2]))
        except (OSError, UnicodeDecodeError):
            pass

    def get(self, path: str, stamp: str) -> Optional[str]:
        """The digest of a file with this stamp, if it is known."""
        entry = self._entries.get(path)
        return entry[-64:] if entry is not None and entry[:-65] == stamp else None

    def replace(self, entries: Dict[str, str]) -> None:
        """Keep exactly these; written by rename, and not at all where the cache directory is not writable."""
        if entries == self._entries:
            return
        texts = [CACHE_VERSION]
        for pair in entries.items():
            texts += pair
        draft = "%s.%d.%d" % (self._path, os.getpid(), time.monotonic_ns())
        try:
            os.makedirs(os.path.dirname(self._path), 0o700, exist_ok=True)
            with open(draft, "w", encoding="utf-8", newline="") as file:
                file.write("\0".join([*texts, ""]))
            os.replace(draft, self._path)
        except OSError:
            try:
                os.unlink(draft)
            except OSError:
                pass


def _open(path: str) -> int:
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    return os.open(path, flags)


def _stamp(facts: os.stat_result) -> str:
    return "%d %d %d %d" % (facts.st_size, facts.st_mtime_ns, facts.st_ino, facts.st_ctime_ns)


def _mode(facts: os.stat_result) -> int:
    return 0o755 if facts.st_mode & stat.S_IXUSR else 0o644


def _settled(facts: os.stat_result) -> bool:
    coarse = facts.st_mtime_ns % 1_000_000_000 == 0 and facts.st_ctime_ns % 1_000_000_000 == 0
    age = time.time_ns() - max(facts.st_mtime_ns, facts.st_ctime_ns)
    return age > (YOUNG_COARSE_NS if coarse else YOUNG_NS)


def _kind(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "a named pipe"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"


def _leads_out(path: str, target: str, links: Dict[str, str]) -> str:
    """Why a link cannot be kept, or an empty text.

    It is followed through the folder's own links, as a target machine would.
    """
    try:
        size = len(target.encode())
    except UnicodeEncodeError:
        return "The link's target is no text in UTF-8"
    if not target or size > MAX_TARGET or "\\" in target or CONTROL.search(target):
        return "The link's target is no plain path"
    if target.startswith("/") or DRIVE.match(target):
        return "The link is absolute"
    at = path.split("/")[:-1]
    rest = target.split("/")[::-1]
    hops = 0
    while rest:
        part = rest.pop()
        if part in ("", "."):
            continue
        if part == "..":
            if not at:
                return "The link leads out of the folder"
            at.pop()
            continue
        at.append(part)
        onward = links.get("/".join(at))
        if onward is not None:
            hops += 1
            if hops > MAX_HOPS:
                return "The link leads in a circle"
            if onward.startswith("/"):
                return "The link leads out of the folder"
            at.pop()
            rest.extend(onward.split("/")[::-1])
    return ""
