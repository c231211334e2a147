"""Whether the login session that this program is in takes a run down when it ends, as systemd's logind may be told to do."""

import glob
import os
import re

from .probe import user_name
from .sampling import run_helper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List

_NAMES = ("KillUserProcesses", "KillOnlyUsers", "KillExcludeUsers", "RemoveIPC")
_FOLDERS = ("/usr/lib/systemd", "/usr/local/lib/systemd", "/run/systemd", "/etc/systemd")
_LINGER = "/var/lib/systemd/linger"
_LAST_SYSTEM_UID = 999


def session() -> "Dict[str, Any]":
    """{"user", "session": whether logind keeps one for this connection, "kill": whether what it started is killed at its end, "ipc": whether
    the user's shared memory is removed at the end of the last one, "lingers"}."""
    user, uid = user_name(), os.getuid()
    told = _asked() or _written()
    only, exclude = told.get("KillOnlyUsers", "").split(), told.get("KillExcludeUsers", "root").split()
    kill = _yes(told.get("KillUserProcesses", "no")) and user not in exclude and (not only or user in only)
    return {
        "user": user,
        "session": _in_session(),
        "kill": kill,
        "ipc": _yes(told.get("RemoveIPC", "yes")) and uid > _LAST_SYSTEM_UID,
        "lingers": os.path.exists(os.path.join(_LINGER, user)),
    }


def _in_session() -> bool:
    """In a session's scope, or, where control groups are not told apart, with the number that pam_systemd gives."""
    try:
        with open("/proc/self/cgroup") as file:
            if re.search(r"/session-[^/\n]*\.scope\b", file.read()):
                return True
    except OSError:
        pass
    return bool(os.environ.get("XDG_SESSION_ID"))


def _asked() -> "Dict[str, str]":
    """What logind itself says: distributions build it with defaults of their own. Nothing where it cannot be asked."""
    argv = [
        "busctl",
        "get-property",
        "org.freedesktop.login1",
        "/org/freedesktop/login1",
        "org.freedesktop.login1.Manager",
    ]
    lines = (run_helper(argv + list(_NAMES), set()) or "").splitlines()
    if len(lines) != len(_NAMES):
        return {}
    return {name: _value(lines[number]) for number, name in enumerate(_NAMES)}


def _value(line: str) -> str:
    """``b true`` → true; ``as 2 "root" "ada"`` → root ada."""
    kind, _, rest = line.strip().partition(" ")
    return " ".join(re.findall(r'"([^"]*)"', rest)) if kind == "as" else rest


def _written() -> "Dict[str, str]":
    """What its files say: the main one, then parts in the order of their names, of which a later folder's replaces an earlier one's."""
    main = ""
    parts = {}  # type: Dict[str, str]
    for folder in _FOLDERS:
        path = os.path.join(folder, "logind.conf")
        main = path if os.path.isfile(path) else main
        for part in glob.glob(os.path.join(path + ".d", "*.conf")):
            parts[os.path.basename(part)] = part
    found = {}  # type: Dict[str, str]
    for path in [main] + [parts[name] for name in sorted(parts)]:
        for line in _lines(path):
            name, sign, value = line.partition("=")
            if sign and name.strip() in _NAMES:
                found[name.strip()] = value.strip()
    return found


def _lines(path: str) -> "List[str]":
    try:
        with open(path, errors="replace") as file:
            return [line for line in file.read().splitlines() if line.strip()[:1] not in ("", "#", ";")]
    except OSError:
        return []


def _yes(value: str) -> bool:
    return value.lower() in ("1", "yes", "y", "true", "t", "on")
