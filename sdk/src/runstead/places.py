"""Where a run's files go on this machine: below the folder that was asked for, and each to a file of its own, also on Windows."""

from __future__ import annotations

import os
import re

from .errors import RunsteadError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, Iterable, List

WINDOWS = os.name == "nt"
DEVICES = re.compile(r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9\u00b9\u00b2\u00b3])\s*(\..*)?\Z", re.IGNORECASE)
FORBIDDEN = re.compile(r'[\x00-\x1f\\:*?"<>|]')


def parts_of(path: str, windows: bool = WINDOWS) -> List[str]:
    """The parts of a name that stays below the folder. Raises RunsteadError for any other, whoever sent it."""
    parts = path.split("/")
    if any(part in ("", ".", "..") or "\0" in part or (windows and _no_name(part)) for part in parts):
        raise RunsteadError("%r is no name of a file here. It is not fetched; the page of the run has it." % path[:200])
    return parts


def _no_name(part: str) -> bool:
    """Whether Windows takes it for something else: a device, another drive or stream, or a name without its last characters."""
    return bool(FORBIDDEN.search(part) or DEVICES.match(part)) or part[-1] in ". "


def apart(paths: Iterable[str], windows: bool = WINDOWS) -> None:
    """Raises RunsteadError for two names that are one file here, where case makes no difference."""
    seen: Dict[str, str] = {}
    for path in paths:
        other = seen.setdefault(path.lower() if windows else path, path)
        if other != path:
            raise RunsteadError(
                "%r and %r are one file on this machine. Fetch one of them by its name, or all where case tells names apart."
                % (other[:200], path[:200])
            )
