"""Conda's side of a target: locks and channels as text, the programs that make environments and their command lines, what is in an
environment. Standard library alone, Python 3.6 or newer; sent to the target with ``on_conda``.

A lock is conda's explicit file: ``@EXPLICIT``, then an address and its SHA-256 a line (MD5 where there is nothing better), each followed by
``# md5:…`` for programs that know no other; after a line ``# pip`` comes the lock of what pip installs above it.
"""

import glob
import json
import os
import platform
import re
import sys
from urllib.parse import unquote, urlsplit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterator, List, Optional, Set, Tuple

if TYPE_CHECKING or __package__:
    from environments.builders.target_python import closed
else:
    from target_python import closed

DEFAULT_CHANNEL = "conda-forge"
"""Where nobody names one: the same on every machine, whatever its own conda would take."""
PIP = "# pip"
# Where installers put themselves.
INSTALLATIONS = tuple(
    os.path.join(place, name)
    for place in ("~", "/opt", "/usr/local")
    for name in ("miniforge3", "mambaforge", "miniconda3", "anaconda3", "micromamba", "conda")
)
_KINDS = ("micromamba", "mamba", "conda")  # the quickest first
_TOKEN = re.compile(r"/t/[^/\s]+")
_USER = re.compile(r"(?<=://)[^/\s@]+@")


# -- names ----------------------------------------------------------------------------------------------------------------


def subdir() -> str:
    """Conda's name of this kind of machine."""
    machine = platform.machine().lower()
    if sys.platform == "darwin":
        return "osx-arm64" if machine == "arm64" else "osx-64"
    known = {"x86_64": "64", "amd64": "64", "i686": "32", "i386": "32", "arm64": "aarch64"}
    return "linux-%s" % known.get(machine, machine)


def tag() -> str:
    """The platform of a lock."""
    return "conda-" + subdir()


def without_credentials(text: str) -> str:
    """Addresses without tokens (``/t/<token>/``), users and passwords."""
    return _TOKEN.sub("", _USER.sub("", text))


def channels_of(wish: "Dict[str, Any]") -> "List[str]":
    """Channels in their order: the target's own instead of those that the definition names."""
    mine = (wish.get("index") or {}).get("conda_channels") or wish["definition"].get("conda_channels")
    return list(mine or [DEFAULT_CHANNEL])


def specs_of(definition: "Dict[str, Any]") -> "List[str]":
    """What is asked for: there is always a Python, because runs need one."""
    specs = list(definition.get("conda_packages") or [])
    version = definition.get("python_version") or ""
    if version:
        return ["python=%s" % version] + specs
    return specs if any(name_of(spec) == "python" for spec in specs) else ["python"] + specs


def name_of(spec: str) -> str:
    """Name of the package in a specification such as ``conda-forge::numpy>=1.26``."""
    return re.split(r"[\s=<>!~\[;]", spec.strip().rpartition("::")[2], maxsplit=1)[0].lower()


# -- locks ----------------------------------------------------------------------------------------------------------------


def lock_text(records: "List[Dict[str, Any]]", pip: str) -> str:
    """``records``: of the environment, as ``in_order`` has them; ``pip``: the lock of the rest."""
    lines = ["# platform: %s" % subdir(), "@EXPLICIT"]
    for record in records:
        best = record.get("sha256") or record.get("md5") or ""
        lines.append(without_credentials(record["url"]) + ("#" + best if best else ""))
        if record.get("sha256") and record.get("md5"):
            lines.append("# md5:%s" % record["md5"])
    if pip.strip():
        lines += [PIP, pip.strip()]
    return "\n".join(lines) + "\n"


def read_lock(text: str) -> "Tuple[List[Dict[str, str]], str]":
    """(entries with "url" and "sha256" or "md5", or both; the lock for pip)."""
    conda, _, pip = text.partition("\n%s\n" % PIP)
    entries: "List[Dict[str, str]]" = []
    for raw in conda.splitlines():
        line = raw.strip()
        if line.startswith("# md5:") and entries:
            entries[-1]["md5"] = line[6:]
        if not line or line.startswith(("#", "@")):
            continue
        url, _, found = line.partition("#")
        found = found.rpartition(":")[2]
        entry = {"url": url}
        if found:
            entry["sha256" if len(found) == 64 else "md5"] = found
        entries.append(entry)
    return entries, pip


