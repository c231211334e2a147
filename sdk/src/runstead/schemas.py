"""Charts by schema: confusion matrices, accuracy tables, residuals, predictions."""

from __future__ import annotations

import json
from collections.abc import Mapping

from .errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict

FIELDS = ("schema_type", "schema_version", "data")


def check(name: str, value: Any, kind: str) -> Dict[str, Any]:
    """The value as a dict with the three fields of a schema.

    Raises UserError naming what is missing or wrong.
    """
    if isinstance(value, (str, bytes)):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise UserError("%s: the text is no JSON: %s." % (name, error)) from None
    if not isinstance(value, Mapping):
        raise UserError(
            "%s: a dict or JSON with %s is needed, got %s." % (name, ", ".join(FIELDS), type(value).__name__)
        )
    missing = [field for field in FIELDS if field not in value]
    if missing:
        raise UserError("%s: %s is missing." % (name, " and ".join(missing)))
    if value["schema_type"] != kind:
        raise UserError("%s: schema_type must be %r here, got %r." % (name, kind, value["schema_type"]))
    try:
        found: Dict[str, Any] = json.loads(
            json.dumps({field: value[field] for field in FIELDS}, default=_plain), parse_constant=str
        )
    except (TypeError, ValueError) as error:
        raise UserError("%s: the data cannot be written as JSON: %s." % (name, error)) from None
    return found


def _plain(value: Any) -> Any:
    for method in ("tolist", "item"):
        if callable(getattr(value, method, None)):
            return getattr(value, method)()
    raise TypeError("a %s is no list, dict, number or text" % type(value).__name__)
