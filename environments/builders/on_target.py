"""What the steps of a build do on the target. Standard library alone, Python 3.6 or newer.

The studio sends this file's text as ``python3 -c <text> <verb> ...``: a build needs nothing on the target but an interpreter.
Whatever a step finds out goes into ``artifacts/result.json`` of the attempt's directory; the supervisor puts it into the exit
record.
"""

import glob
import json
import os
import shutil
import subprocess
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

MARKER = ".runstead.json"
# The fields of a definition, and what each is where it says nothing. As environments/definition.py has them; a test says so.
DEFINITION: "Dict[str, Any]" = {
    "user_managed": False,
    "interpreter_path": "",
    "python_version": "",
    "packages": [],
    "index_url": "",
    "extra_index_urls": [],
    "index_secret": "",
    "conda_environment": "",
    "conda_channels": [],
    "conda_packages": [],
    "base_image": "",
    "dockerfile": "",
    "registry": {},
    "docker": {},
    "spark": {},
    "variables": {},
}
_AUTHORITIES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
_WHO = (
    "import sys; print('%d.%d.%d' % sys.version_info[:3]); print(sys.executable); "
    "print(getattr(sys, '_base_executable', None) or sys.executable)"
)
# Runs under the environment's interpreter: name==version of everything that it can import, one a line.
LIST = """
import sys
try:
    from importlib.metadata import distributions
except ImportError:
    sys.exit(0)
import json, re
sys.path = [p for p in sys.path if p]
found = {}
for d in distributions():
    name = d.metadata["Name"]
    if not name:
        continue
    direct = json.loads(d.read_text("direct_url.json") or "{}").get("url")
    key = re.sub(r"[-_.]+", "-", name).lower()
    found.setdefault(key, key + (" @ " + direct if direct else "==" + d.version))
print("\\n".join(found[key] for key in sorted(found)))
"""


class Failed(Exception):
    """Ends the step; the text is the line that people read."""


def main(arguments: "List[str]") -> int:
    verbs: "Dict[str, Callable[[Dict[str, Any]], None]]" = {
        "interpreter": interpreter,
        "create": create,
        "install": install,
        "record": record,
    }
    try:
        verbs[arguments[0]](wish())
        return 0
    except Failed as error:
        sys.stderr.write("error: %s\n" % error)
        return 1


def wish() -> "Dict[str, Any]":
    """What this build is to make: ``build`` of the attempt's ``spec.json``, its definition with all that may be left out."""
    with open(os.path.join(os.environ["RUNSTEAD_RUN_DIR"], "spec.json"), encoding="utf-8") as file:
        found = json.load(file)["build"]
    given = found["definition"]
    found["definition"] = {name: given.get(name, empty) for name, empty in DEFINITION.items()}
    return dict(found)


# -- verbs ----------------------------------------------------------------------------------------------------------------


def interpreter(wish: "Dict[str, Any]") -> None:
    """Check that an existing interpreter works, or find the target's own; note it for runs."""
    path, avoid = wish["definition"]["interpreter_path"], wish["avoid"]
    if os.path.isabs(path):
        if not os.path.exists(path):
            raise Failed("%s does not exist on this machine. %s" % (path, _there_is(avoid)))
        if not os.access(path, os.X_OK):
            raise Failed("%s cannot be executed. Allow it (chmod +x), or name another interpreter." % path)
        found = ask(path)
        if found is None:
            raise Failed("%s is not a Python 3 interpreter: it does not answer as one." % path)
        chosen, version = path, found[0]
    else:
        names = [path] if path not in ("", "python") else ["python3", "python"]
        match = next(candidates(names, avoid), None)
        if match is None and path in ("", "python"):
            match = ask(sys.executable)
        if match is None:
            raise Failed("no program named %s is on the PATH of this machine. %s" % (path, _there_is(avoid)))
        version, chosen = match[0], match[1]
    print("Python %s at %s" % (version, chosen))
    publish(wish["home"], {"python": chosen, "version": version, "lock": packages_of(chosen), "size": 0})


