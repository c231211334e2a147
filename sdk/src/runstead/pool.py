"""`AmlCompute`: what the reference calls a cluster is here a pool of attached targets. No machine of a cloud is made."""

from __future__ import annotations

import uuid
import warnings

from .compute import AttachConfiguration, ComputeTarget
from .errors import ComputeTargetException, NotYet, UserError
from .transport import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Mapping, Optional, Sequence, Union

    from .workspace import Workspace


IDLE_SECONDS = 1800


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
        when it is made. `max_nodes`: how many of them are used at once. What names a cloud's parts is not looked at.
        """
        if vm_size:
            warnings.warn(
                "vm_size means nothing here: no machines are made. The pool has the machines that are attached.",
                stacklevel=2,
            )
        for field, value, least in (("min_nodes", min_nodes, 0), ("max_nodes", max_nodes, 1)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise UserError("%s: a whole number from %d on is needed, got %r." % (field, least, value))
        if max_nodes is not None and max_nodes < min_nodes:
            raise UserError("max_nodes: it is %d, less than min_nodes, %d." % (max_nodes, min_nodes))
        names = None if members is None else [one if isinstance(one, str) else one.name for one in members]
        return ProvisioningConfiguration(
            {"kind": "pool", "members": names, "min_nodes": min_nodes, "max_nodes": max_nodes}
        )


def create(workspace: Workspace, name: str, configuration: AttachConfiguration) -> ComputeTarget:
    """Make the pool. Raises ComputeTargetException, and NotYet where the studio knows no pools."""
    if not isinstance(configuration, ProvisioningConfiguration):
        raise UserError("provisioning_configuration: make it with AmlCompute.provisioning_configuration(…).")
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    try:
        row = workspace.transport.request(
            "POST", "targets", {**configuration.body, "name": name}, headers=headers
        ).json()
    except ApiError as error:
        if any(error.names(field) for field in ("kind", "min_nodes", "max_nodes", "transport")):
            raise NotYet(
                "This studio knows no pools yet: attach a machine with ComputeTarget.attach, and submit to it by its name."
            ) from None
        raise ComputeTargetException(str(error), error.problem) from None
    return ComputeTarget._of(workspace, row)
