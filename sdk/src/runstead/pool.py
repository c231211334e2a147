"""`AmlCompute`: what the reference calls a cluster is here a pool of attached targets. No cloud machine is started."""

from __future__ import annotations

import time
import uuid
import warnings

from .attach_arguments import AttachConfiguration
from .compute import ComputeTarget, path_of
from .errors import ComputeTargetException, UserError
from .needed import workspace_of
from .pool_status import AmlComputeStatus, ScaleSettings
from .transport import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Mapping, Optional, Sequence, Union

    from .workspace import Workspace


IDLE_SECONDS = 1800
PAUSE = 1.0


class ProvisioningConfiguration(AttachConfiguration):
    """What `ComputeTarget.create` takes."""


class AmlCompute(ComputeTarget):
    """A pool: runs sent to it go to the first of its attached targets with a free slot."""

    type = "AmlCompute"

    @staticmethod
    def provisioning_configuration(
        vm_size: str = "",
        vm_priority: str = "dedicated",
        min_nodes: int = 0,
        max_nodes: Optional[int] = None,
        idle_seconds_before_scaledown: Optional[int] = IDLE_SECONDS,
        admin_username: Optional[str] = None,
        admin_user_password: Optional[str] = None,
        admin_user_ssh_key: Optional[str] = None,
        vnet_resourcegroup_name: Optional[str] = None,
        vnet_name: Optional[str] = None,
        subnet_name: Optional[str] = None,
        tags: Optional[Mapping[str, str]] = None,
        description: Optional[str] = None,
        remote_login_port_public_access: str = "NotSpecified",
        identity_type: Optional[str] = None,
        identity_id: Optional[Sequence[str]] = None,
        location: Optional[str] = None,
        enable_node_public_ip: bool = True,
        *,
        members: Optional[Sequence[Union[str, ComputeTarget]]] = None,
    ) -> ProvisioningConfiguration:
        """`members`: the attached targets that the pool is made of, in the order in which they are asked; None: all that are attached
        when it is made. `max_nodes`: how many of them are used at once; None: all. What names a cloud's parts is not looked at.
        """
        if vm_size:
            warnings.warn(
                "vm_size means nothing here: no machines are made. The pool has the machines that are attached.",
                stacklevel=2,
            )
        _check_nodes(min_nodes, max_nodes)
        body = {"kind": "pool", "members": _names(members), "min_nodes": min_nodes, "max_nodes": max_nodes}
        return ProvisioningConfiguration({**body, "description": description} if description else body)

    # What it is.

    @property
    def kind(self) -> str:
        return "Pool"

    @property
    def status(self) -> AmlComputeStatus:  # type: ignore[override]
        """Its members by what they do, and how many are usable: as it was when this object was made or refreshed."""
        return AmlComputeStatus(self._row)

    @property
    def scale_settings(self) -> ScaleSettings:
        return self.status.scale_settings

    @property
    def vm_size(self) -> str:
        """Empty: its machines are what they are."""
        return ""

    @property
    def vm_priority(self) -> str:
        return "dedicated"

    @property
    def description(self) -> str:
        return str(self._row["description"])

    @property
    def members(self) -> List[str]:
        """Names of its targets, in the order in which they are asked."""
        return [member["name"] for member in self._row["members"]]

    @property
    def provisioning_errors(self) -> List[str]:
        """What keeps the pool from taking runs; empty while one of its targets can."""
        if self._row["usable"]:
            return []
        return ["No target of the pool is usable: %s." % ", ".join(_told(member) for member in self._row["members"])]

    @property
    def slots(self) -> int:
        """How many runs may execute on its targets at once."""
        return sum(member["slots"] for member in self._row["members"])

    @property
    def gpus(self) -> int:
        return sum(member["gpus"] for member in self._row["members"])

    @property
    def enabled(self) -> bool:
        """Whether one of its targets is usable."""
        return bool(self._row["usable"])

    @property
    def quarantine(self) -> str:
        """Empty: its targets are quarantined, each by itself."""
        return ""

    @property
    def public_key(self) -> str:
        """Empty: its targets have keys."""
        return ""

    @property
    def steps(self) -> List[Dict[str, Any]]:
        """None: its targets are tested, each by itself."""
        return []

    def get_status(self) -> AmlComputeStatus:  # type: ignore[override]
        """Ask, and return `status`."""
        self.refresh_state()
        return self.status

    def list_nodes(self) -> List[Dict[str, Any]]:
        """Ask for the members, in their order: `nodeId` is the target's name, `nodeState` one of idle, preparing, running, leaving
        (draining) and unusable; there are no addresses and no port, `runCount` is how many runs of the pool are there."""
        self.refresh_state()
        return [
            {
                "nodeId": member["name"], "port": None, "publicIpAddress": None, "privateIpAddress": None,
                "nodeState": member["state"], "runCount": member["of_pool"],
            }
            for member in self._row["members"]
        ]  # fmt: skip

    def wait_for_completion(
        self,
        show_output: bool = False,
        min_node_count: Optional[int] = None,
        timeout_in_minutes: float = 25,
        is_delete_operation: bool = False,
    ) -> None:
        """Until `min_node_count` targets are usable; None: as many as the pool's `min_nodes`. Making it is done when it returns.

        As in the reference, nothing is raised when the time is over: it warns with what is missing. `is_delete_operation`: returns at
        once, since removing is done when `delete` returns.
        """
        if is_delete_operation:
            return
        wanted = self._row["min_nodes"] if min_node_count is None else min_node_count
        end = time.monotonic() + timeout_in_minutes * 60
        while True:
            if show_output:
                print("%s: %s" % (self.name, self._row["health"]), flush=True)
            shown = self._row["health"]
            while self._row["usable"] < wanted and self._row["health"] == shown and time.monotonic() < end:
                time.sleep(PAUSE)
                self.refresh_state()
            if self._row["usable"] >= wanted:
                break
            if time.monotonic() >= end:
                away = [_told(member) for member in self._row["members"] if member["state"] in ("unusable", "leaving")]
                warnings.warn(
                    "%s: the time is over, and %d of %d targets are usable. Away: %s."
                    % (self.name, self._row["usable"], wanted, ", ".join(away) or "none"),
                    stacklevel=2,
                )
                return
        if show_output:
            print("Succeeded\nMinimum number of nodes requested are usable", flush=True)

    # What can be done with it.

    def update(  # type: ignore[override]
        self,
        min_nodes: Optional[int] = None,
        max_nodes: Optional[int] = None,
        idle_seconds_before_scaledown: Optional[int] = None,
        *,
        members: Optional[Sequence[Union[str, ComputeTarget]]] = None,
        description: Optional[str] = None,
        name: Optional[str] = None,
        all_nodes: bool = False,
    ) -> None:
        """Change it; what is None stays. `all_nodes`: no `max_nodes` from now on. Runs that were placed stay where they are.

        Raises ComputeTargetException. `idle_seconds_before_scaledown` means nothing here: machines stay.
        """
        if all_nodes and max_nodes is not None:
            raise UserError("all_nodes: give max_nodes or this, not both.")
        _check_nodes(self._row["min_nodes"] if min_nodes is None else min_nodes, max_nodes)
        given = {
            "min_nodes": min_nodes, "max_nodes": max_nodes, "members": _names(members), "description": description, "name": name,
        }  # fmt: skip
        body = {key: value for key, value in given.items() if value is not None}
        if all_nodes:
            body["max_nodes"] = None
        try:
            self._row = self._ask("PATCH", "", body)
        except ApiError as error:
            raise ComputeTargetException(str(error), error.problem) from None

    def delete(self, cancel_runs: bool = False) -> None:
        """Take the pool away; its targets stay attached, and what executes on them goes on. Raises ComputeTargetException while runs wait
        in it, unless `cancel_runs`."""
        try:
            self._ask("DELETE", query={"force": "cancel"} if cancel_runs else None)
        except ApiError as error:
            raise ComputeTargetException(str(error), error.problem) from None

    def detach(self, runs: Optional[str] = None, timeout: float = 3600) -> None:
        """The same as `delete`; `runs` "cancel" cancels those that wait in it."""
        if runs not in (None, "cancel"):
            raise UserError("runs: %r is not known for a pool. Use 'cancel', or None." % (runs,))
        self.delete(cancel_runs=runs == "cancel")

    def __repr__(self) -> str:
        return "AmlCompute(name=%r, members=%r)" % (self.name, self.members)


