"""Files and folders that arguments name, as far as their form tells."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

INPUT = re.compile(
    r"(data|dir|path|file|folder|root|config|cfg|input|csv|json|yaml|checkpoint|ckpt|weights|train|test|valid)", re.I
)
OUTPUT = re.compile(r"(out|save|log|dest|write|cache|result|export|artifact|tmp|temp|work)", re.I)
RELATIVE = re.compile(r"(\./)?[\w.@+ -]+(/[\w.@+ -]+)*/?\Z")


@dataclass(frozen=True)
class Named:
    path: str
    option: str
    """The option before it, as ``--data``; empty where there is none."""

    @property
    def written(self) -> bool:
        """Whether the script is more likely to make it than to read it."""
        return bool(OUTPUT.search(self.option))

    @property
    def read(self) -> bool:
        return bool(INPUT.search(self.option)) and not self.written


def pairs(arguments: Iterable[str]) -> Iterator[Named]:
    """Each value with the option that it belongs to: ``--data X``, ``--data=X``, ``X``."""
    option = ""
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if argument.startswith("-") and equals:
            yield Named(value, name)
            option = ""
        elif argument.startswith("-"):
            option = argument
        else:
            yield Named(argument, option)
            option = ""


def absolute(arguments: Iterable[str]) -> list[Named]:
    """Those that begin at the machine's root, without what is no path: one line, up to 1,000 characters."""
    found = (one for one in pairs(arguments) if one.path.startswith("/") and not one.path.startswith("//"))
    return _each(one for one in found if len(one.path) <= 1000 and one.path.isprintable())


def at_home(arguments: Iterable[str]) -> list[Named]:
    """Those that a shell would complete with somebody's home folder."""
    return _each(one for one in pairs(arguments) if re.match(r"~[\w.-]*(/|\Z)", one.path))


def folders(arguments: Iterable[str]) -> list[Named]:
    """Relative ones that an option for reading names, with a ``/`` in them: of a name without one nobody can tell."""
    found = (one for one in pairs(arguments) if one.read and "/" in one.path and RELATIVE.match(one.path))
    return _each(found)


def _each(found: Iterable[Named]) -> list[Named]:
    return list({one.path: one for one in found}.values())