def explicit_file(entries: "List[Dict[str, str]]", knows_sha256: bool) -> str:
    """The file for ``create --file``. Programs from before autumn 2024 take MD5 alone."""
    lines = ["@EXPLICIT"]
    for entry in entries:
        found = entry.get("sha256") if knows_sha256 or not entry.get("md5") else entry.get("md5")
        found = found or entry.get("md5")
        lines.append(entry["url"] + ("#" + found if found else ""))
    return "\n".join(lines) + "\n"


def parts_of(url: str) -> "Tuple[str, str, str]":
    """(name, version, build) in a package's address."""
    file_name = urlsplit(url).path.rsplit("/", 1)[-1]
    stem = re.sub(r"\.(conda|tar\.bz2)$", "", unquote(file_name))
    name, version, build = (stem.rsplit("-", 2) + ["", ""])[:3]
    return name, version, build


def preferred(locks: "Dict[str, str]", specs: "List[str]") -> "List[str]":
    """``name=version`` of what is asked for, as it was solved for another kind of machine."""
    names = {name_of(spec) for spec in specs}
    for platform_name in sorted(locks):
        if platform_name.startswith("conda-") and platform_name != tag():
            found = [parts_of(entry["url"]) for entry in read_lock(locks[platform_name])[0]]
            return ["%s=%s" % one[:2] for one in found if one[0] in names]
    return []


def placed(entries: "List[Dict[str, str]]", channels: "List[str]") -> "List[Dict[str, str]]":
    """The entries with addresses as this machine reaches them: below its own channels (addresses), with their credentials. Raises
    ValueError where a file is in none of them."""
    bases = [channel.rstrip("/") for channel in channels if "://" in channel]
    moved = []
    for entry in entries:
        url = entry["url"]
        base, place, name = url.rsplit("/", 2)
        known = [one for one in bases if without_credentials(one) == base]
        if known:
            moved.append(dict(entry, url="%s/%s/%s" % (known[0], place, name)))
            continue
        others = ["%s/%s/%s" % (one, place, name) for one in bases]
        if others and len(bases) == len(channels):
            there = [other for other in others if _is_there(other)] if len(others) > 1 else others
            url = (there or [url])[0]
        if url.startswith("file:") and not _is_there(url):
            raise ValueError(
                "%s is not on this machine. Give this target a channel that has it, or refresh the environment."
                % without_credentials(url)
            )
        moved.append(dict(entry, url=url))
    return moved


def _is_there(url: str) -> bool:
    import urllib.request

    parts = urlsplit(url)
    if parts.scheme == "file":
        return os.path.isfile(unquote(parts.path))
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=20) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except (OSError, ValueError):
        return False


# -- programs -------------------------------------------------------------------------------------------------------------


class Tool(object):
    """conda, mamba or micromamba. Since its second version mamba is micromamba with another name."""

    def __init__(self, kind: str, path: str, version: str) -> None:
        self.kind, self.path, self.version = kind, path, version
        self.number = tuple(int(part) for part in re.findall(r"\d+", version)[:2])

    @property
    def small(self) -> bool:
        return self.kind == "micromamba" or (self.kind == "mamba" and self.number >= (2,))

    @property
    def knows_sha256(self) -> bool:
        """In explicit files. mamba 1 is a layer above a conda of any version."""
        return self.number >= ((2, 1) if self.small else (24, 9)) and (self.small or self.kind == "conda")

    def create(self, prefix: str, channels: "List[str]", specs: "List[str]", offline: bool) -> "List[str]":
        argv = self._begin(prefix, offline) + ["--override-channels"]
        for channel in channels:
            argv += ["-c", channel]
        return argv + specs

    def create_from(self, prefix: str, listed: str, offline: bool) -> "List[str]":
        return self._begin(prefix, offline) + ["--file", listed]

    def _begin(self, prefix: str, offline: bool) -> "List[str]":
        argv = [self.path, "create", "--yes", "--quiet", "--prefix", prefix]
        if not self.small:
            argv.append("--no-default-packages")
        return argv + (["--offline"] if offline else [])

    def settings(self, cache: str) -> "Dict[str, str]":
        said = {
            "CONDA_PKGS_DIRS": os.path.join(cache, "conda"),
            # Our folders are none of the account's own environments.
            "CONDA_REGISTER_ENVS": "false",
            "CONDA_NOTIFY_OUTDATED_CONDA": "false",
            "MAMBA_NO_BANNER": "1",
        }
        if self.small:
            said["MAMBA_ROOT_PREFIX"] = os.environ.get("MAMBA_ROOT_PREFIX") or os.path.join(cache, "conda", "root")
        return said


