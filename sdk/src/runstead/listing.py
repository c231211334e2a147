"""Runs of an experiment, or below a run: page by page, the newest first."""

from __future__ import annotations

from collections.abc import Mapping

from .errors import UserError
from .status import STATUSES
from .submitted import SubmittedRun

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterable, Iterator, List, Optional, Union

    from .workspace import Workspace

    Tags = Union[str, Mapping[str, Any], None]

KINDS = {"script": "script", "azureml.scriptrun": "script", "interactive": "interactive"}


def runs(
    workspace: Workspace,
    experiment: Optional[str],
    type: Optional[str],
    tags: Tags,
    properties: Tags,
    include_children: bool,
    status: Optional[str],
    parent: Optional[int] = None,
) -> Iterator[SubmittedRun]:
    """Those that fit. Wrong filters are refused at once, not when the first run is asked for."""
    query: Dict[str, Any] = {"limit": 100}
    if experiment is not None:
        query["experiment"] = experiment
    if type is not None:
        if str(type).lower() not in KINDS:
            raise UserError("type: %r is not known. Use script or interactive." % (type,))
        query["kind"] = KINDS[str(type).lower()]
    for name, value in (("tag", wanted("tags", tags)), ("property", wanted("properties", properties))):
        if value:
            query[name] = value
    if include_children:
        query["include_children"] = "true"
    if status is not None:
        query["status"] = statuses(status)
    if parent is not None:
        query["parent"] = parent
    return _pages(workspace, query)


def children(
    run: Any, recursive: bool, tags: Tags, properties: Tags, type: Optional[str], status: Optional[str]
) -> Iterator[SubmittedRun]:
    """Those below a run that fit; with `recursive` those below any of its children too, fitting or not themselves."""
    found = runs(run.workspace, None, type, tags, properties, False, status, run.number)
    return _below(run, found, (tags, properties, type, status)) if recursive else found


def _below(run: Any, found: Iterator[SubmittedRun], filters: Any) -> Iterator[SubmittedRun]:
    yield from found
    for child in runs(run.workspace, None, None, None, None, False, None, run.number):
        yield from children(child, True, *filters)


def statuses(status: Union[str, Iterable[str]]) -> List[str]:
    """One or several, in any case of letters, as the studio calls them. Raises UserError."""
    known = {one.lower(): one for one in STATUSES}
    found = []
    for one in [status] if isinstance(status, str) or not hasattr(status, "__iter__") else status:
        if str(one).lower() not in known:
            raise UserError("status: %r is not known. Use %s." % (one, ", ".join(STATUSES)))
        found.append(known[str(one).lower()])
    return found


def wanted(field: str, given: Tags) -> List[str]:
    """`name` or `name=value` for each. Raises UserError."""
    if given is None:
        return []
    if isinstance(given, str):
        return [given]
    if not isinstance(given, Mapping):
        raise UserError("%s: a name, or a dict of names and values is needed, got %r." % (field, given))
    return ["%s" % key if value is None else "%s=%s" % (key, value) for key, value in given.items()]


def _pages(workspace: Workspace, query: Dict[str, Any]) -> Iterator[SubmittedRun]:
    before = None
    while True:
        asked = query if before is None else {**query, "before": before}
        page = workspace.transport.request("GET", "runs", query=asked).json()
        for row in page["runs"]:
            yield SubmittedRun(workspace, row)
        before = page["next"]
        if before is None:
            return
