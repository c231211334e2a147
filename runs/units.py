"""Durations and sizes as people type them: ``6 h``, ``90 min``, ``1 h 30 m``, ``512 MB``, ``1.5 GB``."""

import re
from fractions import Fraction

SECONDS = {
    "s": 1, "sec": 1, "secs": 1, "second": 1, "seconds": 1,
    "m": 60, "min": 60, "mins": 60, "minute": 60, "minutes": 60,
    "h": 3600, "hr": 3600, "hrs": 3600, "hour": 3600, "hours": 3600,
    "d": 86400, "day": 86400, "days": 86400,
    "w": 604800, "week": 604800, "weeks": 604800,
}  # fmt: skip
# Memory is counted in powers of 1,024, as container engines and schedulers do; MB and MiB are the same here.
SIZES = {"b": 0, "byte": 0, "bytes": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
SIZES |= {prefix + "b": power for prefix, power in SIZES.items() if len(prefix) == 1 and prefix != "b"}
SIZES |= {prefix + "ib": power for prefix, power in SIZES.items() if len(prefix) == 1 and prefix != "b"}
PART = re.compile(r"\s*(\d{1,18}(?:\.\d{1,9})?)\s*([a-z]*)\s*")


def parse_duration(text: str) -> int:
    """Seconds. Raises ValueError with the rule and the fix."""
    wrong = f"{text.strip()[:40]!r} is not a duration. Write a number and a unit: 90 min, 6 h, 1 h 30 m or 2 d."
    total = Fraction(0)
    at = 0
    lowered = text.lower()
    while at < len(lowered):
        match = PART.match(lowered, at)
        if match is None or (match[2] and match[2] not in SECONDS):
            raise ValueError(wrong)
        if not match[2]:
            raise ValueError(f"{text.strip()[:40]!r} has no unit. Write {match[1]} s, {match[1]} min or {match[1]} h.")
        total += Fraction(match[1]) * SECONDS[match[2]]
        at = match.end()
    if not lowered.strip():
        raise ValueError(wrong)
    return round(total)


def parse_size(text: str) -> int:
    """Bytes. Raises ValueError with the rule and the fix."""
    match = PART.fullmatch(text.lower())
    if match is None or (match[2] and match[2] not in SIZES):
        raise ValueError(f"{text.strip()[:40]!r} is not a size. Write a number and a unit: 512 MB or 1.5 GB.")
    if not match[2]:
        raise ValueError(f"{text.strip()[:40]!r} has no unit. Write {match[1]} MB or {match[1]} GB.")
    return round(Fraction(match[1]) * (1 << (10 * SIZES[match[2]])))


def duration_text(seconds: int, space: str = " ") -> str:
    """The shortest exact form with one unit: ``6 h``."""
    for unit in ("d", "h", "min", "s"):
        if seconds % SECONDS[unit] == 0:
            return f"{seconds // SECONDS[unit]}{space}{unit}"
    raise AssertionError("every number of seconds is divisible by one")


def size_text(size: int, space: str = " ") -> str:
    """The shortest exact form with one unit: ``512 MB``."""
    for unit, power in (("TB", 4), ("GB", 3), ("MB", 2), ("KB", 1)):
        if size and size % 1024**power == 0:
            return f"{size // 1024**power}{space}{unit}"
    return f"{size}{space}B"
