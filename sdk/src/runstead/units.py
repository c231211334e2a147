"""Durations and sizes as people type them: `6h`, `90 min`, `1 h 30 m`, `512 MB`, `1.5GB`."""

from __future__ import annotations

import re
from fractions import Fraction

from .errors import UserError

SECONDS = {
    "s": 1, "sec": 1, "secs": 1, "second": 1, "seconds": 1,
    "m": 60, "min": 60, "mins": 60, "minute": 60, "minutes": 60,
    "h": 3600, "hr": 3600, "hrs": 3600, "hour": 3600, "hours": 3600,
    "d": 86400, "day": 86400, "days": 86400,
    "w": 604800, "week": 604800, "weeks": 604800,
}  # fmt: skip
POWERS = {"b": 0, "byte": 0, "bytes": 0}
POWERS.update({unit: power for power, p in enumerate("kmgtp", 1) for unit in (p, p + "b", p + "ib")})
PART = re.compile(r"\s*([0-9]{1,18}(?:\.[0-9]{1,9})?)\s*([a-z]*)\s*")


def seconds(field: str, text: str) -> int:
    """Seconds of a duration. Raises UserError with the rule and the fix."""
    total, place, lowered = Fraction(0), 0, text.lower()
    while place < len(lowered) or not place:
        match = PART.match(lowered, place)
        if match is None or match.group(2) not in SECONDS:
            raise UserError(
                "%s: %r is no duration. Write numbers with units: 90min, 6h, '1 h 30 m' or 2d." % (field, text[:40])
            )
        total += Fraction(match.group(1)) * SECONDS[match.group(2)]
        place = match.end()
    return round(total)


def size(field: str, text: str) -> int:
    """Bytes of a size; MB and MiB are both 1,024². Raises UserError with the rule and the fix."""
    match = PART.fullmatch(text.lower())
    if match is None or match.group(2) not in POWERS:
        raise UserError("%s: %r is no size. Write a number and a unit: 512MB or 1.5GB." % (field, text[:40]))
    return round(Fraction(match.group(1)) * 1024 ** POWERS[match.group(2)])
