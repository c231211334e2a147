"""Which lines belong to a Python traceback."""

import re
from collections.abc import Sequence

HEAD = "Traceback (most recent call last):"
BETWEEN = (
    "During handling of the above exception, another exception occurred:",
    "The above exception was the direct cause of the following exception:",
)
LONGEST = 3000
FRAME = re.compile(r'  File "[^"]+", line \d+')
SYNTAX = ("SyntaxError: ", "IndentationError: ", "TabError: ")
BELOW_FRAME = 4
"""Lines that follow a frame until an error of the syntax is named."""


def mark(texts: Sequence[str]) -> list[str]:
    """Classes for each line: ``tb`` inside a traceback, ``e tb`` for its first line and for the one that names the exception.

    Launchers of many processes put a prefix before each line (``[rank0]: ``): what stands before the head is expected before
    the lines that follow.
    """
    marks = [""] * len(texts)
    number = 0
    while number < len(texts):
        at = texts[number].find(HEAD)
        if at < 0:
            number = _syntax(texts, marks, number)
            continue
        prefix = texts[number][:at]
        marks[number] = "e tb"
        number += 1
        number = _frames(texts, marks, number, prefix)
        number = _between(texts, marks, number, prefix)
    return marks


def _frames(texts: Sequence[str], marks: list[str], number: int, prefix: str) -> int:
    """The lines of the stack are indented; the first that is not names the exception."""
    for line in range(number, min(number + LONGEST, len(texts))):
        text = texts[line].removeprefix(prefix)
        marks[line] = "tb"
        if text[:1] not in {" ", "\t"}:
            marks[line] = "e tb" if text.strip() else ""
            return line + 1
    return min(number + LONGEST, len(texts))


def _syntax(texts: Sequence[str], marks: list[str], number: int) -> int:
    """What Python cannot read of the script itself is said without a head: place, line, the error. The next line to look at."""
    frame = FRAME.search(texts[number])
    if frame is not None and frame.end() == len(texts[number].rstrip()):
        prefix = texts[number][: frame.start()]
        for line in range(number + 1, min(number + 1 + BELOW_FRAME, len(texts))):
            if texts[line].removeprefix(prefix).startswith(SYNTAX):
                marks[number : line + 1] = ["e tb", *["tb"] * (line - number - 1), "e tb"]
                return line + 1
    return number + 1


def _between(texts: Sequence[str], marks: list[str], number: int, prefix: str) -> int:
    """Chained exceptions: the sentence between two tracebacks, and the empty lines around it."""
    sentence = number
    while sentence < len(texts) and sentence < number + 2 and not texts[sentence].removeprefix(prefix).strip():
        sentence += 1
    if sentence < len(texts) and texts[sentence].removeprefix(prefix).strip() in BETWEEN:
        end = min(sentence + 2, len(texts))
        for line in range(number, end):
            marks[line] = "tb"
        return end
    return number
