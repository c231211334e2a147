"""`get_metrics()` of a run seen from outside, in the shapes of the reference."""

from __future__ import annotations

from .reading import Folded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterator, Optional

POINTS = 100_000


def metrics(run: Any, name: Optional[str], recursive: bool, run_type: Optional[str]) -> Dict[str, Any]:
    """Name → value; with `recursive` run id → that, of the run and all below it."""
    if not recursive:
        return _of(run, name)
    found = {run.id: _of(run, name)}
    for child in run.get_children(recursive=True, type=run_type):
        found[child.id] = _of(child, name)
    return found


def _of(run: Any, name: Optional[str]) -> Dict[str, Any]:
    run.flush()
    folded = Folded()
    for record in _records(run, name):
        folded.fold(record)
    return folded.metrics()


def _records(run: Any, name: Optional[str]) -> Iterator[Dict[str, Any]]:
    """What was logged, as the records that logged it; samples of the machine are left out."""
    only = {} if name is None else {"name": name}
    after: Any = ""
    while after is not None:
        page = run._ask("GET", "/metrics", query={**only, "after": after} if after else only)
        for series in page["series"]:
            if not series["system"]:
                for value in _points(run, series):
                    yield {"k": series["name"], "v": value}
        if not after:
            yield from _values(run, only, page)
        after = page["next"]


def _points(run: Any, series: Dict[str, Any]) -> Iterator[Any]:
    if series["count"] == 1 and series["last"] is not None:
        yield series["last"]
        return
    after = 0
    while True:
        page = run._ask("GET", "/metrics/series", query={"name": series["name"], "after": after, "limit": POINTS})
        yield from page["value"]
        after = page["next"]
        if not page["more"]:
            return


def _values(run: Any, only: Dict[str, str], page: Dict[str, Any]) -> Iterator[Dict[str, Any]]:
    values, after = page["values"], page["values_next"]
    while True:
        for value in values:
            record = {"op": value["kind"], "k": value["name"]}
            yield (
                {**record, "path": value["data"]["path"]}
                if value["kind"] == "image"
                else {**record, "v": value["data"]}
            )
        if after is None:
            return
        page = run._ask("GET", "/metrics/values", query={**only, "after": after})
        values, after = page["values"], page["next"]
