"""What the studio asks before a run is queued: whether its interpreter is here and finds what the script imports, and whether
the files and programs that it names are here.

Nothing of a project is executed. An interpreter that somebody named is: in a process of its own, confined as a run would be, with
limits of time and memory. Each part answers for itself; one that does not within the time is named as unanswered.
"""

import json
import os
import sys
import threading
import time

from .sampling import find_program, run_helper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional

MAX_NAMES = 2000
MAX_PATHS = 200
_MAX_ANSWER = 4 << 20
_MEMORY = 2 << 30
_STUCK = 8
_PASSED = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ")
_stuck = []  # type: List[threading.Thread]

# Starts the interpreter: limits first, then what keeps runs from the studio's files, then exec. A process of its own, because
# this one has threads.
_STARTER = """
import json, os, resource, sys
wish = json.loads(sys.argv[1])
seconds = int(wish["seconds"]) + 2
for name, value in (("CPU", seconds), ("AS", wish["memory"]), ("FSIZE", 0), ("CORE", 0)):
    resource.setrlimit(getattr(resource, "RLIMIT_" + name), (value, value))
if wish["hidden"]:
    sys.path.insert(0, wish["program"])
    __import__(wish["package"] + ".isolation")
    sys.modules[wish["package"] + ".isolation"].confine(wish["hidden"], [], wish["readable"])
try:
    os.execve(wish["python"], [wish["python"], "-B", "-c", wish["text"]], wish["env"])
except OSError as error:
    sys.stderr.write("cannot start: %s" % error.strerror)
    sys.exit(126)
"""

# Runs under the interpreter in question. Modules are looked for, not imported: below a top-level name only where that is a mere
# namespace, which is never code. Each answer is a line of its own: a source that kills the parser takes nothing else along.
_QUESTIONS = r"""
import sys
sys.path[:] = [path for path in sys.path if path]
import base64, json, warnings
from importlib.machinery import PathFinder
from importlib.util import find_spec
warnings.simplefilter("ignore")
asked = json.loads(sys.stdin.read())
def say(what):
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()
say({"version": "%d.%d.%d" % sys.version_info[:3], "path": sys.executable})
found = {}
def look(name):
    top = name.split(".")[0]
    try:
        spec = find_spec(top)
    except ValueError:
        return True
    except Exception:
        return None
    place = top
    while spec is not None and place != name and spec.loader is None and spec.submodule_search_locations:
        place = name[: len(place) + 1] + name[len(place) + 1 :].split(".")[0]
        try:
            spec = PathFinder.find_spec(place, list(spec.submodule_search_locations))
        except Exception:
            return None
    return spec is not None
for name in asked["modules"]:
    found[name] = look(name)
say({"modules": found})
for path, source in asked["sources"]:
    say({"begun": path})
    try:
        compile(base64.b64decode(source), path, "exec", dont_inherit=True)
        say({"source": path})
    except SyntaxError as error:
        say({"source": path, "line": error.lineno or 1, "error": str(error.msg)})
    except (ValueError, RecursionError, MemoryError, OverflowError) as error:
        say({"source": path, "line": 1, "error": "it holds a NUL, or is nested too deeply" if not str(error) else str(error)})
say({"done": True})
"""


def ask(root: str, header: "Dict[str, Any]", body: bytes) -> "Dict[str, Any]":
    """All answers that came within ``seconds``; the names of the other parts are in ``unanswered``."""
    seconds = min(max(float(header.get("seconds", 2)), 0.1), 10.0)
    modules = _texts(header, "modules", MAX_NAMES)
    paths = _texts(header, "paths", MAX_PATHS)
    programs = _texts(header, "programs", MAX_PATHS)
    hidden = _texts(header, "isolate", MAX_PATHS)
    sources = _sources(header.get("sources") or [], body)
    parts = {"disk": lambda: _disk(root)}  # type: Dict[str, Callable[[], Any]]
    if header.get("python") is not None:
        wanted = header["python"]
        parts["python"] = lambda: _python(root, wanted, modules, sources, hidden, seconds)
    if paths:
        parts["paths"] = lambda: {path: _path(path) for path in paths}
    if programs:
        parts["programs"] = lambda: {name: find_program(name) for name in programs}
    if header.get("gpus"):
        parts["gpus"] = _gpus
    found = _together(parts, seconds)
    found["memory"] = _memory()
    return found


def _texts(header: "Dict[str, Any]", name: str, most: int) -> "List[str]":
    values = header.get(name) or []
    if not isinstance(values, list) or len(values) > most or not all(isinstance(one, str) for one in values):
        raise ValueError("%s: a list of at most %d texts is needed" % (name, most))
    return [one for one in values if "\0" not in one]


def _sources(listed: "Any", body: bytes) -> "List[List[str]]":
    """[path, source in base64]: bytes go to the parser as they are, an encoding may be declared in them."""
    import base64

    found, place = [], 0
    for path, size in listed:
        found.append([str(path), base64.b64encode(body[place : place + int(size)]).decode()])
        place += int(size)
    return found


