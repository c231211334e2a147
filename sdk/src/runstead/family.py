"""Runs below a run: a sweep's trials, the parts of a larger job."""

from __future__ import annotations

from .errors import UserError
from .keywords import names_of, tell
from .warned import warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Union

    from .submitted import SubmittedRun

    Tags = Union[str, Mapping[str, Any], None]


class Family:
    """Needs `workspace`, `number` and `experiment`. Children and parents end independently of each other."""

    workspace: Any
    number: Any

    @property
    def parent(self) -> Optional[SubmittedRun]:
        """The run that this one is below, or None."""
        found = self._fresh()["parent"]  # type: ignore[attr-defined]
        return None if found is None else self.workspace.get_run(found)  # type: ignore[no-any-return]

    def child_run(
        self, name: Optional[str] = None, run_id: Optional[str] = None, outputs: Optional[str] = None
    ) -> SubmittedRun:
        """Begin a run below this one that is this process too; end it with `complete()`, or use it in a `with` statement.

        `run_id`: runs get their ids from the studio, so that it becomes the name where none is given, with a warning.
        """
        from .interactive import begin_child

        return begin_child(self, named_child(name, run_id), outputs, {})

    def create_children(
        self,
        count: Optional[int] = None,
        tag_key: Optional[str] = None,
        tag_values: Optional[Iterable[Any]] = None,
    ) -> List[SubmittedRun]:
        """Begin several: `count` of them, or one for each of `tag_values`, which it gets as the tag `tag_key`."""
        from .interactive import begin_child

        return [begin_child(self, "", None, tags) for tags in wanted_children(count, tag_key, tag_values)]

    def get_children(
        self,
        recursive: bool = False,
        tags: Tags = None,
        properties: Tags = None,
        type: Optional[str] = None,
        status: Optional[str] = None,
        _rehydrate_runs: bool = True,
    ) -> Iterator[SubmittedRun]:
        """The runs below this one, the newest first; `recursive`: with those below them.

        `tags`, `properties`: a name, or names with the values they must have; `type`: script or interactive.
        """
        from .listing import children

        return children(self, recursive, tags, properties, type, status)

    def submit_child(self, config: Any, tags: Optional[Mapping[str, Any]] = None, **kwargs: Any) -> SubmittedRun:
        """Submit a configuration as a run below this one. `display_name`, `show_output`: as `Experiment.submit` takes them; other keywords
        are left out with a warning."""
        from .experiment import Experiment
        from .submitting import submit

        tell("submit_child", kwargs, (*names_of(Family.submit_child), "display_name", "show_output"))
        experiment = Experiment(self.workspace, self.experiment.name)  # type: ignore[attr-defined]
        run = submit(experiment, config, tags, kwargs.get("display_name") or "", parent=self.number)
        if kwargs.get("show_output"):
            run.wait_for_completion(show_output=True)
        return run


def named_child(name: Optional[str], run_id: Optional[str]) -> str:
    """The name that `child_run` gives. Warns of an id, which is not for the caller to choose."""
    if run_id is None:
        return name or ""
    warn(
        "run_id: the child has an id of its own, not %r: runs get theirs from the studio. Find it by a name or a tag."
        % (run_id,)
    )
    return name or str(run_id)


def wanted_children(
    count: Optional[int], tag_key: Optional[str], tag_values: Optional[Iterable[Any]]
) -> List[Dict[str, Optional[str]]]:
    """The tags of each child that `create_children` shall make. Raises UserError."""
    if (count is None) == (tag_key is None or tag_values is None):
        raise UserError("count: give either count, or tag_key and tag_values.")
    if count is None:
        return [{str(tag_key): str(value)} for value in tag_values or ()]
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise UserError("count: a whole number from 1 on is needed, got %r." % (count,))
    return [{} for _ in range(count)]
