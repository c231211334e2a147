"""Which runs of a target come next, and what each is given when it starts.

The order: the higher priority first; of one priority the run whose experiment has the fewest running here, then the older run.
A run holds a slot, and the GPUs that it was given, from before its launch until its script is known to have ended. A run that
needs more GPUs than are free lets others start before it, but not for ever: GPUs that come free are kept for it from runs of a
lower priority at once, and from all others once it has waited ``HOLD_AFTER``.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from heapq import heapify, heappop, heappush
from typing import Any

from django.db.models import Case, F, IntegerField, Q, QuerySet, Value, When, Window
from django.db.models.functions import RowNumber
from django.utils import timezone

from environments import waiting
from environments.definition import Definition
from environments.launchers import Start
from environments.models import ComputeTarget
from runs.config import ScriptRunConfig
from runs.models import Run
from runs.status import WAITING, RunStatus

S = RunStatus
STATE = ("pk", "status", "launched")
ROOM = ("slots", "gpu_slots", "facts", "enabled", "quarantined_at")
"""What of a target says how much may run there."""
PREPARED_AHEAD = 4
"""Runs laid out beyond the free slots, so that a slot never waits for a copy."""
HOLD_AFTER = timedelta(minutes=5)
"""So long a run lets smaller ones take the GPUs that it waits for."""

ORDER = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
"""GPUs are numbered as nvidia-smi numbers them. By itself CUDA puts the fastest first, and would give a run another one's GPU."""

State = tuple[int, str, bool]


def active_on(target: ComputeTarget) -> "QuerySet[Run]":
    """Runs of a target that have not ended, by the index that holds no others."""
    return Run.objects.filter(target=target, ended_at=None).order_by()


def holding_on(target: ComputeTarget) -> "QuerySet[Run]":
    """Runs that hold a slot of a target, and their GPUs."""
    return active_on(target).filter(launched=True).exclude(status=S.FINALIZING)


def of_interest(target: ComputeTarget, building: Collection[int]) -> list[State]:
    """(id, status, launched) of all launched runs of a target, and of as many waiting ones as may matter now.

    ``building``: ids of the builds that are not ready yet. Runs that wait for them come back when they are: they must not keep
    others from free slots.
    """
    active = active_on(target)
    launched = list(active.filter(launched=True).values_list("pk", "status", "experiment_id", "granted"))
    asked = active.filter(launched=False, status__in=[S.CANCEL_REQUESTED, S.FINALIZING]).values_list(*STATE)
    found: dict[int, State] = {pk: (pk, status, True) for pk, status, *_ in sorted(launched)}
    found |= {state[0]: state for state in sorted(asked)}
    if target.quarantined_at is not None:
        return list(found.values())  # nothing is prepared either: that may be what fails
    holding = [row for row in launched if row[1] != S.FINALIZING]
    running = Counter(experiment for _, _, experiment, _ in holding)
    free = len(free_gpus(target, [granted for *_, granted in holding]))
    ready = active.filter(launched=False, status__in=sorted(WAITING))
    if building:
        ready = ready.filter(Q(build=None) | ~Q(build_id__in=building))
    windows = [first(ready.filter(gpus=0), running, target.slots)]
    if target.gpus:
        windows.append(first(ready.filter(gpus__gt=0, gpus__lte=target.gpus), running, target.gpus))
        if 0 < free < target.gpus:  # those ahead may all be too large for what is free
            windows.append(first(ready.filter(gpus__gt=0, gpus__lte=free), running, free))
    for window in windows:
        found |= {state[0]: state for state in window}
    return list(found.values())


def first(rows: "QuerySet[Run]", running: Mapping[int, int], places: int) -> "QuerySet[Run, State]":
    """The next runs in their order, for so many places and some more; ``running``: experiment → runs.

    A run's turn is the number of runs that its experiment has or will have running when it comes: sorted by that, all waiting
    runs stand in their order.
    """
    by_count: dict[int, list[int]] = {}
    for experiment, count in running.items():
        by_count.setdefault(count, []).append(experiment)
    cases = [When(experiment_id__in=experiments, then=Value(count)) for count, experiments in by_count.items()]
    place = Window(RowNumber(), partition_by=F("experiment_id"), order_by=[F("priority").desc(), F("number").asc()])
    turns = rows.annotate(turn=place + Case(*cases, default=Value(0), output_field=IntegerField()))
    return turns.order_by("-priority", "turn", "number").values_list(*STATE)[: places + PREPARED_AHEAD]


