"""Escape sequences of terminals: told from text, dropped, and colours read."""

import re

# CSI; OSC and the other string sequences, where they end on the same line; other escapes of two or three bytes. What is cut off
# loses its begin only: text must not disappear because a terminal would still wait for its end.
ESCAPE = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]?|[\]PX^_][^\x07\x1b\r\n]*(?:\x07|\x1b\\)|[ -/]+[0-~]?|[0-~]?)")
_SHOWN = re.compile(rb"[^\x00-\x20\x7f]")


def strip(data: bytes) -> bytes:
    """The text without escape sequences."""
    return ESCAPE.sub(b"", data) if b"\x1b" in data else data


def is_blank(data: bytes) -> bool:
    """Whether a terminal would show nothing of it."""
    return not _SHOWN.search(strip(data))
