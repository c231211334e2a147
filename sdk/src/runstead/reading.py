"""What a run has written so far, read back from its file."""

from __future__ import annotations

from . import records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional

SPECIAL = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


def _value(value: Any) -> Any:
    return SPECIAL.get(value, value) if isinstance(value, str) else value


class Folded:
    """Records of one run, folded."""

    def __init__(self) -> None:
        self.name = ""
        self.note = ""
        self.tags: Dict[str, Optional[str]] = {}
        self.properties: Dict[str, str] = {}
        self._values: Dict[str, List[Any]] = {}
        self._tables: Dict[str, Dict[str, List[Any]]] = {}

    def fold(self, record: Dict[str, Any]) -> None:
        kind, key, value = record.get("op"), record.get("k"), record.get("v")
        if kind is None:
            self._values.setdefault(key, []).append(_value(value))  # type: ignore[arg-type]
        elif kind == "batch":
            for name, point in record["m"].items():
                self._values.setdefault(name, []).append(_value(point))
        elif kind in ("value", "schema"):
            self._values.setdefault(key, []).append(value)  # type: ignore[arg-type]
        elif kind == "list":
            self._values.setdefault(key, []).extend(_value(item) for item in value)  # type: ignore[arg-type, union-attr]
        elif kind in ("row", "table"):
            table = self._tables.setdefault(key, {})  # type: ignore[arg-type]
            for column, cells in value.items():  # type: ignore[union-attr]
                table.setdefault(column, []).extend(_value(cell) for cell in (cells if kind == "table" else [cells]))
        elif kind == "image":
            self._values.setdefault(key, []).append(record["path"])  # type: ignore[arg-type]
        elif kind == "tag":
            self.tags[key] = value  # type: ignore[index]
        elif kind == "untag":
            self.tags.pop(key, None)  # type: ignore[arg-type]
        elif kind == "property":
            self.properties.setdefault(key, value)  # type: ignore[arg-type]
        elif kind == "name":
            self.name = value or ""
        elif kind == "note":
            self.note = value or ""

    def take(self, record: Dict[str, Any]) -> None:
        """Fold what a file holds, in which others may have written too."""
        try:
            self.fold(record)
        except (KeyError, TypeError, AttributeError):
            pass  # written by something else, and no record

    def metrics(self) -> Dict[str, Any]:
        """Name → value; several values as a list, a table as a dict of columns (of single values while it has
        one row).
        """
        found: Dict[str, Any] = {
            name: values[0] if len(values) == 1 else values for name, values in self._values.items()
        }
        for name, table in self._tables.items():
            single = all(len(cells) == 1 for cells in table.values())
            found[name] = {column: cells[0] if single else cells for column, cells in table.items()}
        return found


class State(Folded):
    """What is in a run's folder, and what `facts` say that it began with."""

    def __init__(self, run_dir: str, facts: Dict[str, Any]) -> None:
        super().__init__()
        for part in ("tags", "properties"):
            given = facts.get(part)
            getattr(self, part).update(given if isinstance(given, dict) else {})
        self.name, self.note = str(facts.get("name") or ""), str(facts.get("notes") or "")
        for record in records.read(run_dir):
            self.take(record)


class ChildState(Folded):
    """What a run's folder says of one of its children."""

    def __init__(self) -> None:
        super().__init__()
        self.above: Optional[str] = None
        """The id of the child that it is below, empty for the script's run; None while it has not begun."""
        self.began: Optional[float] = None
        self.ended = ""
        self.error: Dict[str, str] = {}

    def take(self, record: Dict[str, Any]) -> None:
        inner = record.get("r")
        if record.get("op") == "child" and self.above is None:
            self.name, self.began = str(record.get("k") or ""), record.get("t")
            self.above = str(record.get("p") or "")
        elif record.get("op") == "of" and isinstance(inner, dict):
            if inner.get("op") != "end":
                super().take(inner)
            elif not self.ended:
                self.ended, self.error = str(inner.get("v")), dict(inner.get("error") or {})


def children(run_dir: str, only: str = "") -> Dict[str, ChildState]:
    """Id → state of every child, of all depths, or of one, in the order in which they began: the file is read once for all."""
    found: Dict[str, ChildState] = {}
    for record in records.read(run_dir, only):
        key = record.get("c")
        if isinstance(key, str) and only in ("", key):
            found.setdefault(key, ChildState()).take(record)
    return found