def choose(target: ComputeTarget, work: Sequence[Run], now: datetime | None = None) -> list[tuple[Run, dict[str, Any]]]:
    """Of the runs that are ready those that start now, with what each is given. Decides, and writes nothing.

    ``work``: at least every launched run of the target, and those of the waiting ones that matter.
    """
    if not target.enabled or target.quarantined_at is not None:
        return []
    now = now or timezone.now()
    holding = [run for run in work if run.launched and run.status != S.FINALIZING]
    gpus = free_gpus(target, [run.granted for run in holding])
    slots = target.slots - len(holding)
    running = Counter(run.experiment_id for run in holding)
    ready: dict[int, list[Run]] = {}
    for run in sorted(work, key=lambda run: (run.priority, -run.number)):
        if run.status == S.QUEUED and not run.launched:
            ready.setdefault(run.experiment_id, []).append(run)
    # The next run of each experiment. One that starts changes the turn of its own experiment alone.
    heads = [turn(runs[-1], running) for runs in ready.values()]
    heapify(heads)
    kept_for: int | None = None  # the priority of a run that waits for GPUs: none for runs of a lower one
    chosen: list[tuple[Run, dict[str, Any]]] = []
    while heads and len(chosen) < slots:
        experiment = heappop(heads)[-1]
        run = ready[experiment].pop()
        if not run.gpus or (run.gpus <= len(gpus) and (kept_for is None or run.priority >= kept_for)):
            given, gpus = gpus[: run.gpus], gpus[run.gpus :]
            chosen.append((run, {"gpus": given} if has_gpus(target) else {}))
            running[experiment] += 1
        elif run.gpus <= target.gpus:
            kept_for = run.priority if kept_for is None else kept_for
            if now - run.created_at >= HOLD_AFTER:
                gpus = []
        if ready[experiment]:
            heappush(heads, turn(ready[experiment][-1], running))
    return chosen


def turn(run: Run, running: Mapping[int, int]) -> tuple[int, int, int, int]:
    """Where a run stands in the order, as a key to sort by; the experiment comes last."""
    return -run.priority, running.get(run.experiment_id, 0), run.number, run.experiment_id


def has_gpus(target: ComputeTarget) -> bool:
    return bool(target.gpus or target.facts.get("gpus"))


def free_gpus(target: ComputeTarget, granted: Iterable[Mapping[str, Any]]) -> list[str]:
    """Ids of the GPUs that nobody holds: their indexes on the machine."""
    held = {str(gpu) for grant in granted for gpu in grant.get("gpus", ())}
    return [str(index) for index in range(target.gpus) if str(index) not in held]


def oversubscribed(target: ComputeTarget) -> list[str]:
    """What the rows say that must never be, in words: a GPU that two runs hold. For those who test and those who doubt."""
    holders: dict[str, list[int]] = {}
    for number, granted in holding_on(target).values_list("number", "granted"):
        for gpu in granted.get("gpus", ()):
            holders.setdefault(str(gpu), []).append(number)
    return [f"GPU {gpu} of {target} is held by runs {runs}" for gpu, runs in holders.items() if len(runs) > 1]


def why_waits(run: Run) -> str:
    """Why its script has not started yet: what an attendant noted, else what follows from the target and its queue. Empty once it
    has. Two queries at most."""
    if run.waiting_for or run.target is None or run.launched or run.status not in {S.NOT_STARTED, S.QUEUED}:
        return "" if run.is_final else run.waiting_for
    return waiting_words(run, run.target)


def waiting_words(run: Run, target: ComputeTarget) -> str:
    """Why a run that waits has not been started, as the page of its target says it."""
    holding = list(holding_on(target).values_list("granted", flat=True))
    before = Q(priority__gt=run.priority) | Q(priority=run.priority, number__lt=run.number)
    return waiting.words(
        target,
        gpus=run.gpus,
        ahead=active_on(target).filter(before, launched=False, status__in=sorted(WAITING)).count(),
        running=len(holding),
        gpus_taken=sum(len(granted.get("gpus", ())) for granted in holding),
    )


def start_of(run: Run) -> Start:
    """How a launched run is started, the same each time it is asked.

    Where there are GPUs a run sees those that it was given and no other: none, if it asked for none.
    """
    config = ScriptRunConfig.from_json(run.config)
    gpus = [str(gpu) for gpu in run.granted.get("gpus", ())]
    environment = Definition.from_json(run.environment.definition) if run.environment is not None else Definition()
    return Start(
        attempt=run.attempt,
        env={"CUDA_VISIBLE_DEVICES": ",".join(gpus), **ORDER} if "gpus" in run.granted else {},
        gpus=gpus,
        image=run.build.image if run.build is not None else "",
        python=run.build.python if run.build is not None else "",
        memory_bytes=config.memory_bytes,
        asked=environment.docker_arguments,
    )
