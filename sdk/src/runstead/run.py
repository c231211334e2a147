"""`Run`: the one that a script is in (`Run.get_context()`), one that a notebook is, or any other of the workspace.

Whatever a script logs is a line in a file of the run's folder: nothing waits for a network, nothing is lost when the process dies.
"""

from __future__ import annotations

import os

from .errors import RunEnvironmentException, UserError
from .family import Family
from .inside import ExperimentName, Inside
from .logged import Logged
from .needed import experiment_of, file_path, workspace_of
from .records import Writer
from .remote import Remote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any, Dict, Iterator, List, Mapping, Optional, Union

    Source = Union[str, "os.PathLike[str]", IO[bytes]]


class Run(Logged, Remote, Family):
    """A run. `Run.get_context()` gives the one that this process belongs to, `Run(experiment, run_id)` any other."""

    _current: Optional[ScriptRun] = None

    def __init__(self, experiment: Any, run_id: str, outputs: Optional[str] = None, **kwargs: Any) -> None:
        """The run of this id, or number. Raises UserError when there is none."""
        found = experiment_of(experiment).workspace.get_run(run_id)
        self.__class__ = type(found)
        self.__dict__.update(found.__dict__)
        if outputs is not None:
            self._outputs = outputs

    @staticmethod
    def get_context(allow_offline: bool = True, used_for_context_manager: bool = False, **kwargs: Any) -> Run:
        """The run this process belongs to.

        Outside a run: one that prints, or with `allow_offline=False` RunEnvironmentException.
        """
        run_dir = os.environ.get("RUNSTEAD_RUN_DIR", "")
        current = Run._current
        if current is not None and current._home == run_dir and (run_dir or allow_offline):
            return current
        if run_dir and os.path.isdir(run_dir):
            current = ScriptRun(run_dir)
        elif run_dir:
            raise RunEnvironmentException(
                "RUNSTEAD_RUN_DIR names %s, which is no folder: this process cannot reach its run." % run_dir
            )
        elif allow_offline:
            from .offline import OfflineRun

            current = OfflineRun()
        else:
            raise RunEnvironmentException(
                "This process does not belong to a run. Submit it (runstead run FOLDER -- train.py), or allow_offline=True."
            )
        current._home = run_dir
        Run._current = current
        return current

    @staticmethod
    def get(workspace: Any, run_id: str) -> Run:
        """The run of this id, or number. Raises UserError when there is none."""
        return workspace_of(workspace).get_run(run_id)  # type: ignore[no-any-return]

    @staticmethod
    def list(
        experiment: Any,
        type: Optional[str] = None,
        tags: Union[str, Mapping[str, Any], None] = None,
        properties: Union[str, Mapping[str, Any], None] = None,
        status: Optional[str] = None,
        include_children: bool = False,
    ) -> Iterator[Run]:
        """The experiment's runs, the newest first."""
        return experiment_of(experiment).get_runs(type, tags, properties, include_children, status)  # type: ignore[no-any-return]

    # Who the run is: answered by each kind of run for itself.

    id: str
    number: Optional[int]
    experiment: Any
    name: str
    display_name: str
    description: str
    status: str
    type: str

    # Files

    def upload_file(self, name: str, path_or_stream: Source, datastore_name: Optional[str] = None) -> None:
        """Keep a file, or what a stream gives, as the artifact `name` (with `/`); one of that name is replaced."""
        raise NotImplementedError

    def upload_files(
        self,
        names: List[str],
        paths: List[str],
        return_artifacts: bool = False,
        timeout_seconds: Optional[int] = None,
        datastore_name: Optional[str] = None,
    ) -> None:
        """Keep several files: `names[i]` gets the file at `paths[i]`."""
        if len(names) != len(paths):
            raise UserError("names and paths: equally many are needed, got %d and %d." % (len(names), len(paths)))
        for name, path in zip(names, paths):
            self.upload_file(name, path)

    def upload_folder(
        self, name: str, path: Union[str, os.PathLike[str]], datastore_name: Optional[str] = None
    ) -> None:
        """Keep every file below the folder `path` as artifacts below `name`.

        Links to folders are not followed.
        """
        base = file_path("path", path)
        if not os.path.isdir(base):
            raise UserError("path: there is no folder %r. The working directory is %s." % (base, os.getcwd()))
        for folder, _, names in os.walk(base):
            for file in sorted(names):
                full = os.path.join(folder, file)
                self.upload_file("%s/%s" % (name.rstrip("/"), os.path.relpath(full, base).replace(os.sep, "/")), full)

    # Life

    def flush(self, timeout_seconds: float = 300) -> None:
        """Wait until all that was logged has arrived where it is kept."""

    def complete(self, _set_status: bool = True) -> None:
        """The work is done. A script's run ends with the script: there this only makes sure that all is written."""
        raise NotImplementedError

    def fail(self, error_details: Any = None, error_code: Optional[str] = None, _set_status: bool = True) -> None:
        """The work has failed: why. Of a script's run its exit code says whether it failed; there this notes the reason."""
        raise NotImplementedError

    def start(self) -> None:
        """Nothing to do: a run has started when its script, or its notebook, can ask."""

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if error is None:
            self.complete()
        else:
            self.fail(error_details=error, error_code=kind.__name__)

    def __repr__(self) -> str:
        return "%s(id=%r)" % (type(self).__name__, self.id)