def _together(parts: "Dict[str, Callable[[], Any]]", seconds: float) -> "Dict[str, Any]":
    """Each part in a thread: a file system that does not answer holds up nothing but the question about it."""
    _stuck[:] = [thread for thread in _stuck if thread.is_alive()]
    found, threads = {}, {}  # type: Dict[str, Any], Dict[str, threading.Thread]
    end = time.monotonic() + seconds

    def answer(name: str) -> None:
        try:
            found[name] = parts[name]()
        except OSError as error:
            found[name] = {"error": "os_error", "message": str(error)}

    for name in parts:
        if name == "paths" and len(_stuck) >= _STUCK:
            continue
        threads[name] = threading.Thread(target=answer, args=(name,), daemon=True)
        threads[name].start()
    for thread in threads.values():
        thread.join(max(end - time.monotonic(), 0))
    _stuck.extend(thread for thread in threads.values() if thread.is_alive())
    return dict(dict(found), unanswered=sorted(name for name in parts if name not in found))


# -- the interpreter ------------------------------------------------------------------------------------------------------


def _python(
    root: str,
    wanted: "Dict[str, Any]",
    modules: "List[str]",
    sources: "List[List[str]]",
    hidden: "List[str]",
    seconds: float,
) -> "Dict[str, Any]":
    """{"path", "version", "modules": {name: bool or null}, "syntax": {path: null or [line, message]}}, or {"error", "message"}."""
    path = _interpreter(wanted)
    if "error" in path:
        return path
    said, reason = _run(root, path["path"], {"modules": modules, "sources": sources}, hidden, seconds - 0.1)
    lines = []
    for line in said.splitlines():
        try:
            lines.append(json.loads(line.decode("utf-8", "replace")))
        except ValueError:
            continue  # what a start-up file of that interpreter printed
    lines = [line for line in lines if isinstance(line, dict)]
    if not any("version" in line for line in lines):
        return {"error": "no_answer", "path": path["path"], "message": reason or "it does not answer as a Python 3"}
    result = {"path": path["path"], "version": "", "modules": {}, "syntax": {}}  # type: Dict[str, Any]
    begun = ""
    for line in lines:
        if "version" in line:
            result["version"] = str(line["version"])
        elif "modules" in line:
            result["modules"] = {str(name): here for name, here in dict(line["modules"]).items()}
        elif "begun" in line:
            begun = str(line["begun"])
        elif "source" in line:
            result["syntax"][str(line["source"])] = [int(line["line"]), str(line["error"])] if "error" in line else None
            begun = ""
    if begun:
        result["unfinished"] = begun  # it took the parser too long, too much memory, or its life
    return result


def _interpreter(wanted: "Dict[str, Any]") -> "Dict[str, Any]":
    """{"path"}, or {"error", "message"}. ``wanted``: {"path"}, {"names", "avoid"} or {"conda"}."""
    if wanted.get("conda"):
        return _conda(str(wanted["conda"]))
    if wanted.get("path"):
        path = str(wanted["path"])
        if _closed(path):
            return {"error": "closed", "message": path}
        if not os.path.exists(path):
            return {"error": "not_found", "message": path}
        if not os.access(path, os.X_OK) or os.path.isdir(path):
            return {"error": "not_executable", "message": path}
        return {"path": path}
    avoid = str(wanted.get("avoid") or "")
    for name in wanted.get("names") or []:
        for place in os.environ.get("PATH", os.defpath).split(os.pathsep):
            path = os.path.join(place, str(name))
            if avoid and os.path.realpath(place).startswith(os.path.realpath(avoid) + os.sep):
                continue  # the studio's own environment is not for runs
            if os.path.isabs(path) and os.path.isfile(path) and os.access(path, os.X_OK):
                return {"path": path}
    return {"error": "not_found", "message": ", ".join(str(name) for name in wanted.get("names") or [])}


def _conda(name: str) -> "Dict[str, Any]":
    """The interpreter of an environment that conda made here: by its path, or by its name in the places where conda keeps them."""
    home = os.path.expanduser("~")
    if os.path.isabs(name):
        prefixes = [name]
    else:
        folders = [os.path.join(home, ".conda", "envs")]
        for tool in ("conda", "mamba", "micromamba"):
            program = find_program(tool)
            if program:
                folders.append(os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(program))), "envs"))
        for root in (
            os.environ.get("MAMBA_ROOT_PREFIX") or "",
            "/opt/conda",
            home + "/micromamba",
            home + "/.micromamba",
        ):
            folders.append(os.path.join(root, "envs") if root else "")
        for distribution in ("miniconda3", "anaconda3", "miniforge3", "mambaforge"):
            folders += [os.path.join(home, distribution, "envs"), os.path.join("/opt", distribution, "envs")]
        prefixes = [os.path.join(folder, name) for folder in folders if folder]
        try:
            with open(os.path.join(home, ".conda", "environments.txt")) as file:
                listed = file.read(1 << 20).splitlines()
        except OSError:
            listed = []
        prefixes += [line.strip() for line in listed if os.path.basename(line.strip().rstrip("/")) == name]
        if name in ("base", "root"):
            prefixes += [os.path.dirname(folder) for folder in folders if folder]
    for prefix in prefixes:
        path = os.path.join(prefix, "bin", "python")
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return {"path": path}
    return {
        "error": "closed" if os.path.isabs(name) and _closed(os.path.join(name, "bin", "python")) else "not_found",
        "message": name,
    }


