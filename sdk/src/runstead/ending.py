"""The last words of a worker process of `multiprocessing`, which before Python 3.13 asks no `atexit`: it leaves with `os._exit`.

One that its pool does away with, as the end of `with Pool()` does, is sent SIGTERM.
"""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, List

FIRST = 100
"""Before what multiprocessing itself has to end: pools and queues have 15 and less."""
_terminated: List[Callable[[], object]] = []


def is_worker() -> bool:
    """Whether multiprocessing began this process. Does not import it: who has not, is none."""
    process: Any = sys.modules.get("multiprocessing.process")
    return process is not None and process.parent_process() is not None


def at_end(call: Callable[[], object]) -> None:
    """Have `call` made when this worker ends by itself. To be asked in the worker: what was asked before the fork is forgotten."""
    if is_worker():
        from multiprocessing.util import Finalize

        Finalize(None, call, exitpriority=FIRST)


def at_sigterm(call: Callable[[], object]) -> None:
    """Have `call` made when this worker is sent SIGTERM, unless the program has something of its own to do then."""
    if not is_worker():
        return
    try:
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _on_sigterm)
    except ValueError:
        return  # a thread that is not the main one may not say so
    _terminated.append(call)


def _on_sigterm(number: int, frame: Any) -> None:
    signal.signal(number, signal.SIG_IGN)
    try:
        for call in _terminated:
            call()
    finally:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
