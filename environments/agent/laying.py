"""Folders laid out from manifests: a new one, or one that is there turned into another.

Creating a file is what costs, far more than its bytes. So each takes one open, write and close, relative to its folder's
descriptor, and what is already as it should be is not touched.
"""

import errno
import fcntl
import os
import stat

from . import files
from .layout import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Set

    from .blobs import Blobs

_FICLONE = 0x40049409
_CLONED = 1 << 20
"""From this size on blocks are shared where the file system can. Sharing first writes out what was just received, and costs a
small file more than its copy."""
_PIECE = 1 << 20
_NO_NAMES = ("", ".", "..")
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Tree(object):
    """What a folder holds, as a manifest says it (`listed`: its JSON). Raises Refused for one that leads out of the folder."""

    def __init__(self, listed: "Dict[str, Any]") -> None:
        if listed.get("v") != 1:
            raise Refused("bad_request", "manifest: version 1 is understood, got %r" % listed.get("v"))
        found = {key: listed.get(key) or [] for key in ("files", "links", "dirs")}
        self.files: "Dict[str, List[Any]]" = {entry[0]: entry for entry in found["files"]}
        self.links: "Dict[str, str]" = dict(found["links"])
        self.folders: "Set[str]" = set()
        """All of them, also those that hold something; the tree's own is not among them."""
        paths = list(self.files) + list(self.links)
        _check_paths(paths + found["dirs"])
        for path, leads_to in self.links.items():
            _check_link(path, leads_to)
        if len(set(paths)) < len(found["files"]) + len(found["links"]):
            raise Refused("bad_request", "manifest: a path is listed twice")
        todo = set(found["dirs"]).union(path.rpartition("/")[0] for path in paths)
        while todo:
            todo -= self.folders
            todo.discard("")
            self.folders |= todo
            todo = {path.rpartition("/")[0] for path in todo}

    def beside(self, other: "Tree") -> "List[List[Any]]":
        """Files that `other` has otherwise, or not at all: [path, mode, size, digest] each."""
        same = other.files.get
        return [entry for path, entry in self.files.items() if same(path) != entry]


def lay_out(blobs: "Blobs", tree: Tree, target: str) -> None:
    """Make the new folder `target`, and the tree in it. Raises Refused("blobs_missing") when contents lack."""
    os.mkdir(target, 0o700)
    mend(blobs, EMPTY, tree, target)


def mend(blobs: "Blobs", have: Tree, want: Tree, target: str, go_on: "Callable[[], None]" = lambda: None) -> None:
    """Turn the folder `target`, in which `have` was laid out and nothing else, into `want`. `go_on` is called before each file,
    and may raise. Raises Refused("blobs_missing") when contents lack."""
    for entry in have.beside(want):
        os.unlink(os.path.join(target, entry[0]))
    for path, leads_to in have.links.items():
        if want.links.get(path) != leads_to:
            os.unlink(os.path.join(target, path))
    for path in sorted(have.folders - want.folders, reverse=True):  # what is inside comes before what it is in
        os.rmdir(os.path.join(target, path))
    for path in sorted(want.folders - have.folders):
        os.mkdir(os.path.join(target, path), 0o755)
    _write(blobs, want.beside(have), target, go_on)
    for path, leads_to in want.links.items():
        if have.links.get(path) != leads_to:
            os.symlink(leads_to, os.path.join(target, path))


def _write(blobs: "Blobs", entries: "List[List[Any]]", target: str, go_on: "Callable[[], None]") -> None:
    where, folder = "", files.open_folder(target)
    try:
        for path, mode, size, digest in entries:
            go_on()
            place, _, name = path.rpartition("/")
            if place != where:
                os.close(folder)
                folder = -1
                where, folder = place, files.open_folder(os.path.join(target, place))
            source = blobs.open(digest, size)
            try:
                _create(source, folder, name, mode, size)
            finally:
                os.close(source)
    finally:
        if folder >= 0:
            os.close(folder)


def _create(source: int, folder: int, name: str, mode: int, size: int) -> None:
    allowed = 0o755 if mode & stat.S_IXUSR else 0o644
    fd = os.open(name, _CREATE, allowed, dir_fd=folder)
    try:
        os.fchmod(fd, allowed)  # the agent's umask is not for a run's files
        if size < _CLONED:
            files.write_all(fd, files.read_all(source, size))
        elif not _clone(source, fd):
            # Quicker than the kernel's own copying, which goes through a pipe.
            while True:
                data = os.read(source, _PIECE)
                if not data:
                    break
                files.write_all(fd, data)
    finally:
        os.close(fd)


def _clone(source: int, target: int) -> bool:
    """Share the blocks, copied on write. Never a hard link: the script may write to its files."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
        return True
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.ENOSYS, errno.EINVAL):
            return False
        raise


def _check_paths(paths: "List[str]") -> None:
    # All at once, since this is in the way of each run; only to name the wrong one they are looked at one by one.
    text = "/%s/" % "/\0/".join(paths)
    if paths and (text.count("\0") >= len(paths) or any("/%s/" % name in text for name in _NO_NAMES)):
        for path in paths:
            if "\0" in path or any(part in _NO_NAMES for part in path.split("/")):
                raise Refused("bad_request", "manifest: %r is no plain relative path" % (path,))


def _check_link(path: str, leads_to: str) -> None:
    inside = os.path.normpath(os.path.join(os.path.dirname(path), leads_to))
    if os.path.isabs(leads_to) or inside == ".." or inside.startswith("../"):
        raise Refused("bad_request", "manifest: the link %r leads out of the folder" % path)


EMPTY = Tree({"v": 1})
