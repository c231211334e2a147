"""Arguments in a text field: split and quoted as in a shell, with the place of a mistake named.

The rules of ``shlex``, and beyond them a line continued by a backslash, and ``$'…'`` for characters that a text field cannot
hold as they are (it turns every line break into CR LF).
"""

import re
import shlex
from collections.abc import Sequence

ESCAPES = {
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "\\": "\\",
    "'": "'",
    '"': '"',
    "a": "\a",
    "b": "\b",
    "e": "\x1b",
    "f": "\f",
    "v": "\v",
}
NAMES = {v: k for k, v in ESCAPES.items() if k not in {'"', "a", "b", "f", "v", "e"}}
CODE = re.compile(r"x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})")
PLAIN = re.compile(r"[^ \t\r\n'\"\\$]+")
CONTINUED = re.compile(r"\\\r?\n")
# What a text field changes or nobody can see, and bytes that are no text (as Python spells them).
SPECIAL = re.compile("[\x01-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff]")


class QuoteError(ValueError):
    """A quote that is not closed; ``line`` and ``column`` count from 1."""

    def __init__(self, what: str, fix: str, line: int, column: int) -> None:
        self.line = line
        self.column = column
        super().__init__(f"Line {line}, column {column}: {what} {fix}")


def split(text: str) -> list[str]:
    """The arguments in a text. Raises QuoteError."""
    words: list[str] = []
    parts: list[str] | None = None
    at, end = 0, len(text)
    while at < end:
        c = text[at]
        piece = ""
        if c in " \t\r\n":
            if parts is not None:
                words.append("".join(parts))
                parts = None
            at += 1
            continue
        if c == "\\" and (joined := CONTINUED.match(text, at)):
            at = joined.end()
            continue
        if c == "'":
            stop = text.find("'", at + 1)
            if stop < 0:
                raise _open(text, at, "'")
            piece, at = text[at + 1 : stop], stop + 1
        elif c == '"':
            piece, at = _double(text, at)
        elif text.startswith("$'", at):
            piece, at = _ansi(text, at)
        elif c == "\\":
            if at + 1 == end:
                line, column = _place(text, at)
                raise QuoteError(
                    "A backslash ends the text.", "Remove it, or write \\\\ for a backslash.", line, column
                )
            piece, at = text[at + 1], at + 2
        elif c == "$":
            piece, at = c, at + 1
        else:
            match = PLAIN.match(text, at)
            assert match is not None
            piece, at = match[0], match.end()
        parts = [] if parts is None else parts
        parts.append(piece)
    if parts is not None:
        words.append("".join(parts))
    return words


def _double(text: str, start: int) -> tuple[str, int]:
    out: list[str] = []
    at = start + 1
    while at < len(text):
        c = text[at]
        if c == '"':
            return "".join(out), at + 1
        if c == "\\" and at + 1 < len(text):
            following = text[at + 1]
            out.append(following if following in '"\\' else "" if following == "\n" else c + following)
            at += 2
        else:
            out.append(c)
            at += 1
    raise _open(text, start, '"')


def _ansi(text: str, start: int) -> tuple[str, int]:
    out: list[str] = []
    at = start + 2
    while at < len(text):
        c = text[at]
        if c == "'":
            return "".join(out), at + 1
        if c == "\\" and at + 1 < len(text):
            code = CODE.match(text, at + 1)
            value = int(code[code.lastindex or 0], 16) if code else -1
            if code and value <= 0x10FFFF and not 0xD800 <= value <= 0xDFFF:
                out.append(chr(value))
                at = code.end()
            else:
                following = text[at + 1]
                out.append(ESCAPES.get(following, c + following))
                at += 2
        else:
            out.append(c)
            at += 1
    raise _open(text, start + 1, "'")


def _open(text: str, at: int, quote: str) -> QuoteError:
    line, column = _place(text, at)
    name = "single" if quote == "'" else "double"
    return QuoteError(
        f"The {name} quote {quote} is not closed.",
        f"Close it, or write \\{quote} for the character itself.",
        line,
        column,
    )


def _place(text: str, at: int) -> tuple[int, int]:
    return text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)


def quote(word: str) -> str:
    """One argument as ``split`` and a POSIX shell read it back, control characters escaped."""
    if not SPECIAL.search(word):
        return shlex.quote(word)
    escaped = "".join(f"\\{NAMES[c]}" if c in NAMES else c for c in word)
    return "$'" + SPECIAL.sub(_escape, escaped) + "'"


def _escape(match: "re.Match[str]") -> str:
    value = ord(match[0])
    return f"\\u{value:04x}" if value > 0x7F else f"\\x{value:02x}"


def lines(words: Sequence[str]) -> str:
    """Arguments for a text field: an option and its value share a line."""
    out: list[list[str]] = []
    for word in words:
        joins = (
            out
            and not word.startswith("-")
            and out[-1][0].startswith("-")
            and len(out[-1]) == 1
            and "=" not in out[-1][0]
        )
        if joins:
            out[-1].append(word)
        else:
            out.append([word])
    return "\n".join(" ".join(map(quote, line)) for line in out)
