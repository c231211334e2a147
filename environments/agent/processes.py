"""What the process table says: identity, ancestry, and who belongs to a run."""

import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, Iterable, List, Optional, Set, Tuple

HAVE_PROC = os.path.exists("/proc/self/stat")
_boot_id = ""


def boot_id() -> str:
    """A text that differs after every restart of the machine."""
    global _boot_id
    if not _boot_id:
        try:
            with open("/proc/sys/kernel/random/boot_id") as file:
                _boot_id = file.read().strip()
        except OSError:
            _boot_id = _ask("sysctl", "-n", "kern.bootsessionuuid") or "unknown"
    return _boot_id


def _ask(*argv: str) -> str:
    import subprocess

    try:
        return (
            subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=10,
                check=False,
            )
            .stdout.decode("utf-8", "replace")
            .strip()
        )
    except (OSError, subprocess.SubprocessError):
        return ""


def stat_fields(pid: int) -> "Optional[List[bytes]]":
    """Fields of /proc/<pid>/stat from the third (state) on; None where there is no such process."""
    try:
        fd = os.open("/proc/%d/stat" % pid, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        data = os.read(fd, 4096)
    except OSError:
        return None
    finally:
        os.close(fd)
    return data[data.rfind(b")") + 2 :].split()


def start_time(pid: int) -> int:
    """Start of a process in clock ticks since boot; 0 where unknown. With the boot id it tells a reused pid
    apart."""
    fields = stat_fields(pid)
    return int(fields[19]) if fields else 0


def _pids() -> "List[int]":
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []


def parents() -> "Dict[int, Tuple[int, bool]]":
    """Every process: pid → (parent's pid, whether it is alive). A zombie is dead."""
    table = {}
    if HAVE_PROC:
        for pid in _pids():
            fields = stat_fields(pid)
            if fields:
                table[pid] = (int(fields[1]), fields[0] not in (b"Z", b"X"))
        return table
    for line in _ask("ps", "-axo", "pid=,ppid=,stat=").splitlines():
        pid_text, parent, state = line.split()[:3]
        table[int(pid_text)] = (int(parent), not state.startswith("Z"))
    return table


def descendants(root: int, without: "Iterable[int]" = ()) -> "Set[int]":
    """Living processes below `root`, itself and those below `without` not counted."""
    table = parents()
    below: "Dict[int, List[int]]" = {}
    for pid, (parent, _) in table.items():
        below.setdefault(parent, []).append(pid)
    skipped = set(without)
    found, todo = set(), [root]
    while todo:
        for pid in below.get(todo.pop(), ()):
            if pid not in skipped:
                todo.append(pid)
                if table[pid][1]:
                    found.add(pid)
    return found


def has_children(pid: int) -> bool:
    """Whether a process without threads of its own has children, cheaply; True where that cannot be told."""
    try:
        with open("/proc/%d/task/%d/children" % (pid, pid), "rb") as file:
            return bool(file.read(1))
    except OSError:
        return True


def tree(root: int) -> "List[int]":
    """`root` and everything below it by the kernel's child lists: cheap enough for every sample."""
    found = [root]
    for pid in found:
        try:
            for task in os.listdir("/proc/%d/task" % pid):
                with open("/proc/%d/task/%s/children" % (pid, task), "rb", buffering=0) as file:
                    found.extend(int(child) for child in file.readall().split())
        except (OSError, ValueError):
            continue
    return found


def of_attempt(mark: str, job_lock: str) -> "Set[int]":
    """Living processes of a run whose supervisor is gone: they carry `mark` (NAME=value) in their environment or hold
    its job lock; and everything below them."""
    needle = mark.encode("utf-8", "surrogateescape")
    try:
        lock = os.stat(job_lock)
    except OSError:
        lock = None
    found = set()
    for pid in _pids():
        if pid != os.getpid() and (_carries(pid, needle) or (lock is not None and _holds(pid, lock))):
            found.add(pid)
    for pid in list(found):
        found |= descendants(pid)
    found.discard(os.getpid())
    table = parents()
    return {pid for pid in found if table.get(pid, (0, False))[1]}


def _carries(pid: int, needle: bytes) -> bool:
    try:
        with open("/proc/%d/environ" % pid, "rb") as file:
            return needle in file.read().split(b"\0")
    except OSError:
        return False


def _holds(pid: int, lock: os.stat_result) -> bool:
    folder = "/proc/%d/fd" % pid
    try:
        names = os.listdir(folder)
    except OSError:
        return False
    for name in names:
        try:
            found = os.stat(folder + "/" + name)
        except OSError:
            continue
        if (found.st_dev, found.st_ino) == (lock.st_dev, lock.st_ino):
            return True
    return False


def send(pids: "Iterable[int]", number: int) -> int:
    """Signal each process; how many could be reached. A stopped process is continued so that it can obey."""
    reached = 0
    for pid in pids:
        try:
            os.kill(pid, number)
            reached += 1
            if number != signal.SIGKILL:
                os.kill(pid, signal.SIGCONT)
        except OSError:
            continue
    return reached


def harden(subreaper: bool = False) -> None:
    """Keep other processes of this user out of our memory and environment; adopt orphans where asked. Linux
    only."""
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE
    if subreaper:
        prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
