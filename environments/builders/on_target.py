"""What the steps of a build do on the target. Standard library alone, Python 3.6 or newer.

The studio sends this file's text, with those of ``target_*.py`` in front of it, as ``python3 -c <text> <verb>``: a build needs nothing on
the target but an interpreter. Whatever a step finds out goes into ``artifacts/result.json`` of the attempt's directory; the supervisor
puts it into the exit record.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

if TYPE_CHECKING or __package__:
    from environments.builders import target_describe, target_index, target_lock, target_run
    from environments.builders.target_python import NoPython, ask, base_python, candidates, platform_of, said, there_is
    from environments.builders.target_run import Failed
else:
    import target_describe
    import target_index
    import target_lock
    import target_run
    from target_python import NoPython, ask, base_python, candidates, platform_of, said, there_is
    from target_run import Failed

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
pip_settings, uv_settings = target_index.pip_settings, target_index.uv_settings
LIST = target_describe.LIST
_LEAST_UV = (0, 5)
_REPORTING_PIP = (22, 2)
_REACHING_PIP = (22, 3)


def main(arguments: "List[str]") -> int:
    verbs: "Dict[str, Callable[[Dict[str, Any]], None]]" = {
        "interpreter": interpreter,
        "create": create,
        "resolve": resolve,
        "install": install,
        "record": record,
    }
    try:
        verbs[arguments[0]](wish())
        return 0
    except (Failed, NoPython) as error:
        return failed(error)


def failed(error: Exception) -> int:
    """Say why a step failed: in the log, and to the studio, which shows this line before any that an installer printed."""
    sys.stdout.flush()
    sys.stderr.write("error: %s\n" % error)
    try:
        write_json(result_path(), {"error": str(error)})
    except OSError:
        pass  # a full disk: the log has said it
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
            raise Failed("%s does not exist on this machine. %s" % (path, there_is(avoid)))
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
            raise Failed("no program named %s is on the PATH of this machine. %s" % (path, there_is(avoid)))
        version, chosen = match[0], match[1]
    print("Python %s at %s" % (version, chosen))
    publish(wish["home"], dict(described(chosen), python=chosen, version=version, size=0))


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
    if uv and version_of(uv) < _LEAST_UV:
        print("%s is not used: it does not answer, or is older than %d.%d." % ((uv,) + _LEAST_UV))
        uv = ""
    pip: "List[str]" = []
    if uv:
        installer_run(wish, [uv, "venv", "--quiet", "--python", base[2], prefix])
    else:
        pip = make_with_pip(base[2], prefix)
    python = python_of(prefix)
    state = {"uv": uv, "pip": pip, "platform": platform_of(python)}
    write_json(state_path(), state)
    with open(os.path.join(prefix, "requirements.txt"), "w", encoding="utf-8") as file:
        file.write("".join(line + "\n" for line in wish["definition"]["packages"]))


def resolve(wish: "Dict[str, Any]") -> None:
    """Settle the exact packages, in ``lock.txt``: those that were installed wherever this environment was built first."""
    if os.path.exists(result_path()):
        return
    prefix, state = wish["prefix"], read_state()
    known, other, theirs = target_lock.choose(wish["locks"], state["platform"])
    if known:
        print("%s, as settled when this was first built for %s" % (target_lock.summary(known), state["platform"]))
        keep_lock(prefix, known, state, known=True)
        return
    limits = os.path.join(prefix, "constraints.txt")
    with open(limits, "w", encoding="utf-8") as file:
        file.write(target_lock.constraints(theirs))
    text = ""
    if theirs:
        print("Nothing is settled for %s yet: trying the versions of %s" % (state["platform"], other))
        text = resolved(wish, state, ["--constraint", limits], quiet=True)
        if not text:
            print("They do not all fit here. Resolving anew, so that versions may differ.")
    text = text or resolved(wish, state, [], quiet=False)
    if text:
        print("%s for %s" % (target_lock.summary(text), state["platform"]))
        if not target_lock.hashed(text):
            print("Not every package has a hash where it comes from: versions are settled, contents are not.")
    keep_lock(prefix, text, state, known=False)


def install(wish: "Dict[str, Any]") -> None:
    """Install what ``resolve`` settled, and nothing else."""
    if os.path.exists(result_path()):
        return
    prefix, state = wish["prefix"], read_state()
    python, listed = python_of(prefix), os.path.join(prefix, "lock.txt")
    options: "List[str]" = []
    if state["hashed"]:
        options.append("--require-hashes")
    if state["settled"]:
        options.append("--no-deps")
    else:
        listed = os.path.join(prefix, "requirements.txt")
    if state["uv"]:
        argv = [state["uv"], "pip", "install", "--python", python, *options, "--requirement", listed]
        installer_run(wish, argv + without_index(wish), state)
    else:
        argv = [*state["pip"], "install", "--no-input", "--disable-pip-version-check", "--no-compile", *options]
        installer_run(wish, [*argv, "--requirement", listed], state)
        if not state["settled"]:
            fits_together(state["pip"])


def record(wish: "Dict[str, Any]") -> None:
    """Note what was installed, compile it, and declare the environment ready: from here on it may be used."""
    if os.path.exists(result_path()):
        return
    home, prefix, state = wish["home"], wish["prefix"], read_state()
    python = python_of(prefix)
    found = ask(python)
    if found is None:
        raise Failed("the new interpreter %s does not start" % python)
    text = state.get("lock_text", "")
    result = described(python)
    packages = target_describe.without_seeds(result["packages"], text)
    lock = target_describe.lines(packages)
    if wish["definition"]["packages"] and not text:
        text = lock
    # Runs may not write here, so what is not compiled now would be compiled again by every run. Tests of packages are half of
    # all code, and no run imports them. Files for other Python versions, as some packages carry, fail: no matter.
    begun = time.time()
    subprocess.call(
        [python, "-m", "compileall", "-q", "-j", "0", "-x", r"[/\\]tests?[/\\]", os.path.join(prefix, "lib")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    size = target_describe.folder_size(prefix)
    print("%d packages, %.1f MB, compiled in %.1f s" % (len(packages), size / 1e6, time.time() - begun))
    more = {"python": python, "version": found[0], "packages": packages, "lock": lock, "lock_text": text, "size": size}
    publish(home, dict(result, **more))


# -- what the verbs are made of -------------------------------------------------------------------------------------------


def make_with_pip(base: str, prefix: str) -> "List[str]":
    """Make a virtual environment without uv: how pip is called for it. Raises Failed."""
    env = dict(os.environ)
    if said([base, "-c", "import venv, ensurepip; print(1)"], 20):
        code, text = target_run.shown([base, "-m", "venv", prefix], env)
        if code == 0:
            return [python_of(prefix), "-m", "pip"]
        raise Failed(
            target_run.why(text, False, "") or "the virtual environment could not be made: %s" % last_line(text)
        )
    for argv in ([base, "-m", "virtualenv"], ["virtualenv", "-p", base]):
        if said([*argv, "--version"], 20):
            code, text = target_run.shown([*argv, "--quiet", prefix], env)
            if code == 0:
                return [python_of(prefix), "-m", "pip"]
    if version_of(base, "-m", "pip") >= _REACHING_PIP:
        code, text = target_run.shown([base, "-m", "venv", "--without-pip", prefix], env)
        if code == 0:
            return [base, "-m", "pip", "--python", python_of(prefix)]
    raise Failed(
        "%s cannot make virtual environments: its module ensurepip is missing, and there is neither virtualenv nor uv. "
        "Install python3-venv, virtualenv or uv on this machine." % base
    )


def resolved(wish: "Dict[str, Any]", state: "Dict[str, Any]", options: "List[str]", quiet: bool) -> str:
    """The exact packages of ``requirements.txt``; empty where this pip is too old to say them before it installs. Raises Failed; ``quiet``: then
    also empty where nothing fits."""
    prefix = wish["prefix"]
    listed = os.path.join(prefix, "requirements.txt")
    if state["uv"]:
        output = os.path.join(prefix, "resolved.txt")
        argv = [state["uv"], "pip", "compile", listed, "--python", python_of(prefix), "--output-file", output]
        argv += ["--generate-hashes", "--no-annotate", "--no-header", "--quiet", *options, *without_index(wish)]
        if not installer_run(wish, argv, state, quiet)[0]:
            return ""
        with open(output, encoding="utf-8") as file:
            return target_lock.normal(file.read())
    if version_of(*state["pip"]) < _REPORTING_PIP:
        if not quiet:
            print(
                "pip %d.%d cannot resolve before it installs: versions are settled by installing, without hashes."
                % version_of(*state["pip"])[:2]
            )
        return ""
    report = os.path.join(prefix, "report.json")
    argv = [*state["pip"], "install", "--no-input", "--disable-pip-version-check", "--dry-run", "--ignore-installed"]
    argv += ["--quiet", "--report", report, *options, "--requirement", listed]
    try:
        if not installer_run(wish, argv, state, quiet)[0]:
            return ""
        with open(report, encoding="utf-8") as file:
            found, bare = target_lock.from_report(file.read())
    except (OSError, ValueError, KeyError) as error:
        raise Failed("pip did not say what it would install: %s" % error)
    finally:
        if os.path.exists(report):
            os.unlink(report)  # its addresses may hold the user and password of an index
    if bare:
        print("No hash is known of: %s" % ", ".join(bare[:10]))
    return target_lock.text_of(found)


def installer_run(
    wish: "Dict[str, Any]", argv: "Sequence[str]", state: "Optional[Dict[str, Any]]" = None, quiet: bool = False
) -> "Tuple[bool, str]":
    """Run uv or pip with the settings of this build: whether it went well, and what it said. Raises Failed, or leaves where the program
    has said best why; ``quiet``: neither."""
    index, auth = wish["index"], os.environ.get(target_index.AUTH, "")
    env = target_index.environment(index, auth)
    code, text = target_run.shown(argv, env, target_index.masks(auth), quiet)
    if code == 0 or quiet:
        return code == 0, text
    state = state or {}
    address = target_index.sources(index, "", pip_settings())["index_url"]
    reason = target_run.why(text, bool(state.get("known")), state.get("platform", ""), address)
    if reason:
        raise Failed(reason)
    sys.exit(target_run.exit_code(code))


def fits_together(pip: "List[str]") -> None:
    """Raises Failed where an old pip has installed versions that exclude each other: it takes the first that one package asks for."""
    try:
        subprocess.check_output([*pip, "check", "--disable-pip-version-check"], stderr=subprocess.STDOUT)
    except subprocess.CalledProcessError as error:
        told = error.output.decode("utf-8", "replace").strip().splitlines()
        raise Failed(
            "%s pip %s does not choose versions that fit together: name one that does, or install uv or a newer pip on this machine."
            % (told[0] if told else "The packages do not fit together.", "%d.%d" % version_of(*pip)[:2])
        )


def without_index(wish: "Dict[str, Any]") -> "List[str]":
    return ["--no-index"] if target_index.no_index(wish["index"]) else []


def keep_lock(prefix: str, text: str, state: "Dict[str, Any]", known: bool) -> None:
    """``lock.txt`` for the installer; what of it counts for the next steps."""
    hashed = target_lock.hashed(text)
    listed = text if hashed else target_lock.text_of([(one, []) for one, _ in target_lock.entries(text)])
    with open(os.path.join(prefix, "lock.txt"), "w", encoding="utf-8") as file:
        file.write(listed)
    write_json(state_path(), dict(state, known=known, settled=bool(text), hashed=hashed, lock_text=text))


def version_of(*argv: str) -> "Tuple[int, ...]":
    """(major, minor) of what a program says to ``--version``; (0, 0) where it does not answer."""
    found = re.search(r"(\d+)\.(\d+)", said([*argv, "--version"], 30))
    return (int(found.group(1)), int(found.group(2))) if found else (0, 0)


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:500] if lines else "it said nothing"


def python_of(prefix: str) -> str:
    return os.path.join(prefix, "bin", "python")


def described(python: str) -> "Dict[str, Any]":
    """{"platform", "packages", "lock"} of what this interpreter can import."""
    packages = target_describe.read(said([python, "-c", target_describe.DESCRIBE], 120))
    return {"platform": platform_of(python), "packages": packages, "lock": target_describe.lines(packages)}


def packages_of(python: str) -> str:
    """``name==version`` lines of what the interpreter finds, sorted."""
    return said([python, "-c", LIST], 60)


# -- files ----------------------------------------------------------------------------------------------------------------


def result_path() -> str:
    return os.path.join(os.environ["RUNSTEAD_RUN_DIR"], "artifacts", "result.json")


def state_path() -> str:
    """What one step of a build tells the next."""
    return os.path.join(os.environ["RUNSTEAD_RUN_DIR"], "artifacts", "state.json")


def read_state() -> "Dict[str, Any]":
    with open(state_path(), encoding="utf-8") as file:
        return dict({"known": False, "settled": False, "hashed": False, "lock_text": ""}, **json.load(file))


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
    result = target_describe.fitted(dict(result, built_at=time.time()))
    write_json(os.path.join(home, MARKER), result)
    write_json(result_path(), result)


def finished(home: str) -> "Optional[Dict[str, Any]]":
    """The record of a whole environment below ``home``: its interpreter starts and finds what was installed."""
    try:
        with open(os.path.join(home, MARKER), encoding="utf-8") as file:
            found = json.load(file)
        python, lock = found["python"], set(found["lock"].splitlines())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if not isinstance(python, str) or ask(python) is None or lock - set(packages_of(python).splitlines()):
        return None
    return dict(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
