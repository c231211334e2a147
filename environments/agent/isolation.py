"""Keeping a script away from the studio's own files by Landlock, which needs neither root nor a package.

Landlock can only allow. So each folder on the way to a hidden path is opened up entry by entry, with the
hidden one left out. What
follows for the script: it cannot create new names directly in such a folder, while everything that is
there, but hidden, works.
"""

import os
import sys

from . import files, processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional, Set, Tuple

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # system calls
_SAME_NUMBERS = ("x86_64", "aarch64", "riscv64", "ppc64le", "s390x")
_EXECUTE, _WRITE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_ALL_V1 = (1 << 13) - 1
_REFER, _TRUNCATE, _IOCTL = 1 << 13, 1 << 14, 1 << 15
_ON_FILES = _EXECUTE | _WRITE | _READ_FILE | _TRUNCATE | _IOCTL
_SCOPE_SIGNALS = 2
_NO_NEW_PRIVS = 38
_CAPBSET_DROP = 24
# DAC_READ_SEARCH opens files by handle, SYS_MODULE changes the kernel, SYS_ADMIN and PERFMON read any
# process's memory.
_DROPPED = (2, 16, 21, 38)
_VERSION = 2  # of the rules here: what was tried with others does not count
_OWN_FILES = ("code", "artifacts", "tmp", "records.jsonl")
_USUAL = (".cache", ".config", ".local/share")

contained = False
"""Whether this process is in a container of its own."""
_tiers: "Dict[str, Dict[str, str]]" = {}


def _libc() -> "Any":
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


def _abi() -> int:
    """Version of Landlock here; 0 where there is none."""
    if not sys.platform.startswith("linux") or os.uname()[4] not in _SAME_NUMBERS:
        return 0
    import ctypes

    return max(int(_libc().syscall(_CREATE, ctypes.c_void_p(0), ctypes.c_size_t(0), ctypes.c_uint(1))), 0)


def _rights(abi: int) -> int:
    rights = _ALL_V1
    if abi >= 2:
        rights |= _REFER
    if abi >= 3:
        rights |= _TRUNCATE
    if abi >= 5:
        rights |= _IOCTL
    return rights


