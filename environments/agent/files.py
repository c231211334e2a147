"""File work beside a hostile script: nothing here follows a link, blocks on a fifo or leaves half a file."""

import errno
import json
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Optional

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | getattr(os, "O_NOCTTY", 0)
_STEP = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
_FULL = (errno.ENOSPC, errno.EDQUOT)
MAX_RESULT = 4 << 20  # of what a build found out: packages, their licences, their hashes
MAX_RECORD = 2 * MAX_RESULT  # of an exit record, which has it inside


def is_full(error: OSError) -> bool:
    """Whether the disk (or the user's share of it) refused the bytes."""
    return error.errno in _FULL


def open_regular(path: str, flags: int = 0, dir_fd: "Optional[int]" = None) -> int:
    """Descriptor of the regular file at `path`. A link, fifo, device or folder there raises OSError(ELOOP
    or EINVAL)."""
    fd = os.open(path, _READ | flags, dir_fd=dir_fd)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return fd


def open_folder(path: str, dir_fd: "Optional[int]" = None) -> int:
    """Descriptor of the folder at `path`; a link there raises OSError."""
    return os.open(path, _STEP, dir_fd=dir_fd)


def open_beneath(base: str, path: str) -> int:
    """Descriptor of the regular file `path` (relative, with `/`) below `base`, refusing a link at every
    step."""
    parts = path.split("/")
    if not path or any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise OSError(errno.EINVAL, "not a plain relative path", path)
    folder = open_folder(base)
    try:
        for part in parts[:-1]:
            inner = open_folder(part, dir_fd=folder)
            os.close(folder)
            folder = inner
        return open_regular(parts[-1], dir_fd=folder)
    finally:
        os.close(folder)


def read_all(fd: int, limit: int) -> bytes:
    """Up to `limit` bytes from the descriptor's place on."""
    pieces = []
    while limit > 0:
        piece = os.read(fd, min(limit, 1 << 20))
        if not piece:
            break
        pieces.append(piece)
        limit -= len(piece)
    return b"".join(pieces)


def read_small(path: str, limit: int = 4 << 20) -> "Optional[bytes]":
    """Contents of a regular file of at most `limit` bytes; None where there is none."""
    try:
        fd = open_regular(path)
    except OSError:
        return None
    try:
        data = read_all(fd, limit + 1)
    except OSError:
        return None
    finally:
        os.close(fd)
    return data if len(data) <= limit else None


def read_json(path: str, limit: int = 1 << 20) -> "Optional[Dict[str, Any]]":
    """The JSON object in a regular file of at most `limit` bytes; None where there is none."""
    data = read_small(path, limit)
    if data is None:
        return None
    try:
        value = json.loads(data.decode())
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def write_all(fd: int, data: "Any") -> None:
    """Write every byte, however often the kernel takes only a part."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def replace(path: str, data: bytes, durable: bool = False) -> None:
    """Put `data` at `path` at once: temp file, (fsync,) rename. Mode 0600."""
    temp = "%s.%d.tmp" % (path, os.getpid())
    try:
        os.unlink(temp)
    except FileNotFoundError:
        pass
    fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        write_all(fd, data)
        if durable:
            os.fsync(fd)
    except BaseException:
        os.close(fd)
        os.unlink(temp)
        raise
    os.close(fd)
    os.rename(temp, path)


def replace_json(path: str, value: "Dict[str, Any]", durable: bool = False) -> None:
    """`replace` with the JSON of `value`."""
    replace(path, json.dumps(value, separators=(",", ":")).encode(), durable)


def overwrite(path: str, value: "Dict[str, Any]") -> None:
    """Put the JSON of `value` where a longer one is, in its own blocks, padded with blanks."""
    fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        data = json.dumps(value, separators=(",", ":")).encode()
        os.pwrite(fd, data.ljust(os.fstat(fd).st_size), 0)
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_folder(path: str) -> None:
    """Make the names in a folder survive a power cut, where the file system can."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.fsync(fd)
    except OSError:
        pass
    finally:
        os.close(fd)
