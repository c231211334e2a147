"""Which lines of a log are errors and warnings.

Words alone would mark half of a training log (``error=0.12``, ``0 errors``): a problem is a traceback, a level as loggers
write it, or ``error:`` as tools write it. Plain substrings are searched, and an expression looks only at what they find: a
regular expression over every byte would cost ten times more than storing it.
"""

import re

ERROR, WARNING = "e", "w"
HELD = 64 * 1024
"""How much of one line is looked at, at most."""

# A word begins after a colour code, too: its last byte is a letter.
_BEGIN = rb"(?:(?<!\w)|(?<=[\[0-9;]m))"
# What to look for → what must stand there. Errors first: a line that is both is an error.
NEEDLES: list[tuple[bytes, re.Pattern[bytes], str]] = [
    (needle, re.compile(pattern), kind)
    for needle, pattern, kind in [
        (b"Traceback (", rb"Traceback \(most recent call last\)", ERROR),
        (b"ERROR", _BEGIN + rb"ERROR\b", ERROR),
        (b"CRITICAL", _BEGIN + rb"CRITICAL\b", ERROR),
        (b"FATAL", _BEGIN + rb"FATAL\b", ERROR),
        (b"error:", _BEGIN + rb"error:", ERROR),
        (b"fatal:", _BEGIN + rb"fatal:", ERROR),
        (b"WARN", _BEGIN + rb"WARN(?:ING)?\b", WARNING),
        (b"Warning:", rb"Warning:", WARNING),
        (b"warning:", _BEGIN + rb"warning:", WARNING),
    ]
]


def problem_lines(data: bytes) -> list[tuple[int, str]]:
    """Where in ``data`` the lines with a problem begin, in order, each with its kind."""
    found: dict[int, str] = {}
    for needle, pattern, kind in NEEDLES:
        at = data.find(needle)
        while at >= 0:
            if pattern.match(data, at):
                found.setdefault(data.rfind(b"\n", 0, at) + 1, kind)
                at = data.find(b"\n", at)
                if at < 0:
                    break
            at = data.find(needle, at + 1)
    return sorted(found.items())


def problem_of(line: bytes) -> str:
    """The kind of one line: ``e``, ``w`` or nothing."""
    lines = problem_lines(line)
    return lines[0][1] if lines else ""


def count(data: bytes) -> tuple[int, int]:
    """Lines that are errors, lines that are warnings."""
    kinds = [kind for _, kind in problem_lines(data)]
    errors = kinds.count(ERROR)
    return errors, len(kinds) - errors


class Counter:
    """Counts over pieces that do not end where lines end."""

    def __init__(self) -> None:
        self._rest = b""
        self._found = [0, 0]

    def feed(self, data: bytes) -> None:
        whole = data.rfind(b"\n") + 1
        if whole:
            self._add(self._rest + data[:whole])
            self._rest = b""
        self._rest = (self._rest + data[whole:])[:HELD]

    def finish(self) -> tuple[int, int]:
        self._add(self._rest)
        self._rest = b""
        return self._found[0], self._found[1]

    def _add(self, data: bytes) -> None:
        errors, warnings = count(data)
        self._found[0] += errors
        self._found[1] += warnings
