"""Lines of ``records.jsonl`` and ``samples.jsonl``, read and checked. No database here.

The lines come from a script that may write anything. Whatever is no record is counted, never raised.
"""

import json
import math
import re
import time
from dataclasses import dataclass, field
from typing import Any

from studio.database import UNSTORABLE

MAX_NAME = 250
MAX_LINE = 4 * 1024 * 1024
"""Longer lines are no records: a chart or table of that size belongs into a file below outputs/."""
MAX_TAG = 8000
MAX_PARAMETER = 100_000
MAX_NOTE = 100_000
MAX_RUN_NAME = 255
MAX_PATH = 1024
MAX_PROPERTY = 10_000
"""Characters of a property's value as JSON."""
MAX_DEPTH = 32
STEP_LOW, STEP_HIGH = -(2**63), 2**63 - 1
TIME_LIMIT = 4e9
IDENTIFIER = re.compile(r"[a-z0-9]{1,16}")
SPECIAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


@dataclass(slots=True)
class Column:
    """New points of one series in the order of arrival. A step of None: to be numbered."""

    steps: list[int | None] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Value:
    name: str
    kind: str
    data: Any
    at: float


@dataclass(slots=True)
class Wish:
    """A model that a script asks for."""

    key: str
    name: str
    path: str
    tags: dict[str, str | None]
    properties: dict[str, Any]
    description: str
    at: float


@dataclass(slots=True)
class Begun:
    """A run that a script begins below itself, or below another such (``parent``, else empty)."""

    name: str
    parent: str
    at: float


@dataclass(slots=True)
class Ended:
    status: str
    error: dict[str, str]
    at: float


@dataclass(slots=True)
class Batch:
    """What a piece of a records file says, folded as far as it can be without knowing what came before."""

    points: dict[str, Column] = field(default_factory=dict)
    values: list[Value] = field(default_factory=list)
    parameters: dict[str, str] = field(default_factory=dict)
    tags: dict[str, tuple[str | None] | None] = field(default_factory=dict)
    """Name → (value,), or None for a tag that was taken away."""
    properties: list[tuple[str, Any]] = field(default_factory=list)
    name: str | None = None
    note: str | None = None
    wishes: list[Wish] = field(default_factory=list)
    children: dict[str, "Batch"] = field(default_factory=dict)
    """What is said of runs that the script has below its own, by the ids that it made."""
    above: "Batch | None" = None
    """What is said of the run's parent, which another program made."""
    begun: Begun | None = None
    ended: Ended | None = None
    """Of a child: whether it is begun here, and ended."""
    bad: int = 0
    first: tuple[int, str] | None = None
    """The first of what was refused: its line, from 1, and the rule; line 0 when it was refused later than by reading."""

    def refuse(self, rule: str, *, line: int = 0, count: int = 1) -> None:
        """Count what is not taken."""
        if count:
            self.bad += count
            self.first = self.first or (line, rule)


class Bad(ValueError):
    """This line is no record; its text is the rule."""


def read_records(data: bytes) -> Batch:
    batch = Batch()
    columns = batch.points
    now = time.time()
    loads = json.loads
    for place, line in enumerate(data.split(b"\n"), 1):
        if not line or line.isspace():
            continue
        try:
            if len(line) > MAX_LINE:
                raise Bad(f"It has over {MAX_LINE:,} bytes.")
            record = loads(line)
            if type(record) is not dict:
                raise Bad("It is no JSON object.")
            at = record.get("t")
            # A comparison with NaN is false, so it takes the studio's clock as well.
            if not ((type(at) is float or type(at) is int) and 0 <= at < TIME_LIMIT):
                at = now
            kind = record.get("op")
            if kind is None:
                name, value, step = record.get("k"), record.get("v"), record.get("s")
                if type(value) is not float:
                    value = number(value)
                if step is not None and (type(step) is not int or not STEP_LOW <= step <= STEP_HIGH):
                    step = whole(step)
                # A name that already has a column was checked before.
                column = columns.get(name) if type(name) is str else None
                if column is None:
                    column = columns.setdefault(named(name), Column())
                column.steps.append(step)
                column.times.append(at)
                column.values.append(value)
            elif kind == "batch":
                read_batch(batch, record, at)
            elif type(kind) is not str:
                raise Bad("op: It is no text.")
            else:
                read_other(batch, kind, record, at)
        except Bad as error:
            batch.refuse(str(error), line=place)
        except (ValueError, RecursionError):
            batch.refuse("It is no JSON object in UTF-8.", line=place)
    return batch


