"""What a killed process leaves in the studio's own folder for uploads. Nobody else would ever take it away."""

import contextlib
import time
from pathlib import Path

from django.conf import settings

EVERY = 3600.0
UNTOUCHED = 24 * 3600.0
"""Seconds after which nobody writes to an upload any more."""
_swept_at = float("-inf")


def sweep() -> int:
    """Remove uploads that were cut off when their process was killed, at most once an hour; how many."""
    global _swept_at
    if time.monotonic() - _swept_at < EVERY:
        return 0
    _swept_at = time.monotonic()
    removed = 0
    for path in Path(settings.FILE_UPLOAD_TEMP_DIR).glob("*.upload*"):
        with contextlib.suppress(OSError):  # a request has just finished with it
            if time.time() - path.stat().st_mtime > UNTOUCHED:
                path.unlink()
                removed += 1
    return removed
