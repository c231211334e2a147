"""Runs that are this process: begun, told of, ended. Nobody executes them on a target."""

from __future__ import annotations

import atexit
import os
import sys
import uuid
import warnings

from . import ending, git
from .errors import RunsteadError, SnapshotException, UserError
from .needed import file_path, texts
from .outbox import SECONDS_AT_EXIT
from .pulse import Pulse
from .submitted import SubmittedRun
from .transport import ApiError, Unreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Mapping, Optional

    from .experiment import Experiment
    from .folder import Folder
    from .transport import Transport

    Tags = Optional[Mapping[str, Optional[str]]]

HERE = "."
MOST_BYTES = 300_000_000
MOST_FILES = 10_000
"""Of the folder of a program that names none."""
OVER = (404, 409)
"""What the studio answers when a run has ended otherwise, or is gone."""
MLFLOW = {"repository_uri": "repoURL", "branch": "branch", "commit": "commit"}
_open: Dict[str, SubmittedRun] = {}
"""Runs begun here that have not ended, by id: what is left of them is ended when the process ends."""
_said: Dict[str, Dict[str, Any]] = {}
"""How those of them shall end whose program has said so without reaching the studio."""
_inherited: Dict[str, SubmittedRun] = {}
_process = 0
"""Whose they are: one that is forked from this ends none of them, and does not speak for them."""
_pulse = Pulse(_open)


def take_snapshot(transport: Transport, folder: str) -> Optional[str]:
    """Send the folder, as a submit does; the id of its snapshot.

    A notebook says nothing of its folder, and may lie in one that nobody wants to send: then there is a warning, and None. None, too,
    for one in which nothing is. What was named and cannot be sent raises SnapshotException.
    """
    from .folder import Folder
    from .sending import within_limits
    from .upload import upload

    named = folder != HERE
    try:
        if named:
            return upload(transport, Folder(folder, lambda found: within_limits(transport, found)))
        found = Folder(folder, _small, enough=MOST_FILES)
        return upload(transport, found) if found.files or found.refused else None
    except (ApiError, Unreachable):
        raise
    except RunsteadError as error:
        why = str(error).replace("source_directory:", "snapshot_directory:")
        if named:
            raise SnapshotException(why) from None
        warnings.warn(
            "The code of this run is not kept. %s Or name the folder that holds the code, or give snapshot_directory=None."
            % why,
            stacklevel=5,
        )
        return None


def _small(folder: Folder) -> None:
    from .sending import grouped, readable

    count, size = folder.found
    if count <= MOST_FILES and size <= MOST_BYTES:
        return
    large = size > MOST_BYTES
    what = readable(size) if large else "over %s files" % grouped(MOST_FILES)
    raise UserError(
        "source_directory: %s has %s; of a folder that is not named up to %s and %s files are kept. The largest there: %s. List in "
        ".runignore what is no code."
        % (
            os.path.abspath(folder.path),
            what,
            readable(MOST_BYTES),
            grouped(MOST_FILES),
            ", ".join(name for name, _ in folder.largest(large)),
        )
    )


def begin(
    experiment: Experiment,
    outputs: Optional[str],
    folder: Optional[str],
    name: str,
    tags: Tags,
    parent: Optional[int] = None,
) -> SubmittedRun:
    """Begin a run of an experiment."""
    folder = None if folder is None else file_path("snapshot_directory", folder)
    facts = {} if folder is None else git.facts(folder)
    properties = {"azureml.git." + fact: value for fact, value in facts.items()}
    properties.update({"mlflow.source.git." + MLFLOW[fact]: facts[fact] for fact in MLFLOW if fact in facts})
    body = {
        "experiment": experiment.name,
        "name": name,
        "tags": texts("tags", tags),
        "properties": properties,
        "parent": parent,
        "snapshot": None if folder is None else take_snapshot(experiment.workspace.transport, folder),
        "heartbeat": True,
    }
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    row = experiment.workspace.transport.request("POST", "runs/interactive", body, headers=headers).json()
    run = SubmittedRun(experiment.workspace, row)
    run._outputs = outputs
    _watch(run)
    return run


def begin_child(parent: Any, name: str, outputs: Optional[str], tags: Tags) -> SubmittedRun:
    """Begin a run below another."""
    from .experiment import Experiment

    return begin(Experiment(parent.workspace, parent.experiment.name), outputs, None, name, tags, parent.number)


def finish(run: SubmittedRun, status: str, error: Optional[Dict[str, str]]) -> None:
    """End a run: what it logged arrives first, and its folder of outputs is kept.

    One that the studio did not hear of stays open: its process says that it is there, and ends it like that when it ends itself.
    """
    body: Dict[str, Any] = {"status": status}
    if error is not None:
        body["error"] = error
    try:
        if run._outputs is not None and os.path.isdir(run._outputs):
            run.upload_folder("outputs", run._outputs)
        run.flush()
        _tell(run, body)
    except RunsteadError:
        if run.id in _open:
            _said[run.id] = body
        raise


def _tell(run: SubmittedRun, body: Dict[str, Any]) -> None:
    try:
        run._data = run._ask("POST", "/finish", body)
    except ApiError as refusal:
        if refusal.status in OVER:
            _forget(run)
        raise
    _forget(run)


def _forget(run: SubmittedRun) -> None:
    _open.pop(run.id, None)
    _said.pop(run.id, None)


_failure: Optional[BaseException] = None


def _watch(run: SubmittedRun) -> None:
    global _process
    if _process != os.getpid():
        _process = os.getpid()
        _inherited.update(_open)
        _open.clear()
        _said.clear()
        ending.at_end(_at_exit)
    if not _open:
        atexit.unregister(_at_exit)
        atexit.register(_at_exit)
        if sys.excepthook is not _noting:
            _noting.before = sys.excepthook  # type: ignore[attr-defined]
            sys.excepthook = _noting
    _open[run.id] = run
    _pulse.start()


def _noting(kind: Any, value: Any, trace: Any) -> None:
    global _failure
    _failure = value
    _noting.before(kind, value, trace)  # type: ignore[attr-defined]


def _at_exit() -> None:
    """The process ends and says nothing of these runs: they end as it does. What it logged to those of the process that it was forked
    from is sent."""
    own = _process == os.getpid()
    # What ends a worker of multiprocessing reaches no hook: it is on its way while this is called, before Python 3.13 at least.
    failure = _failure or sys.exc_info()[1]
    for run in {**_inherited, **_open}.values():
        try:
            run.flush(SECONDS_AT_EXIT)
            if not own or run.id in _inherited:
                continue
            if run.id in _said:
                finish(run, _said[run.id]["status"], _said[run.id].get("error"))
            elif failure is None or isinstance(failure, SystemExit):
                run.complete()
            elif isinstance(failure, KeyboardInterrupt):
                run.cancel()
            else:
                run.fail(failure)
        except Exception as problem:
            print("runstead: run %s was not ended: %s" % (run.id, problem), file=sys.stderr)
