"""What a builder gives: the steps that make an environment on a target. Builders do no I/O and know no Django."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from environments.definition import Definition

# Read once, with the program: the text that the steps run on the target.
ON_TARGET = (Path(__file__).parent / "on_target.py").read_text(encoding="utf-8")


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

    @property
    def home(self) -> str:
        return f"{self.root}/envs/{self.key}"

    @property
    def prefix(self) -> str:
        return f"{self.home}/{self.attempt[:12]}"

    def tool(self, name: str) -> str:
        return self.tools.get(name) or ""


Builder = Callable[[Definition, Place], list[Step]]


def step(title: str, *arguments: str, env: Mapping[str, str] | None = None) -> Step:
    """A step that runs a verb of ``on_target`` under the target's own Python."""
    return {
        "title": title,
        "argv": ["python3", "-c", ON_TARGET, *arguments],
        "env": dict(env or {}),
        "cwd": ".",
    }
