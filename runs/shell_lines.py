"""What a person gives as ``command``, a text or a list, as the words that are started; and back.

One rule for the form, the API, the client, YAML and the command line. A text of plain words is started as it is, without a shell. One that
only a shell understands is handed to bash on the target, or to sh where there is none, as one argument. A list is taken word by word,
except one that is a line: of a single item, with an item that is nothing but an operator, or one that begins with several words. That is
joined with spaces, as the reference does with every list.
"""

import re
from collections.abc import Sequence

from runs import shellwords

SHELL = ("sh", "-c", 'exec "$(command -v bash || echo sh)" -c "$0"')
"""What stands before a line that a shell runs."""
OPERATORS = frozenset(
    {
        "&&", "||", "|", "|&", ";", "&", "(", ")", ">", ">>", "<", "<<", "<<<", ">|", "&>", "&>>", ">&", "<&", "1>", "1>>", "2>", "2>>",
        "2>&1", "1>&2", ">&2",
    }
)  # fmt: skip
_SYNTAX = frozenset("|&;<>()`*?[\n")
_FIRST = frozenset(
    {
        "cd", "exec", "export", "unset", "source", ".", "eval", "set", "ulimit", "umask", "alias", "trap", "wait", "if", "for", "while",
        "until", "case", "function", "select", "time", "!", "{", "[[", "((",
    }
)  # fmt: skip
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_VARIABLE = re.compile(r"\$(?:[A-Za-z_]|\{[A-Za-z_]\w*\})")


def command(given: str | Sequence[str]) -> tuple[str, ...]:
    """The words to start. Raises shellwords.QuoteError."""
    if not isinstance(given, str):
        words = tuple(given)
        if not is_line(words):
            return words
        given = " ".join(words)
    text = given.strip(" \t\r\n")
    if needs_shell(text):
        return (*SHELL, text)
    return tuple(shellwords.split(text))


def is_line(words: Sequence[str]) -> bool:
    """Whether a list is joined and read as a text."""
    return len(words) == 1 or any(word in OPERATORS for word in words) or bool(words and len(words[0].split()) > 1)


def line_of(words: Sequence[str]) -> str:
    """The line that a shell runs; empty where none is in between."""
    return words[3] if len(words) == 4 and tuple(words[:3]) == SHELL else ""


def spelled(words: Sequence[str]) -> str | list[str]:
    """A text or list from which ``command`` makes these words."""
    line = line_of(words)
    if line and command(line) == tuple(words):
        return line
    return " ".join(_quoted(words)) if is_line(words) else list(words)


def lines(words: Sequence[str]) -> str:
    """The same for a text field: always a text, an option and its value on one line."""
    found = spelled(words)
    if isinstance(found, str):
        return found
    text = shellwords.lines(found).replace("\n", " \\\n")
    return text if command(text) == tuple(words) else " ".join(_quoted(words))


def _quoted(words: Sequence[str]) -> list[str]:
    first, *rest = (shellwords.quote(word) for word in words)
    if first == words[0]:
        first = f"'{first}'"  # a program that is called as a word of the shell
    return [first, *rest]


def needs_shell(text: str) -> bool:
    """Whether something in the text, outside quotes, means more than words to a shell."""
    first = re.match(r"\S*", text)
    if first and (first[0] in _FIRST or _ASSIGNMENT.match(first[0])):
        return True
    at, end, begins = 0, len(text), True
    while at < end:
        c = text[at]
        if c == "\\":
            at += 3 if text.startswith("\\\r\n", at) else 2
            continue
        if c == "'" or text.startswith("$'", at):
            at = _closing(text, at + (1 if c == "'" else 2), escapes=c != "'")
        elif c == '"':
            stop = _closing(text, at + 1, escapes=True, quote='"')
            # Without what a backslash takes its meaning from.
            inside = re.sub(r"\\.", "  ", text[at + 1 : stop], flags=re.DOTALL)
            if any(_substitutes(inside, place) for place in range(len(inside))):
                return True
            at = stop
        elif c in _SYNTAX or (begins and c in "~#") or _substitutes(text, at):
            return True
        else:
            begins = c in " \t\r"
            at += 1
            continue
        begins = False
    return False


def _closing(text: str, at: int, *, escapes: bool, quote: str = "'") -> int:
    """The place behind the quote that closes; behind the text where none does, which ``split`` then says."""
    while at < len(text) and text[at] != quote:
        at += 2 if escapes and text[at] == "\\" else 1
    return at + 1


def _substitutes(text: str, at: int) -> bool:
    """Whether there stands what a shell would find out; a variable alone is put in without one."""
    what = text[at] == "$" and text[at + 1 : at + 2]
    return text[at] == "`" or (bool(what) and str(what) in "({@*#?$!-0123456789" and not _VARIABLE.match(text, at))
