"""What a run produced: listed, digested and read without ever following a link."""

import errno
import hashlib
import os
import stat

from . import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Set, Tuple

_PLACES = (("code/outputs", "outputs/"), ("code/logs", "logs/"), ("artifacts", ""))
_MAX_FILES = 100000
_MAX_DEPTH = 64
MAX_PATH = 1024
MAX_READ = 16 * 1024 * 1024
_OWN_PREFIXES = ("outputs", "logs")


def listing(folder: str, known: "Dict[str, Any]") -> "Dict[str, List[Dict[str, Any]]]":
    """{"files", "skipped"} of an attempt. `known` maps a path to its [size, mtime, sha256]: what still has
    both is not read again."""
    found: "List[Dict[str, Any]]" = []
    skipped: "List[Dict[str, Any]]" = []
    taken: "Set[str]" = set()
    for place, prefix in _PLACES:
        try:
            fd = _open_chain(folder, place)
        except OSError:
            continue
        _walk(fd, prefix, known, found, skipped, 0, taken)
        taken.update(str(entry["path"]) for entry in found)
    return {"files": sorted(found, key=lambda entry: str(entry["path"])), "skipped": skipped}


def _open_chain(folder: str, place: str) -> int:
    fd = files.open_folder(folder)
    for part in place.split("/"):
        try:
            inner = files.open_folder(part, dir_fd=fd)
        finally:
            os.close(fd)
        fd = inner
    return fd


def _walk(
    fd: int,
    prefix: str,
    known: "Dict[str, Any]",
    found: "List[Dict[str, Any]]",
    skipped: "List[Dict[str, Any]]",
    depth: int,
    taken: "Set[str]",
) -> None:
    """List the folder behind `fd`, and close it."""
    try:
        for name in sorted(os.listdir(fd)):
            path = prefix + name
            if len(found) >= _MAX_FILES:
                skipped.append({"path": path, "why": "over the limit of %d files" % _MAX_FILES})
                return
            why = _problem(name, path)
            if why:
                skipped.append({"path": path.encode("utf-8", "backslashreplace").decode(), "why": why})
                continue
            try:
                mode = os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
                if path in taken:
                    # Logged by the name of a file that the script wrote itself: a path names one file.
                    why = "the script wrote another file of this name itself"
                    skipped.append({"path": "artifacts/" + path, "why": why})
                elif stat.S_ISDIR(mode):
                    if depth >= _MAX_DEPTH:
                        skipped.append({"path": path, "why": "nested deeper than %d folders" % _MAX_DEPTH})
                    else:
                        _walk(files.open_folder(name, dir_fd=fd), path + "/", known, found, skipped, depth + 1, taken)
                elif stat.S_ISREG(mode):
                    found.append(_entry(fd, name, path, known.get(path)))
                else:
                    skipped.append({"path": path, "why": _kind(mode)})
            except OSError as error:
                skipped.append({"path": path, "why": error.strerror or str(error)})
    finally:
        os.close(fd)


def _problem(name: str, path: str) -> str:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    if any(ord(character) < 32 or ord(character) == 127 for character in name):
        return "its name holds control characters"
    return "its path is longer than %d characters" % MAX_PATH if len(path) > MAX_PATH else ""


def _kind(mode: int) -> str:
    if stat.S_ISLNK(mode):
        return "a link"
    if stat.S_ISFIFO(mode):
        return "a fifo"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"


def _entry(folder: int, name: str, path: str, known: "Any") -> "Dict[str, Any]":
    fd = files.open_regular(name, dir_fd=folder)
    try:
        before = os.fstat(fd)
        if isinstance(known, list) and len(known) == 3 and known[:2] == [before.st_size, before.st_mtime]:
            digest = str(known[2])
        else:
            sha = hashlib.sha256()
            left = before.st_size  # not "to the end": another process may make it longer as fast as we read
            while left > 0:
                data = os.read(fd, min(left, 1 << 20))
                if not data:
                    break
                sha.update(data)
                left -= len(data)
            digest = sha.hexdigest()
        return {
            "path": path,
            "size": before.st_size,
            "mode": stat.S_IMODE(before.st_mode),
            "mtime": before.st_mtime,
            "sha256": digest,
        }
    finally:
        os.close(fd)


def read(folder: str, path: str, offset: int, length: int) -> "Tuple[bytes, int]":
    """Up to `length` bytes (at most 16 MiB) of a file named as in `listing`, or of `log`; and the file's
    size. Raises OSError."""
    if path == "log":
        inside = path
    else:
        top = path.split("/", 1)[0]
        inside = ("code/" if top in _OWN_PREFIXES else "artifacts/") + path
    try:
        fd = files.open_beneath(folder, inside)
    except OSError as error:
        if not inside.startswith("code/") or error.errno != errno.ENOENT:
            raise
        fd = files.open_beneath(folder, "artifacts/" + path)
    try:
        return os.pread(fd, max(min(length, MAX_READ), 0), max(offset, 0)), os.fstat(fd).st_size
    finally:
        os.close(fd)
