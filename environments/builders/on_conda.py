"""What a conda environment's build does on a target. Standard library alone, Python 3.6 or newer.

Made by micromamba, mamba or conda where the target has one of them; else by rattler, the library below pixi, which is fetched once into
``cache/`` of the root as any Python package is: nothing has to be installed on a target.
"""

import glob
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

if TYPE_CHECKING or __package__:
    from environments.builders import (
        on_rattler,
        on_target,
        target_conda,
        target_describe,
        target_index,
        target_lock,
        target_python,
        target_run,
    )
else:
    import on_rattler
    import on_target
    import target_conda
    import target_describe
    import target_index
    import target_lock
    import target_python
    import target_run

Failed = target_run.Failed
RATTLER = "0.28.0"
# Of its wheels, one a platform: CPython 3.10 and newer on Linux, macOS and Windows.
RATTLER_HASHES = """
1c566fb1b0fc3d0d892b7ba021d6863aaff1f476c245178a07f560729aa7ecdb 31c6770fc2294855488532b015bc051ac3e785c30c46ddea29ea82f6b7b55876
4f4ab1d34d5394e7ce130a86e59009c95ace4f5757d9c3af04de1351bcea47eb 595e415bc27f01bd95cc3c03138c0dc4087d57d8db2e80c72ca0063ee66c01b8
6108ea83ba3d2a2637afa45cf655d0b3ae0a4ab1106dde84de2da8c08b1e16df 61b24202374188e72130f1b3dc63b455befaafc3e49e5481a38b6a6c8828c1e0
6218478af88d45ac1e08e605ede4f67bbe4ffbbbb40b5e32622a4746f98fe331 6a0312ba34d4e709fe5f20df6de617b9a4cd1e9293f2c8eaad2fb9c699a26746
81cef9b72c334c54442135badfedaf2db18622c37fe18d0261a52ee4a54c0fd4 84aef2aca9df0f8e0b0c635b2ff32c8568ac41e612f6f192fde12b99e48397cd
acf5761d639b9a5b0cda990fdf131ae5e97d09f29fab4a144c32285c77275892 bc18e46ed1b7bd72aa3ce48e0cc6582f48d540f956a96e4d6c63edd7373b746b
be4b243c1ae8b8009b0d265de8432e59b057639dd48cce2d0f7a445e9f4d271d d25e3eb18127571757f5d9ad7ccd2c2c24aaac5575b28a9cab6463997357a4eb
d26db63e41e6efaff75c3d89040b2c78b4887be8e782dff281fb426835308b2b d707bffcf2cf9a0593fb6fb753f3df0c4a9eb2990e61d1748016a32e54a7028d
d990d0bd3d2259332d26b96848b522dfc67b0e308a3dce565d08de79b56e531b f08d164065b8b6b7053006b8459af5602f89494b57d4b7404e6281cef2cbb18a
"""
_LEAST = (3, 10)
_HOW = (
    "Install micromamba there (one program, no administrator needed: mamba's documentation, 'Micromamba installation'; ~/bin and "
    "~/.local/bin are looked into), or Python 3.10 or newer."
)
# What the activation scripts of packages set, seen from outside. NUL between entries: values may hold line ends.
_ACTIVATE = 'for script in "$CONDA_PREFIX"/etc/conda/activate.d/*.sh; do [ -r "$script" ] && . "$script" >/dev/null 2>&1; done; env -0'
_OF_SHELLS = ("_", "SHLVL", "PWD", "OLDPWD", "PATH", "PS1")


def main(arguments: "List[str]") -> int:
    verbs: "Dict[str, Callable[[Dict[str, Any]], None]]" = {
        "existing": existing,
        "create": create,
        "resolve": resolve,
        "install": on_target.install,
        "record": record,
    }
    try:
        verbs[arguments[0]](on_target.wish())
        return 0
    except (Failed, target_python.NoPython) as error:
        return on_target.failed(error)


def say(text: str) -> None:
    print(text)
    sys.stdout.flush()


# -- verbs ----------------------------------------------------------------------------------------------------------------


def existing(wish: "Dict[str, Any]") -> None:
    """Check a conda environment that is on the target already; note it for runs."""
    try:
        prefix = target_conda.named_environment(wish["definition"]["conda_environment"], os.path.expanduser("~"))
    except ValueError as error:
        raise Failed(str(error))
    result = look(prefix)
    say("Python %s, %d packages in %s" % (result["version"], len(result["packages"]), prefix))
    on_target.publish(wish["home"], dict(result, size=0))


