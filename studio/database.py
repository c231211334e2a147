"""Telling a database that is away from a row that is refused; and what no database takes."""

from typing import Any

from django.db import InterfaceError, OperationalError

# Busy, restarted, or not reachable: the same statement may succeed in a moment. Everything else that a database refuses
# (an IntegrityError, say) is an error of ours and must be seen.
AWAY = (OperationalError, InterfaceError)

UNSTORABLE = dict.fromkeys((0, *range(55296, 57344)), "\ufffd")
"""What no database takes as text: NUL and halves of surrogate pairs. For ``str.translate``."""


def storable(value: Any) -> Any:
    """Text, or a JSON value, as a database takes it. For what comes from a target: a script may raise an error with any text."""
    if isinstance(value, str):
        return value.translate(UNSTORABLE)
    if isinstance(value, list):
        return [storable(item) for item in value]
    if isinstance(value, dict):
        return {storable(key): storable(item) for key, item in value.items()}
    return value
