"""Telling a database that is away from a row that is refused; and what no database takes."""

import json
import re
from collections.abc import Callable
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


MARK = "\ufdd0"
"""Stands before a byte that is no text, in JSON that a database holds. Unicode has no such character; one that comes is doubled."""


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list | tuple):
        return [_mapped(item, change) for item in value]
    if isinstance(value, dict):
        return {_mapped(key, change): _mapped(item, change) for key, item in value.items()}
    return value


class BytesEncoder(json.JSONEncoder):
    """JSON whose texts may hold bytes that are no UTF-8, as ``os.fsdecode`` makes them: PostgreSQL takes no halves of surrogate pairs."""

    def encode(self, o: Any) -> str:
        return super().encode(_mapped(o, self._kept))

    @staticmethod
    def _kept(text: str) -> str:
        if text.isascii():
            return text
        return re.sub(
            "[\udc80-\udcff\ufdd0]",
            lambda found: MARK + (f"{ord(found[0]) - 0xDC00:02x}" if found[0] != MARK else MARK),
            text,
        )


class BytesDecoder(json.JSONDecoder):
    """The other way."""

    def decode(self, s: str, *where: Any) -> Any:
        value = super().decode(s, *where)
        return _mapped(value, self._read) if MARK in s or "\\ufdd0" in s else value

    @staticmethod
    def _read(text: str) -> str:
        if MARK not in text:
            return text
        return re.sub(
            f"{MARK}({MARK}|[0-9a-f]{{2}})",
            lambda found: MARK if found[1] == MARK else chr(0xDC00 + int(found[1], 16)),
            text,
        )
