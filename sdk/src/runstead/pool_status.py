"""What `AmlCompute.get_status()` gives: the shapes of the reference, filled with what a pool of attached targets has."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Mapping, Optional

STATES = ("preparing", "running", "idle", "unusable", "leaving")


class NodeStateCounts:
    """How many members are in each state. `preempted_node_count` is always 0: nobody takes machines away."""

    preempted_node_count = 0

    def __init__(self, nodes: Mapping[str, int]) -> None:
        self.preparing_node_count = int(nodes["preparing"])
        self.running_node_count = int(nodes["running"])
        self.idle_node_count = int(nodes["idle"])
        self.unusable_node_count = int(nodes["unusable"])
        self.leaving_node_count = int(nodes["leaving"])

    def serialize(self) -> Dict[str, int]:
        found = {state + "NodeCount": getattr(self, state + "_node_count") for state in STATES}
        return {**found, "preemptedNodeCount": 0}


class ScaleSettings:
    """`maximum_node_count` is the number of members where the pool names none. Nothing is scaled down after any idle time."""

    idle_seconds_before_scaledown: Optional[int] = None

    def __init__(self, row: Mapping[str, Any]) -> None:
        most = row["max_nodes"]
        self.minimum_node_count = int(row["min_nodes"])
        self.maximum_node_count = len(row["members"]) if most is None else int(most)

    def serialize(self) -> Dict[str, Any]:
        return {
            "minNodeCount": self.minimum_node_count,
            "maxNodeCount": self.maximum_node_count,
            "nodeIdleTimeBeforeScaleDown": None,
        }


class AmlComputeStatus:
    """A pool as it was at one moment. `allocation_state` is Steady, or Resizing while fewer than `min_nodes` members are usable;
    `current_node_count` counts the usable ones, `errors` names the others that are not merely draining; None when there are none."""

    provisioning_state = "Succeeded"
    provisioning_state_transition_time: Optional[str] = None
    allocation_state_transition_time: Optional[str] = None
    vm_priority = "dedicated"
    vm_size = ""

    def __init__(self, row: Mapping[str, Any]) -> None:
        self.health = str(row["health"])
        self.current_node_count = int(row["usable"])
        self.scale_settings = ScaleSettings(row)
        self.target_node_count = max(self.current_node_count, self.scale_settings.minimum_node_count)
        self.node_state_counts = NodeStateCounts(row["nodes"])
        self.allocation_state = "Steady" if self.current_node_count == self.target_node_count else "Resizing"
        self.creation_time = str(row["created_at"])
        self.modified_time = str(row["updated_at"])
        away = [one for one in row["members"] if one["state"] == "unusable"]
        self.errors: Optional[List[Dict[str, Any]]] = [
            {"error": {"code": "NodeUnusable", "message": "%s: %s" % (one["name"], one["health"])}} for one in away
        ] or None

    def serialize(self) -> Dict[str, Any]:
        """By the reference's keys."""
        return {
            "currentNodeCount": self.current_node_count,
            "targetNodeCount": self.target_node_count,
            "nodeStateCounts": self.node_state_counts.serialize(),
            "allocationState": self.allocation_state,
            "allocationStateTransitionTime": self.allocation_state_transition_time,
            "errors": self.errors,
            "creationTime": self.creation_time,
            "modifiedTime": self.modified_time,
            "provisioningState": self.provisioning_state,
            "provisioningStateTransitionTime": self.provisioning_state_transition_time,
            "scaleSettings": self.scale_settings.serialize(),
            "vmPriority": self.vm_priority,
            "vmSize": self.vm_size,
        }

    def __str__(self) -> str:
        return self.health

    def __repr__(self) -> str:
        return "AmlComputeStatus(%r, current_node_count=%d)" % (self.health, self.current_node_count)
