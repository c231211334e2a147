"""The command `runstead up`: starts the studio of this machine, where it is installed."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys

from .errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterator, List, Optional


def add(commands: Any) -> None:
    """Add the command to those of `runstead`."""
    parser = commands.add_parser("up", help="start the studio on this machine; Ctrl-C stops it")
    parser.add_argument("--home", metavar="FOLDER", help="where the studio's code lies (default: searched for)")
    parser.add_argument("--print", action="store_true", help="only print what would be started, and where")
    parser.set_defaults(call=_up)


def _up(options: argparse.Namespace, line: Optional[List[str]]) -> int:
    home = _home(options.home)
    command = _command(home)
    if options.print:
        print("cd %s && %s" % (home, " ".join(command)))
        return 0
    if os.name == "posix":
        os.chdir(home)
        sys.stdout.flush()
        os.execvp(command[0], command)  # noqa: S606 in our place, so that Ctrl-C is the studio's
    return subprocess.call(command, cwd=home)


def _command(home: str) -> List[str]:
    # make brings the packages to what is pinned, which takes no time when they are.
    if shutil.which("make") and os.path.isfile(os.path.join(home, "Makefile")):
        return ["make", "up"]
    python = os.path.join(home, ".venv", *(("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")))
    return [python if os.path.exists(python) else sys.executable, "manage.py", "up"]


def _home(named: Optional[str]) -> str:
    if named:
        if not _is_studio(named):
            raise UserError("--home: there is no studio in %s: its folder has manage.py and studio/." % named)
        return os.path.abspath(named)
    for folder in _candidates():
        if _is_studio(folder):
            return folder
    raise UserError(
        "The studio is not installed here, as far as can be seen: this is its client. Go to the folder of its code (with manage.py) "
        "and say 'make up', or name it: runstead up --home FOLDER. To use a studio elsewhere: runstead login URL."
    )


def _candidates() -> Iterator[str]:
    from . import config

    folder = os.getcwd()
    while True:
        yield folder
        above = os.path.dirname(folder)
        if above == folder:
            break
        folder = above
    noted = config.noted().get("home")
    if isinstance(noted, str):
        yield noted
    # Installed in place: the client lies in sdk/src/runstead of the studio's code.
    yield os.path.abspath(os.path.join(os.path.dirname(__file__), *[os.pardir] * 3))


def _is_studio(folder: str) -> bool:
    return os.path.isfile(os.path.join(folder, "manage.py")) and os.path.isfile(
        os.path.join(folder, "studio", "urls.py")
    )
