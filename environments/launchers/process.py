"""Runs as processes of the machine that the agent is on."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from environments.host import Host
from environments.launchers.base import Start


class ProcessLauncher:
    """The agent forks the supervisors itself: no interpreter is started for a run but the script's own."""

    beside = False

    def __init__(self, host: Host, options: Mapping[str, Any]) -> None:
        self.host = host

    def launch(self, starts: Sequence[Start]) -> None:
        grants = {start.attempt: start.env for start in starts if start.env}
        self.host.launch([("runs", start.attempt) for start in starts], grants)

    def kill(self, attempt: str) -> None:
        self.host.kill("runs", attempt)

    def clean(self, attempt: str) -> None:
        """A process leaves nothing."""

    def tidy(self) -> None:
        """A process leaves nothing."""

    def environments(self) -> Iterable[Mapping[str, Any]]:
        return self.host.envs()

    def holds(self, image: str) -> bool:
        return True  # folders were looked at when the connection was made

    def close(self) -> None:
        """Nothing of its own is open."""
