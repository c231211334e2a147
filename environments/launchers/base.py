"""What a launcher is: it starts the supervisors of prepared attempts on a target, and nothing more."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from environments.docker_arguments import DockerArguments


@dataclass(frozen=True)
class Start:
    """One attempt to be supervised."""

    attempt: str
    """32 hex digits: its directory is ``runs/<attempt>`` below the target's root."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Variables of what it was given: ``CUDA_VISIBLE_DEVICES`` and the order in which it counts."""
    gpus: Sequence[str] = ()
    """The GPUs that it was given, by index or id."""
    image: str = ""
    """Id of the image that its environment is; empty where environments are folders."""
    python: str = ""
    """Path of its environment's interpreter."""
    memory_bytes: int | None = None
    asked: DockerArguments = field(default_factory=DockerArguments)
    """What its environment asks of a container."""


class Launcher(Protocol):
    """A way to start, for one open connection. It may be asked again for the same attempt: the claim in its directory lets one
    start only. Every method raises what ``Host`` raises, and nothing else."""

    beside: bool
    """Whether a launch takes so long that the attendant has it done beside its turns."""

    def launch(self, starts: Sequence[Start]) -> None:
        """Have each supervised. Whether a script starts is the claim's to say."""

    def kill(self, attempt: str) -> None:
        """End whatever is left of an attempt whose supervisor is gone."""

    def clean(self, attempt: str) -> None:
        """Take away what a launch left besides the run's directory, once the run has ended."""

    def tidy(self) -> None:
        """Take away what earlier launches left of runs that have ended. Called now and then."""

    def environments(self) -> Iterable[Mapping[str, Any]]:
        """What is ready on the target: each has a ``key`` or, where environments are images, an ``image``."""

    def holds(self, image: str) -> bool:
        """Whether the environment of this image is there still; asked before a run is laid out."""

    def close(self) -> None:
        """The connection ends."""
