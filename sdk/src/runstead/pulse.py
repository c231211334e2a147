"""One thread says of all runs that are this process that they are alive, so that the studio can tell one that was killed."""

from __future__ import annotations

import os
import threading
import time

from .errors import RunsteadError
from .status import FINAL
from .transport import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List

    from .submitted import SubmittedRun

BEAT = 30.0
"""Seconds between two signs of life. The studio waits for two minutes before it says anything."""
MOST = 500
"""Runs of one call."""


class Pulse:
    """`runs`: those to speak for, by id; whoever ends one takes it out. What was logged meanwhile is a sign of life by itself."""

    def __init__(self, runs: Dict[str, SubmittedRun]) -> None:
        self._runs = runs
        self._thread = threading.Thread()
        self._process = 0
        self._over: Dict[str, bool] = {}

    def start(self) -> None:
        """Begin, unless it goes on already. A process that is forked from this one does not speak for its runs."""
        if self._process != os.getpid() or not self._thread.is_alive():
            self._process = os.getpid()
            self._thread = threading.Thread(target=self._go_on, name="runstead-pulse", daemon=True)
            self._thread.start()

    def _go_on(self) -> None:
        while True:
            time.sleep(BEAT)
            silent: Dict[str, List[SubmittedRun]] = {}
            for run in list(self._runs.values()):
                if run.id not in self._over and time.monotonic() - run._sent_at() >= BEAT / 2:
                    silent.setdefault(run.workspace.transport.place, []).append(run)
            for runs in silent.values():
                for first in range(0, len(runs), MOST):
                    self._beat(runs[first : first + MOST])

    def _beat(self, runs: List[SubmittedRun]) -> None:
        """Nothing depends on one of these: what goes wrong is tried again with the next."""
        body = {"runs": [run.number for run in runs]}
        try:
            found = runs[0].workspace.transport.request("POST", "runs/heartbeat", body).json()["runs"]
        except ApiError as error:
            if error.status in (404, 405):  # a studio older than this
                self._over.update((run.id, True) for run in runs)
        except RunsteadError:
            pass
        else:
            for run in runs:
                if found.get(str(run.number), FINAL[0]) in FINAL:
                    self._over[run.id] = True  # somebody else has ended it, or it is gone
