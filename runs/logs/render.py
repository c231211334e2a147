"""Lines as HTML rows. Text is escaped before anything is added to it; the only markup is what this module writes."""

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from html import escape

from runs.logs.ansi import ESCAPE, strip
from runs.logs.problems import ERROR, problem_of
from runs.logs.reader import Line
from runs.logs.sgr import Style
from runs.logs.tracebacks import mark
from studio.templatetags.studio import filesize

MAX_CHARS = 4000

# What a browser would not show, or would take for a line's end, becomes a visible mark. Backspaces are carried out before.
_UNSHOWN = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ufeff]")
_URL = re.compile(r"https?://[^\s<>\"'`\\^{|}\ufffd]+")
_TRAILING = ".,;:!?'*_)]"


def render_lines(lines: Sequence[Line], first: int = 0) -> str:
    """Rows of the log viewer, from line number ``first`` on: those before it only say which colours and which traceback
    go on there."""
    style = Style()
    marks = mark([strip(line.text).decode("utf-8", "replace") for line in lines])
    rows = [(line.number, render_line(line, style, marked)) for line, marked in zip(lines, marks, strict=True)]
    return "".join(row for number, row in rows if number >= first)


def render_line(line: Line, style: Style, marked: str = "") -> str:
    """One row. ``style`` changes as the line's escapes say; ``marked`` are classes that its neighbours give it."""
    number = line.number
    problem = problem_of(strip(line.text)) if "e" not in marked.split() else ERROR
    classes = " ".join(filter(None, ["l", problem, *(name for name in marked.split() if name != ERROR)]))
    text, hidden = render_text(line.text, style, MAX_CHARS)
    cut = line.cut + hidden
    more = ""
    if cut:
        more += _offer(number, f"{filesize(cut)} more. Show all")
    if line.folded:
        plural = "" if line.folded == 1 else "s"
        more += _offer(number, f"{line.folded:,} progress-bar update{plural} folded. Show them")
    return (
        f'<div class="{classes}" id="L{number}"><a href="#L{number}" aria-label="Line {number}">{number:,}</a>'
        f"{_time(line.time)}<span>{text}{more}</span></div>"
    )


def render_text(data: bytes, style: Style, max_chars: int) -> tuple[str, int]:
    """Text with its colours and links, and how many bytes of it did not fit into ``max_chars``."""
    made: list[str] = []
    room, hidden = max_chars, 0
    for piece, code in _pieces(data):
        text = _shown(piece)
        if len(text) > room:
            hidden += len(text[room:].encode())
            text = text[:room]
        room -= len(text)
        if text:
            made.append(style.wrap(_linked(text)))
        if code:
            style.apply(code)
    return "".join(made), hidden


def render_updates(data: bytes) -> str:
    """A whole line in full: each of its updates below the other."""
    style = Style()
    updates = [part for part in data.replace(b"\r\r", b"\r").split(b"\r") if part.strip()]
    return "".join(f'<span class="up">{render_text(part, style, len(part))[0]}</span>' for part in updates)


def _pieces(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Text, and the colour code that follows it (empty for other escapes and at the end)."""
    position = 0
    if b"\x1b" in data:
        for found in ESCAPE.finditer(data):
            code = found.group()
            yield (
                data[position : found.start()],
                code[2:-1] if code.startswith(b"\x1b[") and code.endswith(b"m") else b"",
            )
            if code == b"\x1b[m":
                yield b"", b"0"
            position = found.end()
    yield data[position:], b""


def _shown(piece: bytes) -> str:
    text = piece.decode("utf-8", "replace")
    if "\b" in text:
        text = _backspaced(text)
    return _UNSHOWN.sub("\ufffd", text.rstrip("\r"))


def _backspaced(text: str) -> str:
    kept: list[str] = []
    for character in text:
        if character != "\b":
            kept.append(character)
        elif kept:
            kept.pop()
    return "".join(kept)


def _linked(text: str) -> str:
    if "://" not in text:
        return escape(text)
    made, position = [], 0
    for found in _URL.finditer(text):
        address = found.group().rstrip(_TRAILING)
        made.append(escape(text[position : found.start()]))
        made.append(
            f'<a href="{escape(address)}" target="_blank" rel="noopener noreferrer nofollow">{escape(address)}</a>'
        )
        position = found.start() + len(address)
    made.append(escape(text[position:]))
    return "".join(made)


def _time(unix: float | None) -> str:
    if unix is None:
        return "<time></time>"
    try:
        shown = datetime.fromtimestamp(unix, UTC).strftime("%H:%M:%S")
    except (OverflowError, OSError, ValueError):
        return "<time></time>"
    return f'<time data-t="{unix:.3f}">{shown}</time>'


def _offer(number: int, text: str) -> str:
    return f' <button type="button" class="folded" data-line="{number}">{text}</button>'
