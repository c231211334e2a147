"""Ending a run's processes: asked to, out of time, or because the script left some behind."""

import os
import signal

from . import processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List, Optional, Set

_SETTLE = 0.2
_AGAIN = 0.02
_HOPELESS = 5.0


class Stopper(object):
    """Decides, step by step of the supervisor's loop, whom to signal; all times are monotonic seconds."""

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._limit: "Optional[float]" = None
        self._ended: "Optional[float]" = None
        self._kill_at: "Optional[float]" = None
        self._told: "Set[int]" = set()
        self._left: "Set[int]" = set()
        self._announced = False
        self._blind: "Optional[bool]" = None
        self.reason = ""
        self.sent_kill = False

    @property
    def left_over(self) -> int:
        """How many processes outlived the script and were ended."""
        return len(self._left)

    def limit(self, deadline: float) -> None:
        """The run may go on until `deadline`."""
        self._limit = deadline

    def ask(self, reason: str, now: float, grace: "Optional[float]" = None) -> None:
        """Stop the run; the first reason stands."""
        if self.reason:
            return
        self.reason = reason
        if grace is not None:
            self._grace = max(grace, 0.0)
        self._kill_at = now + self._grace

    def main_ended(self, now: float) -> None:
        """The script is gone; what is left of its processes has a moment to follow."""
        self._ended = now

    def due(self, now: float) -> str:
        """The reason for stopping, once, when it has just come up."""
        if self._limit is not None and now >= self._limit and self._ended is None:
            self.ask("timed_out", now)
        if self.reason and not self._announced:
            self._announced = True
            return self.reason
        return ""

    def deadlines(self, now: float) -> "List[float]":
        """When `work` should be called again at the latest."""
        if self._ended is not None:
            return [now + _AGAIN]
        if self.reason:
            return [now + 5 * _AGAIN]
        return [self._limit] if self._limit is not None else []

    def work(self, now: float, pid: int, alive: bool, helpers: "List[int]") -> bool:
        """Signal whoever is due; True when nothing of the program is left.

        `helpers` are children of ours that do not belong to the run.
        """
        if not self.reason and alive:
            return False
        if not alive and not helpers and not processes.has_children(os.getpid()):
            self._reset()
            return True
        living = processes.descendants(os.getpid(), helpers) or self._unseen(pid)
        if not alive and not living:
            self._reset()
            return True
        if not alive and not self.reason and self._ended is not None and now < self._ended + _SETTLE:
            return False
        if self._kill_at is None:
            self._kill_at = now + self._grace
        if not alive:
            self._left |= living
        if now < self._kill_at:
            processes.send(living - self._told, signal.SIGTERM)
            self._told |= living
            return False
        processes.send(living, signal.SIGKILL)
        self.sent_kill = True
        # What SIGKILL cannot end (another user's, or stuck in the kernel) must not hold up the record for
        # ever.
        return not alive and now > self._kill_at + _HOPELESS

    def _unseen(self, pid: int) -> "Set[int]":
        """The program's process group, by its negative number, on a machine that shows nobody its processes."""
        if self._blind is None:
            self._blind = not processes.parents()
        try:
            if self._blind:
                os.kill(-pid, 0)
                return {-pid}
        except OSError:
            pass
        return set()

    def _reset(self) -> None:
        """Ready for the next step of a build."""
        self._ended = None
        self._told = set()
        if not self.reason:
            self._kill_at = None