def confine(hidden: "List[str]", writable: "List[str]", readable: "List[str]") -> None:
    """Take from this process, for good, all access to `hidden` paths, save what lies in `writable` or
    `readable` below them.

    Raises OSError where the kernel refuses.
    """
    import ctypes

    libc, abi = _libc(), _abi()
    rights = _rights(abi)
    attributes = (ctypes.c_uint64 * 3)(rights, 0, _SCOPE_SIGNALS if abi >= 6 else 0)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    ruleset = libc.syscall(_CREATE, attributes, ctypes.c_size_t(size), ctypes.c_uint(0))
    if ruleset < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    class Beneath(ctypes.Structure):
        _pack_ = 1
        _layout_ = "ms"
        _fields_ = [("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32)]

    def allow(path: str, wanted: int, follow: bool = False) -> None:
        try:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
        except OSError:
            return
        try:
            mode = os.fstat(fd).st_mode
            if mode & 0o170000 == 0o120000:
                return  # a link grants nothing: what it leads to has a rule of its own
            if mode & 0o170000 != 0o040000:
                wanted &= _ON_FILES
            rule = Beneath(wanted, fd)
            added = libc.syscall(_ADD, ctypes.c_int(ruleset), ctypes.c_int(1), ctypes.byref(rule), ctypes.c_uint(0))
            if added < 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)
        finally:
            os.close(fd)

    paths = {os.path.realpath(path) for path in hidden}
    on_the_way: "Set[str]" = set()
    for path in paths:
        parent = os.path.dirname(path)
        while parent not in on_the_way:
            on_the_way.add(parent)
            parent = os.path.dirname(parent)
    on_the_way = {path for path in on_the_way if not any(_within(path, other) for other in paths)}
    # A rule is the inode's, by whichever name it was found: where a folder on the way is mounted a second time, allowing that
    # would allow all of it.
    kept = {identity for identity in map(_identity, paths | on_the_way) if identity}
    for folder in on_the_way:
        # Names can be listed on the way; Landlock inherits that downwards, so names (not contents) of the
        # hidden show too.
        allow(folder, _READ_DIR)
        try:
            names = os.listdir(folder)
        except OSError:
            continue
        for name in names:
            entry = os.path.join(folder, name)
            if entry not in paths and entry not in on_the_way and _identity(entry) not in kept:
                allow(entry, rights)
    if not paths:
        allow("/", rights)
    for path in writable:
        allow(path, rights)
    for path in readable:
        allow(path, _EXECUTE | _READ_FILE | _READ_DIR)
    if os.getuid() == 0:
        for capability in _DROPPED:
            libc.prctl(_CAPBSET_DROP, capability, 0, 0, 0)  # takes effect at exec
    if libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no_new_privs")
    if libc.syscall(_RESTRICT, ctypes.c_int(ruleset), ctypes.c_uint(0)) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    os.close(ruleset)


def _identity(path: str) -> "Optional[Tuple[int, int]]":
    """Device and inode, of a link its own; None where there is nothing to be seen."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def tier(root: str) -> "Dict[str, str]":
    """{"tier": "landlock" | "process", "detail"}: found out by trying it in a child, once for each start of
    the machine."""
    if root not in _tiers:
        cache = os.path.join(root, "agent", "isolation.json")
        asked = {"boot_id": processes.boot_id(), "uid": os.getuid(), "version": _VERSION}
        known = files.read_json(cache)
        if known is None or any(known.get(name) != value for name, value in asked.items()):
            detail = _self_test(os.path.join(root, "agent"))
            words = detail or "Landlock version %d, tried on this machine" % _abi()
            known = dict(asked, tier="process" if detail else "landlock", detail=words)
            try:
                files.replace_json(cache, known)
            except OSError:
                pass
        _tiers[root] = {"tier": str(known["tier"]), "detail": str(known["detail"])}
    return _tiers[root]


def _self_test(folder: str) -> str:
    """Empty if a confined child could not read a hidden file yet worked otherwise; else what went wrong."""
    if _abi() < 1:
        return "the kernel offers no Landlock"
    place = os.path.join(folder, "selftest-%d" % os.getpid())
    hidden, beside = os.path.join(place, "hidden"), os.path.join(place, "beside")
    try:
        for path in (hidden, beside):
            os.makedirs(path, 0o700, exist_ok=True)
            files.replace(os.path.join(path, "file"), b"x")
        pid = os.fork()
        if pid == 0:
            code = 9
            try:
                confine([hidden], [], [])
                code = 1 if files.read_small(os.path.join(hidden, "file")) is not None else 0
                if files.read_small(os.path.join(beside, "file")) != b"x":
                    code = 2
                files.replace(os.path.join(beside, "other"), b"y")
                os.rename(os.path.join(beside, "other"), os.path.join(beside, "file"))
            except BaseException:
                code = code or 3
            finally:
                os._exit(code)
        status = _wait(pid)
    except OSError as error:
        return "the self-test could not run: %s" % error
    finally:
        for path in (hidden, beside):
            for name in ("file", "other"):
                _quietly(os.unlink, os.path.join(path, name))
            _quietly(os.rmdir, path)
        _quietly(os.rmdir, place)
    return "" if status == 0 else "the self-test failed (%d): a process was not confined as asked" % status


def _wait(pid: int) -> int:
    try:
        return os.waitpid(pid, 0)[1]
    except ChildProcessError:  # SIGCHLD is ignored in the spawner, which keeps no status
        raise OSError("the self-test's result was lost")


def _quietly(function: "Callable[[str], None]", path: str) -> None:
    try:
        function(path)
    except OSError:
        pass


def used(root: str, hidden: "List[str]") -> str:
    """The tier under which a run with these hidden paths runs."""
    if contained:
        return "container"
    return tier(root)["tier"] if hidden else "process"


def confinement(root: str, folder: str, hidden: "List[str]") -> "Optional[Callable[[], None]]":
    """What the script's process must call before exec; None where nothing can be hidden.

    The run's own files for the script stay writable, the supervisor's become read-only.
    """
    if used(root, hidden) != "landlock":
        return None
    own = [os.path.join(folder, name) for name in _OWN_FILES]
    shared = [folder, os.path.join(root, "lib"), os.path.join(root, "envs")]
    if os.path.basename(os.path.dirname(folder)) == "builds":
        own += [shared.pop(), os.path.join(root, "cache")]  # what later runs will execute, only builds may write
        shared += [os.path.join(root, "tools")]
    _make_usual(os.path.realpath(root))
    return lambda: confine([root, *hidden], own, shared)


def _make_usual(root: str) -> None:
    """With the root in the user's home the script can make no new names directly there: see that those are there which half of
    all packages want to make."""
    home = os.path.realpath(os.environ.get("HOME") or os.path.expanduser("~"))
    if home != "/" and _within(root, home):
        for name in _USUAL:
            try:
                os.makedirs(os.path.join(home, name), 0o700, exist_ok=True)
            except OSError:
                pass
