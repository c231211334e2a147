"""MLflow's filter and order_by language, read: ``metrics.acc > 0.9 AND params.`my lr` = '0.1' AND tags.t LIKE '%x%'``.

No database here. Clauses are joined by AND only, as in MLflow.
"""

import math
import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from runs.mlflow.problems import Problem

MAX_FILTER = 100_000
MAX_CLAUSES = 100
KINDS = {
    "metric": "metric", "metrics": "metric",
    "param": "param", "params": "param", "parameter": "param", "parameters": "param",
    "tag": "tag", "tags": "tag",
    "attribute": "attribute", "attributes": "attribute", "attr": "attribute", "run": "attribute",
    "dataset": "dataset", "datasets": "dataset",
}  # fmt: skip
MATCHED = ("=", "!=", "LIKE", "ILIKE")
LISTED = ("IN", "NOT IN")
KNOWN = ("IS NULL", "IS NOT NULL")
COMPARED: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
ALIASES = {
    "created": "start_time",
    "Created": "start_time",
    "run name": "run_name",
    "Run name": "run_name",
    "Run Name": "run_name",
}
TOKEN = re.compile(
    r"""\s*(?:
      (?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*"(?![\w.`]))
    | (?P<sign><=|>=|!=|<>|=|<|>)
    | (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w./]))
    | (?P<name>(?:[^\W\d][\w\-/:@]*|`[^`]*`)(?:\.(?:`[^`]*`|"[^"]*"|[\w.\-/:@]+))*)
    | (?P<mark>[(),])
    )""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Clause:
    """One comparison. ``kind``: metric, param, tag, attribute or dataset; ``value``: a number, a text, a tuple of texts, or None."""

    kind: str
    key: str
    sign: str
    value: Any = None


@dataclass(frozen=True)
class Attributes:
    """What a kind of object can be searched by."""

    texts: frozenset[str]
    numbers: frozenset[str] = frozenset()
    listed: frozenset[str] = frozenset()
    """Those of ``texts`` that IN may follow."""
    kinds: frozenset[str] = frozenset({"attribute", "tag"})

    @property
    def all(self) -> frozenset[str]:
        return self.texts | self.numbers


RUN_TEXTS = frozenset({"run_id", "run_name", "user_id", "status", "artifact_uri"})
RUNS = Attributes(
    RUN_TEXTS,
    frozenset({"start_time", "end_time"}),
    frozenset({"run_id", "status"}),
    frozenset({"metric", "param", "tag", "attribute", "dataset"}),
)
EXPERIMENTS = Attributes(
    frozenset({"name", "experiment_id"}),
    frozenset({"creation_time", "last_update_time"}),
    frozenset({"experiment_id", "name"}),
)
MODELS = Attributes(
    frozenset({"name"}), frozenset({"creation_timestamp", "last_updated_timestamp"}), frozenset({"name"})
)
VERSIONS = Attributes(
    frozenset({"name", "run_id", "source_path"}),
    frozenset({"version_number", "creation_timestamp", "last_updated_timestamp"}),
    frozenset({"name", "run_id"}),
)
LOGGED_TEXTS = frozenset({"name", "model_id", "model_type", "status", "source_run_id", "experiment_id"})
LOGGED = Attributes(
    LOGGED_TEXTS,
    frozenset({"creation_timestamp", "creation_time", "last_updated_timestamp"}),
    LOGGED_TEXTS,
    frozenset({"metric", "param", "tag", "attribute"}),
)


def wrong(message: str) -> Problem:
    return Problem("INVALID_PARAMETER_VALUE", message)


def parse(text: str, known: Attributes) -> list[Clause]:
    """The clauses of a filter. Raises Problem that names what cannot be read."""
    if len(text) > MAX_FILTER:
        raise wrong(f"The filter has {len(text):,} characters; the limit is {MAX_FILTER:,}.")
    tokens = _tokens(text)
    clauses: list[Clause] = []
    place = 0
    while place < len(tokens):
        clause, place = _clause(tokens, place, known, text)
        clauses.append(clause)
        if len(clauses) > MAX_CLAUSES:
            raise wrong(f"The filter has more than {MAX_CLAUSES} clauses.")
        if place < len(tokens):
            if tokens[place][1].upper() != "AND" or place + 1 == len(tokens):
                raise wrong(
                    f"Invalid clause(s) in filter string: {tokens[place][1][:100]!r}. Clauses are joined by AND only."
                )
            place += 1
    return clauses


def _tokens(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    place = 0
    text = text.rstrip()
    while place < len(text):
        match = TOKEN.match(text, place)
        if match is None:
            raise wrong(f"Invalid clause(s) in filter string: {text[place : place + 100].strip()!r} cannot be read.")
        found.append((str(match.lastgroup), match[str(match.lastgroup)]))
        place = match.end()
    return found


def _clause(tokens: list[tuple[str, str]], place: int, known: Attributes, text: str) -> tuple[Clause, int]:
    def take(what: str) -> tuple[str, str]:
        nonlocal place
        if place >= len(tokens):
            raise wrong(f"Invalid filter {text[:200]!r}: it ends where {what} should follow.")
        place += 1
        return tokens[place - 1]

    sort, name = take("a name")
    if sort not in {"name", "text"} or (sort == "text" and name[0] == "'"):
        raise wrong(f"Invalid comparison clause. Expected a name such as metrics.accuracy, found {name[:100]!r}.")
    kind, key = identifier(name, known)
    sort, sign = take("a comparison")
    sign = sign.upper()
    if sign == "IS":
        sign = f"IS {take('NULL')[1].upper()}"
        if sign == "IS NOT":
            sign += f" {take('NULL')[1].upper()}"
        if sign not in KNOWN or kind not in {"tag", "param"}:
            raise wrong(
                f"{sign} is only supported for tags and params as IS NULL and IS NOT NULL, not for '{kind}' '{key}'."
            )
        return Clause(kind, key, sign), place
    if sign == "NOT":
        sign += f" {take('IN')[1].upper()}"
    sign = "!=" if sign == "<>" else sign
    _check_sign(kind, key, sign, known)
    if sign in LISTED:
        values: list[str] = []
        if take("a list")[1] != "(":
            raise wrong(f"After {sign} a list of quoted texts is needed: ('a', 'b').")
        while True:
            values.append(_text(*take("a quoted text")))
            mark = take("')'")[1]
            if mark == ")":
                return Clause(kind, key, sign, tuple(values)), place
            if mark != ",":
                raise wrong(f"After {sign} a list of quoted texts is needed: ('a', 'b').")
    sort, value = take("a value")
    if kind == "metric" or (kind == "attribute" and key in known.numbers):
        if sort == "text" and kind == "attribute" and known is VERSIONS:
            sort, value = "number", _text(sort, value)
        return Clause(kind, key, sign, _number(sort, value, kind, key)), place
    return Clause(kind, key, sign, _text(sort, value)), place


def _check_sign(kind: str, key: str, sign: str, known: Attributes) -> None:
    if kind == "metric" or (kind == "attribute" and key in known.numbers):
        good = tuple(COMPARED)
    elif kind == "dataset" or (kind == "attribute" and key in known.listed):
        good = (*MATCHED, *LISTED)
    else:
        good = MATCHED
    if sign not in good:
        raise wrong(f"Invalid comparator '{sign[:40]}' for {kind} '{key[:100]}', not one of {', '.join(good)}.")


def identifier(name: str, known: Attributes) -> tuple[str, str]:
    """``metrics.`val loss` `` → ("metric", "val loss"); a name without a dot is an attribute. Raises Problem."""
    if name[0] == '"' or name[0] == "`":
        kind, key = "attribute", name[1:-1]
    else:
        word, dot, rest = name.partition(".")
        if not dot:
            kind, key = "attribute", word
        else:
            kind = KINDS.get(word, "")
            if kind not in known.kinds:
                raise wrong(f"Invalid entity type '{word[:100]}'. Valid values are {sorted(known.kinds)}.")
            key = rest[1:-1] if len(rest) > 1 and rest[0] == rest[-1] and rest[0] in "`\"'" else rest
    if kind == "attribute":
        key = ALIASES.get(key, key)
        if key not in known.all:
            raise wrong(f"Invalid attribute key '{key[:100]}' specified. Valid keys are {sorted(known.all)}.")
    if kind == "dataset" and key not in {"name", "digest", "context"}:
        raise wrong(f"Invalid dataset key '{key[:100]}' specified. Valid keys are ['context', 'digest', 'name'].")
    return kind, key


def _text(sort: str, value: str) -> str:
    if sort != "text":
        raise wrong(f"Expected a quoted string value, found {value[:100]!r}. Use single or double quotes.")
    return value[1:-1].replace(value[0] * 2, value[0])


def _number(sort: str, value: str, kind: str, key: str) -> float | int:
    try:
        found = int(value) if re.fullmatch(r"[+-]?\d+", value) else float(value)
        if sort == "number" and abs(found) < 2**63 if isinstance(found, int) else math.isfinite(found):
            return found
    except (ValueError, OverflowError):
        pass
    raise wrong(f"Expected numeric value type for {kind} '{key[:100]}'. Found {value[:100]!r}.")


def order(text: str, known: Attributes) -> tuple[str, str, bool]:
    """``metrics.`m` DESC`` → (kind, key, ascending). Raises Problem."""
    stripped = text.strip()
    match = re.fullmatch(r"(.+?)(?:\s+(asc|desc))?", stripped, re.IGNORECASE | re.DOTALL)
    if match is None:
        raise wrong(f"Invalid order_by clause {text[:200]!r}. Could not be parsed.")
    name, way = match[1].strip(), (match[2] or "asc").lower()
    if not (token := TOKEN.fullmatch(name)) or token.lastgroup not in {"name", "text"} or name[0] == "'":
        raise wrong(f"Invalid order_by clause {text[:200]!r}. Use a name, and ASC or DESC.")
    kind, key = identifier(name, known)
    if kind == "dataset":
        raise wrong(f"Invalid order_by clause {text[:200]!r}: runs are not ordered by data sets.")
    return kind, key, way == "asc"


def orders(texts: Iterable[str], known: Attributes) -> list[tuple[str, str, bool]]:
    found: list[tuple[str, str, bool]] = []
    for item in texts:
        one = order(item, known)
        if one[0] != "attribute" and "metric" not in known.kinds:
            raise wrong(f"Invalid order_by entity: '{one[0]}'. Use {sorted(known.all)}.")
        if one[:2] in [other[:2] for other in found]:
            raise wrong(f"`order_by` contains duplicate fields: {one[1][:100]!r}.")
        found.append(one)
    return found


@lru_cache(maxsize=256)
def like(pattern: str, *, ignore_case: bool) -> Callable[[str], bool]:
    """Whether a text fits a pattern of LIKE, for objects that are compared here and not in the database.

    The pieces between ``%`` are looked for one after the other, each at its first place: as one regular expression, a pattern with
    many of them would take time without end.
    """
    flags = re.DOTALL | (re.IGNORECASE if ignore_case else 0)
    sizes = [len(piece) for piece in pattern.split("%")]
    first, *others = [
        re.compile("".join("." if letter == "_" else re.escape(letter) for letter in piece), flags)
        for piece in pattern.split("%")
    ]

    def fits(text: str) -> bool:
        if not others:
            return first.fullmatch(text) is not None
        found = first.match(text)
        for piece in others[:-1]:
            found = found and piece.search(text, found.end())
        end = len(text) - sizes[-1]
        return found is not None and found.end() <= end and others[-1].fullmatch(text, end) is not None

    return fits


def holds(clause: Clause, value: Any) -> bool:
    """Whether an object's value fulfils a clause; None: it has no such value."""
    sign, wanted = clause.sign, clause.value
    if sign in KNOWN:
        return (value is None) == (sign == "IS NULL")
    if value is None:
        return False
    if sign in LISTED:
        return (value in wanted) == (sign == "IN")
    if sign in {"LIKE", "ILIKE"}:
        return like(wanted, ignore_case=sign == "ILIKE")(str(value))
    return bool(COMPARED[sign](value, wanted))
