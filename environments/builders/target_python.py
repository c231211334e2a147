"""Interpreters on a target: found, asked who they are, and the name of the platform that packages are chosen for. Standard library
alone, Python 3.6 or newer; sent to the target with ``on_target``."""

import glob
import os
import pwd
import subprocess
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, Iterator, List, Optional, Tuple

_WHO = (
    "import sys; print('%d.%d.%d' % sys.version_info[:3]); print(sys.executable); "
    "print(getattr(sys, '_base_executable', None) or sys.executable)"
)
# Runs under an environment's interpreter, also inside a container: the tag of a lock, such as linux-x86_64-py3.11.
PLATFORM = """
import platform, struct, sys, sysconfig
def tag():
    system, machine = sys.platform, platform.machine().lower() or "unknown"
    if struct.calcsize("P") == 4:
        machine = {"x86_64": "i686", "aarch64": "armv7l"}.get(machine, machine)
    kept = " ".join(str(sysconfig.get_config_var(name) or "") for name in ("SOABI", "HOST_GNU_TYPE"))
    libc = "-musl" if system == "linux" and "musl" in kept else ""
    kind = {"cpython": "py", "pypy": "pp"}.get(sys.implementation.name, sys.implementation.name)
    threads = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    return "%s%s-%s-%s%d.%d%s" % (system, libc, machine, kind, sys.version_info[0], sys.version_info[1], threads)
"""


class NoPython(Exception):
    """There is no interpreter as it is asked for; the text is for people."""


def ask(path: str) -> "Optional[Tuple[str, str, str]]":
    """(version, its own path, the path outside any virtual environment) of a Python 3, or None."""
    lines = said([path, "-c", _WHO], 20).splitlines()
    if len(lines) != 3 or not lines[0].startswith("3."):
        return None
    return lines[0], lines[1], lines[2]


def platform_of(python: str) -> str:
    """Tag of what this interpreter's packages depend on; empty where it does not say."""
    return said([python, "-c", PLATFORM + "\nprint(tag())"], 20).strip()


def said(argv: "List[str]", seconds: float) -> str:
    """What a short program prints; nothing where it fails or does not end in time."""
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            universal_newlines=True,
        )
        try:
            output, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return ""
    except (OSError, UnicodeDecodeError):
        return ""
    return output if process.returncode == 0 else ""


def closed(path: str) -> str:
    """Why this path cannot even be looked at, for people: a folder on the way to it is closed to this user. Empty where it can, and where
    there is nothing."""
    try:
        os.stat(path)
    except PermissionError:
        place = os.path.realpath(path)  # as far as this user sees where links lead
        while place != os.path.dirname(place):
            place = os.path.dirname(place)
            if os.path.isdir(place) and not os.access(place, os.X_OK):
                return "the folder %s is closed to the user %s" % (place, _user())
        return "the user %s may not reach it" % _user()
    except OSError:
        pass
    return ""


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def candidates(names: "List[str]", avoid: str) -> "Iterator[Tuple[str, str, str]]":
    """Interpreters of these names that answer: on PATH first, then where version managers keep them."""
    home = os.path.expanduser("~")
    places = [place for place in os.environ.get("PATH", os.defpath).split(os.pathsep) if os.path.isabs(place)]
    for pattern in (".pyenv/versions/*/bin", ".local/share/uv/python/*/bin"):
        places += sorted(glob.glob(os.path.join(home, pattern)), reverse=True)
    seen = set()
    for name in names:
        for place in places:
            path = os.path.join(place, name)
            if avoid and os.path.realpath(place).startswith(os.path.realpath(avoid) + os.sep):
                continue  # the studio's own environment is not for runs
            if path in seen or not os.path.isfile(path) or not os.access(path, os.X_OK):
                continue
            seen.add(path)
            answer = ask(path)
            if answer is not None and not (avoid and answer[1].startswith(avoid + os.sep)):
                yield answer


def base_python(version: str, avoid: str) -> "Tuple[str, str, str]":
    """The interpreter from which to make a virtual environment of this version (3.x, 3.x.y, or empty: any). Raises NoPython."""
    wanted = version.split(".")
    names = ["python3", "python"] if not version else ["python" + ".".join(wanted[:2]), "python3", "python"]
    for found in candidates(names, avoid):
        if not version or found[0].split(".")[: len(wanted)] == wanted:
            return found
    if not version:
        own = ask(sys.executable)
        if own is not None:
            return own
    raise NoPython("Python %s is not on this machine. %s" % (version or "3", there_is(avoid)))


def there_is(avoid: str) -> str:
    """A sentence about the interpreters that are there."""
    names = ["python3"] + ["python3.%d" % minor for minor in range(6, 21)]
    found: "Dict[str, str]" = {}
    for version, own, _ in candidates(names, avoid):
        found.setdefault(version, own)
    if not found:
        return "No Python 3 was found on it. Install one."
    listed = sorted(found.items(), key=lambda item: [int(part) for part in item[0].split(".")])
    return "Found: %s. Install the one you need, or choose one of these." % ", ".join(
        "%s (%s)" % item for item in listed
    )
