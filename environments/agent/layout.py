"""Names below a target's root. Ids are checked here, so that no request can name a path of its own."""

import fcntl
import os
import re
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List

KINDS = ("runs", "builds")
_ATTEMPT = re.compile(r"[0-9a-f]{32}\Z")
_GET_FLAGS, _SET_FLAGS = ((way << 30) | (struct.calcsize("l") << 16) | (ord("f") << 8) | 3 - way for way in (2, 1))
_UNRELATED = 0x20000  # FS_TOPDIR_FL
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")


class Refused(Exception):
    """A request the agent will not carry out. `code` is for programs, the text for people."""

    def __init__(self, code: str, message: str, permanent: bool = True) -> None:
        Exception.__init__(self, message)
        self.code = code
        self.permanent = permanent


def digest_of(value: object) -> str:
    """The value as a SHA-256 in lower-case hex, or Refused."""
    if not isinstance(value, str) or not _DIGEST.match(value):
        raise Refused("bad_request", "digest: 64 lower-case hex digits are needed, got %r" % (value,))
    return value


class Layout(object):
    """Paths below one root."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.agent = os.path.join(root, "agent")
        self.lib = os.path.join(root, "lib")
        self.blobs = os.path.join(root, "blobs")
        self.envs = os.path.join(root, "envs")
        self.tools = os.path.join(root, "tools")
        self.spares = os.path.join(root, "spares")

    def make(self) -> None:
        """Create the root's folders, private."""
        for name in ("agent", "lib", "blobs", "envs", "runs", "builds", "cache", "tools", "spares"):
            os.makedirs(os.path.join(self.root, name), 0o700, exist_ok=True)
        for name in ("blobs", "runs", "builds", "envs", "spares"):
            _spread(os.path.join(self.root, name))

    def attempt(self, kind: object, attempt: object) -> str:
        """Folder of an attempt. Raises Refused for anything that is no kind or id."""
        if kind not in KINDS:
            raise Refused("bad_request", "dir: one of runs, builds is needed, got %r" % (kind,))
        if not isinstance(attempt, str) or not _ATTEMPT.match(attempt):
            raise Refused("bad_request", "attempt: 32 lower-case hex digits are needed, got %r" % (attempt,))
        return os.path.join(self.root, str(kind), attempt)

    def find(self, attempt: object) -> str:
        """Folder of an attempt of either kind: the one that exists, else the run's."""
        path = self.attempt("runs", attempt)
        if not os.path.isdir(path):
            build = self.attempt("builds", attempt)
            if os.path.isdir(build):
                return build
        return path

    def blob(self, digest: str) -> str:
        """Where the content with this SHA-256 is or would be."""
        return os.path.join(self.blobs, digest[:2], digest)

    def attempts(self, kind: str) -> "List[str]":
        """Ids of the attempts that have a folder."""
        try:
            names = os.listdir(os.path.join(self.root, kind))
        except OSError:
            return []
        return sorted(name for name in names if _ATTEMPT.match(name))


def _spread(folder: str) -> None:
    """Tell the file system that the folders in this one have nothing to do with each other (`chattr +T`), where it can be told.

    ext4 then gives each a region of its own. Otherwise they share the region of those just removed, where ext4 without a journal
    passes over every file deleted in the last minutes for each that it creates: 10,000 files took 4 to 12 s instead of 0.4.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flags = struct.unpack("i", fcntl.ioctl(fd, _GET_FLAGS, struct.pack("i", 0)))[0]
        if not flags & _UNRELATED:
            fcntl.ioctl(fd, _SET_FLAGS, struct.pack("i", flags | _UNRELATED))
    except OSError:
        pass  # another file system, or a folder of another user
    finally:
        os.close(fd)
