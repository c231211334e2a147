"""Values that a script logs, as JSON text.

numpy's and torch's scalars are known by their `item`, without importing either.
"""

from __future__ import annotations

import json
from numbers import Number

from .errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Union

    Scalar = Union[None, bool, int, float, str]

SPECIAL = {"inf": '"Infinity"', "-inf": '"-Infinity"', "nan": '"NaN"'}
MAX_NAME = 250
MAX_TEXT = 65536
LOW_STEP, HIGH_STEP = -(2**63), 2**63 - 1


def scalar(value: Any, what: str) -> Scalar:
    """The value as Python's own None, bool, int, float or str.

    Raises UserError for anything that is not one value.
    """
    kind = type(value)
    if kind is float or kind is str or value is None or kind is bool:
        return value  # type: ignore[no-any-return]
    if kind is int:
        return _fitting(value, what)
    item = getattr(value, "item", None)
    if callable(item) and not isinstance(value, (int, float, str)):
        size = getattr(value, "size", 1)
        size = size() if callable(size) else size
        count = 1
        for length in size if isinstance(size, tuple) else (size,):
            count *= length
        if count != 1:
            raise UserError(
                "%s: one value is needed, got an array of %d. Use log_list() for a series of values." % (what, count)
            )
        found = item()
        if type(found) in (float, int, bool, str):
            return _fitting(found, what) if type(found) is int else found
        raise UserError("%s: a number, text, bool or None is needed, got %s." % (what, type(value).__name__))
    if isinstance(value, (list, tuple, set, frozenset, dict)):
        raise UserError(
            "%s: one value is needed, got a %s. Use log_list() for several values, log_row() or log_table() for columns."
            % (what, type(value).__name__)
        )
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return _fitting(int(value), what)
    if isinstance(value, Number) and not isinstance(value, complex):
        return float(value)  # type: ignore[arg-type]
    raise UserError("%s: a number, text, bool or None is needed, got %s." % (what, type(value).__name__))


def _fitting(value: int, what: str) -> int:
    try:
        float(value)
    except OverflowError:
        raise UserError(
            "%s: the number has too many digits for a 64-bit float. Log it as text: str(value)." % what
        ) from None
    return value


def text(value: Scalar, what: str) -> str:
    """JSON text of a scalar; NaN and infinities by the texts that stand for them.

    Raises UserError for a too long text.
    """
    if isinstance(value, float):
        found = repr(value)
        return SPECIAL.get(found, found)
    if isinstance(value, str) and len(value) > MAX_TEXT:
        raise UserError(
            "%s: a text has at most %d characters, this has %d. Put it in a file: upload_file()."
            % (what, MAX_TEXT, len(value))
        )
    if isinstance(value, str):
        # Half surrogates (undecodable bytes of file names) are no text that could be stored.
        value = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return json.dumps(value)


def name_text(name: Any) -> str:
    """JSON text of a name.

    Raises UserError unless it is a text of 1 to 250 characters without control characters.
    """
    if not isinstance(name, str):
        raise UserError("name: a text is needed, got %s." % type(name).__name__)
    if not name or len(name) > MAX_NAME:
        raise UserError("name: 1 to %d characters are needed, got %d." % (MAX_NAME, len(name)))
    if any(ord(letter) < 32 or 0x7F <= ord(letter) < 0xA0 or 0xD800 <= ord(letter) < 0xE000 for letter in name):
        raise UserError("name: %r holds a control character or is no Unicode. Remove it." % name[:80])
    return json.dumps(name)


def step_number(step: Any) -> int:
    """A step as an int of 64 bits. Raises UserError."""
    try:
        number = step.__index__() if hasattr(step, "__index__") else int(step)
        if number == step and not isinstance(step, bool) and LOW_STEP <= number <= HIGH_STEP:
            return int(number)
    except (TypeError, ValueError, OverflowError):
        pass
    raise UserError("step: an integer of 64 bits is needed, got %r." % (step,))
