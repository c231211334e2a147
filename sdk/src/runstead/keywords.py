"""Keywords that nobody knows: a misspelt one would silently do nothing."""

from __future__ import annotations

from .errors import UserError
from .warned import warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterator, Mapping, Sequence


def refuse(call: str, given: Mapping[str, Any], known: Sequence[str]) -> None:
    """Raise UserError for the first of `given`, but for internal ones of the reference, which begin with `_`."""
    for text in _unknown(call, given, known):
        raise UserError(text)


def tell(call: str, given: Mapping[str, Any], known: Sequence[str]) -> None:
    """The same as a warning for each, where the reference takes any: what it knows means nothing here, or is misspelt."""
    for text in _unknown(call, given, known):
        warn(text + " It is left out.")


def _unknown(call: str, given: Mapping[str, Any], known: Sequence[str]) -> Iterator[str]:
    for name in given:
        if name.startswith("_") or name in known:
            continue
        import difflib  # only on a mistake

        names = [one for one in known if one not in ("self", "kwargs") and not one.startswith("_")]
        near = difflib.get_close_matches(name, names, 1)
        hint = "Did you mean %s?" % near[0] if near else "There are: %s." % ", ".join(names)
        yield "%s: %s has no such argument. %s" % (name, call, hint)


def names_of(function: Callable[..., Any]) -> Sequence[str]:
    """The arguments that a function takes by name."""
    code = function.__code__
    return code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
