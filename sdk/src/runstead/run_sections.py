"""The smaller parts of a `RunConfiguration`, by the names and defaults of the reference."""

from __future__ import annotations

from .sections import Section

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, List, Optional

CLUSTER = "cluster"


class HistoryConfiguration(Section):
    """What of a run is kept. Here it is always everything: `outputs/` and `logs/`, and the snapshot of the folder."""

    PART = "history"
    NOTHING = {
        "output_collection": (True, "outputs/ is always collected."),
        "snapshot_project": (True, "a run always keeps the snapshot that it was started from."),
        "directories_to_watch": (["logs"], "logs/ is followed; write there what is to be seen live."),
    }
    output_collection: bool
    snapshot_project: bool
    directories_to_watch: List[str]

    def __init__(
        self,
        output_collection: bool = True,
        snapshot_project: bool = True,
        directories_to_watch: Optional[List[str]] = None,
    ) -> None:
        self.output_collection = output_collection
        self.snapshot_project = snapshot_project
        self.directories_to_watch = ["logs"] if directories_to_watch is None else directories_to_watch


class HdiConfiguration(Section):
    """Where the driver of Spark runs. Until it is set, the target's own setting holds."""

    PART = "hdi"
    yarn_deploy_mode: str

    def __init__(self) -> None:
        self._said = False
        self.yarn_deploy_mode = CLUSTER
        self._said = False

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "yarn_deploy_mode":
            self._said = True

    @property
    def deploy_mode(self) -> str:
        """What spark-submit is told; empty: nothing."""
        return str(self.yarn_deploy_mode).lower() if self._said else ""


class AmlComputeConfiguration(Section):
    """A cluster of a cloud made for one run. There is none here: submit to a pool of attached targets."""

    PART = "amlcompute"
    _INSTEAD = "no machine is made for a run. Submit to an attached target, or to a pool of them."
    NOTHING = {
        "vm_size": (None, _INSTEAD),
        "vm_priority": (None, _INSTEAD),
        "retain_cluster": (False, _INSTEAD),
        "cluster_max_node_count": (1, _INSTEAD),
        "name": (None, _INSTEAD),
    }
    vm_size: Optional[str]
    vm_priority: Optional[str]
    retain_cluster: bool
    cluster_max_node_count: Optional[int]
    name: Optional[str]

    def __init__(self) -> None:
        self.vm_size = None
        self.vm_priority = None
        self.retain_cluster = False
        self.cluster_max_node_count = None
        self.name = None