def tool_at(path: str, output: str) -> "Optional[Tool]":
    """``output``: what ``--version`` printed. None where this is none of them."""
    kind = os.path.basename(path)
    first = re.search(r"\d+(?:\.\d+)+", output)
    return Tool(kind, path, first.group()) if kind in _KINDS and first else None


def places_of_tools(known: "Dict[str, Optional[str]]") -> "Iterator[str]":
    """Paths of programs of these names: ``known`` (name → path), on PATH, named by variables, in installations."""
    path = [place for place in os.environ.get("PATH", os.defpath).split(os.pathsep) if os.path.isabs(place)]
    path += [os.path.expanduser("~/bin"), os.path.expanduser("~/.local/bin")]
    for home in INSTALLATIONS:
        path += [os.path.join(os.path.expanduser(home), name) for name in ("bin", "condabin")]
    named = [os.environ.get(name) or "" for name in ("MAMBA_EXE", "CONDA_EXE")]
    seen: "Set[str]" = set()
    for kind in _KINDS:
        for one in [known.get(kind) or ""] + named + [os.path.join(place, kind) for place in path]:
            if os.path.basename(one) == kind and one not in seen and os.path.isfile(one) and os.access(one, os.X_OK):
                seen.add(one)
                yield one


_SPEAKS = re.compile(
    r"^(?:(?:critical|error)\s+libmamba\s+|(?P<kind>[A-Z]\w*(?:Error|Exception))(?::|$)\s*|ERROR:?\s+)(?P<text>.*)$"
)


def complaint(output: str) -> str:
    """What conda, mamba or micromamba said went wrong, in one line; empty where nothing looks like it."""
    lines = output.splitlines()
    for number, line in enumerate(lines):
        match = _SPEAKS.match(line)
        if not match:
            continue
        words = [match.group("text").strip()]
        for following in lines[number + 1 : number + 25]:
            if _SPEAKS.match(following) or following.startswith(("Current channels", "To search for", "Pins seem")):
                break
            words.append(re.sub(r"[│├└─╰╭]+", "", following).strip().lstrip("- "))
        words = [word.rstrip(":;") for word in words if word]
        if not words and match.group("kind"):
            words = [match.group("kind")]
        if words:
            return without_credentials("; ".join(words))[:900]
    return ""


# -- environments ---------------------------------------------------------------------------------------------------------


def installed(prefix: str) -> "List[Dict[str, Any]]":
    """The records in ``conda-meta``, one a package."""
    found = []
    for path in sorted(glob.glob(os.path.join(glob.escape(prefix), "conda-meta", "*.json"))):
        try:
            with open(path, encoding="utf-8") as file:
                record = json.load(file)
        except (OSError, ValueError):
            continue
        if isinstance(record, dict) and record.get("name") and record.get("version"):
            found.append(record)
    return found


def in_order(records: "List[Dict[str, Any]]") -> "List[Dict[str, Any]]":
    """Each after what it depends on: micromamba links explicit packages in the order of the file."""
    by_name = {record["name"]: record for record in records}
    done: "List[Dict[str, Any]]" = []
    begun: "Set[str]" = set()

    def visit(name: str) -> None:
        if name in begun or name not in by_name:
            return
        begun.add(name)
        for need in sorted(by_name[name].get("depends") or []):
            visit(need.split(" ", 1)[0])
        done.append(by_name[name])

    visit("python")
    for name in sorted(by_name):
        visit(name)
    return done


def clean_records(prefix: str) -> None:
    """Runs can read ``conda-meta``: no credentials of channels stay there."""
    for path in glob.glob(os.path.join(glob.escape(prefix), "conda-meta", "*")):
        if not os.path.isfile(path):
            continue
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            text = file.read()
        clean = without_credentials(text) if "://" in text else text
        if clean != text:
            with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write(clean)


