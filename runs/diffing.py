"""What changed between two snapshots: which files, and in text files which lines and words."""

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from django.utils.html import escape
from django.utils.safestring import SafeString

from runs.browse import Leaf, as_text
from studio.blobs import BlobMissing, BlobStore

CONTEXT = 3
MAX_BYTES = 512 * 1024
MAX_LINES = 5000
MAX_LINE = 2000
MAX_MARKED = 100
"""Pairs of lines, one after the other, in which words are compared; a rewritten file gains nothing by it."""
MAX_FILES = 50
"""Files whose lines are compared on one page; the rest are named."""
_WORD = re.compile(r"\w+|\s+|.")


@dataclass(frozen=True)
class Line:
    """One line of a unified diff. ``kind``: empty (the same in both), ``add``, ``sub`` or ``hunk``."""

    kind: str
    old: int | None
    new: int | None
    html: SafeString


@dataclass
class Change:
    """One file that is not the same in both."""

    path: str
    kind: str
    """``changed``, ``added`` or ``removed``."""
    old: Leaf | None
    new: Leaf | None
    lines: Sequence[Line] = ()
    note: str = ""
    """Why there are no lines."""
    added: int = field(default=0)
    removed: int = field(default=0)


def changes(old: Sequence[Leaf], new: Sequence[Leaf]) -> list[Change]:
    """The files that differ, by path."""
    before, after = ({leaf.path: leaf for leaf in leaves} for leaves in (old, new))
    found = []
    for path in sorted(before.keys() | after.keys()):
        was, now = before.get(path), after.get(path)
        if was is None or now is None:
            found.append(Change(path, "added" if was is None else "removed", was, now))
        elif was.digest != now.digest:
            found.append(Change(path, "changed", was, now))
    return found


def look_into(store: BlobStore, change: Change) -> None:
    """Compare a file's lines, where both are texts of a size that a person reads."""
    if any(leaf is not None and leaf.size > MAX_BYTES for leaf in (change.old, change.new)):
        change.note = "Over 512 KB: too large to compare here."
        return
    try:
        texts = [as_text(store.read(leaf.digest)) if leaf is not None else "" for leaf in (change.old, change.new)]
    except BlobMissing:
        change.note = "Its content is no longer kept."
        return
    old, new = texts
    if old is None or new is None:
        change.note = "It is not a text file."
        return
    was, now = old.splitlines(), new.splitlines()
    if len(was) > MAX_LINES or len(now) > MAX_LINES:
        change.note = f"Over {MAX_LINES:,} lines: too large to compare here."
        return
    change.lines = list(unified(was, now))
    change.added = sum(line.kind == "add" for line in change.lines)
    change.removed = sum(line.kind == "sub" for line in change.lines)
    if not change.lines:
        change.note = "Only line ends or the end of the file differ."


def unified(was: Sequence[str], now: Sequence[str]) -> Iterator[Line]:
    """The lines of a unified diff with three lines around each change; changed words are marked."""
    matcher = difflib.SequenceMatcher(None, was, now)
    for group in matcher.get_grouped_opcodes(CONTEXT):
        first, last = group[0], group[-1]
        yield Line(
            "hunk",
            None,
            None,
            SafeString(f"@@ −{first[1] + 1},{last[2] - first[1]} +{first[3] + 1},{last[4] - first[3]} @@"),
        )
        for tag, i1, i2, j1, j2 in group:
            if tag == "equal":
                for offset in range(i2 - i1):
                    yield Line("", i1 + offset + 1, j1 + offset + 1, escape(cut(was[i1 + offset])))
                continue
            pairs = min(i2 - i1, j2 - j1, MAX_MARKED)
            marked = [mark(was[i1 + n], now[j1 + n]) for n in range(pairs)]
            for i in range(i1, i2):
                html = marked[i - i1][0] if i - i1 < len(marked) else escape(cut(was[i]))
                yield Line("sub", i + 1, None, html)
            for j in range(j1, j2):
                html = marked[j - j1][1] if j - j1 < len(marked) else escape(cut(now[j]))
                yield Line("add", None, j + 1, html)


def mark(was: str, now: str) -> tuple[SafeString, SafeString]:
    """Both lines with the words that differ marked; without marks when hardly anything is the same."""
    words = [_WORD.findall(cut(text)) for text in (was, now)]
    matcher = difflib.SequenceMatcher(None, words[0], words[1], autojunk=False)
    if matcher.ratio() < 0.4:
        return escape(cut(was)), escape(cut(now))
    sides = ["", ""]
    for tag, *places in matcher.get_opcodes():
        for side in (0, 1):
            text = escape("".join(words[side][places[2 * side] : places[2 * side + 1]]))
            sides[side] += text if tag == "equal" or not text else f"<mark>{text}</mark>"
    return SafeString(sides[0]), SafeString(sides[1])


def cut(text: str) -> str:
    return text if len(text) <= MAX_LINE else text[:MAX_LINE] + "…"