def read_batch(batch: Batch, record: dict[str, Any], at: float) -> None:
    """The good points of the line are kept; a bad one among them makes the line count as bad."""
    items, step = record.get("m"), record.get("s")
    if type(items) is not dict:
        raise Bad("m: It is no object of names and numbers.")
    if step is not None:
        step = whole(step)
    spoiled: Bad | None = None
    for name, value in items.items():
        try:
            found = number(value)
            column = batch.points.get(name) or batch.points.setdefault(named(name), Column())
        except Bad as error:
            spoiled = error
            continue
        column.steps.append(step)
        column.times.append(at)
        column.values.append(found)
    if spoiled is not None:
        raise spoiled


def read_other(batch: Batch, kind: str, record: dict[str, Any], at: float) -> None:
    name, value = record.get("k"), record.get("v")
    if kind == "param":
        batch.parameters[named(name)] = text(value, MAX_PARAMETER)
    elif kind == "tag":
        batch.tags[named(name)] = (None if value is None else text(value, MAX_TAG),)
    elif kind == "untag":
        batch.tags[named(name)] = None
    elif kind == "property":
        value = clean(value)
        if len(json.dumps(value)) > MAX_PROPERTY:
            raise Bad(f"v: A property has up to {MAX_PROPERTY:,} characters.")
        batch.properties.append((named(name), value))
    elif kind == "name":
        shown = " ".join(text(value, MAX_RUN_NAME).split())
        if not shown:
            raise Bad("v: A name is not empty.")
        batch.name = shown
    elif kind == "note":
        batch.note = text(value, MAX_NOTE)
    elif kind == "artifact":
        path_of(record.get("path"))  # collected with the outputs at the end
    elif kind == "model":
        batch.wishes.append(wish(record, at))
    elif kind == "child":
        key, above = identifier("c", record.get("c")), record.get("p")
        parent = "" if above is None else identifier("p", above)
        begun = Begun("" if name is None else text(name, MAX_RUN_NAME), parent, at)
        child = batch.children.setdefault(key, Batch())
        child.begun = child.begun or begun
    elif kind == "of":
        read_of_child(batch, record, at)
    elif kind == "parent":
        read_of_parent(batch, record, at)
    elif kind == "image":
        batch.values.append(Value(named(name), "image", {"path": path_of(record.get("path"))}, at))
    elif kind in SHAPES:
        if not SHAPES[kind](value):
            raise Bad(f"v: It has not the shape of a {kind}.")
        batch.values.append(Value(named(name), kind, clean(value), at))
    else:
        raise Bad(f"op: {kind[:40]!r} is not known.")


def inner_of(record: dict[str, Any], at: float) -> tuple[dict[str, Any], float]:
    """The record of another run that a line carries, and its time."""
    inner = record.get("r")
    if type(inner) is not dict:
        raise Bad("r: It is no record.")
    moment = inner.get("t")
    if (type(moment) is float or type(moment) is int) and 0 <= moment < TIME_LIMIT:
        at = moment
    return inner, at


def read_inner(batch: Batch, inner: dict[str, Any], at: float) -> None:
    if inner.get("op") is None:
        read_batch(batch, {"m": {named(inner.get("k")): inner.get("v")}, "s": inner.get("s")}, at)
    elif inner["op"] == "batch":
        read_batch(batch, inner, at)
    else:
        read_other(batch, inner["op"], inner, at)


def read_of_parent(batch: Batch, record: dict[str, Any], at: float) -> None:
    """``r`` is a record of the run's parent: a metric or a tag, nothing that has files or would change what that run is."""
    inner, at = inner_of(record, at)
    kind = inner.get("op")
    if type(kind) not in {str, type(None)} or kind not in {None, "batch", "tag", "untag", *SHAPES}:
        raise Bad("r: Of its parent a run tells metrics and tags.")
    batch.above = batch.above or Batch()
    read_inner(batch.above, inner, at)


def read_of_child(batch: Batch, record: dict[str, Any], at: float) -> None:
    """``r`` is a record of the child ``c``. Wrapped, so that runs without children pay nothing for them."""
    child = batch.children.setdefault(identifier("c", record.get("c")), Batch())
    inner, at = inner_of(record, at)
    kind = inner.get("op")
    if kind == "end":
        if inner.get("v") not in {"Completed", "Failed", "Canceled"}:
            raise Bad("v: An end is Completed, Failed or Canceled.")
        said = inner.get("error")
        error = said if type(said) is dict else {}
        kept = {name: text(error[name], MAX_NOTE) for name in ("type", "message", "detail") if error.get(name)}
        child.ended = child.ended or Ended(inner["v"], kept, at)
    elif type(kind) not in {str, type(None)} or kind in {"child", "of", "parent"}:
        raise Bad("r: It is no record that a child may have.")
    else:
        read_inner(child, inner, at)


