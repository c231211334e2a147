"""Names of processes that hold leases, by which others on the same machine see that one is dead without waiting for its lease to end."""

import os
import secrets
from pathlib import Path

from environments.agent import processes

_DEAD = (b"Z", b"X")


def own_name() -> str:
    """``<boot>.<pid namespace>.<pid>.<start>.<random>`` of this process, at most 64 characters."""
    pid = os.getpid()
    return ".".join([*_machine(), str(pid), str(processes.start_time(pid)), secrets.token_hex(4)])


def is_gone(name: str) -> bool:
    """Whether the process of this name is proven dead: it was on this machine, in this process's view of it, and is not there.

    False wherever that cannot be known: another machine, another container, a system without ``/proc``.
    """
    parts = name.split(".")
    if len(parts) != 5 or parts[:2] != _machine() or not parts[2].isdigit():
        return False
    fields = processes.stat_fields(int(parts[2]))
    if fields is None:
        return _nobody(int(parts[2]))
    # A number that was given to another process has another start.
    return fields[0] in _DEAD or fields[19].decode() != parts[3]


def _nobody(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False  # it is another user's, and hidden
    return False


def _machine() -> list[str]:
    """What tells this process's view of the machine from every other; drawn anew, so that it equals nothing, where the system
    does not say: a name made of constants would be proof of a death on another machine."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:13]
        space = str(Path("/proc/self/ns/pid").stat().st_ino)
        # A /proc of another numbering (a namespace made without mounting its own) says nothing of the numbers that we use.
        if len(boot) == 13 and str(Path("/proc/self").readlink()) == str(os.getpid()):
            return [boot, space]
    except OSError:
        pass
    return [secrets.token_hex(6), "0"]