def create(wish: "Dict[str, Any]") -> None:
    """Make an empty virtual environment at ``prefix``; leave at once where a whole one is at hand."""
    home, prefix, uv = wish["home"], wish["prefix"], wish["tools"].get("uv")
    ready = finished(home)
    if ready is not None:
        print("Already here, built %s" % time.strftime("%Y-%m-%d %H:%M", time.localtime(ready.get("built_at", 0))))
        write_json(result_path(), ready)
        return
    os.makedirs(home, 0o700, exist_ok=True)
    for name in os.listdir(home):
        # What a builder that died has left. If one of its processes still lives, it loses its own folder only.
        shutil.rmtree(os.path.join(home, name), ignore_errors=True)
    base = base_python(wish["definition"]["python_version"], wish["avoid"])
    print("Python %s at %s" % (base[0], base[2]))
    sys.stdout.flush()
    if uv:
        run([uv, "venv", "--quiet", "--python", base[2], prefix], uv_settings())
    else:
        try:
            run([base[2], "-m", "venv", prefix], {})
        except Failed:
            raise Failed(
                "the virtual environment could not be made. Install the venv module (python3-venv) or uv on the target."
            )
    with open(os.path.join(prefix, "requirements.txt"), "w", encoding="utf-8") as file:
        file.write("".join(line + "\n" for line in wish["definition"]["packages"]))


def install(wish: "Dict[str, Any]") -> None:
    """Install what ``create`` wrote down."""
    if os.path.exists(result_path()):
        return
    prefix, uv = wish["prefix"], wish["tools"].get("uv")
    python = python_of(prefix)
    listed = os.path.join(prefix, "requirements.txt")
    if uv:
        offline = pip_settings().get("no-index", "").lower() in ("1", "true", "yes", "on")
        argv = [uv, "pip", "install", "--python", python, "--requirement", listed]
        run(argv + (["--no-index"] if offline else []), uv_settings())
    else:
        run(
            [
                python,
                "-m",
                "pip",
                "install",
                "--no-input",
                "--disable-pip-version-check",
                "--requirement",
                listed,
            ],
            {},
        )


