"""Which runs of a target come next, and what each is given when it starts."""

from collections.abc import Collection, Sequence
from typing import Any

from django.db.models import Q, QuerySet

from environments.launchers import Start
from environments.models import ComputeTarget
from runs.config import ScriptRunConfig
from runs.models import Run
from runs.status import ACTIVE, RunStatus

STATE = ("pk", "status", "launched")
PREPARED_AHEAD = 4
"""Runs laid out beyond the free slots, so that a slot never waits for a copy."""


def of_interest(target: ComputeTarget, building: Collection[int]) -> list[tuple[int, str, bool]]:
    """(id, status, launched) of all launched runs of a target, and of as many waiting ones as may matter now.

    ``building``: ids of the builds that are not ready yet. Runs that wait for them come back when they are: they must not keep
    others from free slots.
    """
    # By the workspace's index of states: the target's own would lead through every run that ever was on it.
    active: QuerySet[Run] = Run.objects.filter(
        workspace_id=target.workspace_id, target_id=target.pk, status__in=ACTIVE
    ).order_by()
    urgent = Q(launched=True) | Q(status__in=[RunStatus.CANCEL_REQUESTED, RunStatus.FINALIZING])
    built = Q(build=None) | ~Q(build_id__in=building)
    waiting = active.exclude(urgent).filter(built).order_by("-priority", "number")
    return [
        *sorted(active.filter(urgent).values_list(*STATE)),
        *waiting.values_list(*STATE)[: target.slots + PREPARED_AHEAD],
    ]


def choose(target: ComputeTarget, work: Sequence[Run]) -> list[tuple[Run, dict[str, Any]]]:
    """Of the runs that are ready those that start now, with what each is given. Decides, and writes nothing."""
    taken = sum(1 for run in work if run.launched and run.status != RunStatus.FINALIZING)
    free = target.slots - taken if target.enabled else 0
    ready = [run for run in work if run.status == RunStatus.QUEUED and not run.launched]
    return [(run, {}) for run in ready[: max(free, 0)]]


def start_of(run: Run) -> Start:
    """How a launched run is started, the same each time it is asked."""
    config = ScriptRunConfig.from_json(run.config)
    gpus = [str(gpu) for gpu in run.granted.get("gpus", ())]
    return Start(
        attempt=run.attempt,
        env={"CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {},
        gpus=gpus,
        image=run.build.image if run.build is not None else "",
        memory_bytes=config.memory_bytes,
    )
