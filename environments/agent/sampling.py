"""Resource use of a run's process tree, read from /proc; GPUs from nvidia-smi."""

import os
import threading
import time

from . import processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Sequence, Set

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_CALM_PERCENT = 0.5


def _read(path: str) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, 4096)
    except OSError:
        return b""
    finally:
        os.close(fd)


class Sampler(object):
    """Samples a tree of processes; CPU is the mean since the sample before."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._seconds = 0.0
        self._at = time.monotonic()
        self._read = 0
        self._written = 0
        self._before: "Any" = None
        self.gpus = Gpus()
        self.calm = 0
        """How many samples in a row have shown nothing but the passing of time."""

    def sample(self) -> "Optional[Dict[str, Any]]":
        """One line of samples.jsonl; None where /proc tells nothing."""
        ticks = resident = count = read = written = 0
        for pid in processes.tree(self._pid):
            fields = processes.stat_fields(pid)
            if fields is None or fields[0] == b"Z":
                continue
            count += 1
            # A parent's record holds what its ended children used, so the sum over the living loses nothing.
            ticks += sum(int(field) for field in fields[11:15])
            resident += int(fields[21]) * _PAGE
            for line in _read("/proc/%d/io" % pid).splitlines():
                if line.startswith(b"read_bytes: "):
                    read += int(line[12:])
                elif line.startswith(b"write_bytes: "):
                    written += int(line[13:])
        if not count:
            return None
        now, seconds = time.monotonic(), float(ticks) / _TICKS
        percent = 100 * max(seconds - self._seconds, 0.0) / max(now - self._at, 0.001)
        self._seconds, self._at = seconds, now
        self._read, self._written = max(read, self._read), max(written, self._written)
        sample: "Dict[str, Any]" = {
            "t": round(time.time(), 3),
            "cpu": round(percent, 1),
            "rss": resident,
            "procs": count,
            "read": self._read,
            "write": self._written,
        }
        gpus = self.gpus.take()
        if gpus:
            sample["gpus"] = gpus
        found = (resident, count, self._read, self._written)
        self.calm = self.calm + 1 if found == self._before and percent < _CALM_PERCENT and not gpus else 0
        self._before = found
        return sample


class Gpus(object):
    """Asks nvidia-smi beside the supervisor's loop, never in it."""

    def __init__(self) -> None:
        self._found: "Optional[List[Dict[str, Any]]]" = None
        self._absent = False
        self._turn = 0
        self._thread: "Optional[threading.Thread]" = None
        self.helpers: "Set[int]" = set()
        """Pids of our own that do not belong to the run."""

    def take(self) -> "Optional[List[Dict[str, Any]]]":
        """The newest answer, once; every fifth call asks again."""
        if self._turn == 0:
            self._absent = find_program("nvidia-smi") is None
        if self._turn % 5 == 0 and not self._absent and (self._thread is None or not self._thread.is_alive()):
            self._thread = threading.Thread(target=self._ask, daemon=True)
            self._thread.start()
        self._turn += 1
        found, self._found = self._found, None
        return found

    def _ask(self) -> None:
        argv = [
            "nvidia-smi",
            "--query-gpu=index,utilization.gpu,memory.used,memory.total",
            "--format=csv,noheader,nounits",
        ]
        output = run_helper(argv, self.helpers)
        if output is None:
            return
        found = []
        for line in output.splitlines():
            values = [value.strip() for value in line.split(",")]
            if len(values) == 4 and all(value.isdigit() for value in values):
                number, busy, used, total = (int(value) for value in values)
                found.append({"i": number, "util": busy, "mem": used << 20, "total": total << 20})
        self._found = found


def find_program(name: str, before: "Sequence[str]" = (), after: "Sequence[str]" = ()) -> "Optional[str]":
    """Path of an executable in the folders `before`, on PATH, or in the folders `after`; None where there
    is none."""
    for folder in list(before) + os.environ.get("PATH", os.defpath).split(os.pathsep) + list(after):
        path = os.path.join(folder, name)
        if os.path.isabs(path) and os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


def run_helper(argv: "List[str]", helpers: "Set[int]") -> "Optional[str]":
    """Output of a short program of ours; None where it is missing or fails. Its pid is in `helpers`
    meanwhile."""
    import subprocess

    path = find_program(argv[0])
    if path is None:
        return None
    try:
        process = subprocess.Popen(
            [path] + argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    except OSError:
        return None
    helpers.add(process.pid)
    try:
        output, _ = process.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return None
    finally:
        helpers.discard(process.pid)
    return output.decode("utf-8", "replace") if output else None