def wish(record: dict[str, Any], at: float) -> Wish:
    facts = record.get("v")
    if type(facts) is not dict:
        facts = {}
    tags, properties, description = facts.get("tags", {}), facts.get("properties", {}), facts.get("description", "")
    if type(tags) is not dict or type(properties) is not dict or type(description) is not str:
        raise Bad("v: It holds tags and properties, which are objects, and a description, which is a text.")
    return Wish(
        identifier("id", record.get("id")),
        named(record.get("k")),
        path_of(record.get("path")),
        {named(name): None if value is None else text(value, MAX_TAG) for name, value in tags.items()},
        {named(name): clean(value) for name, value in properties.items()},
        text(description, MAX_NOTE),
        at,
    )


def identifier(field: str, value: Any) -> str:
    if type(value) is not str or not IDENTIFIER.fullmatch(value):
        raise Bad(f"{field}: An id has 1 to 16 lower-case letters and digits.")
    return value


def is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, (str, bool, int, float))


def is_list(value: Any) -> bool:
    return isinstance(value, list) and all(map(is_scalar, value))


def is_row(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(map(is_scalar, value.values()))


def is_table(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and bool(value)
        and all(is_list(column) for column in value.values())
        and len({len(column) for column in value.values()}) == 1
    )


def is_schema(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("schema_type"), str) and "data" in value


SHAPES = {"value": is_scalar, "list": is_list, "row": is_row, "table": is_table, "schema": is_schema}


def number(value: Any) -> float:
    if type(value) is float:
        return value
    if type(value) is int:
        try:
            return float(value)
        except OverflowError:
            raise Bad("v: The number is too large.") from None
    found = SPECIAL.get(value) if type(value) is str else None
    if found is None:
        raise Bad("v: It is no number.")
    return found


def whole(step: Any) -> int:
    if type(step) is float and step.is_integer():
        step = int(step)
    if type(step) is not int or not STEP_LOW <= step <= STEP_HIGH:
        raise Bad("s: It is no whole number of 64 bits.")
    return step


def named(name: Any) -> str:
    if type(name) is not str or not 0 < len(name) <= MAX_NAME or name.isspace():
        raise Bad(f"k: A name has 1 to {MAX_NAME} characters, not only spaces.")
    if name.translate(UNSTORABLE) != name:
        raise Bad("k: The name holds a character that no text can have.")
    return name


def text(value: Any, limit: int) -> str:
    """Text that a database takes. Numbers and truth values become the text that JSON has for them; longer text is cut."""
    if type(value) is not str:
        if not is_scalar(value) or value is None:
            raise Bad("v: It is no text.")
        value = json.dumps(value)
    return str(value)[:limit].translate(UNSTORABLE)


def path_of(value: Any) -> str:
    if type(value) is not str or not 0 < len(value) <= MAX_PATH or value.translate(UNSTORABLE) != value:
        raise Bad(f"path: It is no path of up to {MAX_PATH:,} characters.")
    if value.startswith("/") or "\\" in value or any(part in {"", ".", ".."} for part in value.split("/")):
        raise Bad("path: It is absolute, or holds '..', '.', an empty part or a backslash.")
    return value


def clean(value: Any, depth: int = MAX_DEPTH) -> Any:
    """A JSON value without what a database's JSON refuses: NaN and infinities become their names."""
    if not depth:
        raise Bad(f"v: It is nested more than {MAX_DEPTH} deep.")
    if isinstance(value, str):
        return value.translate(UNSTORABLE)
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, list):
        return [clean(item, depth - 1) for item in value]
    if isinstance(value, dict):
        return {key.translate(UNSTORABLE): clean(item, depth - 1) for key, item in value.items()}
    return value


def read_samples(data: bytes) -> Batch:
    """Resource samples as series ``system/…``: CPU in percent of one core, memory in bytes, GPU use in percent."""
    batch = Batch()
    for line in data.split(b"\n"):
        if not line or line.isspace():
            continue
        try:
            sample = json.loads(line)
            if type(sample) is not dict:
                raise Bad("It is no JSON object.")
            at = number(sample.get("t"))
            if not 0 <= at < TIME_LIMIT:
                raise Bad("t: It is no time.")
            _sample(batch, "system/cpu", sample.get("cpu"), at)
            _sample(batch, "system/memory", sample.get("rss"), at)
            _sample(batch, "system/read", sample.get("read"), at)
            _sample(batch, "system/write", sample.get("write"), at)
            gpus = sample.get("gpus")
            for gpu in gpus if type(gpus) is list else []:
                if type(gpu) is not dict or type(gpu.get("i")) is not int or not 0 <= gpu["i"] < 1024:
                    raise Bad("gpus: An entry has no index.")
                _sample(batch, f"system/gpu/{gpu['i']}", gpu.get("util"), at)
                _sample(batch, f"system/gpu-memory/{gpu['i']}", gpu.get("mem"), at)
        except (ValueError, RecursionError):
            batch.bad += 1
    return batch


def _sample(batch: Batch, name: str, value: Any, at: float) -> None:
    if value is None:
        return
    found = number(value)
    column = batch.points.setdefault(name, Column())
    column.steps.append(None)
    column.times.append(at)
    column.values.append(found)
