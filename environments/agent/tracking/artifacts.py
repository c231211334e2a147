"""Files that the script logs, under the run's `artifacts/`.

Paths are checked, never mended; links are never followed.
"""

import errno
import itertools
import os
import shutil
import stat

from ..files import is_full, open_beneath, open_folder, write_all
from .problems import Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, Iterable, List, Optional

MAX_PATH = 1024
_numbers = itertools.count(1)


def check_path(path: str, empty: bool = False) -> str:
    """The path itself, when it is relative, plain and short. Raises Problem with the rule it breaks."""
    rule = ""
    if not path:
        rule = "" if empty else "a file's path is needed"
    elif len(path) > MAX_PATH or any(len(part.encode("utf-8", "surrogatepass")) > 255 for part in path.split("/")):
        rule = "at most %d characters, and 255 bytes for each part" % MAX_PATH
    elif any(part in ("", ".", "..") for part in path.split("/")):
        rule = "a relative path is needed, without '.', '..' and empty parts"
    elif "\\" in path or any(
        ord(letter) < 32 or 0x7F <= ord(letter) < 0xA0 or 0xD800 <= ord(letter) < 0xE000 for letter in path
    ):
        rule = "no backslash and no control characters"
    if rule:
        raise Problem("INVALID_PARAMETER_VALUE", "Invalid artifact path %r: %s." % (path[:200], rule))
    return path


class Artifacts(object):
    """The folder `artifacts/` of one run directory."""

    def __init__(self, run_dir: str) -> None:
        self._run_dir = run_dir
        self._base = os.path.join(run_dir, "artifacts")

    def _folder(self, parts: "List[str]") -> int:
        """Descriptor of a folder below `artifacts/`, made where it is missing; links are refused."""
        try:
            os.mkdir(self._base, 0o700)
        except FileExistsError:
            pass
        folder = open_folder(self._base)
        try:
            for part in parts:
                try:
                    os.mkdir(part, 0o700, dir_fd=folder)
                except FileExistsError:
                    pass
                inner = open_folder(part, dir_fd=folder)
                os.close(folder)
                folder = inner
        except BaseException:
            os.close(folder)
            raise
        return folder

    def write(self, path: str, pieces: "Iterable[bytes]") -> None:
        """Put a file at `path` at once, whatever was there.

        Raises Problem for a bad path, a folder or link in the way, a full disk.
        """
        parts = check_path(path).split("/")
        # Beside `artifacts/`, so that a file which is still coming is never taken for an output.
        temp = os.path.join(self._run_dir, ".upload-%d-%d" % (os.getpid(), next(_numbers)))
        try:
            fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                try:
                    for piece in pieces:
                        write_all(fd, piece)
                finally:
                    os.close(fd)
                folder = self._folder(parts[:-1])
                try:
                    os.rename(temp, parts[-1], dst_dir_fd=folder)
                finally:
                    os.close(folder)
            except BaseException:
                os.unlink(temp)
                raise
        except OSError as error:
            raise self._problem(path, error)

    def _problem(self, path: str, error: OSError) -> Problem:
        if is_full(error):
            return Problem("IO_ERROR", "The target's disk is full: %s was not stored." % path)
        if error.errno in (errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EEXIST, errno.ENOTEMPTY):
            return Problem(
                "INVALID_PARAMETER_VALUE",
                "Artifact %r: a folder, file or link of that name is in the way." % path,
            )
        if error.errno == errno.ENOENT:
            return Problem("RESOURCE_DOES_NOT_EXIST", "There is no artifact %r." % path)
        return Problem("IO_ERROR", "Artifact %r: %s" % (path, error))

    def open(self, path: str) -> int:
        """Descriptor of the file at `path`."""
        check_path(path)
        try:
            return open_beneath(self._base, path)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOTDIR, errno.ELOOP):
                raise Problem("RESOURCE_DOES_NOT_EXIST", "There is no artifact file %r." % path)
            raise self._problem(path, error)

    def _reach(self, path: str) -> "Optional[int]":
        folder = -1
        try:
            folder = open_folder(self._base)
            for part in path.split("/") if path else ():
                inner = open_folder(part, dir_fd=folder)
                os.close(folder)
                folder = inner
        except OSError:
            if folder >= 0:
                os.close(folder)
            return None
        return folder

    def list(self, path: str) -> "List[Dict[str, object]]":
        """`{"path": name, "is_dir", "file_size"}` of what is directly in the folder `path`; nothing where
        there is no folder.
        """
        folder = self._reach(check_path(path, empty=True))
        if folder is None:
            return []
        found: "List[Dict[str, object]]" = []
        try:
            for name in sorted(os.listdir(folder)):
                try:
                    name.encode()
                    info = os.stat(name, dir_fd=folder, follow_symlinks=False)
                except (OSError, UnicodeEncodeError):
                    continue
                if stat.S_ISDIR(info.st_mode):
                    found.append({"path": name, "is_dir": True})
                elif stat.S_ISREG(info.st_mode):
                    found.append({"path": name, "is_dir": False, "file_size": info.st_size})
        finally:
            os.close(folder)
        return found

    def delete(self, path: str) -> None:
        """Remove a file, or a folder with all it holds; what is not there is no error."""
        parts = check_path(path).split("/")
        folder = self._reach("/".join(parts[:-1]))
        if folder is None:
            return
        try:
            info = os.stat(parts[-1], dir_fd=folder, follow_symlinks=False)
            if stat.S_ISDIR(info.st_mode):
                # Safe against links inside and beside: rmtree works with descriptors here, and does not
                # follow a link it is given.
                shutil.rmtree(os.path.join(self._base, *parts))
            else:
                os.unlink(parts[-1], dir_fd=folder)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise self._problem(path, error)
        finally:
            os.close(folder)
