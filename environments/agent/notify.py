"""inotify through ctypes: the kernel tells of changed folders, so nobody has to look."""

import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List, Tuple

MODIFY, MOVED_FROM, MOVED_TO, CREATE, DELETE = 0x2, 0x40, 0x80, 0x100, 0x200
ONLYDIR, DONT_FOLLOW = 0x01000000, 0x02000000
OVERFLOW, IGNORED = 0x4000, 0x8000
_EVENT = struct.Struct("iIII")


class Inotify(object):
    """One inotify descriptor. The constructor raises OSError where the system has none or no more."""

    def __init__(self) -> None:
        import ctypes

        try:
            libc = ctypes.CDLL(None, use_errno=True)
            self._add, self._remove = libc.inotify_add_watch, libc.inotify_rm_watch
            fd = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        except AttributeError:
            raise OSError("no inotify here")
        if fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        self._errno = ctypes.get_errno
        self.fd = fd

    def add(self, path: str, mask: int) -> int:
        """Watch a folder (not through a link); its watch number. Raises OSError."""
        number = int(self._add(self.fd, os.fsencode(path), mask | ONLYDIR | DONT_FOLLOW))
        if number < 0:
            code = self._errno()
            raise OSError(code, os.strerror(code), path)
        return number

    def remove(self, number: int) -> None:
        """Stop watching; a folder that is gone already is no error."""
        self._remove(self.fd, number)

    def read(self) -> "List[Tuple[int, int, bytes]]":
        """What is there now, without waiting: (watch number, mask, file name) of each event."""
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            return []
        events, place = [], 0
        while place < len(data):
            number, mask, _, length = _EVENT.unpack_from(data, place)
            place += _EVENT.size
            events.append((number, mask, data[place : place + length].rstrip(b"\0")))
            place += length
        return events
