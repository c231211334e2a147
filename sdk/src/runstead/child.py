"""Runs below the run of a script, made by the script itself: the folds of a validation, the parts of a larger job.

All that is said of them are records of the script's run that name them, so that they need no network. Their ids are the script's with an
id of their own behind it: the studio gives them the same.
"""

from __future__ import annotations

import json
import os
import time
import uuid

from . import files, reading
from .errors import UserError
from .reading import ChildState
from .run import ScriptRun

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

MOST = 500
"""Children of one script, in all depths."""


class ChildRun(ScriptRun):
    """A part of the script's run with a status, metrics and files of its own."""

    type = "interactive"

    def __init__(self, above: ScriptRun, key: str, outputs: Optional[str] = None) -> None:
        self._above = above
        self._root: ScriptRun = above._root if isinstance(above, ChildRun) else above
        self._writer = above._writer
        self._prefixes = {}
        self._key = key
        self._opening = '{"op":"of","c":"%s","r":' % key
        self._outputs = outputs

    @property
    def id(self) -> str:
        """The script's run's id, and the child's own."""
        return "%s_%s" % (self._root.id, self._key)

    @property
    def number(self) -> Optional[int]:
        """None: the studio counts it when it hears of it."""
        return None

    @property
    def experiment(self) -> Any:
        return self._root.experiment

    @property
    def parent(self) -> ScriptRun:
        """The run that this one is below."""
        return self._above

    def get_status(self) -> str:
        """`Running` until it has ended: then Completed, Failed or Canceled."""
        return self._state().ended or "Running"

    status = property(get_status)  # type: ignore[assignment]

    # Files

    def upload_file(self, name: str, path_or_stream: Any, datastore_name: Optional[str] = None) -> None:
        """Keep a file, or what a stream gives, as the artifact `name` (with `/`) of this child."""
        name = files.plain_name(name)
        files.store(path_or_stream, files.place(self._writer.run_dir, name, self._key)[0])
        self._put(op="artifact", path=name)

    def _keep_image(self, name: str, path: Optional[str], plot: Any) -> str:
        from .images import save

        return save(self._writer.run_dir, name, path, plot, self._key)

    # Life

    def complete(self, _set_status: bool = True) -> None:
        """The child's work is done."""
        if _set_status:
            self._finish("Completed")

    def fail(self, error_details: Any = None, error_code: Optional[str] = None, _set_status: bool = True) -> None:
        """The child's work has failed: why. `error_details`: a text or an exception."""
        from .submitted import error

        if _set_status:
            self._finish("Failed", error(error_details, error_code))

    def cancel(self) -> None:
        """End it as Canceled."""
        self._finish("Canceled")

    def _finish(self, status: str, error: Optional[Dict[str, str]] = None) -> None:
        if self._outputs is not None and os.path.isdir(self._outputs):
            self.upload_folder("outputs", self._outputs)
        record: Dict[str, Any] = {"op": "end", "v": status, "t": time.time()}
        if error:
            record["error"] = {key: value[:20_000] for key, value in error.items()}
        self._put(**record)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if error is not None and issubclass(kind, KeyboardInterrupt):
            self.cancel()
        else:
            super().__exit__(kind, error, trace)

    # Below

    def _line(self, line: str) -> None:
        self._root._line("%s%s}\n" % (self._opening, line[:-1]))

    def _put(self, **record: Any) -> None:
        self._line(json.dumps(record, separators=(",", ":"), allow_nan=False) + "\n")

    def _state(self) -> ChildState:
        return reading.children(self._writer.run_dir, self._key).get(self._key) or ChildState()

    def _began(self) -> Optional[float]:
        return self._state().began

    def _error(self) -> Dict[str, str]:
        return self._state().error


def begin(above: Any, name: str, outputs: Optional[str], tags: Mapping[str, Any]) -> ChildRun:
    """Begin a child. Raises UserError when there are too many, or the name is none."""
    root = above._root if isinstance(above, ChildRun) else above
    if not isinstance(name, str) or len(name) > 255:
        raise UserError("name: a text of up to 255 characters is needed.")
    if root._children >= MOST:
        raise UserError(
            "count: a script has up to %d children. Log what belongs together to one of them, or submit runs of their own: "
            "run.submit_child(config)." % MOST
        )
    root._children += 1
    key = uuid.uuid4().hex[:12]
    record: Dict[str, Any] = {
        "op": "child",
        "c": key,
        "k": name.encode("utf-16", "surrogatepass").decode("utf-16", "replace"),
    }
    if above._key:
        record["p"] = above._key
    root._put(**record, t=time.time())
    child = ChildRun(above, key, outputs)
    if tags:
        child.set_tags(tags)
    return child


def children(
    above: Any, recursive: bool, tags: Any, properties: Any, kind: Optional[str], status: Optional[str]
) -> Iterator[ChildRun]:
    """Those that fit, the newest first. Wrong filters are refused at once. Raises UserError."""
    from .listing import KINDS, statuses, wanted

    if kind is not None and str(kind).lower() not in KINDS:
        raise UserError("type: %r is not known. Use script or interactive." % (kind,))
    filters = wanted("tags", tags), wanted("properties", properties)
    asked = None if status is None else statuses(status)
    fitting = kind is None or KINDS[str(kind).lower()] == "interactive"
    return _fitting(above, recursive, filters, asked) if fitting else iter(())


def _fitting(above: Any, recursive: bool, filters: Any, asked: Optional[List[str]]) -> Iterator[ChildRun]:
    for child, state in states(above, recursive):
        if (asked is None or (state.ended or "Running") in asked) and _fits(state, *filters):
            yield child


def states(above: Any, recursive: bool) -> Iterator[Tuple[ChildRun, ChildState]]:
    """Children with what the run's folder says of them at this moment, the newest first."""
    root: ScriptRun = above._root if isinstance(above, ChildRun) else above
    found = reading.children(above._writer.run_dir)
    made: Dict[str, ChildRun] = {}
    below: Dict[str, List[ChildRun]] = {}
    for key, state in found.items():
        if state.above is not None:
            made[key] = ChildRun(made.get(state.above, root), key)
            below.setdefault(state.above, []).append(made[key])
    waiting = below.get(above._key, [])[::-1]
    while waiting:
        child = waiting.pop(0)
        if recursive:
            waiting += below.get(child._key, [])[::-1]
        yield child, found[child._key]


def _fits(state: ChildState, tags: List[str], properties: List[str]) -> bool:
    for texts, there in ((tags, state.tags), (properties, state.properties)):
        for text in texts:
            name, equals, value = text.partition("=")
            if name not in there or (equals and there[name] != value):
                return False
    return True
