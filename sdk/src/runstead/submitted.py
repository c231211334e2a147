"""A run seen from outside: its status, its log as it grows, its end."""

from __future__ import annotations

import codecs
import sys
import time

from .errors import RunsteadError
from .run import ExperimentName, Run
from .transport import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Optional

    from .client import Workspace

FINAL = ("Completed", "Failed", "Canceled")
PAUSE, LONGEST_PAUSE = 0.1, 1.0


class RunFailed(RunsteadError):
    """The run that was waited for ended as Failed. `details` are those of `get_details()`."""

    def __init__(self, message: str, details: Dict[str, Any]) -> None:
        self.details = details
        super().__init__(message)


class SubmittedRun(Run):
    """A run of a workspace. What a script logs is logged from inside: the logging methods raise here."""

    def __init__(self, workspace: Workspace, data: Dict[str, Any]) -> None:
        self.workspace = workspace
        self._data = data

    def _put(self, **record: Any) -> None:
        raise RunsteadError("Log from inside the run: Run.get_context() in the script.")

    def _line(self, line: str) -> None:
        self._put()

    def _prefix(self, name: Any) -> str:
        self._put()
        return ""

    def _state(self) -> Any:
        self._put()

    @property
    def _prefixes(self) -> Dict[str, str]:  # type: ignore[override]
        return {}

    @property
    def id(self) -> str:
        return str(self._data["id"])

    @property
    def number(self) -> int:
        return int(self._data["number"])

    @property
    def experiment(self) -> Any:
        return ExperimentName(self._data["experiment"])

    @property
    def name(self) -> str:
        return str(self._data["name"])

    display_name = name  # type: ignore[assignment]

    @property
    def description(self) -> str:
        return str(self._data["notes"])

    @property
    def status(self) -> str:  # type: ignore[override]
        """The status as of the last call that asked the studio."""
        return str(self._data["status"])

    def refresh(self) -> SubmittedRun:
        """Ask the studio how the run is now."""
        self._data = self.workspace.transport.request("GET", "runs/%d" % self.number).json()
        return self

    def get_status(self) -> str:
        """The status now: NotStarted, Preparing, Queued, Running, Finalizing, Completed, Failed,
        CancelRequested, Canceled.
        """
        return self.refresh().status

    def get_portal_url(self) -> str:
        """The address of the run's page."""
        return str(self._data["url"])

    def get_tags(self) -> Dict[str, Optional[str]]:
        return dict(self.refresh()._data["tags"])

    def get_properties(self) -> Dict[str, str]:
        return dict(self.refresh()._data["properties"])

    tags = property(get_tags)
    properties = property(get_properties)

    def get_details(self) -> Dict[str, Any]:
        """The run as the studio knows it, by the names of the reference; times are ISO 8601."""
        data = self.refresh()._data
        details = {
            "runId": data["id"],
            "target": data["target"],
            "status": data["status"],
            "startTimeUtc": data["started_at"],
            "properties": data["properties"],
            "runDefinition": data["config"],
            "logFiles": {"log": "%s/logs" % data["url"]},
            "submittedBy": data["created_by"],
            "warnings": [],
        }
        if data["status"] in FINAL:
            details["endTimeUtc"] = data["ended_at"]
        if data["error"]:
            details["error"] = data["error"]
        return details

    def cancel(self) -> None:
        """Ask for the end of the run. A run that has ended stays as it is."""
        self._data = self.workspace.transport.request("POST", "runs/%d/cancel" % self.number).json()

    def read_log(self, offset: int = 0) -> bytes:
        """Bytes of the log from `offset` on, at most about 1 MB; none when there are no more yet."""
        return self._log(offset)[0]

    def _log(self, offset: int) -> tuple[bytes, int]:
        answer = self.workspace.transport.request("GET", "runs/%d/log" % self.number, query={"offset": offset})
        self._data["status"] = answer.headers.get("runstead-run-status", self.status)
        return answer.data, int(answer.headers.get("runstead-log-size", "0"))

    def stream_log(self, out: Any = None) -> None:
        """Write the log to `out` (default: standard output) as it grows, until the run has ended."""
        out = sys.stdout if out is None else out
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        offset, pause, shown = 0, PAUSE, ""
        while True:
            try:
                data, size = self._log(offset)
            except ApiError as error:
                if error.status != 410:
                    raise
                out.write("\n[a part of the log is lost: %s]\n" % error)
                return
            if data:
                offset += len(data)
                pause = PAUSE
                out.write(decoder.decode(data))
                out.flush()
                continue
            if self.status in FINAL and offset >= size:
                out.write(decoder.decode(b"", final=True))
                out.flush()
                return
            if offset == 0 and self.status != shown and self.status not in ("Running", *FINAL):
                shown = self.status
                print("[%s]" % shown, file=sys.stderr, flush=True)
            time.sleep(pause)
            # Quick while lines come, slower while a run waits or is silent.
            pause = min(pause * 1.2, LONGEST_PAUSE)

    def wait_for_completion(
        self, show_output: bool = False, wait_post_processing: bool = False, raise_on_error: bool = True
    ) -> Dict[str, Any]:
        """Wait until the run has ended; returns `get_details()`. Raises RunFailed for a failed run, unless told not to.

        With `show_output` the log is printed as it grows.
        """
        try:
            if show_output:
                print(
                    "RunId: %s\nWeb View: %s\n\nStreaming log\n=============\n" % (self.id, self.get_portal_url()),
                    flush=True,
                )
                self.stream_log()
            pause = PAUSE
            while self.get_status() not in FINAL:
                time.sleep(pause)
                pause = min(pause * 1.5, LONGEST_PAUSE)
        except KeyboardInterrupt:
            print("\nStopped waiting. The run continues: %s" % self.get_portal_url(), file=sys.stderr, flush=True)
            raise
        details = self.get_details()
        if show_output:
            print("\nExecution Summary\n=================\nRunId: %s\nWeb View: %s" % (self.id, self.get_portal_url()))
            print("Status: %s" % self.status, flush=True)
        if raise_on_error and self.status == "Failed":
            raise RunFailed(self.failure(), details)
        return details

    @property
    def exit_code(self) -> Optional[int]:
        """The script's exit code, once it is known."""
        code = self._data.get("exit_code")
        return None if code is None else int(code)

    def failure(self) -> str:
        """Why the run failed, in one line."""
        error, reason = self._data.get("error") or {}, self._data.get("reason") or ""
        what = ": ".join(str(error[key]) for key in ("type", "message") if error.get(key))
        if not what:
            what = "exit code %s" % self.exit_code if self.exit_code is not None else reason.replace("_", " ")
        return "Run %s failed: %s. %s" % (self.id, what, self.get_portal_url())

    def __repr__(self) -> str:
        return "Run(Experiment: %s, Id: %s, Status: %s)" % (self._data["experiment"], self.id, self.status)