def _closed(path: str) -> bool:
    """Whether a folder on the way to it is closed to this user, so that nothing can be said of it."""
    try:
        os.stat(path)
    except PermissionError:
        return True
    except OSError:
        pass
    return False


def _run(root: str, python: str, asked: "Dict[str, Any]", hidden: "List[str]", seconds: float) -> "Any":
    """(what it wrote, why it was ended or failed). Never longer than ``seconds``."""
    import signal
    import subprocess
    import tempfile

    from . import isolation

    if isolation.used(root, hidden) != "landlock":
        hidden = []
    package = __name__.rpartition(".")[0]
    program = os.path.abspath(__file__)
    for _ in range(package.count(".") + 2):
        program = os.path.dirname(program)
    env = {name: os.environ[name] for name in _PASSED if name in os.environ}
    wish = {
        "python": python,
        "text": _QUESTIONS,
        "env": dict(env, PYTHONDONTWRITEBYTECODE="1", PYTHONIOENCODING="utf-8", PYTHONWARNINGS="ignore"),
        "hidden": [root] + hidden if hidden else [],
        "readable": [os.path.join(root, "envs"), os.path.join(root, "lib")],
        "memory": _MEMORY,
        "seconds": seconds,
        "program": program,
        "package": package,
    }
    # A file and no pipe: who asks does not wait for a process that reads nothing.
    with tempfile.TemporaryFile(dir=os.path.join(root, "agent")) as question:
        question.write(json.dumps(asked).encode())
        question.seek(0)
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _STARTER, json.dumps(wish)],
            stdin=question,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            env=env,
            start_new_session=True,
        )
    said, complaint = [], []  # type: List[bytes], List[bytes]
    readers = [
        threading.Thread(target=_read, args=(process.stdout, said), daemon=True),
        threading.Thread(target=_read, args=(process.stderr, complaint), daemon=True),
    ]
    for reader in readers:
        reader.start()
    end, reason = time.monotonic() + seconds, ""
    readers[0].join(seconds)
    try:
        process.wait(max(end - time.monotonic(), 0.02))
    except subprocess.TimeoutExpired:
        reason = "it gave no answer within %.1f s" % seconds
    try:
        os.killpg(process.pid, signal.SIGKILL)  # also what it may have started
    except OSError:
        pass
    process.wait()
    for reader in readers:
        reader.join(0.2)
    if not reason and process.returncode:
        lines = b"".join(complaint).decode("utf-8", "replace").strip().splitlines()
        reason = lines[-1][:300] if lines else "it ended with %d" % process.returncode
    return b"".join(said), reason


def _read(pipe: "Any", into: "List[bytes]") -> None:
    size = 0
    with pipe:
        while size < _MAX_ANSWER:
            try:
                piece = os.read(pipe.fileno(), 1 << 16)
            except OSError:
                return
            if not piece:
                return
            into.append(piece)
            size += len(piece)


# -- the machine ----------------------------------------------------------------------------------------------------------


def _path(path: str) -> str:
    """``file``, ``folder``, ``denied`` (there, and this user may not read it), ``creatable`` (not there, and this user may make
    it) or ``missing``."""
    if not os.path.isabs(path):
        return "missing"
    try:
        os.stat(path)
    except (IOError, OSError) as error:
        if error.errno == 13:
            return "denied"
        parent = os.path.dirname(path.rstrip("/"))
        return "creatable" if os.path.isdir(parent) and os.access(parent, os.W_OK | os.X_OK) else "missing"
    folder = os.path.isdir(path)
    if not os.access(path, os.R_OK | os.X_OK if folder else os.R_OK):
        return "denied"
    return "folder" if folder else "file"


def _disk(root: str) -> "Dict[str, int]":
    disk = os.statvfs(root)
    return {"free": disk.f_bavail * disk.f_frsize, "total": disk.f_blocks * disk.f_frsize}


def _gpus() -> "Optional[int]":
    """How many the driver lists now; None where there is no driver."""
    if find_program("nvidia-smi") is None:
        return None
    output = run_helper(["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"], set())
    return len([line for line in (output or "").splitlines() if line.strip().isdigit()])


def _memory() -> int:
    """Bytes that could be had now without swapping; 0 where it is not known."""
    try:
        with open("/proc/meminfo") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return 0
