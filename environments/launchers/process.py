"""Runs as processes of the machine that the agent is on."""

from collections.abc import Sequence

from environments.host import Host


class ProcessLauncher:
    """The agent forks the supervisors itself: no interpreter is started for a run but the script's own."""

    def launch(self, host: Host, attempts: Sequence[tuple[str, str]]) -> None:
        host.launch(attempts)