def described(records: "List[Dict[str, Any]]", found: "List[Dict[str, Any]]") -> "List[Dict[str, Any]]":
    """Packages of both kinds for people. ``found``: what the interpreter can import, as ``target_describe`` reads it."""
    mine: "Dict[str, Dict[str, Any]]" = {}
    owners: "Dict[Tuple[str, str], str]" = {}
    for record in records:
        name = record["name"]
        modules: "Set[str]" = set()
        for path in record.get("files") or []:
            inside = path.partition("site-packages/")[2]
            dist = re.match(r"([^/]+?)-([^/-]+)(?:-py[\d.]+)?\.(?:dist|egg)-info(?:/|$)", inside)
            if dist:
                owners[(_normal(dist.group(1)), dist.group(2))] = name
            elif inside.endswith((".py", ".so")):
                modules.add(inside.split("/", 1)[0].split(".", 1)[0])
        mine[name] = {
            "name": name, "version": record["version"], "license": str(record.get("license") or "")[:200],
            "modules": sorted(one for one in modules if one.isidentifier()), "from": "conda",
        }  # fmt: skip
    others = []
    for one in found:
        owner = owners.get((one["name"], one["version"]))
        if owner is None:
            mine.pop(one["name"], None)  # pip has put another version in its place
            others.append(one)
    return sorted(list(mine.values()) + others, key=lambda one: one["name"])


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def environments(home: str) -> "List[str]":
    """Prefixes of conda environments on this machine that have a Python, as far as they can be found: absolute, without repeats."""
    places: "List[str]" = []
    try:
        with open(os.path.join(home, ".conda", "environments.txt"), encoding="utf-8") as file:
            places += [line.strip() for line in file]
    except (OSError, UnicodeDecodeError):
        pass
    folders = os.environ.get("CONDA_ENVS_PATH", os.environ.get("CONDA_ENVS_DIRS", "")).split(os.pathsep)
    folders.append(os.path.join(home, ".conda", "envs"))
    roots = [os.path.join(home, one[2:]) if one.startswith("~/") else one for one in INSTALLATIONS]
    for name in ("MAMBA_ROOT_PREFIX", "CONDA_ROOT"):
        roots.append(os.environ.get(name) or "")
    if os.environ.get("CONDA_EXE"):
        roots.append(os.path.dirname(os.path.dirname(os.environ["CONDA_EXE"])))
    roots.append(os.path.join(home, ".local", "share", "mamba"))
    for root in roots:
        if root:
            places.append(root)
            folders.append(os.path.join(root, "envs"))
    for folder in folders:
        if folder:
            places += sorted(glob.glob(os.path.join(glob.escape(folder), "*")))
    found: "List[str]" = []
    seen: "Set[str]" = set()
    for place in places:
        if not os.path.isabs(place) or not os.path.isdir(os.path.join(place, "conda-meta")):
            continue
        real = os.path.realpath(place)
        if real not in seen and os.path.exists(os.path.join(place, "bin", "python")):
            seen.add(real)
            found.append(place)
    return found


def named_environment(name: str, home: str) -> str:
    """Prefix of an existing environment by its name or path. Raises ValueError with those that there are."""
    known = environments(home)
    if os.path.isabs(name):
        if os.path.isfile(os.path.join(name, "bin", "python")):
            return name
        why = closed(os.path.join(name, "bin", "python"))
        if why:
            raise ValueError("%s cannot be reached: %s. Open it, or name another one. %s" % (name, why, _known(known)))
        what = "has no bin/python" if os.path.isdir(name) else "is not a folder on this machine"
        raise ValueError("%s %s. %s" % (name, what, _known(known)))
    matches = [place for place in known if os.path.basename(place) == name]
    if name == "base":
        matches = [place for place in known if os.path.isdir(os.path.join(place, "condabin"))] or matches
    if len(matches) > 1:
        raise ValueError(
            "several conda environments have the name %s: %s. Write the path of one." % (name, ", ".join(matches))
        )
    if not matches:
        raise ValueError("no conda environment of the name %s is on this machine. %s" % (name, _known(known)))
    return matches[0]


def _known(prefixes: "List[str]") -> str:
    if not prefixes:
        return "No conda environment was found on it."
    more = " and %d more" % (len(prefixes) - 20) if len(prefixes) > 20 else ""
    return "There are: %s%s." % (", ".join("%s (%s)" % (os.path.basename(one), one) for one in prefixes[:20]), more)
