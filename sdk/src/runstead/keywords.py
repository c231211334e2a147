"""Keywords that nobody knows: a misspelt one would silently do nothing."""

from __future__ import annotations

from .errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Mapping, Sequence


def refuse(call: str, given: Mapping[str, Any], known: Sequence[str]) -> None:
    """Raise UserError for the first of `given`, but for internal ones of the reference, which begin with `_`."""
    for name in given:
        if name.startswith("_") or name in known:
            continue
        import difflib  # only on a mistake

        names = [one for one in known if one not in ("self", "kwargs") and not one.startswith("_")]
        near = difflib.get_close_matches(name, names, 1)
        hint = "Did you mean %s?" % near[0] if near else "There are: %s." % ", ".join(names)
        raise UserError("%s: %s has no such argument. %s" % (name, call, hint))


def names_of(function: Callable[..., Any]) -> Sequence[str]:
    """The arguments that a function takes by name."""
    code = function.__code__
    return code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