class ScriptRun(Inside, Run):
    """The run that this process belongs to, told through files of its folder."""

    _home = ""

    def __init__(self, run_dir: str) -> None:
        self._writer = Writer(run_dir)
        self._prefixes = {}
        self._children = 0

    # Who the run is

    @property
    def id(self) -> str:  # type: ignore[override]
        """The run's id, such as `digits_1795470000_1a2b3c4d`."""
        return os.environ.get("RUNSTEAD_RUN_ID") or os.environ.get("AZUREML_RUN_ID", "")

    @property
    def number(self) -> Optional[int]:  # type: ignore[override]
        """The run's number in its workspace."""
        value = os.environ.get("RUNSTEAD_RUN_NUMBER", "")
        return int(value) if value.isdigit() else None

    @property
    def experiment(self) -> Any:  # type: ignore[override]
        """The run's experiment; it has a `name`, and a `workspace` with a name."""
        return ExperimentName(os.environ.get("RUNSTEAD_EXPERIMENT") or os.environ.get("AZUREML_ARM_PROJECT_NAME", ""))

    type = "script"  # type: ignore[assignment]

    @property
    def name(self) -> str:  # type: ignore[override]
        """The name given by the script, or the run's id."""
        return str(self._state().name or self.id)

    @property
    def display_name(self) -> str:  # type: ignore[override]
        """The name that the studio shows."""
        return self.name

    @display_name.setter
    def display_name(self, value: str) -> None:
        self._put(op="name", v=display_name(value))

    @property
    def description(self) -> str:  # type: ignore[override]
        """The notes given by the script."""
        return str(self._state().note)

    @description.setter
    def description(self, value: str) -> None:
        self._put(op="note", v=description(value))

    # Files

    def upload_file(self, name: str, path_or_stream: Source, datastore_name: Optional[str] = None) -> None:
        """Keep a file, or what a stream gives, as the artifact `name` (with `/`)."""
        from . import files

        target, announced = files.place(self._writer.run_dir, files.plain_name(name))
        files.store(path_or_stream, target)
        if announced:
            self._put(op="artifact", path=files.plain_name(name))

    # Life

    def complete(self, _set_status: bool = True) -> None:
        """Nothing is buffered, and the exit code decides how the run ended."""
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

    # Below

    def _line(self, line: str) -> None:
        self._writer.write(line)

    def _put(self, **record: Any) -> None:
        self._writer.put(**record)

    def _keep_image(self, name: str, path: Optional[str], plot: Any) -> str:
        from .images import save

        return save(self._writer.run_dir, name, path, plot)

    def get_secret(self, name: str) -> str:
        """The secret that this run was given under the variable `name` (`-` counts as `_`). Raises UserError."""
        from .keyvault import given

        return given(name)

    def _state(self) -> Any:
        from .reading import State

        return State(self._writer.run_dir, self._facts())

    def _began(self) -> Optional[float]:
        from .told import began

        return began(self._writer.run_dir)

    def _error(self) -> Dict[str, str]:
        return {}


def display_name(value: Any) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= 255:
        raise UserError("display_name: a text of 1 to 255 characters is needed.")
    return value


def description(value: Any) -> str:
    if not isinstance(value, str):
        raise UserError("description: a text is needed, got %s." % type(value).__name__)
    return value


def get_run(experiment: Any, run_id: str, rehydrate: bool = True, clean_up: bool = True) -> Run:
    """The run of this id, or number, of the experiment's workspace."""
    return Run.get(experiment_of(experiment).workspace, run_id)
