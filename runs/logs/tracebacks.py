"""Which lines belong to a Python traceback."""

from collections.abc import Sequence

HEAD = "Traceback (most recent call last):"
BETWEEN = (
    "During handling of the above exception, another exception occurred:",
    "The above exception was the direct cause of the following exception:",
)
LONGEST = 3000


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
            number += 1
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
