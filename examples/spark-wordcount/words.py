"""How a line becomes words. A module of the project, because executors need those too."""

import re

WORD = re.compile(r"\w+(?:['-]\w+)*")


def words_of(line):
    """The words of a line, in lower case."""
    return [word.lower() for word in WORD.findall(line)]
