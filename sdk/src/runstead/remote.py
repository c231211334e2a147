"""What the studio is asked about a run: how it is, what it logged, its files, its end."""

from __future__ import annotations

import os

from .errors import UserError
from .keywords import names_of, tell
from .needed import mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Mapping, Optional

    from .environment import Environment
    from .model import Model


class Remote:
    """Needs `workspace` and `number`."""

    workspace: Any
    number: Any

    def _ask(self, method: str, path: str = "", body: Any = None, query: Optional[Mapping[str, Any]] = None) -> Any:
        transport = self.workspace.transport
        answer = transport.request(method, "runs/%d%s" % (self.number, path), body, query)
        return answer.json() if answer.data else None

    # How it is

    def get_status(self) -> str:
        """The status now: NotStarted, Preparing, Queued, Running, Finalizing, Completed, Failed, CancelRequested, Canceled."""
        return str(self._fresh()["status"])

    def _fresh(self) -> Dict[str, Any]:
        """The run as the studio has it now."""
        return dict(self._ask("GET"))

    def get_portal_url(self) -> str:
        """The address of the run's page."""
        return str(self._fresh()["url"])

    def get_details(self) -> Dict[str, Any]:
        """The run as the studio knows it, by the names of the reference; times are ISO 8601.

        runId, target, status, startTimeUtc, endTimeUtc (once it has ended), error, warnings, properties, runDefinition, logFiles (name
        → address), submittedBy.
        """
        from .details import details

        return details(self)

    def get_details_with_logs(self) -> Dict[str, Any]:
        """`get_details()`, and the text of each log in place of its address."""
        from .details import with_logs

        return with_logs(self)

    def get_metrics(
        self,
        name: Optional[str] = None,
        recursive: bool = False,
        run_type: Optional[str] = None,
        populate: bool = False,
    ) -> Dict[str, Any]:
        """What the run has logged: one value is given bare, several as a list, a table as a dict of columns.

        `recursive`: run id → that, of this run and all below it. `populate`: nothing here, values are never references.
        """
        from .measured import metrics

        return metrics(self, name, recursive, run_type)

    def get_environment(self) -> Environment:
        """The version of the environment that the run was started with. Raises UserError when it has none."""
        from .environment import Environment

        reference = self._fresh()["environment"]
        if not reference:
            raise UserError("This run was not started by the studio, so it has no environment.")
        name, _, version = reference.rpartition(":")
        return Environment.get(self.workspace, name, version=version)

    # Its end

    def wait_for_completion(
        self, show_output: bool = False, wait_post_processing: bool = False, raise_on_error: bool = True
    ) -> Dict[str, Any]:
        """Wait until the run has ended; returns `get_details()`. Raises RunFailed for a failed run, unless told not to.

        With `show_output` the log is printed as it grows. Ctrl-C stops the waiting and not the run.
        """
        from .waiting import wait

        return wait(self, show_output, raise_on_error)

    def cancel(self) -> None:
        """Ask for the end of the run. A run that has ended stays as it is."""
        self._ask("POST", "/cancel")

    # Its files

    def get_file_names(self) -> List[str]:
        """Paths of the run's artifacts."""
        from .kept import names

        return names(self)

    def download_file(
        self, name: str, output_file_path: Optional[str] = None, _validate_checksum: bool = False
    ) -> None:
        """Fetch an artifact: to the file `output_file_path`, or into that folder; default: its own name here.

        Raises UserError when there is none of this name.
        """
        from .kept import download

        download(self, name, output_file_path)

    def download_files(
        self,
        prefix: Optional[str] = None,
        output_directory: Optional[str] = None,
        output_paths: Optional[List[str]] = None,
        batch_size: int = 100,
        append_prefix: bool = True,
        timeout_seconds: Optional[int] = None,
    ) -> None:
        """Fetch all artifacts below `prefix` (default: all) into `output_directory` (default: here).

        `append_prefix=False`: their paths there begin behind the prefix. `output_paths`: a file for each, in the order of names.
        """
        from .kept import download_all

        download_all(self, prefix, output_directory, output_paths, append_prefix)

    def get_all_logs(self, destination: Optional[str] = None) -> List[str]:
        """Write every log into a folder (default: here, `<run id>`), and return the paths."""
        from .details import save_logs

        return save_logs(self, destination)

    def get_snapshot_id(self) -> str:
        """The id of the snapshot that the run was started from; empty when there is none."""
        return str(self._fresh()["snapshot"] or "")

    def restore_snapshot(self, snapshot_id: Optional[str] = None, path: Optional[str] = None) -> str:
        """Write the run's snapshot as a zip into the folder `path` (default: here), and return the file's path."""
        from .kept import snapshot

        own = self.get_snapshot_id()
        if snapshot_id is not None and snapshot_id != own:
            raise UserError("snapshot_id: this run has the snapshot %s." % (own or "of no folder"))
        if not own:
            raise UserError("This run was not started by the studio, so it has no snapshot.")
        return snapshot(self, os.path.join(path or ".", "%s.zip" % own))

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
    ) -> Model:
        """Keep an artifact, or a folder of artifacts, as the next version of a model. `model_path`: default `model_name`.

        Raises ModelPathNotFoundException when the run has no such artifact.
        """
        from .model import register_from_run

        tell("register_model", kwargs, names_of(Remote.register_model))
        facts = {"framework": model_framework, "framework_version": model_framework_version}
        own = {**{key: value for key, value in facts.items() if value}, **mapping("properties", properties)}
        return register_from_run(self, model_name, model_path or model_name, tags, own, description)
