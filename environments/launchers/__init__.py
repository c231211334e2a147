"""What starts a process on a target. Another one is a file and a line here."""

from collections.abc import Callable, Mapping
from typing import Any

from environments.host import Host
from environments.launchers.base import Launcher, Start
from environments.launchers.docker import DockerLauncher
from environments.launchers.process import ProcessLauncher

# Made for an open connection, from the target's options.
LAUNCHERS: dict[str, Callable[[Host, Mapping[str, Any]], Launcher]] = {
    "process": ProcessLauncher,
    "docker": DockerLauncher,
}

__all__ = ["LAUNCHERS", "Launcher", "Start"]
