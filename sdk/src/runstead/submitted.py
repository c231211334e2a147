"""A run of a workspace, seen and told from outside: one that was submitted, or one that this process is."""

from __future__ import annotations

import os

from .errors import RunFailed
from .run import Run, description, display_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional

    from .experiment import Experiment
    from .outbox import Sender
    from .run import Source
    from .workspace import Workspace

__all__ = ["RunFailed", "SubmittedRun"]


class SubmittedRun(Run):
    """A run as the studio knows it. What is logged here goes there; a script logs from inside, with `Run.get_context()`."""

    def __init__(self, workspace: Workspace, data: Dict[str, Any]) -> None:
        self.workspace = workspace
        self._data = data
        self._sender: Optional[Sender] = None
        self._prefixes = {}
        self._outputs: Optional[str] = None

    # Who the run is

    @property
    def id(self) -> str:  # type: ignore[override]
        """The run's id, such as `digits_1795470000_1a2b3c4d`."""
        return str(self._data["id"])

    @property
    def number(self) -> int:  # type: ignore[override]
        """The run's number in its workspace."""
        return int(self._data["number"])

    @property
    def experiment(self) -> Experiment:  # type: ignore[override]
        """The experiment that the run belongs to."""
        from .experiment import Experiment

        return Experiment(self.workspace, self._data["experiment"])

    @property
    def type(self) -> str:  # type: ignore[override]
        """script, or interactive for one that no target executes."""
        return str(self._data["kind"])

    @property
    def name(self) -> str:  # type: ignore[override]
        return str(self._data["name"])

    @property
    def display_name(self) -> str:  # type: ignore[override]
        """The name that the studio shows."""
        return self.name

    @display_name.setter
    def display_name(self, value: str) -> None:
        self._data = self._ask("PATCH", body={"name": display_name(value)})

    @property
    def description(self) -> str:  # type: ignore[override]
        """The notes about the run."""
        return str(self._data["notes"])

    @description.setter
    def description(self, value: str) -> None:
        self._data = self._ask("PATCH", body={"notes": description(value)})

    @property
    def status(self) -> str:  # type: ignore[override]
        """The status as of the last call that asked the studio."""
        return str(self._data["status"])

    @property
    def exit_code(self) -> Optional[int]:
        """The script's exit code, once it is known."""
        code = self._data.get("exit_code")
        return None if code is None else int(code)

    def get_portal_url(self) -> str:
        """The address of the run's page."""
        return str(self._data["url"])

    def refresh(self) -> SubmittedRun:
        """Ask the studio how the run is now."""
        self._data = self._ask("GET")
        return self

    def _fresh(self) -> Dict[str, Any]:
        # What is still on its way counts as said.
        self.flush()
        return self.refresh()._data

    # Tags and properties

    def get_tags(self) -> Dict[str, Optional[str]]:
        """The run's tags now; a bare one has the value None."""
        return dict(self._fresh()["tags"])

    def get_properties(self) -> Dict[str, str]:
        """The run's properties now."""
        return dict(self._fresh()["properties"])

    def _set_tags(self, tags: Dict[str, Optional[str]]) -> None:
        self._data = self._ask("PATCH", body={"tags": tags})

    def _remove_tags(self, names: List[str]) -> None:
        self._data = self._ask("PATCH", body={"remove_tags": names})

    def _add_properties(self, properties: Dict[str, str]) -> None:
        self._data = self._ask("PATCH", body={"properties": properties})

    def get_secret(self, name: str) -> str:
        """Raises NotYet: a script is asked for it, with `Run.get_context().get_secret(name)`."""
        from .keyvault import outside

        raise outside(name)

    # Files

    def upload_file(self, name: str, path_or_stream: Source, datastore_name: Optional[str] = None) -> None:
        from .kept import upload

        upload(self, name, path_or_stream)

    # Life

    def cancel(self) -> None:
        """Ask for the end of the run. A run that has ended stays as it is; an interactive one ends at once."""
        if self.type == "interactive":
            self._finish("Canceled")
        else:
            self._data = self._ask("POST", "/cancel")

    def complete(self, _set_status: bool = True) -> None:
        """The work is done: of an interactive run, its end. A submitted run ends with its script."""
        if _set_status:
            self._finish("Completed")
        else:
            self.flush()

    def fail(self, error_details: Any = None, error_code: Optional[str] = None, _set_status: bool = True) -> None:
        """The work has failed. `error_details`: a text or an exception, `error_code`: a short name for it."""
        if _set_status:
            self._finish("Failed", error(error_details, error_code))
        else:
            self.flush()

    def _finish(self, status: str, error: Optional[Dict[str, str]] = None) -> None:
        from .interactive import finish

        finish(self, status, error)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if self.type != "interactive":
            return  # its script says how it ends
        if error is not None and issubclass(kind, KeyboardInterrupt):
            self.cancel()
        else:
            super().__exit__(kind, error, trace)

    def flush(self, timeout_seconds: float = 300) -> None:
        """Wait until all that was logged is in the studio. Raises RunsteadError when it was refused, or the time is over."""
        if self._sender is not None:
            self._sender.flush(timeout_seconds)

    # The log

    def read_log(self, offset: int = 0) -> bytes:
        """Bytes of the log from `offset` on, at most about 1 MB; none when there are no more yet."""
        from .log_stream import LogStream

        return LogStream(self.workspace.transport, self.number, offset=offset).piece()

    def stream_log(self, out: Any = None) -> None:
        """Write the log to `out` (default: standard output) as it grows, until the run has ended."""
        from .waiting import follow

        follow(self, out)

    def failure(self) -> str:
        """Why the run failed, in one line."""
        from .following import failure

        what = failure(self._data)
        end = "" if what.endswith((".", "!", "?")) else "."
        return "Run %s failed: %s%s %s" % (self.id, what, end, self.get_portal_url())

    # Below

    def _line(self, line: str) -> None:
        self._open().put(line)

    def _put(self, **record: Any) -> None:
        import json

        self._line(json.dumps(record, separators=(",", ":"), allow_nan=False) + "\n")

    def _open(self) -> Sender:
        if self._sender is None:
            from .outbox import Sender

            self._sender = Sender(self.workspace.transport, "runs/%d/records" % self.number, self.id)
        return self._sender

    def _sent_at(self) -> float:
        return 0.0 if self._sender is None else self._sender.sent_at

    def _keep_image(self, name: str, path: Optional[str], plot: Any) -> str:
        import tempfile

        from .images import save

        with tempfile.TemporaryDirectory(prefix="runstead-") as folder:
            kept = save(folder, name, path, plot)
            stem, ending = os.path.splitext(kept)
            there = set(self.get_file_names())
            free, number = kept, 1
            while free in there:
                number += 1
                free = "%s_%d%s" % (stem, number, ending)
            self.upload_file(free, os.path.join(folder, "artifacts", kept))
        return free

    def __deepcopy__(self, memo: Any) -> SubmittedRun:
        return self

    def _repr_html_(self) -> str:
        from .notebook_html import table

        return table(
            self.get_portal_url(), experiment=self._data["experiment"], id=self.id, type=self.type, status=self.status
        )

    def __repr__(self) -> str:
        return "Run(Experiment: %s, Id: %s, Type: %s, Status: %s)" % (
            self._data["experiment"],
            self.id,
            self.type,
            self.status,
        )


def error(details: Any, code: Optional[str]) -> Optional[Dict[str, str]]:
    """What the API takes as the reason of a failure."""
    if details is None and code is None:
        return None
    if isinstance(details, BaseException):
        import traceback

        told = "".join(traceback.format_exception(type(details), details, details.__traceback__))
        return {"type": code or type(details).__name__, "message": str(details), "detail": told}
    return {"type": code or "", "message": "" if details is None else str(details)}
