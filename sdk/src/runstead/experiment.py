"""`Experiment`: a named group of runs."""

from __future__ import annotations

import copy
import re
import uuid
from urllib.parse import quote

from .errors import NotYet, UserError
from .keywords import names_of, tell
from .needed import texts, workspace_of
from .transport import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Union

    from .folder import Told
    from .submitted import SubmittedRun
    from .workspace import Workspace

    Tags = Union[str, Mapping[str, Optional[str]], None]

NAME = re.compile(r"[A-Za-z0-9][\w\-]{0,254}\Z", re.ASCII)
PAGE = 200
VIEWS = {"ActiveOnly": "no", "ArchivedOnly": "yes", "All": "any"}


class Experiment:
    """A named group of runs: found, or made with its first run."""

    def __init__(self, workspace: Workspace, name: str, _skip_name_validation: bool = False, **kwargs: Any) -> None:
        if not isinstance(name, str) or not NAME.match(name):
            raise UserError(
                "name: %r is no experiment's name. Use 1 to 255 letters, digits, '_' or '-', beginning with a letter or digit."
                % (name,)
            )
        self.workspace = workspace_of(workspace)
        self.name = name
        self._row: Optional[Dict[str, Any]] = None

    # Runs

    def submit(
        self,
        config: Any,
        tags: Optional[Mapping[str, Optional[str]]] = None,
        display_name: str = "",
        notes: str = "",
        progress: Optional[Told] = None,
        **kwargs: Any,
    ) -> SubmittedRun:
        """Send the folder (only what the studio lacks), start the run, and return at once.

        `config`: a ScriptRunConfig or an Estimator; it is copied, what happens to it later does not matter. `show_output=True`: wait
        and print the log. `progress(stage, done, total)` is told bytes while the folder is `reading` and `sending`, from any
        thread. Other keywords are left out with a warning.
        Raises UserError, RunsteadError.
        """
        from .submitting import submit

        tell("submit", kwargs, (*names_of(Experiment.submit), "show_output"))
        run = submit(self, config, tags, display_name, notes, progress)
        if kwargs.get("show_output"):
            run.wait_for_completion(show_output=True)
        return run

    def start_logging(
        self,
        outputs: Optional[str] = None,
        snapshot_directory: Optional[str] = ".",
        display_name: Optional[str] = None,
        tags: Optional[Mapping[str, Optional[str]]] = None,
        **kwargs: Any,
    ) -> SubmittedRun:
        """Begin a run that is this process: what it logs goes to the studio at once. End it with `complete()` or `fail()`, or use it
        in a `with` statement; a process that ends without saying so ends the run as it ends itself.

        `outputs`: a folder that is kept with the run when it ends. `snapshot_directory`: the folder of its code, sent as a submit
        does, with the facts of its git repository as properties; None: neither. A working directory that is not named and is no folder
        of code (over 300 MB or 10,000 files) is not sent, with a warning. Raises SnapshotException, RunsteadError.
        """
        from .interactive import begin

        tell("start_logging", kwargs, names_of(Experiment.start_logging))
        return begin(self, outputs, snapshot_directory, display_name or "", tags)

    def get_runs(
        self,
        type: Optional[str] = None,
        tags: Tags = None,
        properties: Tags = None,
        include_children: bool = False,
        status: Optional[str] = None,
    ) -> Iterator[SubmittedRun]:
        """The experiment's runs, the newest first, fetched as they are asked for.

        `type`: script or interactive; `tags`, `properties`: a name, or names with the values they must have.
        """
        from .listing import runs

        return runs(self.workspace, self.name, type, tags, properties, include_children, status)

    # What it is

    @property
    def id(self) -> str:
        return str(self._known()["id"])

    @property
    def description(self) -> str:
        return str(self._known()["description"])

    @description.setter
    def description(self, value: str) -> None:
        self._change(description=value)

    @property
    def tags(self) -> Dict[str, Optional[str]]:
        """Its tags as they were when this object first asked; `refresh()` asks again."""
        return dict(self._known()["tags"])

    @property
    def archived_time(self) -> Optional[str]:
        """When it was archived, ISO 8601; None while it is not."""
        return self._known().get("archived_at")  # type: ignore[no-any-return]

    def refresh(self) -> Experiment:
        """Ask the studio again."""
        self._row = self._ask("GET")
        return self

    def get_portal_url(self) -> str:
        """The address of its page."""
        return str(self._known()["url"])

    # What can be done with it

    def archive(self) -> None:
        """Leave it out of lists. Its runs stay, and `reactivate` brings it back."""
        self._change(archived=True)

    def reactivate(self, new_name: Optional[str] = None) -> None:
        """Bring an archived experiment back."""
        if new_name is not None:
            raise NotYet("new_name: an experiment keeps its name here.")
        self._change(archived=False)

    def tag(self, key: str, value: Optional[str] = None) -> None:
        """Set a tag; a bare tag has the value None."""
        self.set_tags({key: value})

    def set_tags(self, tags: Mapping[str, Optional[str]]) -> None:
        """Add tags, or give them other values."""
        new = texts("tags", tags)
        self._change(tags={**self._fresh()["tags"], **new})

    def remove_tags(self, tags: Iterable[str]) -> None:
        """Remove tags by name."""
        gone = [tags] if isinstance(tags, str) else list(tags)
        self._change(tags={key: value for key, value in self._fresh()["tags"].items() if key not in gone})

    @staticmethod
    def list(
        workspace: Workspace,
        experiment_name: Optional[str] = None,
        view_type: str = "ActiveOnly",
        tags: Tags = None,
    ) -> List[Experiment]:
        """The experiments of a workspace, by name. `view_type`: ActiveOnly, ArchivedOnly or All."""
        from .listing import wanted

        if view_type not in VIEWS:
            raise UserError("view_type: %r is not known. Use %s." % (view_type, ", ".join(VIEWS)))
        query: Dict[str, Any] = {"archived": VIEWS[view_type], "limit": PAGE}
        found: List[Experiment] = []
        while True:
            page = workspace_of(workspace).transport.request("GET", "experiments", query=query).json()
            for row in page["experiments"]:
                if experiment_name in (None, row["name"]) and _has(row["tags"], wanted("tags", tags)):
                    made = Experiment(workspace, row["name"])
                    made._row = row
                    found.append(made)
            if page["next"] is None:
                return found
            query["after"] = page["next"]

    @staticmethod
    def delete(workspace: Workspace, experiment_id: str) -> None:
        """Delete an experiment that has no runs, or only archived ones. `experiment_id`: its id or name. Raises UserError."""
        rows = Experiment.list(workspace, view_type="All")
        one = next((row for row in rows if str(experiment_id) in (row.name, row.id)), None)
        if one is None:
            raise UserError(
                "experiment_id: there is no experiment %r in workspace %s." % (experiment_id, workspace.name)
            )
        one._ask("DELETE")

    def _ask(self, method: str, body: Any = None) -> Any:
        answer = self.workspace.transport.request(method, "experiments/" + quote(self.name, safe=""), body)
        return answer.json() if answer.data else None

    def _fresh(self) -> Dict[str, Any]:
        """As the studio has it; made there, when it is not there yet."""
        try:
            self._row = self._ask("GET")
        except ApiError as error:
            if error.status != 404:
                raise
            headers = {"Idempotency-Key": str(uuid.uuid4())}
            self._row = self.workspace.transport.request(
                "POST", "experiments", {"name": self.name}, headers=headers
            ).json()
        assert self._row is not None
        return self._row

    def _known(self) -> Dict[str, Any]:
        return self._row if self._row is not None else self._fresh()

    def _change(self, **fields: Any) -> None:
        self._fresh()
        self._row = self._ask("PATCH", fields)

    def _repr_html_(self) -> str:
        from .notebook_html import table

        # Not the address that the studio says: asking for that would make the experiment.
        page = "%sexperiments/%s" % (self.workspace.get_portal_url(), self.name)
        return table(page, name=self.name, workspace=self.workspace.name)

    def __repr__(self) -> str:
        return "Experiment(name=%r)" % self.name

    def __deepcopy__(self, memo: Any) -> Experiment:
        return copy.copy(self)


def _has(tags: Mapping[str, Optional[str]], filters: List[str]) -> bool:
    for text in filters:
        name, equals, value = text.partition("=")
        if name not in tags or (equals and tags[name] != value):
            return False
    return True
