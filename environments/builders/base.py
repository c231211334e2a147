"""What a builder gives: the steps that make an environment on a target. Builders do no I/O and know no Django."""

import base64
import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from environments.definition import Definition

_HERE = Path(__file__).parent


# What ``on_target.py`` imports, and it itself: sent together.
_TARGET = {
    name: _HERE / f"{name}.py"
    for name in ("target_python", "target_describe", "target_index", "target_lock", "target_run", "on_target")
}


def _with(modules: Mapping[str, Path], program: Path) -> str:
    """The text of a program, with those that it imports in front of it; packed, since one argument holds 128 KB at most."""
    texts = [(name, path.read_text(encoding="utf-8")) for name, path in [*modules.items(), ("__main__", program)]]
    packed = base64.b64encode(zlib.compress(json.dumps(texts).encode(), 9)).decode()
    return (
        "import base64, json, sys, types, zlib\n"
        f"for n, t in json.loads(zlib.decompress(base64.b64decode('{packed}')).decode()):\n"
        "    m = sys.modules['__main__'] if n == '__main__' else sys.modules.setdefault(n, types.ModuleType(n))\n"
        "    exec(compile(t, n + '.py', 'exec'), m.__dict__)\n"
        "    m.SOURCE = t\n"
    )


# Read once, with the program: the texts that the steps run on the target.
ON_TARGET = _with({name: path for name, path in _TARGET.items() if name != "on_target"}, _HERE / "on_target.py")
_ENGINE = {
    name: _HERE / f"{name}.py" for name in ("engine_images", "engine_container", "engine_settings", "engine_packages")
}
ON_ENGINE = _with({"engine": _HERE.parent / "agent" / "engine.py", **_TARGET, **_ENGINE}, _HERE / "on_engine.py")
ON_SPARK = _with(_TARGET, _HERE / "on_spark.py")
ON_CONDA = _with(
    {**_TARGET, "target_conda": _HERE / "target_conda.py", "on_rattler": _HERE / "on_rattler.py"}, _HERE / "on_conda.py"
)


class Step(TypedDict):
    """As in ``spec.json`` of the run directory's contract."""

    title: str
    argv: list[str]
    env: dict[str, str]
    cwd: str


@dataclass(frozen=True)
class Place:
    """Where a build happens."""

    root: str
    """The target's root folder."""
    key: str
    """64 hex digits: the environment's folder is ``<root>/envs/<key>``."""
    attempt: str
    """32 hex digits. Each attempt installs into a folder of its own, which never moves: scripts and caches inside an
    environment name its path, and what is left of a builder that died can never be mixed with its successor's."""
    tools: Mapping[str, str | None] = field(default_factory=dict)
    """Programs on the target: name → path, None where there is none."""
    avoid: str = ""
    """A virtual environment on the target that is not for runs: the studio's own."""
    socket: str = ""
    """Of the target's container engine; empty where runs are processes."""
    base_image: str = ""
    """The image from which that engine makes this environment, unless it names one itself."""
    network: str = ""
    """The engine's network that builds use."""
    locks: Mapping[str, str] = field(default_factory=dict)
    """What this key was resolved to already: platform → text. See ``environments.models.Lock``."""
    index: Mapping[str, Any] = field(default_factory=dict)
    """Where packages come from: ``index_url``, ``extra_index_urls``, ``find_links``, ``offline``, ``conda_channels``, and ``private``,
    the addresses that ``RUNSTEAD_INDEX_AUTH`` is for."""
    spark: Mapping[str, Any] | None = None
    """The target's Spark options; None where it has none."""
    platform_hint: str = ""
    """The platform of this target's last build of the key, where there was one."""

    @property
    def home(self) -> str:
        return f"{self.root}/envs/{self.key}"

    @property
    def prefix(self) -> str:
        return f"{self.home}/{self.attempt[:12]}"

    def tool(self, name: str) -> str:
        return self.tools.get(name) or ""

    def wish(self, definition: Definition) -> dict[str, Any]:
        """What the programs on the target read: ``build`` of ``spec.json``, as docs/run-directory.md has it."""
        return {"definition": definition.to_json(), **asdict(self), "home": self.home, "prefix": self.prefix}


Builder = Callable[[Definition, Place], list[Step]]


def step(title: str, verb: str, env: Mapping[str, str] | None = None) -> Step:
    """A step that runs a verb of ``on_target`` under the target's own Python. What it is to do it reads in ``spec.json``."""
    return {
        "title": title,
        "argv": ["python3", "-c", ON_TARGET, verb],
        "env": dict(env or {}),
        "cwd": ".",
    }
