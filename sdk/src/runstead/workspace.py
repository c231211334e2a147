"""`Workspace`: where everything is found. `Workspace.from_config()` finds the one to use."""

from __future__ import annotations

import json
import os
import uuid
from urllib.parse import quote

from . import config as settings
from .errors import UserError, WorkspaceException
from .keywords import names_of, refuse
from .needed import file_path
from .not_yet import member, method
from .transport import ApiError, Transport

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Union

    from .compute import ComputeTarget
    from .environment import Environment
    from .experiment import Experiment
    from .keyvault import Keyvault
    from .model import Model
    from .submitted import SubmittedRun

GROUP = "runstead"
"""What is answered where scripts of other systems print a resource group."""
_given = ""
"""The token that `get_mlflow_tracking_uri` has put into the environment of this process."""


class Workspace:
    """A workspace of a studio. `Workspace.from_config()` finds the one to use."""

    def __init__(
        self,
        url: Optional[str] = None,
        name: Optional[str] = None,
        token: Optional[str] = None,
        *,
        subscription_id: Optional[str] = None,
        resource_group: Optional[str] = None,
        workspace_name: Optional[str] = None,
        auth: Any = None,
        **kwargs: Any,
    ) -> None:
        """By the studio's address, the workspace's name and a token; or as in the reference, where `workspace_name`, or the third of three
        values, is that of `Workspace.get`: what names a cloud's parts is not looked at. Raises UserError, WorkspaceException."""
        refuse("Workspace", kwargs, (*names_of(Workspace.__init__), "sku", "tags", "location", "cloud"))
        if url is not None and "://" not in url:
            url, name, workspace_name = None, None, token if workspace_name is None else workspace_name
        if url is not None:
            if not name or not token:
                raise UserError("name: with the address of a studio the name of a workspace and a token are needed.")
            self.name = name
            self.transport = Transport(url, name, token)
            return
        wanted = workspace_name or name
        if not wanted:
            raise UserError(
                "workspace_name: the name of a workspace is needed. Workspace.from_config() finds the one that is set up."
            )
        found = Workspace.get(wanted)
        self.name, self.transport = found.name, found.transport

    @property
    def url(self) -> str:
        """The studio's address."""
        return self.transport.url

    # Found

    @classmethod
    def from_config(
        cls, path: Optional[str] = None, auth: Any = None, _logger: Any = None, _file_name: Optional[str] = None
    ) -> Workspace:
        """The workspace that the environment, the studio on this machine, or a configuration file names.

        `path`: a file, or a folder to begin in; config.json or runstead.json is searched for there and in `.azureml` and `aml_config`
        of it, then upward. `auth` is there for scripts of other systems. Raises UserError.
        """
        place = None if path is None else file_path("path", path)
        if place is not None and _file_name:
            place = os.path.join(place, _file_name)
        found = settings.find(place)
        return cls(found["url"], found["workspace"], found["token"])

    @staticmethod
    def get(
        name: str,
        auth: Any = None,
        subscription_id: Optional[str] = None,
        resource_group: Optional[str] = None,
        location: Optional[str] = None,
        cloud: Optional[str] = None,
        id: Optional[str] = None,
    ) -> Workspace:
        """A workspace of the studio that `from_config()` finds, by name. What names a cloud's parts is not looked at.

        Raises WorkspaceException when there is none that this sign-in may use.
        """
        known = Workspace._known()
        if name not in known:
            raise WorkspaceException(
                "name: there is no workspace %r for this sign-in, which is for: %s. A token is of one workspace: sign in to another with "
                "runstead login --workspace %s." % (name, ", ".join(known), name)
            )
        return known[name]

    @staticmethod
    def list(
        subscription_id: Optional[str] = None, auth: Any = None, resource_group: Optional[str] = None
    ) -> Dict[str, List[Workspace]]:
        """Name → a list of the one workspace of that name, as the reference has it: those of the studio that one is signed in to."""
        return {name: [workspace] for name, workspace in Workspace._known().items()}

    @staticmethod
    def create(
        name: str,
        auth: Any = None,
        subscription_id: Optional[str] = None,
        resource_group: Optional[str] = None,
        location: Optional[str] = None,
        create_resource_group: bool = True,
        sku: str = "basic",
        friendly_name: Optional[str] = None,
        exist_ok: bool = False,
        show_output: bool = True,
        **kwargs: Any,
    ) -> Workspace:
        """The workspace of that name, with `exist_ok`. Making one is done on the studio's pages: a token is for one workspace alone.

        Raises WorkspaceException.
        """
        known = Workspace._known()
        if name in known and exist_ok:
            return known[name]
        if name in known:
            raise WorkspaceException("name: there is a workspace %r already. Give exist_ok=True to use it." % name)
        raise WorkspaceException(
            "name: a token is of one workspace, so it makes none. Make %r at %s/workspaces/new, and a token there."
            % (name, next(iter(known.values())).url)
        )

    @staticmethod
    def _known() -> Dict[str, Workspace]:
        """Name → workspace: the one that is found, and those of the same studio that one has signed in to."""
        mine = Workspace.from_config()
        known = {mine.name: mine}
        for login in settings.logins():
            if login["url"] == mine.url and login["workspace"] not in known:
                known[login["workspace"]] = Workspace(mine.url, login["workspace"], login["token"])
        return known

    def write_config(self, path: Optional[str] = None, file_name: Optional[str] = None) -> None:
        """Write `.azureml/config.json` below `path` (default: the working directory), for `from_config()` there and below.

        The token is not in it: it stays where it is, or comes from RUNSTEAD_TOKEN.
        """
        folder = os.path.join(os.fspath(path) if path is not None else os.getcwd(), ".azureml")
        os.makedirs(folder, exist_ok=True)
        data = {
            "url": self.url,
            "workspace": self.name,
            "workspace_name": self.name,
            "resource_group": self.resource_group,
            "subscription_id": self.subscription_id,
        }
        with open(os.path.join(folder, file_name or "config.json"), "w", encoding="utf-8") as file:
            json.dump(data, file, indent=4)
            file.write("\n")

    # What it is

    @property
    def resource_group(self) -> str:
        """There is none here; a word for the scripts that print it."""
        return GROUP

    @property
    def location(self) -> str:
        """The host of the studio."""
        return self.url.split("://", 1)[1]

    @property
    def subscription_id(self) -> str:
        """There is none here; an id of the studio's address for the scripts that print it."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, self.url))

    def get_details(self) -> Dict[str, Any]:
        """id, name, location, workspaceid, the sign-in's user and role, and the address of the pages."""
        me = self.transport.request("GET", "/me").json()
        rows = self.transport.rows("/workspaces", "workspaces")
        own = next((row for row in rows if row["slug"] == self.name), {"name": self.name, "role": None})
        return {
            "id": "/subscriptions/%s/resourceGroups/%s/workspaces/%s" % (self.subscription_id, GROUP, self.name),
            "name": self.name,
            "type": "Runstead",
            "location": self.location,
            "workspaceid": str(uuid.uuid5(uuid.NAMESPACE_URL, "%s/%s" % (self.url, self.name))),
            "friendlyName": own["name"],
            "url": self.get_portal_url(),
            "user": me["email"],
            "role": own["role"],
        }

    def get_portal_url(self) -> str:
        """The address of its pages."""
        return "%s/%s/" % (self.url, self.name)

    def get_mlflow_tracking_uri(self, with_auth: bool = False) -> str:
        """The address for `mlflow.set_tracking_uri`. mlflow takes the token from MLFLOW_TRACKING_TOKEN: where this process has neither that
        nor MLFLOW_TRACKING_PASSWORD, the variable is set to the token of this workspace; `with_auth` sets it in any case."""
        global _given
        own = os.environ.get("MLFLOW_TRACKING_TOKEN", "") == _given
        if with_auth or (own and not os.environ.get("MLFLOW_TRACKING_PASSWORD")):
            _given = self.transport.token
            os.environ["MLFLOW_TRACKING_TOKEN"] = self.transport.token
        return "%s/%s/mlflow" % (self.url, self.name)

    # What is in it

    def get_run(self, run_id: Union[int, str]) -> SubmittedRun:
        """The run with this number, or id. Raises UserError when there is none."""
        from .submitted import SubmittedRun

        text = str(run_id)
        path = "runs/" + text if text.isdigit() else "runs/by-id/" + quote(text, safe="")
        try:
            return SubmittedRun(self, self.transport.request("GET", path).json())
        except ApiError as error:
            if error.status != 404 or not error.names("run"):
                raise
            raise UserError("run_id: there is no run %r in workspace %s." % (run_id, self.name)) from None

    @property
    def compute_targets(self) -> Dict[str, ComputeTarget]:
        """Name → compute target."""
        from .compute import ComputeTarget

        return {target.name: target for target in ComputeTarget.list(self)}

    @property
    def experiments(self) -> Dict[str, Experiment]:
        """Name → experiment, without those that are archived."""
        from .experiment import Experiment

        return {one.name: one for one in Experiment.list(self)}

    @property
    def environments(self) -> Dict[str, Environment]:
        """Name → newest version of every environment that the workspace can use."""
        from .environment import Environment

        return Environment.list(self)

    @property
    def models(self) -> Dict[str, Model]:
        """Name → newest version of every registered model."""
        from .model import Model

        return {one.name: one for one in Model.list(self, latest=True)}

    def get_default_keyvault(self) -> Keyvault:
        """The workspace's secrets: they can be set and listed."""
        from .keyvault import Keyvault

        return Keyvault(self)

    datastores = member("Workspace.datastores")
    datasets = member("Workspace.datasets")
    webservices = member("Workspace.webservices")
    images = member("Workspace.images")
    linked_services = member("Workspace.linked_services")
    get_default_datastore = method("Workspace.get_default_datastore")
    set_default_datastore = method("Workspace.set_default_datastore")
    get_default_compute_target = method("Workspace.get_default_compute_target")
    set_default_compute_target = method("Workspace.set_default_compute_target")
    delete = method("Workspace.delete")
    update = method("Workspace.update")

    def __deepcopy__(self, memo: Dict[int, Any]) -> Workspace:
        """A copied configuration means the same workspace; a connection cannot be copied."""
        return self

    def _repr_html_(self) -> str:
        from .notebook_html import table

        return table(self.get_portal_url(), name=self.name, studio=self.url)

    def __repr__(self) -> str:
        return "Workspace(name=%r, url=%r)" % (self.name, self.url)
