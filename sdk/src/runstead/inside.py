"""What a script may ask of its run, and do with it, beside logging: answered from the run's folder, without a network."""

from __future__ import annotations

import os

from .errors import RunsteadError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterable, Iterator, List, Mapping, NoReturn, Optional, Union

    from .child import ChildRun
    from .wished import WishedModel

    Tags = Union[str, Mapping[str, Any], None]


class OnlyOutside(RunsteadError, AttributeError):
    """A script asked for what only the studio knows. Also an AttributeError, so that `hasattr` says False."""


class Inside:
    """Needs `id`, `_writer`, `_put` and `_state`."""

    _writer: Any
    _key = ""
    """The id of a child below the script's run; empty for that itself."""

    id: str
    _put: Any
    _state: Any

    @property
    def workspace(self) -> Any:
        raise OnlyOutside(
            "A script does not reach the studio from its run: this can be asked from outside, with Workspace.from_config() and "
            "ws.get_run(%r). Inside, what is in the run's folder is there: what it logged, its files, children, models."
            % self.id
        )

    def _facts(self) -> Dict[str, Any]:
        """What the studio wrote down for the run before it began."""
        import json

        try:
            with open(os.path.join(self._writer.run_dir, "spec.json"), "rb") as file:
                found = json.loads(file.read().decode("utf-8", "surrogateescape")).get("facts")
        except (OSError, ValueError, AttributeError):
            return {}
        return found if isinstance(found, dict) else {}

    # How it is

    def get_status(self) -> str:
        """`Running`: a script that can ask is running."""
        return "Running"

    status = property(get_status)

    def get_details(self) -> Dict[str, Any]:
        """The run by the names of the reference, as far as the run's folder tells. `logFiles`: name → path on this machine."""
        from .told import details

        return details(self)

    def get_details_with_logs(self) -> Dict[str, Any]:
        """`get_details()`, and the text of each log so far in place of its path."""
        from .told import details_with_logs

        return details_with_logs(self)

    def get_all_logs(self, destination: Optional[str] = None) -> List[str]:
        """Copy every log so far into a folder (default: here, `<run id>`), and return the paths."""
        from .told import save_logs

        return save_logs(self, destination)

    def wait_for_completion(self, *args: Any, **kwargs: Any) -> Dict[str, Any]:
        """Raises RunsteadError: a run's end cannot be waited for in the run itself."""
        return dict(self.workspace)

    def get_portal_url(self) -> str:
        """The address of the run's page."""
        url = self._facts().get("url")
        return str(url) if url else str(self.workspace)

    def get_snapshot_id(self) -> str:
        """The id of the snapshot that the script was started from; empty when that is not known here."""
        return str(self._facts().get("snapshot") or "")

    def get_tags(self) -> Dict[str, Optional[str]]:
        """The tags that the run was submitted with, as the script has changed them."""
        return dict(self._state().tags)

    def get_properties(self) -> Dict[str, str]:
        """The properties that the run was submitted with, and those that the script added."""
        return dict(self._state().properties)

    def get_metrics(
        self,
        name: Optional[str] = None,
        recursive: bool = False,
        run_type: Optional[str] = None,
        populate: bool = False,
    ) -> Dict[str, Any]:
        """What has been logged so far: one value is given bare, several as a list, a table as a dict of columns.

        `recursive`: run id → that, of this run and the children that it has here.
        """
        metrics = _picked(self._state(), name)
        if not recursive:
            return metrics
        from .child import states

        return {self.id: metrics, **{child.id: _picked(state, name) for child, state in states(self, True)}}

    # Its files

    def get_file_names(self) -> List[str]:
        """Names of the files that the run keeps so far: below outputs/ and logs/, and those kept by name."""
        from .told import file_names

        return file_names(self)

    def download_file(
        self, name: str, output_file_path: Optional[str] = None, _validate_checksum: bool = False
    ) -> None:
        """Copy one of `get_file_names()`: to the file `output_file_path`, or into that folder; default: its own name here."""
        from .told import copy

        copy(self, name, output_file_path)

    def download_files(
        self,
        prefix: Optional[str] = None,
        output_directory: Optional[str] = None,
        output_paths: Optional[List[str]] = None,
        batch_size: int = 100,
        append_prefix: bool = True,
        timeout_seconds: Optional[int] = None,
    ) -> None:
        """Copy all below `prefix` (default: all) into `output_directory` (default: here).

        `append_prefix=False`: their paths there begin behind the prefix. `output_paths`: a file for each, in the order of names.
        """
        from .told import copy_all

        copy_all(self, prefix, output_directory, output_paths, append_prefix)

    def register_model(
        self,
        model_name: str,
        model_path: Optional[str] = None,
        tags: Optional[Mapping[str, Any]] = None,
        properties: Optional[Mapping[str, Any]] = None,
        model_framework: Optional[str] = None,
        model_framework_version: Optional[str] = None,
        description: Optional[str] = None,
        datasets: Any = None,
        sample_input_dataset: Any = None,
        sample_output_dataset: Any = None,
        resource_configuration: Any = None,
        **kwargs: Any,
    ) -> WishedModel:
        """Have a file, or a folder, of this run become the next version of a model when the script has ended, however it ends.

        `model_path`: as `get_file_names()` has it, default `model_name`; it must be there by the end. The studio numbers the
        version then, so that `version` of what is returned is None. Raises ModelPathNotFoundException for a file that the run does
        not keep.
        """
        from .keywords import names_of, tell
        from .needed import mapping
        from .wished import wish

        tell("register_model", kwargs, names_of(Inside.register_model))
        facts = {"framework": model_framework, "framework_version": model_framework_version}
        own = {**{key: value for key, value in facts.items() if value}, **mapping("properties", properties)}
        return wish(self, model_name, model_path or model_name, tags, own, description)

    # Its children

    @property
    def parent(self) -> Any:
        """The run that this one is below, or None. One that another program submitted this from has an `id` here and takes metrics and
        tags, and no more."""
        from .above import ParentRun

        above = self._facts().get("parent")
        return ParentRun(above, self._line) if above else None

    def child_run(
        self, name: Optional[str] = None, run_id: Optional[str] = None, outputs: Optional[str] = None
    ) -> ChildRun:
        """Begin a run below this one that is part of the script; end it with `complete()`, or use it in a `with` statement.

        One that is left open ends as the script does. `outputs`: a folder that is kept with it when it ends. `run_id`: becomes the
        name where none is given, with a warning, since runs get their ids from the studio. Raises UserError for too many.
        """
        from .child import begin
        from .family import named_child

        return begin(self, named_child(name, run_id), outputs, {})

    def create_children(
        self,
        count: Optional[int] = None,
        tag_key: Optional[str] = None,
        tag_values: Optional[Iterable[Any]] = None,
    ) -> List[ChildRun]:
        """Begin several: `count` of them, or one for each of `tag_values`, which it gets as the tag `tag_key`."""
        from .child import begin
        from .family import wanted_children

        return [begin(self, "", None, tags) for tags in wanted_children(count, tag_key, tag_values)]

    def get_children(
        self,
        recursive: bool = False,
        tags: Tags = None,
        properties: Tags = None,
        type: Optional[str] = None,
        status: Optional[str] = None,
        _rehydrate_runs: bool = True,
    ) -> Iterator[ChildRun]:
        """The runs that the script has begun below this one, the newest first; `recursive`: with those below them."""
        from .child import children

        return children(self, recursive, tags, properties, type, status)


