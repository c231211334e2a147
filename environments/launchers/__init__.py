"""What starts a process on a target. Another one is a file and a line here."""

from environments.launchers.base import Launcher
from environments.launchers.process import ProcessLauncher

LAUNCHERS: dict[str, Launcher] = {"process": ProcessLauncher()}