def create(wish: "Dict[str, Any]") -> None:
    """Make the environment with its conda packages; leave at once where a whole one is at hand."""
    home, prefix = wish["home"], wish["prefix"]
    ready = whole(home)
    if ready is not None:
        say("Already here, built %s" % time.strftime("%Y-%m-%d %H:%M", time.localtime(ready.get("built_at", 0))))
        on_target.write_json(on_target.result_path(), ready)
        return
    os.makedirs(home, 0o700, exist_ok=True)
    for name in os.listdir(home):
        # What a builder that died has left. If one of its processes still lives, it loses its own folder only.
        shutil.rmtree(os.path.join(home, name), ignore_errors=True)
    channels = target_conda.channels_of(wish)
    offline = bool((wish.get("index") or {}).get("offline"))
    if offline and not (wish.get("index") or {}).get("conda_channels"):
        raise Failed(
            "this target is offline and has no conda channels of its own. Name them in its settings (packages, conda channels): "
            "a folder such as file:///srv/channel, or the address of a mirror."
        )
    specs = target_conda.specs_of(wish["definition"])
    known = wish.get("locks") or {}
    lock = known.get(target_conda.tag()) or ""
    try:
        entries = target_conda.placed(target_conda.read_lock(lock)[0], channels)
    except ValueError as error:
        raise Failed(str(error))
    prefer = target_conda.preferred(known, specs)
    if entries:
        say("The %d packages that this environment is made of are known" % len(entries))
    else:
        say("Channels: %s" % target_conda.without_credentials(", ".join(channels)))
    tool = find_tool(wish)
    if tool is None:
        by_rattler(wish, channels, specs, prefer, entries)
    else:
        by_tool(tool, wish, channels, specs, prefer, entries)
    target_conda.clean_records(prefix)
    if not target_conda.installed(prefix):
        raise Failed("nothing was installed into %s" % prefix)
    python = python_of(prefix)
    if target_python.ask(python) is None:
        raise Failed("the environment has no Python that starts. See that python is among its conda packages.")
    uv = (wish.get("tools") or {}).get("uv") or ""
    state = {"uv": uv, "pip": [python, "-m", "pip"], "platform": target_conda.tag()}
    on_target.write_json(on_target.state_path(), state)
    packages = wish["definition"]["packages"]
    if packages and not uv and not target_python.said([python, "-m", "pip", "--version"], 60):
        raise Failed(
            "pip packages are asked for, and neither uv is on this machine nor pip in the environment. Add pip to its conda packages."
        )
    with open(os.path.join(prefix, "requirements.txt"), "w", encoding="utf-8") as file:
        file.write("".join(line + "\n" for line in packages))


def resolve(wish: "Dict[str, Any]") -> None:
    """Settle the pip packages: what conda has installed stays as it is, as long as that is possible."""
    if os.path.exists(on_target.result_path()):
        return
    prefix, state = wish["prefix"], on_target.read_state()
    known = target_conda.read_lock((wish.get("locks") or {}).get(target_conda.tag()) or "")[1]
    if known:
        say("%s, as settled when this was first built" % target_lock.summary(known))
        on_target.keep_lock(prefix, known, state, known=True)
        return
    there = on_target.packages_of(python_of(prefix))
    limits = os.path.join(prefix, "constraints.txt")
    with open(limits, "w", encoding="utf-8") as file:
        file.write("".join(line + "\n" for line in there.splitlines() if "==" in line))
    text = on_target.resolved(wish, state, ["--constraint", limits], quiet=True)
    if not text:
        text = on_target.resolved(wish, state, [], quiet=False)
    # Of what conda has installed in this very version nothing is fetched again.
    mine = set(there.splitlines())
    text = target_lock.text_of([one for one in target_lock.entries(text) if one[0] not in mine])
    say("%s above conda's" % target_lock.summary(text))
    on_target.keep_lock(prefix, text, state, known=False)


