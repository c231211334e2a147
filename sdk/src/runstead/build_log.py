"""While a run is being prepared: the log of its environment's build, as it grows."""

from __future__ import annotations

import time
from functools import partial

from .log_stream import LONGEST_PAUSE, PAUSE, patiently
from .status import Standing
from .transport import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Optional

    from .transport import Transport

AT_ONCE = 1.0
"""Seconds: a build that is over sooner is not shown."""
GOING_ON = ("Waiting", "Building")
AS_IT_IS = ("interpreter", "conda_environment")
"""Kinds of environments in which nothing is installed."""


class _Builds:
    """What `environment_calls` asks: they take whatever has a transport."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport


class BuildLog:
    """The log of the build that a run waits for: `more()` is what has come since, `title` what it is of; empty until there is one."""

    def __init__(self, transport: Transport) -> None:
        self._builds: Any = _Builds(transport)
        self._reference = self._target = self._attempt = ""
        self._offset = 0
        self.title = ""

    def find(self, run: Dict[str, Any]) -> None:
        """Look whether the environment of a run is being built, and nothing else would show it."""
        from . import environment_calls as calls

        self._reference, self._target = run.get("environment") or "", run.get("target") or ""
        if not self._reference or not self._target or calls.fetch(self._builds, self._reference)["kind"] in AS_IT_IS:
            return
        if calls.build_on(self._builds, self._reference, self._target)["status"] in GOING_ON:
            self.title = "%s on %s" % (self._reference, self._target)

    def more(self) -> bytes:
        from . import environment_calls as calls

        given = (self._offset, self._attempt)
        data, self._offset, self._attempt = calls.build_log(self._builds, self._reference, self._target, *given)
        return data


def show(
    transport: Transport,
    number: int,
    begin: Callable[[str], None],
    write: Callable[[bytes], None],
    patience: Optional[float] = None,
) -> None:
    """Until the run is prepared: `begin(title)` once there is a build that lasts, `write(bytes)` as its log grows. A studio that is away
    is waited for: `patience` seconds, None for ever."""
    began, pause, standing = time.monotonic(), PAUSE, Standing()
    log = BuildLog(transport)
    while True:
        run = patiently(lambda: transport.request("GET", "runs/%d" % number).json(), patience)
        if run["status"] in ("NotStarted", "Preparing"):
            # The build's own log says more than why the run waits for it.
            standing.look(run["status"], "" if log.title else run["waiting_for"])
        preparing = run["status"] == "Preparing"
        data = b""
        try:
            if preparing and not log.title and time.monotonic() - began > AT_ONCE:
                patiently(partial(log.find, run), patience)
                if log.title:
                    begin(log.title)
            if log.title:
                data = patiently(log.more, patience)
        except ApiError as error:
            if error.status != 404:  # no build yet, or none any more
                raise
        if data:
            write(data)
        if not preparing and run["status"] != "NotStarted":
            return
        pause = PAUSE if data else min(pause * 1.2, LONGEST_PAUSE)
        time.sleep(pause)
