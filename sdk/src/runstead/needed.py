"""What an argument has to be: one of another kind is refused by its name, before anything is sent."""

from __future__ import annotations

import operator
import os
from collections.abc import Mapping

from .errors import UserError
from .inside import OnlyOutside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Optional

PAIRS = "names and texts"


def mapping(field: str, values: Any, what: str = PAIRS) -> Mapping[Any, Any]:
    """The dict that was given; None is an empty one. Raises UserError."""
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        raise UserError("%s: a dict of %s is needed, got %s." % (field, what, type(values).__name__))
    return values


def texts(field: str, values: Any) -> Dict[str, Optional[str]]:
    """The same with all names and values as texts, but None. Raises UserError."""
    return {str(key): None if value is None else str(value) for key, value in mapping(field, values).items()}


def whole(field: str, value: Any, least: int = 1) -> int:
    """A whole number, also numpy's. Raises UserError."""
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if isinstance(value, bool) or number < least:
        raise UserError("%s: a whole number from %d on is needed, got %r." % (field, least, value))
    return number


def file_path(field: str, value: Any, what: str = "a path") -> str:
    """The path as a text. Raises UserError."""
    if not isinstance(value, (str, os.PathLike)):
        raise UserError("%s: %s is needed, got %s." % (field, what, type(value).__name__))
    return os.fspath(value)


def workspace_of(value: Any, field: str = "workspace") -> Any:
    """A workspace that can be asked. Raises UserError for a name, and what a script is told when it has no more than that."""
    return _having(
        "transport", value, "%s: a Workspace is needed, for example Workspace.from_config(), got %r." % (field, value)
    )


def experiment_of(value: Any) -> Any:
    """An experiment whose workspace can be asked. Raises UserError."""
    told = "experiment: an Experiment is needed, for example Experiment(ws, 'digits'), got %r." % (value,)
    return _having("workspace", value, told)


def _having(attribute: str, value: Any, told: str) -> Any:
    # By what it can do: importing the classes would load the whole client.
    try:
        getattr(value, attribute)
    except OnlyOutside:
        raise
    except AttributeError:
        raise UserError(told) from None
    return value