def record(wish: "Dict[str, Any]") -> None:
    """Note what was installed, compile it, and declare the environment ready."""
    if os.path.exists(on_target.result_path()):
        return
    prefix = wish["prefix"]
    tag = target_conda.tag()
    text = (wish.get("locks") or {}).get(tag) or ""
    if not text:
        pip = on_target.read_state()["lock_text"]
        text = target_conda.lock_text(target_conda.in_order(target_conda.installed(prefix)), pip)
    subprocess.call(
        [
            python_of(prefix),
            "-m",
            "compileall",
            "-q",
            "-j",
            "0",
            "-x",
            r"[/\\]tests?[/\\]",
            os.path.join(prefix, "lib"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    result = look(prefix)
    size = target_describe.folder_size(prefix)
    say("%d packages, %.1f MB" % (len(result["packages"]), size / 1e6))
    on_target.publish(wish["home"], dict(result, platform=tag, lock_text=text, size=size))


# -- what is there --------------------------------------------------------------------------------------------------------


def python_of(prefix: str) -> str:
    return os.path.join(prefix, "bin", "python")


def look(prefix: str) -> "Dict[str, Any]":
    """The result without lock and size. Raises Failed where there is no Python."""
    python = python_of(prefix)
    found = target_python.ask(python)
    if found is None:
        raise Failed("%s does not start as a Python 3 interpreter" % python)
    packages = target_conda.described(
        target_conda.installed(prefix),
        target_describe.read(target_python.said([python, "-c", target_describe.DESCRIBE], 120)),
    )
    return {
        "python": python,
        "version": found[0],
        "packages": packages,
        "lock": target_describe.lines(packages),
        "extras": {"variables": activation(prefix)},
    }


def whole(home: str) -> "Optional[Dict[str, Any]]":
    """The record of a whole environment below ``home``: its Python starts and finds what was installed."""
    try:
        with open(os.path.join(home, on_target.MARKER), encoding="utf-8") as file:
            found = json.load(file)
        if look(os.path.dirname(os.path.dirname(found["python"])))["lock"] != found["lock"]:
            return None
    except (OSError, ValueError, KeyError, TypeError, Failed):
        return None
    return dict(found)


def activation(prefix: str) -> "Dict[str, str]":
    """The variables that activating the environment would set, apart from PATH."""
    said = {"CONDA_PREFIX": prefix, "CONDA_DEFAULT_ENV": prefix, "CONDA_SHLVL": "1"}
    try:
        with open(os.path.join(prefix, "conda-meta", "state"), encoding="utf-8") as file:
            own = json.load(file).get("env_vars") or {}
        said.update((str(name), str(value)) for name, value in own.items() if value != "***unset***")
    except (OSError, ValueError, AttributeError):
        pass
    if glob.glob(os.path.join(glob.escape(prefix), "etc", "conda", "activate.d", "*.sh")):
        before = {name: os.environ[name] for name in ("HOME", "USER", "LANG", "TMPDIR") if name in os.environ}
        before.update(said, PATH="%s:%s" % (os.path.join(prefix, "bin"), os.environ.get("PATH", os.defpath)))
        shell = next((one for one in ("/bin/bash", "/usr/bin/bash", "/bin/sh") if os.path.exists(one)), "sh")
        try:
            output = subprocess.check_output(
                [shell, "-c", _ACTIVATE], env=before, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60, cwd=prefix
            ).decode("utf-8", "replace")  # fmt: skip
        except (OSError, subprocess.SubprocessError):
            output = ""
        for entry in output.split("\0"):
            name, equals, value = entry.partition("=")
            if equals and name not in _OF_SHELLS and before.get(name) != value:
                said[name] = value
    return said


# -- makers ---------------------------------------------------------------------------------------------------------------


def find_tool(wish: "Dict[str, Any]") -> "Optional[target_conda.Tool]":
    """The first of micromamba, mamba and conda that answers on this machine."""
    for path in target_conda.places_of_tools(wish.get("tools") or {}):
        found = target_conda.tool_at(path, target_python.said([path, "--version"], 60))
        if found is not None:
            return found
    return None


def by_tool(
    tool: "target_conda.Tool",
    wish: "Dict[str, Any]",
    channels: "List[str]",
    specs: "List[str]",
    prefer: "List[str]",
    entries: "List[Dict[str, str]]",
) -> None:
    say("Made by %s %s at %s" % (tool.kind, tool.version, tool.path))
    cache, prefix = os.path.join(wish["root"], "cache"), wish["prefix"]
    env = dict(os.environ, **tool.settings(cache))
    # Where all channels are folders, no network is asked even where there is one.
    offline = bool(channels) and all(channel.startswith("file:") for channel in channels)
    if entries:
        with tempfile.NamedTemporaryFile("w", suffix=".txt", delete=False) as file:
            file.write(target_conda.explicit_file(entries, tool.knows_sha256))
        argv = [tool.create_from(prefix, file.name, offline)]
    else:
        argv = [tool.create(prefix, channels, specs + more, offline) for more in ([prefer, []] if prefer else [[]])]
    for number, one in enumerate(argv):
        code, output = target_run.shown(one, env)
        if not code:
            return
        shutil.rmtree(prefix, ignore_errors=True)
        if number + 1 < len(argv):
            say("The versions of another kind of machine cannot all be had here: solving anew")
    if code:
        said = target_conda.complaint(output)
        raise Failed(said or "%s ended with code %d. What it said is above." % (tool.kind, code))


def by_rattler(
    wish: "Dict[str, Any]",
    channels: "List[str]",
    specs: "List[str]",
    prefer: "List[str]",
    entries: "List[Dict[str, str]]",
) -> None:
    python, folder = rattler(wish)
    asked: "Dict[str, Any]" = {
        "prefix": wish["prefix"],
        "cache": os.path.join(wish["root"], "cache", "conda"),
        "channels": channels,
        "specs": specs,
        "prefer": prefer,
    }
    if entries:
        asked["explicit"] = entries
    folder_of_wish = tempfile.mkdtemp(prefix="rattler-")
    listed, asked["said"] = os.path.join(folder_of_wish, "wish.json"), os.path.join(folder_of_wish, "said")
    on_target.write_json(listed, asked)
    env = {name: value for name, value in os.environ.items() if not name.startswith("RUNSTEAD_")}
    code, _ = target_run.shown([python, "-I", "-c", on_rattler.SOURCE, folder, listed], env)
    if code:
        try:
            with open(asked["said"], encoding="utf-8") as file:
                raise Failed(target_conda.without_credentials(file.read()))
        except FileNotFoundError:
            raise Failed("rattler ended with code %d. What it said is above." % code)


def rattler(wish: "Dict[str, Any]") -> "Tuple[str, str]":
    """(a Python that rattler fits, the folder that rattler is in); fetched at the first call on a machine."""
    python = next(modern(wish["avoid"]), "")
    if not python:
        raise Failed(
            "conda packages need micromamba, mamba or conda on this machine, or a Python 3.10 or newer: none was found. "
            + _HOW
        )
    folder = os.path.join(wish["root"], "cache", "rattler-%s" % RATTLER)
    if not os.path.isdir(folder):
        say("No micromamba, mamba or conda is on this machine: rattler %s makes the environment" % RATTLER)
        fetch(wish, python, folder)
    if not target_python.said(
        [python, "-I", "-c", "import sys; sys.path.insert(0, %r); import rattler; print(1)" % folder], 60
    ):
        # Made by a Python of another machine that shares this folder, or damaged.
        shutil.rmtree(folder, ignore_errors=True)
        fetch(wish, python, folder)
    say("Made by rattler %s" % RATTLER)
    return python, folder


def fetch(wish: "Dict[str, Any]", python: str, folder: str) -> None:
    os.makedirs(os.path.dirname(folder), 0o700, exist_ok=True)
    draft = tempfile.mkdtemp(prefix=".new-rattler-", dir=os.path.dirname(folder))
    listed = os.path.join(draft, "requirements.txt")
    with open(listed, "w", encoding="utf-8") as file:
        hashes = ["--hash=sha256:%s" % one for one in RATTLER_HASHES.split()]
        file.write(" \\\n    ".join(["py-rattler==%s" % RATTLER] + hashes) + "\n")
    try:
        index, auth = wish.get("index") or {}, os.environ.get(target_index.AUTH) or ""
        argv = ["--target", os.path.join(draft, "into"), "--no-deps", "--require-hashes", "--only-binary", ":all:"]
        argv += ["--requirement", listed]
        uv = (wish.get("tools") or {}).get("uv")
        if uv:
            argv = [uv, "pip", "install", "--python", python] + argv
            argv += ["--no-index"] if target_index.no_index(index) else []
        else:
            argv = [python, "-m", "pip", "install", "--no-input"] + argv
        code, output = target_run.shown(argv, target_index.environment(index, auth), target_index.masks(auth))
        if code:
            why = target_run.why(output, False, "", str(index.get("index_url") or ""))
            raise Failed(
                "rattler %s, which makes conda environments where there is no conda, cannot be installed on this machine: %s "
                "See that py-rattler is where its packages come from. Or: %s"
                % (RATTLER, why or "what was said is above.", _HOW)
            )
        try:
            os.rename(os.path.join(draft, "into"), folder)
        except OSError:
            if not os.path.isdir(folder):  # else another build was quicker
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def modern(avoid: str) -> "Iterator[str]":
    """Interpreters of this machine that rattler fits."""
    names = ["python3"] + ["python3.%d" % minor for minor in (12, 11, 13, 10, 14, 15)]
    for version, own, base in target_python.candidates(names, avoid):
        if tuple(int(part) for part in version.split(".")[:2]) >= _LEAST:
            yield base if os.path.exists(base) else own


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
