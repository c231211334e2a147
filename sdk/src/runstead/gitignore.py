"""gitignore's rules, as git applies them while it walks a tree: each path by itself, the last rule that matches wins.

The caller never looks below a folder that is left out, which is what makes `*`, `!*/`, `!*.py` keep every
Python file.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterable, List, Optional, Tuple

CLASSES = {
    "alnum": "a-zA-Z0-9", "alpha": "a-zA-Z", "blank": " \\t", "cntrl": "\\x00-\\x1f\\x7f", "digit": "0-9", "graph": "!-~",
    "lower": "a-z", "print": " -~", "punct": "!-/:-@\\[-`{-~", "space": " \\t-\\r", "upper": "A-Z", "xdigit": "0-9A-Fa-f",
}  # fmt: skip
SPECIAL = frozenset("*?[\\")
NEVER = "(?!)"


class Never(Exception):
    """A pattern that matches nothing, as git sees it: an open bracket, an unknown class, a backslash at the
    end.
    """


class Rule:
    """One line of an ignore file."""

    __slots__ = ("by_name", "folders_only", "keeps", "line", "regex")

    def __init__(self, line: str, keeps: bool, folders_only: bool, by_name: bool, regex: str) -> None:
        self.line = line
        self.keeps = keeps
        self.folders_only = folders_only
        self.by_name = by_name
        self.regex = regex


class Rules:
    """The rules of one ignore file. `why(path, folder)` answers for one path, relative and with `/`."""

    def __init__(self, lines: Iterable[str]) -> None:
        rules = [rule for rule in map(parse, lines) if rule is not None]
        self._rules = [(rule, re.compile(rule.regex, re.DOTALL)) for rule in reversed(rules)]
        # Most paths match no rule at all, and one look says so.
        self._any = {
            by_name: re.compile("|".join(r.regex for r in rules if r.by_name == by_name) or NEVER, re.DOTALL)
            for by_name in (True, False)
        }

    def why(self, path: str, folder: bool) -> str:
        """The line that leaves the path out, or an empty text."""
        name = path.rpartition("/")[2]
        if not (self._any[True].fullmatch(name) or self._any[False].fullmatch(path)):
            return ""
        for rule, regex in self._rules:
            if (folder or not rule.folders_only) and regex.fullmatch(name if rule.by_name else path):
                return "" if rule.keeps else rule.line
        return ""


def lines_of(data: bytes) -> List[str]:
    """The lines of an ignore file's bytes."""
    text = data.decode("utf-8-sig", "replace")
    return [line[:-1] if line.endswith("\r") else line for line in text.split("\n")]


def parse(line: str) -> Optional[Rule]:
    """A line as a rule; None for a blank line, a comment, or what can match nothing."""
    pattern = _trimmed(line)
    if not pattern or pattern.startswith("#"):
        return None
    shown = pattern
    keeps = pattern.startswith("!")
    pattern = pattern[1:] if keeps else pattern
    folders_only = pattern.endswith("/")
    pattern = pattern[:-1] if folders_only else pattern
    by_name = "/" not in pattern
    pattern = pattern[1:] if pattern.startswith("/") else pattern
    try:
        return Rule(shown, keeps, folders_only, by_name, _regex(pattern)) if pattern else None
    except Never:
        return None


def _trimmed(line: str) -> str:
    """Without trailing spaces, except one that a backslash protects."""
    end = len(line)
    while end and line[end - 1] == " ":
        end -= 1
    slashes = end - len(line[:end].rstrip("\\"))
    return line[: end + 1] if slashes % 2 and end < len(line) else line[:end]


def _regex(pattern: str) -> str:
    parts = []
    place, end = 0, len(pattern)
    while place < end:
        letter = pattern[place]
        place += 1
        if letter == "*":
            first = place - 1
            while place < end and pattern[place] == "*":
                place += 1
            # git compares the letters before the first special one by themselves, so what follows them begins anew.
            begins = first == 0 or pattern[first - 1] == "/" or not SPECIAL.intersection(pattern[:first])
            whole = begins and (place == end or pattern[place] == "/")
            if place - first < 2 or not whole:
                parts.append("[^/]*")
            elif place == end:
                parts.append(".*")
            else:
                parts.append("(?:.*/)?")
                place += 1
        elif letter == "?":
            parts.append("[^/]")
        elif letter == "[":
            part, place = _bracket(pattern, place)
            parts.append(part)
        elif letter == "\\":
            if place == end:
                raise Never
            parts.append(re.escape(pattern[place]))
            place += 1
        else:
            parts.append(re.escape(letter))
    return "(?:%s)" % "".join(parts)


def _bracket(pattern: str, place: int) -> Tuple[str, int]:
    """The regular expression of a bracket whose inside begins at `place`, and the place behind it."""
    end = len(pattern)
    negated = place < end and pattern[place] in "!^"
    place += negated
    items: List[str] = []
    before = ""  # the letter that a following '-' would make a range of
    first = True
    while True:
        if place >= end:
            raise Never
        letter = pattern[place]
        place += 1
        if letter == "]" and not first:
            break
        first = False
        if letter == "[" and place < end and pattern[place] == ":":
            close = pattern.find("]", place)
            if close < 0:
                raise Never
            if pattern[close - 1] == ":" and close - 1 > place:
                name = pattern[place + 1 : close - 1]
                if name not in CLASSES:
                    raise Never
                items.append(CLASSES[name])
                place, before = close + 1, ""
                continue
        elif letter == "-" and before and place < end and pattern[place] != "]":
            place += pattern[place] == "\\"
            if place >= end:
                raise Never
            if before <= pattern[place]:
                items.append("%s-%s" % (re.escape(before), re.escape(pattern[place])))
            place, before = place + 1, ""
            continue
        elif letter == "\\":
            if place >= end:
                raise Never
            letter = pattern[place]
            place += 1
        items.append(re.escape(letter))
        before = letter
    inside = "".join(items)
    if negated:
        return "[^/%s]" % inside, place
    return "(?!/)[%s]" % inside if inside else NEVER, place
