"""The run that a script is in: `Run.get_context()`, then `log` and its relatives.

Whatever is logged is a line in a file of the run's folder: nothing waits for a network, nothing is lost when
the process dies.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from .errors import RunsteadError, UserError
from .records import Writer
from .scalars import name_text, scalar, step_number, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any, Dict, Iterable, List, Optional, Union

_MAX_PREFIXES = 10000
_now = time.time


class ExperimentName:
    """The experiment that the run belongs to, as far as the run knows it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return "Experiment(%r)" % self.name


class Run:
    """A run. `Run.get_context()` gives the one that this process belongs to."""

    _current: "Optional[Run]" = None

    def __init__(self, run_dir: str) -> None:
        self._writer = Writer(run_dir)
        self._prefixes: Dict[str, str] = {}

    @staticmethod
    def get_context(allow_offline: bool = True) -> "Run":
        """The run this process belongs to.

        Outside a run: one that prints, or with `allow_offline=False` RunsteadError.
        """
        run_dir = os.environ.get("RUNSTEAD_RUN_DIR", "")
        current = Run._current
        if current is not None and current._home == run_dir and (run_dir or allow_offline):
            return current
        if run_dir and os.path.isdir(run_dir):
            current = Run(run_dir)
        elif run_dir:
            raise RunsteadError(
                "RUNSTEAD_RUN_DIR names %s, which is no folder: this process cannot reach its run." % run_dir
            )
        elif allow_offline:
            from .offline import OfflineRun

            current = OfflineRun()
        else:
            raise RunsteadError(
                "This process does not belong to a run. Submit it (runstead run FOLDER -- train.py), or allow_offline=True."
            )
        current._home = run_dir
        Run._current = current
        return current

    _home = ""

    # Who the run is

    @property
    def id(self) -> str:
        """The run's id, such as `digits_1795470000_1a2b3c4d`."""
        return os.environ.get("RUNSTEAD_RUN_ID") or os.environ.get("AZUREML_RUN_ID", "")

    @property
    def number(self) -> Optional[int]:
        """The run's number in its workspace."""
        value = os.environ.get("RUNSTEAD_RUN_NUMBER", "")
        return int(value) if value.isdigit() else None

    @property
    def experiment(self) -> Any:
        """The run's experiment; it has a `name`."""
        return ExperimentName(os.environ.get("RUNSTEAD_EXPERIMENT") or os.environ.get("AZUREML_ARM_PROJECT_NAME", ""))

    @property
    def name(self) -> str:
        """The name given by the script, or the run's id."""
        return self._state().name or self.id

    @property
    def display_name(self) -> str:
        """The name that the studio shows."""
        return self.name

    @display_name.setter
    def display_name(self, value: str) -> None:
        if not isinstance(value, str) or not 1 <= len(value) <= 255:
            raise UserError("display_name: a text of 1 to 255 characters is needed.")
        self._put(op="name", v=value)

    @property
    def description(self) -> str:
        """The notes given by the script."""
        return self._state().note

    @description.setter
    def description(self, value: str) -> None:
        if not isinstance(value, str):
            raise UserError("description: a text is needed, got %s." % type(value).__name__)
        self._put(op="note", v=value)

    def get_status(self) -> str:
        """`Running`: a script that can ask is running."""
        return "Running"

    status = property(get_status)

    def __repr__(self) -> str:
        return "%s(id=%r)" % (type(self).__name__, self.id)

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
        self._writer.write(line)

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
        from .images import save

        name_text(name)
        self._put(op="image", k=name, path=save(self._writer.run_dir, name, path, plot), t=_now())

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

    def get_metrics(self, name: Optional[str] = None, recursive: bool = False) -> Dict[str, Any]:
        """What this run has logged so far: one value is given bare, several as a list, a table as a dict of
        columns.
        """
        metrics = self._state().metrics()
        if name is not None:
            metrics = {name: metrics[name]} if name in metrics else {}
        return {self.id: metrics} if recursive else metrics

    # Tags and properties

    def tag(self, key: str, value: Optional[str] = None) -> None:
        """Set a tag; a bare tag has the value None."""
        self.set_tags({key: value})

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Add tags, or give them other values."""
        if not isinstance(tags, Mapping):
            raise UserError("tags: a dict of names and texts is needed, got %s." % type(tags).__name__)
        for key, value in tags.items():
            name_text(key)
            self._put(op="tag", k=key, v=None if value is None else _short(key, value, 5000))

    def get_tags(self) -> Dict[str, Optional[str]]:
        """The tags that this run's script has set. Those given at submission are in the studio."""
        return self._state().tags

    tags = property(get_tags)

    def remove_tags(self, tags: Iterable[str]) -> Dict[str, Optional[str]]:
        """Remove tags by name; returns those that are left."""
        for key in [tags] if isinstance(tags, str) else tags:
            name_text(key)
            self._put(op="untag", k=key)
        return self.get_tags()

    def add_properties(self, properties: Mapping[str, Any]) -> None:
        """Add properties, which cannot be changed afterwards: another value for one raises UserError."""
        if not isinstance(properties, Mapping):
            raise UserError("properties: a dict of names and texts is needed, got %s." % type(properties).__name__)
        known = self.get_properties()
        new = {key: _short(key, value, 65536) for key, value in properties.items()}
        for key, value in new.items():
            name_text(key)
            if known.get(key, value) != value:
                raise UserError("properties: %s is %r already and cannot be changed. Use a tag." % (key, known[key]))
        for key, value in new.items():
            if key not in known:
                self._put(op="property", k=key, v=value)

    def get_properties(self) -> Dict[str, str]:
        """The properties that this run's script has added."""
        return self._state().properties

    properties = property(get_properties)

    # Files

    def upload_file(self, name: str, path_or_stream: "Union[str, os.PathLike[str], IO[bytes]]") -> None:
        """Keep a file, or what a stream gives, as the artifact `name` (with `/`)."""
        from . import files

        target, announced = files.place(self._writer.run_dir, files.plain_name(name))
        files.store(path_or_stream, target)
        if announced:
            self._put(op="artifact", path=files.plain_name(name))

    def upload_files(self, names: List[str], paths: List[str]) -> None:
        """Keep several files: `names[i]` gets the file at `paths[i]`."""
        if len(names) != len(paths):
            raise UserError("names and paths: equally many are needed, got %d and %d." % (len(names), len(paths)))
        for name, path in zip(names, paths):
            self.upload_file(name, path)

    def upload_folder(self, name: str, path: "Union[str, os.PathLike[str]]") -> None:
        """Keep every file below the folder `path` as artifacts below `name`.

        Links to folders are not followed.
        """
        base = os.fspath(path)
        if not os.path.isdir(base):
            raise UserError("path: there is no folder %r. The working directory is %s." % (base, os.getcwd()))
        for folder, _, names in os.walk(base):
            for file in sorted(names):
                full = os.path.join(folder, file)
                self.upload_file("%s/%s" % (name.rstrip("/"), os.path.relpath(full, base).replace(os.sep, "/")), full)

    def get_file_names(self) -> List[str]:
        """Names of the artifacts that this run has kept by name so far."""
        return self._state().files()

    # Life

    def start(self) -> None:
        """Nothing to do: the run has started when its script can ask."""

    def flush(self, timeout_seconds: float = 300) -> None:
        """Nothing is buffered: every value is in the run's file when its call returns."""

    def complete(self, _set_status: bool = True) -> None:
        """Inside a submitted script the exit code decides how the run ended; this only makes sure that all is
        written.
        """
        self.flush()

    def fail(self, error_details: Any = None, error_code: Optional[str] = None, _set_status: bool = True) -> None:
        """Note what went wrong. How the run ends is for the script's exit code to say."""
        if error_details is not None or error_code is not None:
            details = "%s%s" % (
                "%s: " % error_code if error_code else "",
                "" if error_details is None else error_details,
            )
            self.set_tags({"error": details[:5000]})
        self.flush()

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if error is None:
            self.complete()
        else:
            self.fail(error_details=error, error_code=kind.__name__)

    # Below

    def _put(self, **record: Any) -> None:
        self._writer.put(**record)

    def _state(self) -> Any:
        from .reading import State

        return State(self._writer.run_dir)


def _columns(name: str, columns: Mapping[str, Any]) -> str:
    pairs = [
        "%s:%s" % (name_text(key), text(scalar(value, "%s.%s" % (name, key)), key)) for key, value in columns.items()
    ]
    return "{%s}" % ",".join(pairs)


def _short(key: Any, value: Any, most: int) -> str:
    shown = value if isinstance(value, str) else str(value)
    if len(shown) > most:
        raise UserError("%s: at most %d characters are kept, this has %d." % (key, most, len(shown)))
    return shown.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
