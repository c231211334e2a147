"""How far something that takes long has come: a bar on a terminal. What is quick shows none, and nothing is imported for it."""

from __future__ import annotations

import sys
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional, Type

SOON = 0.4
"""Seconds before a bar is worth showing."""


class Bar:
    """Told of the bytes that are done and of all there are, it draws itself on standard error, if that is a terminal.

    A context manager: leaving it takes the bar away again. `told` may be called from any thread.
    """

    def __init__(self, shown: bool = True) -> None:
        self.shown = shown and sys.stderr is not None and sys.stderr.isatty()
        self._due = time.monotonic() + SOON
        self._lock = threading.Lock()
        self._drawn: Any = None
        self._stage, self._task = "", None

    def told(self, stage: str, done: int, total: int) -> None:
        """`stage`: a word before the bar, such as `sending`; a new one ends the one before."""
        if not self.shown or time.monotonic() < self._due:
            return
        with self._lock:
            if self._drawn is None:
                self._drawn = _drawn()
                if self._drawn is None:
                    self.shown = False
                    return
                self._drawn.start()
            if stage != self._stage:
                if self._task is not None:
                    self._drawn.remove_task(self._task)
                self._stage, self._task = stage, self._drawn.add_task(stage, total=total)
            self._drawn.update(self._task, completed=done, total=total)

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Any) -> None:
        self.end()

    def end(self) -> None:
        """Take the bar away, for good."""
        with self._lock:
            self.shown = False
            if self._drawn is not None:
                self._drawn.stop()


def _drawn() -> Any:
    """Rich's bar, or None where the client was copied without its packages, as into a run."""
    try:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )
    except ImportError:
        return None
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
