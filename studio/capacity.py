"""How busy a workspace's targets are: the foot of the sidebar."""

from dataclasses import dataclass

from django.db.models import Count, Q, Sum

from environments.models import ComputeTarget
from runs.models import Run
from runs.status import ACTIVE, RunStatus
from studio.workspaces.models import Workspace

BLOCKS = 24


@dataclass(frozen=True)
class Capacity:
    slots: int
    busy: int
    waiting: int
    active: int

    @property
    def free(self) -> int:
        return max(0, self.slots - self.busy)

    @property
    def blocks(self) -> list[str]:
        """One class name per block: empty for a busy slot, ``free`` otherwise. None at all past what a row can hold."""
        return [] if self.slots > BLOCKS else ([""] * min(self.busy, self.slots) + ["free"] * self.free)


def capacity_of(workspace: Workspace) -> Capacity:
    """Two indexed queries: the slots of all targets that a run could start on, and the active runs by what they do."""
    usable = {"enabled": True, "quarantined_at": None, "unreachable_since": None}
    targets = ComputeTarget.objects.attached().filter(workspace=workspace, **usable)
    slots = targets.aggregate(n=Sum("slots"))["n"] or 0
    waits = Q(status__in=[RunStatus.NOT_STARTED, RunStatus.PREPARING, RunStatus.QUEUED])
    counts = Run.objects.filter(workspace=workspace, status__in=sorted(ACTIVE)).aggregate(
        active=Count("pk"),
        waiting=Count("pk", filter=waits),
        busy=Count(
            "pk", filter=~waits & Q(launched=True, **{f"target__{name}": value for name, value in usable.items()})
        ),
    )
    return Capacity(slots=slots, **counts)