def create(workspace: Workspace, name: str, configuration: AttachConfiguration) -> ComputeTarget:
    """Make the pool, and say that no machine was made. Called again for the same, it returns the one that is there. Raises
    ComputeTargetException."""
    if not isinstance(configuration, ProvisioningConfiguration):
        raise UserError("provisioning_configuration: make it with AmlCompute.provisioning_configuration(…).")
    path_of(name)
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    body = {**configuration.body, "name": name}
    try:
        row = workspace_of(workspace).transport.request("POST", "targets", body, headers=headers).json()
    except ApiError as error:
        raise ComputeTargetException(str(error), error.problem) from None
    warnings.warn("%s: %s" % (name, row["notice"]), stacklevel=3)
    return ComputeTarget._of(workspace, row)


def _check_nodes(min_nodes: Any, max_nodes: Any) -> None:
    for field, value, least in (("min_nodes", min_nodes, 0), ("max_nodes", max_nodes, 1)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            raise UserError("%s: a whole number from %d on is needed, got %r." % (field, least, value))
    if max_nodes is not None and max_nodes < min_nodes:
        raise UserError("max_nodes: it is %d, less than min_nodes, %d." % (max_nodes, min_nodes))


def _names(members: Any) -> Optional[List[str]]:
    if members is None:
        return None
    if isinstance(members, str):
        raise UserError("members: a list of targets is needed, got the text %r." % members)
    return [one if isinstance(one, str) else one.name for one in members]


def _told(member: Mapping[str, Any]) -> str:
    return "%s (%s)" % (member["name"], member["health"])
