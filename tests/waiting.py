"""Wait for a condition instead of for time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(condition: Callable[[], T], seconds: float = 10.0, *, every: float = 0.02, what: str = "") -> T:
    """Return the first true value of ``condition``; fail the test after ``seconds``, naming what was waited for."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= end:
            raise AssertionError(f"not within {seconds:g} s: {what or getattr(condition, '__name__', condition)}")
        time.sleep(every)
