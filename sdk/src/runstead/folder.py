"""A project folder: what of it goes into a snapshot, hashed, as the manifest that the studio would make of it.

Digests are cached by path, size, times and inode, so that an unchanged folder is only looked at. A file whose time stamps are
too young to tell one write from the next is not kept in the cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import threading
from concurrent.futures import ThreadPoolExecutor

from .errors import RunsteadError, UserError
from .gitignore import Rules, lines_of
from .hash_cache import HashCache, settled, stamp_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional, Tuple

    Told = Callable[[str, int, int], None]
    """Of a stage (`reading`, `sending`): its name, the bytes that are done, all there are. It may be called from any thread."""

IGNORE_FILES = (".runignore", ".amlignore", ".gitignore")
ALWAYS = frozenset({".git", "__pycache__", ".ipynb_checkpoints", ".DS_Store"})
VENV_MARK = "pyvenv.cfg"
MAX_DEPTH = 100
MAX_HOPS = 40
MAX_TARGET = 4096
THREADS = min(8, os.cpu_count() or 2)
BLOCK = 1024 * 1024
MANY, LARGE = 32, 4 * BLOCK
"""Below both, files and bytes, threads would cost more than they save."""
TRIES = 3
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
DRIVE = re.compile(r"[A-Za-z]:")


class Folder:
    """A scanned folder.

    `files`: (path, mode, size, SHA-256), sorted; `data`: the manifest; `digest`: the snapshot's id. `skipped`: what was left out,
    and why; `refused`: the part of that which no ignore file asked for and which a script may miss. Names are as the operating
    system gives them: bytes that are not UTF-8 are halves of surrogate pairs in them, as `os.fsdecode` makes them.
    """

    def __init__(
        self,
        path: str,
        walked: Optional[Callable[[Folder], None]] = None,
        told: Optional[Told] = None,
        enough: Optional[int] = None,
    ) -> None:
        """`walked` is called before anything is read, when all is known but the digests; what it raises goes on. It is called
        early when there are more than `enough` files. `told`: how much has been read."""
        if not os.path.isdir(path):
            raise UserError(
                "source_directory: there is no folder %r. The working directory is %s." % (path, os.getcwd())
            )
        self.path = path
        self.skipped: List[Tuple[str, str]] = []
        self.refused: List[Tuple[str, str]] = []
        self.hashed = 0
        self.files: List[Tuple[str, int, int, str]] = []
        self._found: List[Tuple[str, os.stat_result]] = []
        self._links: Dict[str, str] = {}
        self._dirs: List[str] = []
        self._told, self._read, self._to_read = told, 0, 0
        self._counting = threading.Lock()
        self._walk(enough)
        if walked is not None:
            walked(self)
        self._hash_all(HashCache(path))
        self.files.sort()
        body = {"v": 1, "files": self.files, "links": sorted(self._links.items()), "dirs": sorted(self._dirs)}
        # What is no text stands in JSON as the escape of each byte's half of a surrogate pair.
        self.data = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
        self.digest = hashlib.sha256(self.data).hexdigest()

    @property
    def found(self) -> Tuple[int, int]:
        """How many files there are, and their bytes."""
        return len(self._found), sum(facts.st_size for _, facts in self._found)

    def largest(self, by_size: bool, count: int = 3) -> List[Tuple[str, int]]:
        """The entries of the folder with the most bytes, or the most files, below them."""
        tops: Dict[str, int] = {}
        for path, facts in self._found:
            top, below, _ = path.partition("/")
            tops[top + below] = tops.get(top + below, 0) + (facts.st_size if by_size else 1)
        return sorted(tops.items(), key=lambda pair: -pair[1])[:count]

    def check(self) -> None:
        """Whether the folder can be sent as it is. Raises UserError naming what is in the way."""
        if self.refused:
            path, why = self.refused[0]
            more = len(self.refused) - 1
            raise UserError(
                "source_directory: %s: %s. A target could not have it: list it in %s, or mend it.%s"
                % (path, why, self._source or ".runignore", " So it is with %d more." % more if more else "")
            )
        if self._found:
            return
        where = os.path.abspath(self.path)
        if not self.skipped:
            raise UserError("source_directory: %s is empty. Name the folder that holds the script." % where)
        example, why = self.skipped[0]
        raise UserError(
            "source_directory: nothing of %s is left to send. %d entries are left out, for example %s: %s."
            % (where, len(self.skipped), example, why)
        )

    # Walking

    def _rules(self) -> Tuple[str, Rules]:
        for name in IGNORE_FILES:
            path = os.path.join(self.path, name)
            if os.path.isfile(path):
                with open(path, "rb") as file:
                    return name, Rules(lines_of(file.read()))
        return "", Rules([])

    def _walk(self, enough: Optional[int]) -> None:
        self._source, self._ignore = self._rules()
        stack = [("", 0)]
        while stack:
            if enough is not None and len(self._found) > enough:
                return
            folder, depth = stack.pop()
            if depth >= MAX_DEPTH:
                raise UserError("%s…: it lies more than %d folders deep. Move it up." % (folder[:60], MAX_DEPTH))
            try:
                entries = list(os.scandir(os.path.join(self.path, folder) if folder else self.path))
            except OSError as error:
                if not folder:
                    raise UserError("source_directory: %s cannot be read: %s." % (self.path, error.strerror)) from None
                self._refuse(folder + "/", "cannot be read (%s)" % error.strerror)
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
            self._refuse(path, "cannot be read (%s)" % error.strerror)
            return False
        return True

    def _refuse(self, path: str, why: str) -> None:
        self.skipped.append((path, why))
        self.refused.append((path, why))

    def _why(self, path: str, folder: bool) -> str:
        if path.rpartition("/")[2] in ALWAYS:
            return "always left out"
        line = self._ignore.why(path, folder)
        return "%s in %s" % (line, self._source) if line else ""

    def _relative(self, path: str, target: str) -> str:
        # A link by an absolute path into the folder becomes the relative one that means the same anywhere.
        base = os.path.realpath(self.path)
        if target.startswith("\\\\?\\"):  # how Windows spells where a link leads
            target = target[4:]
        if target.startswith(base + os.sep):
            target = os.path.relpath(target, os.path.dirname(os.path.join(base, *path.split("/"))))
        return target.replace(os.sep, "/")

    def _check_links(self) -> None:
        for path in sorted(self._links):
            why = _leads_out(path, self._links[path], self._links)
            if not why:
                continue
            self._refuse(path, why)
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
            stamp = stamp_of(facts)
            digest = cache.get(path, stamp)
            if digest is None:
                todo.append(path)
                self._to_read += facts.st_size
            else:
                entries[path] = "%s %s" % (stamp, digest)
                self.files.append((path, _mode(facts), facts.st_size, digest))
        self.hashed = len(todo)
        for path, found in zip(todo, self._hash_many(todo)):
            if found is None:
                continue  # removed since the walk: a folder without it is as true as one with it
            facts, digest = found
            self.files.append((path, _mode(facts), facts.st_size, digest))
            if settled(facts):
                entries[path] = "%s %s" % (stamp_of(facts), digest)
        cache.replace(entries)

    def _hash_many(self, paths: List[str]) -> List[Optional[Tuple[os.stat_result, str]]]:
        if len(paths) < 2 or (len(paths) < MANY and self._to_read < LARGE):
            return [self._hash(path) for path in paths]
        # A chunk each, not a task each: handing one over costs as much as reading a small file.
        each = max(1, min(64, len(paths) // (4 * THREADS)))
        chunks = [paths[start : start + each] for start in range(0, len(paths), each)]
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
                    if self._told is not None:
                        self._tell(len(block))
                after = os.fstat(fd)
            finally:
                os.close(fd)
            if stamp_of(before) == stamp_of(after):
                return after, sha256.hexdigest()
        raise RunsteadError("%s changes while it is read. Stop what writes to it, or list it in .runignore." % path)

    def _tell(self, count: int) -> None:
        assert self._told is not None
        with self._counting:
            self._read += count
            done = min(self._read, self._to_read)  # what changes while it is read is read again
        self._told("reading", done, self._to_read)

    def open(self, path: str) -> Any:
        """The file at `path` of the folder, for reading. Raises RunsteadError when it is gone."""
        try:
            return os.fdopen(_open(os.path.join(self.path, path)), "rb")
        except OSError as error:
            raise RunsteadError("%s cannot be read any more: %s. Submit again." % (path, error.strerror)) from None


def _open(path: str) -> int:
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    return os.open(path, flags)


def _mode(facts: os.stat_result) -> int:
    return 0o755 if facts.st_mode & stat.S_IXUSR else 0o644


def _kind(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "a named pipe"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"


def _leads_out(path: str, target: str, links: Dict[str, str]) -> str:
    """Why a link cannot be kept, or an empty text.

    It is followed through the folder's own links, as a target machine would.
    """
    size = len(target.encode("utf-8", "replace"))
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
