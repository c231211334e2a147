"""Programs that builds want and a target lacks: the studio's own uv, sent there once where it fits."""

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from hashlib import file_digest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from environments.definition import Definition
from environments.host import HostError
from environments.models import ComputeTarget

if TYPE_CHECKING:
    from environments.host import Host

# Of the C library, for which uv's wheels are linked.
_LEAST_GLIBC = (2, 17)


def own_uv() -> str:
    """Path of the uv that came with the studio; empty where there is none for this platform."""
    try:
        import uv  # noqa: PLC0415 only needed for builds

        return str(uv.find_uv_bin())
    except (ImportError, FileNotFoundError):
        return shutil.which("uv") or ""


def uv_on(target: ComputeTarget, definition: Definition, host: "Host") -> str:
    """Path of a uv on the target, its own or ours, which is sent where it is missing; empty where there is none to be had, or nothing
    is installed. Raises what ``host`` raises."""
    if definition.kind not in {"packages", "conda"}:
        return ""
    own = own_uv()
    if target.transport == "local" and own:
        return own
    there = str((target.facts.get("tools") or {}).get("uv") or "")
    if there or not own or not fits(target.facts):
        return there
    name, digest = identified(own, Path(own).stat().st_mtime_ns)
    path = Path(own)
    try:
        return host.tool(name, digest, path.stat().st_size, lambda: path.open("rb"))
    except HostError as error:
        if error.code == "unfit":
            return ""  # pip does, more slowly
        raise


def fits(facts: Mapping[str, Any]) -> bool:
    """Whether a program of this machine may start on that one, as far as its last probe tells; the agent there tries it."""
    if not sys.platform.startswith("linux") or facts.get("arch") != platform.machine():
        return False
    libc = str(facts.get("libc", ""))
    if not _own_libc().startswith("glibc") or "libc" not in facts:
        return libc == _own_libc() or "libc" not in facts
    version = re.match(r"glibc (\d+)\.(\d+)", libc)
    return version is not None and (int(version[1]), int(version[2])) >= _LEAST_GLIBC


def _own_libc() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, ValueError, OSError):
        return "musl"


@cache
def identified(path: str, changed: int) -> tuple[str, str]:
    """(uv-version, SHA-256) of a program; ``changed``: its time, so that another one is looked at anew."""
    said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20, check=True).stdout
    version = re.search(r"\d[\w.+-]*", said)
    with Path(path).open("rb") as file:
        return f"uv-{version[0] if version else 'unknown'}", file_digest(file, "sha256").hexdigest()
