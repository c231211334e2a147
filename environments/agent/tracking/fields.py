"""Fields of MLflow's calls, checked, and the lines and JSON that they become."""

import json
import re
import time

from .problems import Problem, invalid
from .records import SPECIAL, number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Tuple

    Body = Dict[str, Any]
    Point = Tuple[str, object, int, float]

MAX_NAME = 250
MAX_TEXT = 65536
MAX_INT = 2**63 - 1
# What MLflow itself allows in a name, so that a script behaves here as on its own server.
NAME = re.compile(r"[/\w.\- :]+\Z")
NOTE, RUN_NAME = "mlflow.note.content", "mlflow.runName"


def record_line(record: "Dict[str, Any]") -> str:
    return json.dumps(record, separators=(",", ":"), allow_nan=False) + "\n"


def check_name(value: object, field: str) -> str:
    if not isinstance(value, str) or not value:
        raise Problem("INVALID_PARAMETER_VALUE", "Missing value for required parameter '%s': a name is needed." % field)
    if len(value) > MAX_NAME:
        raise invalid(field, value, "a name has at most %d characters." % MAX_NAME)
    if not NAME.match(value):
        raise invalid(field, value, "names hold letters, digits, '_', '-', '.', ' ', ':' and '/'.")
    if value[0] == "/" or value[-1] == "/" or any(part in ("", ".", "..") for part in value.split("/")):
        raise invalid(field, value, "a name may not look like another path ('.', '..', '//', '/' at an end).")
    return value


def check_text(value: object, field: str) -> str:
    if not isinstance(value, str):
        raise invalid(field, value, "a text is needed.")
    if len(value) > MAX_TEXT:
        raise invalid(field, value, "at most %d characters; log a longer text as an artifact." % MAX_TEXT)
    if any(0xD800 <= ord(letter) < 0xE000 for letter in value):
        raise invalid(field, value, "the text is no Unicode: it holds half of a surrogate pair.")
    return value


def check_integer(value: object, field: str, low: int) -> int:
    # JSON of 64-bit integers may be a number or a text of digits.
    if isinstance(value, str) and re.match(r"-?[0-9]{1,19}\Z", value):
        value = int(value)
    if isinstance(value, float) and value == value // 1 and abs(value) < 2**53:
        value = int(value)
    if type(value) is not int or not low <= value <= MAX_INT:
        raise invalid(field, value, "an integer from %d to 2^63 - 1 is needed." % low)
    return value


def check_items(body: "Body", field: str) -> "List[Body]":
    items = body.get(field, [])
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise invalid(field, items, "a list of objects is needed.")
    return items


def check_point(item: "Body", prefix: str = "") -> "Point":
    """(name, value as the contract writes it, step, unix time) of a metric. Raises Problem."""
    name = check_name(item.get("key"), prefix + "key")
    value = item.get("value")
    found = number(value)
    if found is None or (found - found != 0 and value not in SPECIAL):
        raise invalid(
            prefix + "value",
            value,
            "metric '%s' needs a 64-bit floating point number, NaN or Infinity." % name,
        )
    step = item.get("step")
    step = 0 if step is None else check_integer(step, prefix + "step", -MAX_INT - 1)
    at = item.get("timestamp")
    seconds = time.time() if at is None else check_integer(at, prefix + "timestamp", 0) / 1000.0
    return name, (value if isinstance(value, str) else found), step, seconds


def metric_lines(points: "List[Point]") -> "List[str]":
    """Lines for the points; neighbours of one step and time share a line."""
    lines = []
    place = 0
    while place < len(points):
        _, _, step, at = points[place]
        group: "Dict[str, object]" = {}
        while place < len(points) and points[place][2:] == (step, at) and points[place][0] not in group:
            group[points[place][0]] = points[place][1]
            place += 1
        if len(group) > 1:
            lines.append(record_line({"op": "batch", "t": at, "s": step, "m": group}))
        else:
            name, value = next(iter(group.items()))
            lines.append(record_line({"k": name, "v": value, "s": step, "t": at}))
    return lines


def tag_line(name: str, value: str) -> str:
    if name == NOTE:
        return record_line({"op": "note", "v": value})
    if name == RUN_NAME:
        return record_line({"op": "name", "v": value})
    return record_line({"op": "tag", "k": name, "v": value})


def metric_json(name: str, step: int, at: float, value: float) -> "Body":
    shown: "Any" = value
    if value - value != 0:
        shown = "Infinity" if value > 0 else "-Infinity" if value < 0 else "NaN"
    return {"key": name, "value": shown, "timestamp": round(at * 1000), "step": step}
