"""What kind of machine this is."""

import glob
import os
import platform
import socket
import sys
import threading
import time

from . import isolation, processes
from .protocol import VERSION
from .sampling import find_program, run_helper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict

_TOOLS = (
    "uv",
    "git",
    "conda",
    "mamba",
    "docker",
    "podman",
    "srun",
    "sbatch",
    "ray",
    "mpirun",
    "torchrun",
    "spark-submit",
    "nvidia-smi",
)


def hello(root: str) -> "Dict[str, Any]":
    """Who answers."""
    return {
        "version": VERSION,
        "python": "%d.%d.%d" % sys.version_info[:3],
        "boot_id": processes.boot_id(),
        "host": socket.gethostname(),
        "user": user_name(),
        "uid": os.getuid(),
        "gid": os.getgid(),
        "pid": os.getpid(),
        "root": root,
        "root_id": root_id(root),
        "time": time.time(),
    }


def root_id(root: str) -> str:
    """What tells this root folder from another one under its name, a mount point without its disk say: drawn once and kept
    inside. Empty where it can be neither read nor kept."""
    path = os.path.join(root, "agent", "root-id")
    for _ in range(2):
        try:
            with open(path) as file:
                return file.read(64).strip()
        except FileNotFoundError:
            pass
        except OSError:
            return ""
        temp = "%s.%d-%d.new" % (path, os.getpid(), threading.get_ident())
        try:
            with open(temp, "w") as file:
                file.write(os.urandom(16).hex() + "\n")
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(temp, path)  # the first of several agents wins
            except FileExistsError:
                pass
            finally:
                os.unlink(temp)
        except OSError:
            return ""
    return ""


def user_name() -> str:
    try:
        import pwd

        return pwd.getpwuid(os.getuid()).pw_name
    except (ImportError, KeyError):
        return str(os.getuid())


def machine(root: str) -> "Dict[str, Any]":
    """Hardware, software and how well scripts can be kept apart."""
    disk = os.statvfs(root)
    gpus = []
    output = run_helper(["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"], set())
    for line in (output or "").splitlines():
        name, _, memory = line.rpartition(",")
        if memory.strip().isdigit():
            gpus.append({"name": name.strip(), "memory": int(memory) << 20})
    beside = [os.path.dirname(sys.executable)] if sys.executable else []  # the studio's own environment has uv
    own = [os.path.expanduser("~/.local/bin"), os.path.expanduser("~/.cargo/bin")]
    return {
        "os": _os_name(),
        "kernel": platform.release(),
        "arch": platform.machine(),
        "libc": _libc(),
        "cpus": _cpus(),
        "memory": _memory(),
        "disk": {"free": disk.f_bavail * disk.f_frsize, "total": disk.f_blocks * disk.f_frsize},
        "gpus": gpus,
        "python": sys.executable,
        "isolation": isolation.tier(root),
        "tools": {name: find_program(name, beside, own) for name in _TOOLS},
    }


def _os_name() -> str:
    try:
        with open("/etc/os-release") as file:
            for line in file:
                if line.startswith("PRETTY_NAME="):
                    return line.split("=", 1)[1].strip().strip('"')
    except OSError:
        pass
    return platform.system()


def _libc() -> str:
    """The C library that programs here are linked with: "glibc 2.36", "musl", or empty where it is not told."""
    try:
        found = os.confstr("CS_GNU_LIBC_VERSION")
    except (AttributeError, ValueError, OSError):
        found = None
    if found and found.startswith("glibc"):
        return found
    return "musl" if glob.glob("/lib/ld-musl-*.so.1") else ""


def _cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 0
