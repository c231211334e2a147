"""The run above a script's own, which another program made: what it is told travels with the records of the script's run."""

from __future__ import annotations

import json

from .inside import Elsewhere
from .logged import Logged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, NoReturn


def _refused(name: str) -> Callable[..., NoReturn]:
    def refuse(self: Elsewhere, *args: Any, **kwargs: Any) -> NoReturn:
        self._not_here(name)

    return refuse


class ParentRun(Logged, Elsewhere):
    """Takes metrics and tags, as far as they need no file; what it holds is known outside alone."""

    def __init__(self, name: str, line: Callable[[str], None]) -> None:
        Elsewhere.__init__(self, name)
        self._prefixes: Dict[str, str] = {}
        self._send = line

    def _line(self, line: str) -> None:
        self._send('{"op":"parent","r":%s}\n' % line[:-1])

    def _put(self, **record: Any) -> None:
        self._line(json.dumps(record, separators=(",", ":"), allow_nan=False) + "\n")

    def flush(self, timeout_seconds: float = 300) -> None:
        """Nothing is buffered."""

    log_image = _refused("log_image")
    get_tags = _refused("get_tags")
    remove_tags = _refused("remove_tags")
    get_properties = _refused("get_properties")
    add_properties = _refused("add_properties")