class Elsewhere:
    """Something of the studio's that a script knows by name alone."""

    what = "run"

    def __init__(self, name: str) -> None:
        self.id = self.name = name

    def __getattr__(self, asked: str) -> Any:
        if asked.startswith("__"):
            raise AttributeError(asked)
        self._not_here(asked)

    def _not_here(self, asked: str) -> NoReturn:
        raise OnlyOutside(
            "%s: a script does not reach the studio from its run, and knows only the name of its %s, %r. Ask from outside, with "
            "Workspace.from_config()." % (asked, self.what, self.name)
        )

    def __repr__(self) -> str:
        return "%s(%r)" % (self.what.capitalize(), self.name)


class ExperimentName(Elsewhere):
    """The experiment that the run belongs to, as far as the run knows it."""

    what = "experiment"

    @property
    def workspace(self) -> WorkspaceName:
        return WorkspaceName(os.environ.get("AZUREML_ARM_WORKSPACE_NAME", ""))


class WorkspaceName(Elsewhere):
    """The workspace, as far as the run knows it."""

    what = "workspace"


def _picked(state: Any, name: Optional[str]) -> Dict[str, Any]:
    metrics: Dict[str, Any] = state.metrics()
    if name is None:
        return metrics
    return {name: metrics[name]} if name in metrics else {}


def in_run(run: Any, name: str) -> str:
    """Where a file of the run lies, there or not. Raises UserError for what is no name of one."""
    from . import files

    return files.place(run._writer.run_dir, files.plain_name(name), run._key)[0]
