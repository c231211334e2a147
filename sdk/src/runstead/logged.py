"""What a run can be told: metrics, tags, properties. Each call becomes a record, one line of JSON (docs/run-directory.md)."""

from __future__ import annotations

import time
from collections.abc import Mapping

from .errors import UserError
from .needed import mapping
from .scalars import name_text, scalar, step_number, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterable, Iterator, List, Optional, Tuple

_MAX_PREFIXES = 10000
_now = time.time


class Logged:
    """`log` and its relatives. What is done with a record is for the subclass: `_line` takes it as text, `_put` as fields."""

    _prefixes: Dict[str, str]

    # Metrics

    def log(self, name: str, value: Any, description: str = "", step: Optional[int] = None) -> None:
        """Log one value. Numbers of one name make a series; `step` defaults to their order.

        `value`: a number, text, bool or None, also numpy's and torch's scalars. A list or array raises
        UserError.
        `description` is accepted for compatibility and not kept.
        """
        # The hot path: a plain float without a step is one lookup, two conversions and one write.
        prefix = self._prefixes.get(name) if type(name) is str else None
        if prefix is None:
            prefix = self._prefix(name)
        if type(value) is not float:
            value = scalar(value, name)
            if value is None or isinstance(value, (bool, str)):
                self._line('{"op":"value",%s%s,"t":%.6f}\n' % (prefix[1:], text(value, name), _now()))
                return
        shown = repr(value)
        if value - value != 0:
            shown = text(value, name)
        if step is None:
            self._line('%s%s,"t":%.6f}\n' % (prefix, shown, _now()))
        else:
            self._line('%s%s,"s":%d,"t":%.6f}\n' % (prefix, shown, step_number(step), _now()))

    def _prefix(self, name: Any) -> str:
        prefix = '{"k":%s,"v":' % name_text(name)
        if len(self._prefixes) >= _MAX_PREFIXES:
            self._prefixes.clear()
        self._prefixes[name] = prefix
        return prefix

    def _line(self, line: str) -> None:
        raise NotImplementedError

    def _put(self, **record: Any) -> None:
        raise NotImplementedError

    def _keep_image(self, name: str, path: Optional[str], plot: Any) -> str:
        """Keep an image as an artifact; its path."""
        raise NotImplementedError

    def log_list(self, name: str, value: Iterable[Any], description: str = "") -> None:
        """Log a list of values at once. `value`: any iterable, also a generator or an array."""
        if isinstance(value, (str, bytes, Mapping)):
            raise UserError("%s: a list of values is needed, got %s." % (name, type(value).__name__))
        try:
            items = list(value)
        except TypeError:
            raise UserError("%s: a list of values is needed, got %s." % (name, type(value).__name__)) from None
        shown = ",".join([text(scalar(item, "%s[%d]" % (name, place)), name) for place, item in enumerate(items)])
        self._line('{"op":"list","k":%s,"v":[%s],"t":%.6f}\n' % (name_text(name), shown, _now()))

    def log_row(self, name: str, description: Optional[str] = None, **columns: Any) -> None:
        """Log one row of a table: `log_row("epochs", loss=0.3, seconds=12)`. Repeated calls make the table."""
        if not columns:
            raise UserError("%s: a row needs columns, for example log_row(%r, x=1, y=2)." % (name, name))
        self._line('{"op":"row","k":%s,"v":%s,"t":%.6f}\n' % (name_text(name), _columns(name, columns), _now()))

    def log_table(self, name: str, value: Mapping[str, Any], description: str = "") -> None:
        """Log a whole table: column name → values.

        All columns have the same length; a single value is a column of one.
        """
        if not isinstance(value, Mapping) or not value:
            raise UserError("%s: a table is a dict of columns, for example {'x': [1, 2], 'y': [3, 4]}." % name)
        shown: List[str] = []
        lengths: Dict[str, int] = {}
        for column, cells in value.items():
            single = isinstance(cells, (str, bytes)) or not hasattr(cells, "__iter__") or getattr(cells, "ndim", 1) == 0
            items = [cells] if single else list(cells)
            lengths[str(column)] = len(items)
            what = "%s.%s" % (name, column)
            shown.append("%s:[%s]" % (name_text(column), ",".join([text(scalar(item, what), what) for item in items])))
        if len(set(lengths.values())) > 1:
            told = ", ".join("%s has %d" % pair for pair in lengths.items())
            raise UserError("%s: the columns of a table must have equal lengths: %s." % (name, told))
        self._line('{"op":"table","k":%s,"v":{%s},"t":%.6f}\n' % (name_text(name), ",".join(shown), _now()))

    def log_image(self, name: str, path: Optional[str] = None, plot: Any = None, description: str = "") -> None:
        """Log an image: the file at `path`, or a matplotlib figure (or pyplot) as `plot`.

        Exactly one of them.
        """
        if (path is None) == (plot is None):
            raise UserError("%s: give exactly one of path and plot." % name)
        name_text(name)
        self._put(op="image", k=name, path=self._keep_image(name, path, plot), t=_now())

    def log_confusion_matrix(self, name: str, value: Any, description: str = "") -> None:
        """Log a confusion matrix: dict or JSON of `schema_type`, `schema_version`, `data`."""
        self._schema(name, value, "confusion_matrix")

    def log_accuracy_table(self, name: str, value: Any, description: str = "") -> None:
        """Log an accuracy table: dict or JSON of `schema_type`, `schema_version`, `data`."""
        self._schema(name, value, "accuracy_table")

    def log_residuals(self, name: str, value: Any, description: str = "") -> None:
        """Log residuals: dict or JSON of `schema_type`, `schema_version`, `data`."""
        self._schema(name, value, "residuals")

    def log_predictions(self, name: str, value: Any, description: str = "") -> None:
        """Log predictions: dict or JSON of `schema_type`, `schema_version`, `data`."""
        self._schema(name, value, "predictions")

    def _schema(self, name: str, value: Any, kind: str) -> None:
        from .schemas import check

        name_text(name)
        self._put(op="schema", k=name, v=check(name, value, kind), t=_now())

    # Tags and properties

    def tag(self, key: str, value: Optional[str] = None) -> None:
        """Set a tag; a bare tag has the value None."""
        self.set_tags({key: value})

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Add tags, or give them other values."""
        self._set_tags({key: None if value is None else text for key, value, text in checked("tags", tags, 5000)})

    def get_tags(self) -> Dict[str, Optional[str]]:
        """The run's tags, as far as they are known here."""
        raise NotImplementedError

    @property
    def tags(self) -> Dict[str, Optional[str]]:
        return self.get_tags()

    def remove_tags(self, tags: Iterable[str]) -> Dict[str, Optional[str]]:
        """Remove tags by name; returns those that are left."""
        names = [tags] if isinstance(tags, str) else list(tags)
        for key in names:
            name_text(key)
        self._remove_tags(names)
        return self.get_tags()

    def add_properties(self, properties: Mapping[str, Any]) -> None:
        """Add properties, which cannot be changed afterwards: another value for one raises UserError."""
        new = {key: text for key, _, text in checked("properties", properties, 65536)}
        known = self.get_properties()
        for key, value in new.items():
            if known.get(key, value) != value:
                raise UserError("properties: %s is %r already and cannot be changed. Use a tag." % (key, known[key]))
        fresh = {key: value for key, value in new.items() if key not in known}
        if fresh:
            self._add_properties(fresh)

    def get_properties(self) -> Dict[str, str]:
        """The run's properties, as far as they are known here."""
        raise NotImplementedError

    @property
    def properties(self) -> Dict[str, str]:
        return self.get_properties()

    def _set_tags(self, tags: Dict[str, Optional[str]]) -> None:
        for key, value in tags.items():
            self._put(op="tag", k=key, v=value)

    def _remove_tags(self, names: List[str]) -> None:
        for key in names:
            self._put(op="untag", k=key)

    def _add_properties(self, properties: Dict[str, str]) -> None:
        for key, value in properties.items():
            self._put(op="property", k=key, v=value)


def _columns(name: str, columns: Mapping[str, Any]) -> str:
    pairs = [
        "%s:%s" % (name_text(key), text(scalar(value, "%s.%s" % (name, key)), key)) for key, value in columns.items()
    ]
    return "{%s}" % ",".join(pairs)


def checked(field: str, values: Mapping[str, Any], most: int) -> Iterator[Tuple[str, Any, str]]:
    """Each name with its value, and that as text. Raises UserError for what has no such form."""
    return iter([(key, value, _named(key, value, most)) for key, value in mapping(field, values).items()])


def _named(key: Any, value: Any, most: int) -> str:
    name_text(key)
    return short_text(key, value, most)


def short_text(key: Any, value: Any, most: int) -> str:
    shown = value if isinstance(value, str) else str(value)
    if len(shown) > most:
        raise UserError("%s: at most %d characters are kept, this has %d." % (key, most, len(shown)))
    return shown.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
