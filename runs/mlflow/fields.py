"""What a call says, checked field by field."""

import json
import math
import re
import time
from typing import Any

from django.http import HttpRequest
from django.utils.functional import cached_property

from runs.metrics.records import MAX_NAME, SPECIAL, STEP_HIGH, STEP_LOW, TIME_LIMIT
from runs.mlflow.auth import Caller
from runs.mlflow.problems import Problem, invalid
from studio.database import UNSTORABLE
from studio.rest import Problem as Refused
from studio.rest import read_body

Fields = dict[str, Any]
MAX_BODY = 32 * 1024 * 1024
MAX_TEXT = 100_000
MAX_TAG = 8000
MAX_PARAMETER = 100_000
MAX_PAGE = 50_000
# What MLflow itself allows in a name, so that a script behaves here as on its own server.
NAME = re.compile(r"[/\w.\- :]+\Z")
INTEGER = re.compile(r"-?[0-9]{1,19}\Z")


class Call:
    """One request of a client: who, and what it says."""

    def __init__(self, request: HttpRequest, caller: Caller, parts: tuple[str, ...] = ()) -> None:
        self.request = request
        self.caller = caller
        self.parts = parts
        """What stands in the address for ids."""

    @cached_property
    def fields(self) -> Fields:
        """The body of a POST, PATCH or DELETE, or the query of a GET. Raises Problem."""
        if self.request.method == "GET":
            return {name: values[-1] for name, values in self.request.GET.lists()}
        return body_of(self.request)

    def text(self, name: str, default: str | None = None, limit: int = MAX_TEXT) -> str:
        """A text; required without a default."""
        value = self.fields.get(name)
        if value is None or (value == "" and default is None):
            if default is None:
                raise Problem("INVALID_PARAMETER_VALUE", f"Missing value for required parameter '{name}'.")
            return default
        return text(value, name, limit)

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        value = self.fields.get(name)
        return default if value is None else integer(value, name, low, high)

    def items(self, name: str) -> list[Fields]:
        return items(self.fields, name)

    def texts(self, name: str) -> list[str]:
        """A list of texts; of a query, every value of the name."""
        if self.request.method == "GET":
            found: Any = self.request.GET.getlist(name)
        else:
            found = self.fields.get(name) or []
        if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
            raise invalid(name, found, "a list of texts is needed.")
        return [text(item, name, MAX_TEXT) for item in found]

    @property
    def run_id(self) -> str:
        return self.text("run_uuid") if "run_id" not in self.fields else self.text("run_id")


def body_of(request: HttpRequest) -> Fields:
    kind = request.content_type or ""
    if kind != "application/json":
        raise Problem(
            "INVALID_PARAMETER_VALUE", f"Content-Type {kind[:100]!r} is not taken here. Send application/json."
        )
    try:
        data = read_body(request, MAX_BODY)
    except Refused as refused:
        code = "REQUEST_LIMIT_EXCEEDED" if refused.status == 413 else "BAD_REQUEST"
        raise Problem(code, refused.detail) from None
    if not data.strip():
        return {}
    try:
        body = json.loads(data)
        if isinstance(body, str):  # old clients encode twice
            body = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Problem("BAD_REQUEST", f"The body is no JSON in UTF-8: {error}") from None
    if not isinstance(body, dict):
        raise Problem("BAD_REQUEST", "The body is no JSON object.")
    return body


def text(value: Any, field: str, limit: int = MAX_TEXT) -> str:
    if not isinstance(value, str):
        raise invalid(field, value, "a text is needed.")
    if len(value) > limit:
        raise invalid(field, value, f"at most {limit:,} characters; log a longer text as an artifact.")
    if value.translate(UNSTORABLE) != value:
        raise invalid(field, value, "it holds NUL, or half of a surrogate pair, which no text can have.")
    return value


def cut(value: Any, field: str, limit: int) -> str:
    """A text, cut where MLflow's own server would cut it or later."""
    return text(value[:limit] if isinstance(value, str) else value, field, limit)


def name_of(value: Any, field: str) -> str:
    """A name of a metric, parameter or tag, by MLflow's own rules."""
    if not isinstance(value, str) or not value:
        raise Problem("INVALID_PARAMETER_VALUE", f"Missing value for required parameter '{field}': a name is needed.")
    if len(value) > MAX_NAME:
        raise invalid(field, value, f"a name has at most {MAX_NAME} characters.")
    if not NAME.match(value):
        raise invalid(field, value, "names hold letters, digits, '_', '-', '.', ' ', ':' and '/'.")
    if value[0] == "/" or value[-1] == "/" or any(part in {"", ".", ".."} for part in value.split("/")):
        raise invalid(field, value, "a name may not look like another path ('.', '..', '//', '/' at an end).")
    if value.isspace():
        raise invalid(field, value, "a name does not only hold spaces.")
    return value


def integer(value: Any, field: str, low: int, high: int) -> int:
    # JSON of 64-bit integers may be a number or a text of digits.
    if type(value) is str and INTEGER.match(value):
        value = int(value)
    if type(value) is float and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    if type(value) is not int or not low <= value <= high:
        raise invalid(field, value, f"a whole number from {low} to {high} is needed.")
    return value


def items(fields: Fields, name: str) -> list[Fields]:
    found = fields.get(name)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise invalid(name, found, "a list of objects is needed.")
    return found


def pairs(listed: list[Fields], field: str, limit: int) -> dict[str, str]:
    """``[{"key", "value"}]`` as a dict; the last of a name counts."""
    found: dict[str, str] = {}
    for place, item in enumerate(listed):
        where = f"{field}[{place}]."
        key = text(item.get("key") or "", f"{where}key", MAX_NAME)
        if not key.strip():
            raise Problem("INVALID_PARAMETER_VALUE", f"Missing value for required parameter '{where}key'.")
        found[key] = cut(item.get("value", ""), f"{where}value", limit)
    return found


def number(value: Any, field: str, name: str) -> float:
    """The value of a point: a finite number, or a text that stands for what is none."""
    if type(value) is float or type(value) is int:
        try:
            found = float(value)
        except OverflowError:
            found = math.inf
        if math.isfinite(found):
            return found
    elif type(value) is str and value in SPECIAL:
        return SPECIAL[value]
    raise invalid(field, value, f"metric '{name}' needs a 64-bit floating point number, or NaN or Infinity as texts.")


def point(item: Fields, where: str, checked: set[str]) -> tuple[str, int, float, float]:
    """(name, step, unix time, value) of a metric. ``checked``: names known to be good. Raises Problem."""
    name, value, step, at = item.get("key"), item.get("value"), item.get("step"), item.get("timestamp")
    if type(name) is not str or name not in checked:
        checked.add(name := name_of(name, f"{where}key"))
    if type(value) is not float or value - value != 0:
        value = number(value, f"{where}value", name)
    if step is None:
        step = 0
    elif type(step) is not int or not STEP_LOW <= step <= STEP_HIGH:
        step = integer(step, f"{where}step", STEP_LOW, STEP_HIGH)
    if at is None:
        return name, step, time.time(), value
    if type(at) is not int or not 0 <= at < TIME_LIMIT * 1000:
        at = integer(at, f"{where}timestamp", 0, int(TIME_LIMIT * 1000) - 1)
    return name, step, at / 1000.0, value