def record(wish: "Dict[str, Any]") -> None:
    """Note what was installed, compile it, and declare the environment ready: from here on it may be used."""
    if os.path.exists(result_path()):
        return
    home, prefix = wish["home"], wish["prefix"]
    python = python_of(prefix)
    found = ask(python)
    if found is None:
        raise Failed("the new interpreter %s does not start" % python)
    lock = packages_of(python)
    with open(os.path.join(prefix, "lock.txt"), "w", encoding="utf-8") as file:
        file.write(lock)
    # Runs may not write here, so what is not compiled now would be compiled again by every run. Tests of packages are half of
    # all code, and no run imports them. Files for other Python versions, as some packages carry, fail: no matter.
    subprocess.call(
        [python, "-m", "compileall", "-q", "-j", "0", "-x", r"[/\\]tests?[/\\]", os.path.join(prefix, "lib")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    size = size_of(prefix)
    print("%d packages, %.1f MB" % (lock.count("\n"), size / 1e6))
    publish(home, {"python": python, "version": found[0], "lock": lock, "size": size})


# -- pythons --------------------------------------------------------------------------------------------------------------


def ask(path: str) -> "Optional[Tuple[str, str, str]]":
    """(version, its own path, the path outside any virtual environment) of a Python 3, or None."""
    try:
        process = subprocess.Popen(
            [path, "-c", _WHO],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            universal_newlines=True,
        )
        try:
            output, _ = process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return None
    except OSError:
        return None
    lines = output.splitlines()
    if process.returncode != 0 or len(lines) != 3 or not lines[0].startswith("3."):
        return None
    return lines[0], lines[1], lines[2]


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
    """The interpreter from which to make a virtual environment of this version (3.x, 3.x.y, or empty: any)."""
    wanted = version.split(".")
    names = ["python3", "python"] if not version else ["python" + ".".join(wanted[:2]), "python3", "python"]
    for found in candidates(names, avoid):
        if not version or found[0].split(".")[: len(wanted)] == wanted:
            return found
    if not version:
        own = ask(sys.executable)
        if own is not None:
            return own
    raise Failed("Python %s is not on this machine. %s" % (version or "3", _there_is(avoid)))


def _there_is(avoid: str) -> str:
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


def python_of(prefix: str) -> str:
    return os.path.join(prefix, "bin", "python")


def packages_of(python: str) -> str:
    """``name==version`` lines of what the interpreter finds, sorted."""
    try:
        output = subprocess.check_output(
            [python, "-c", LIST], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", timeout=60
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    text = output.decode("utf-8", "replace").strip()
    return text + "\n" if text else ""


# -- settings of installers -----------------------------------------------------------------------------------------------


def uv_settings() -> "Dict[str, str]":
    """uv does not read pip's configuration: say the same in its words, where nothing is said in them already."""
    pip = pip_settings()
    said = {}
    links = [
        link for link in pip.get("find-links", "").split() if "://" in link or os.path.isdir(os.path.expanduser(link))
    ]
    for name, value in (
        ("UV_DEFAULT_INDEX", pip.get("index-url", "")),
        ("UV_INDEX", " ".join(pip.get("extra-index-url", "").split())),
        ("UV_FIND_LINKS", ",".join(links)),
        ("UV_INSECURE_HOST", " ".join(pip.get("trusted-host", "").split())),
        ("UV_HTTP_TIMEOUT", pip.get("timeout", pip.get("default-timeout", ""))),
        ("SSL_CERT_FILE", pip.get("cert", "")),
        # The machine's own authorities, as pip does; uv brings others, which a company's mirror is not among.
        ("UV_SYSTEM_CERTS", "1" if any(os.path.exists(path) for path in _AUTHORITIES) else ""),
        ("SSL_CLIENT_CERT", pip.get("client-cert", "")),
    ):
        if value and name not in os.environ:
            said[name] = value
    if "UV_INDEX" in said and "UV_INDEX_STRATEGY" not in os.environ:
        # Whoever configured several indexes for pip has them searched alike; uv alone would stop at the first that has the name.
        said["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    if "UV_INDEX_URL" in os.environ:
        said.pop("UV_DEFAULT_INDEX", None)
    if "UV_EXTRA_INDEX_URL" in os.environ:
        said.pop("UV_INDEX", None)
    if "UV_CONFIG_FILE" not in os.environ:
        # A project's settings found by chance in a folder above are not ours; the user's and the machine's are.
        config = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
        for path in (os.path.join(config, "uv", "uv.toml"), "/etc/uv/uv.toml"):
            if os.path.isfile(path):
                said["UV_CONFIG_FILE"] = path
                break
        else:
            said["UV_NO_CONFIG"] = "1"
    return said


def pip_settings() -> "Dict[str, str]":
    """pip's options by their long names, from its files and its variables, as pip itself combines them."""
    import configparser

    home = os.path.expanduser("~")
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
    machine = [
        os.path.join(d, "pip", "pip.conf")
        for d in reversed(os.environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":"))
        if d
    ]
    paths = [
        *machine,
        "/etc/pip.conf",
        os.path.join(home, ".pip", "pip.conf"),
        os.path.join(config, "pip", "pip.conf"),
    ]
    custom = os.environ.get("PIP_CONFIG_FILE")
    if custom == os.devnull:
        paths = []
    elif custom:
        paths.append(custom)
    found: "Dict[str, Dict[str, str]]" = {"global": {}, "install": {}}
    for path in paths:
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, OSError, UnicodeDecodeError):
            continue
        for section, options in found.items():
            if parser.has_section(section):
                options.update((name.replace("_", "-"), value) for name, value in parser.items(section))
    result = dict(found["global"], **found["install"])
    for name, value in os.environ.items():
        if name.startswith("PIP_") and value:
            result[name[4:].lower().replace("_", "-")] = value
    return result


# -- files ----------------------------------------------------------------------------------------------------------------


def run(argv: "List[str]", settings: "Dict[str, str]") -> None:
    code = subprocess.call(argv, env=dict(os.environ, **settings), stdin=subprocess.DEVNULL)
    if code:
        # The program has said why; anything more would hide its message.
        sys.exit(code if code > 0 else 1)


def result_path() -> str:
    return os.path.join(os.environ["RUNSTEAD_RUN_DIR"], "artifacts", "result.json")


def write_json(path: str, value: object) -> None:
    draft = "%s.%d" % (path, os.getpid())
    with open(draft, "w", encoding="utf-8") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)


def publish(home: str, result: "Dict[str, Any]") -> None:
    """The marker appears last and by rename: an environment without one is a ruin, one with it is whole."""
    os.makedirs(home, 0o700, exist_ok=True)
    result = dict(result, built_at=time.time())
    write_json(os.path.join(home, MARKER), result)
    write_json(result_path(), result)


def finished(home: str) -> "Optional[Dict[str, Any]]":
    """The record of a whole environment below ``home``: its interpreter starts and finds what was installed."""
    try:
        with open(os.path.join(home, MARKER), encoding="utf-8") as file:
            found = json.load(file)
        python, lock = found["python"], found["lock"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not isinstance(python, str) or ask(python) is None or packages_of(python) != lock:
        return None
    return dict(found)


def size_of(folder: str) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_blocks * 512
            except OSError:
                pass
    return total


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
