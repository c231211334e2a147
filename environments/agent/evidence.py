"""What can be known of an attempt from its directory."""

import fcntl
import hashlib
import os
import struct
import time

from . import files, processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional

_BEAT = struct.Struct("<Qd")


def probe(path: str) -> str:
    """Whether a lock file is "held", "free" or, not being there, "none"."""
    try:
        fd = files.open_regular(path)
    except OSError:
        return "none"
    try:
        # Shared: several agents may look at once without seeing each other.
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return "free"
    except OSError:
        return "held"
    finally:
        os.close(fd)


def locks(folder: str) -> "List[str]":
    """States of sup.lock and job.lock. Before the claim nothing is probed: a look must not disturb who is
    about to claim."""
    if not os.path.isdir(os.path.join(folder, "claim")):
        return ["none", "none"]
    return [probe(os.path.join(folder, "sup.lock")), probe(os.path.join(folder, "job.lock"))]


def gather(folder: str) -> "Dict[str, Any]":
    """The evidence of an attempt; see docs/run-directory.md."""
    sup, job = locks(folder)
    # Order matters: the record is read after the locks, so "free, and no record" is never a supervisor just
    # finishing.
    state = files.read_json(os.path.join(folder, "state.json"))
    evidence = {
        "exists": os.path.isdir(folder),
        "claimed": os.path.isdir(os.path.join(folder, "claim")),
        "sup": sup,
        "job": job,
        "heartbeat": _heartbeat(folder),
        "state": state,
        "exit": files.read_json(os.path.join(folder, "exit.json"), files.MAX_RECORD),
        "boot_id": processes.boot_id(),
        "now": time.time(),
    }
    if replaced(folder, state):
        evidence["log_replaced"] = True
    return evidence


def _heartbeat(folder: str) -> "Optional[List[Any]]":
    data = files.read_small(os.path.join(folder, "heartbeat"), 64)
    return list(_BEAT.unpack(data)) if data is not None and len(data) == _BEAT.size else None


def replaced(folder: str, state: "Optional[Dict[str, Any]]") -> bool:
    """Whether another file, or none, stands where the supervisor's log was."""
    known = (state or {}).get("log_id")
    if not isinstance(known, list):
        return False
    try:
        found = os.lstat(os.path.join(folder, "log"))
    except OSError:
        return True
    return [found.st_dev, found.st_ino] != known


def revision(evidence: "Dict[str, Any]") -> int:
    """A number that differs when claimed, sup, job, state or exit differ; the same in every agent."""
    keys = ("exists", "claimed", "sup", "job", "state", "exit", "log_replaced")
    text = repr([evidence.get(key) for key in keys])
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "replace")).digest()[:6], "big")
