"""Finding lines: by text, and the next error or warning. Frame by frame, so that memory stays flat."""

from collections.abc import Iterator
from dataclasses import dataclass

from runs.logs import ansi
from runs.logs.problems import problem_lines
from runs.logs.reader import Reader

CAP = 10_000
"""How many lines a search counts; beyond, it says "10,000+"."""
HELD = 64 * 1024
"""How much of a line that goes on in the next frame is looked at again there."""


@dataclass(frozen=True, slots=True)
class Hits:
    """Lines that hold a text."""

    lines: list[int]
    """Their numbers, ascending; or descending when searched backwards."""
    more: bool
    """Whether the search stopped at its limit."""


def search(reader: Reader, query: str, after: int = 0, *, backwards: bool = False, limit: int = CAP) -> Hits:
    """At most ``limit`` lines beyond line ``after`` that hold ``query``, whatever its case and colours.

    ``after`` = 0 with ``backwards`` begins at the end. An empty query finds nothing.
    """
    needles = _spellings(query)
    found: list[int] = []
    if not needles:
        return Hits(found, False)
    for first, text in _texts(reader, after, backwards):
        wanted = None if backwards else limit + 2 - len(found)
        numbers = [first + line for line in _matching(ansi.strip(text).lower(), needles, wanted)]
        if backwards:
            numbers = [number for number in reversed(numbers) if not after or number < after]
        # A line that goes on in the next frame is looked at twice.
        found += [number for number in numbers if not found or number != found[-1]]
        if len(found) > limit:
            return Hits(found[:limit], True)
    return Hits(found, False)


def next_problem(reader: Reader, after: int = 0, *, backwards: bool = False) -> tuple[int, str] | None:
    """The next line beyond ``after`` that is an error ("e") or a warning ("w")."""
    for first, text in _texts(reader, after, backwards):
        lines, position, number = problem_lines(text), 0, first
        found: list[tuple[int, str]] = []
        for start, kind in lines:
            number += text.count(b"\n", position, start)
            position = start
            if backwards and after and number >= after:
                break
            found.append((number, kind))
            if not backwards:
                break
        if found:
            return found[-1]
    return None


def _spellings(query: str) -> list[bytes]:
    """The query as bytes to look for in lower-cased text. ``bytes.lower`` knows ASCII only: other letters are tried both ways."""
    spelled = {query, query.lower(), query.upper()}
    return sorted({text.encode("utf-8", "replace").lower() for text in spelled if text})


def _matching(text: bytes, needles: list[bytes], limit: int | None) -> list[int]:
    """Numbers of the lines in ``text``, from 0 on, that hold one of ``needles``."""
    if len(needles) > 1:
        return sorted({line for needle in needles for line in _matching(text, [needle], limit)})
    needle = needles[0]
    lines: list[int] = []
    line, position = 0, 0
    at = text.find(needle)
    while at >= 0:
        line += text.count(b"\n", position, at)
        lines.append(line)
        position = text.find(b"\n", at)
        if position < 0 or len(lines) == limit:
            break
        at = text.find(needle, position)
    return lines


def _texts(reader: Reader, after: int, backwards: bool) -> Iterator[tuple[int, bytes]]:
    """Pieces of the log in the order of the search, each with the number of the line it begins in."""
    if backwards:
        beyond = b""
        for frame in reader.frames_before(reader.offset_of(after) if after else reader.size):
            yield frame.first_line + 1, frame.data + beyond
            beyond = frame.data[: frame.data.find(b"\n") + 1 or HELD][:HELD]
        return
    held, start, number = b"", reader.offset_of(after + 1), after + 1
    for frame in reader.frames(start):
        data = frame.data[max(start - frame.offset, 0) :]
        yield number, held + data
        number = frame.first_line + frame.data.count(b"\n") + 1
        rest = data.rfind(b"\n") + 1
        held = ((b"" if rest else held) + data[rest:])[-HELD:]
