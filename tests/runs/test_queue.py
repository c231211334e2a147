"""The queue: nothing is ever given twice, the order is fair, and nobody waits for ever."""

import random
from collections import Counter
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone
from hypothesis import given, settings
from hypothesis import strategies as st

from environments.models import ComputeTarget
from runs import queue
from runs.config import ConfigError, ScriptRunConfig
from runs.models import Experiment, Run
from runs.status import RunStatus
from runs.submission import submit
from studio.workspaces.models import Workspace
from tests.runs.factory import make_build, make_run, make_snapshot, make_target, make_version

S = RunStatus
NOW = timezone.now()


def target_of(slots: int = 4, gpus: int = 0, **fields: Any) -> ComputeTarget:
    return ComputeTarget(pk=1, name="box", slots=slots, facts={"gpus": [{}] * gpus}, **fields)


def waiting(number: int, *, experiment: int = 1, age: float = 0, **fields: Any) -> Run:
    fields.setdefault("status", S.QUEUED)
    return Run(
        pk=number, number=number, experiment_id=experiment, created_at=NOW - timedelta(seconds=age), config={}, **fields
    )


def running(number: int, *gpus: str, **fields: Any) -> Run:
    return waiting(number, status=S.RUNNING, launched=True, granted={"gpus": list(gpus)}, gpus=len(gpus), **fields)


def chosen(target: ComputeTarget, *work: Run) -> list[int]:
    return [run.number for run, _ in queue.choose(target, work, NOW)]


# -- never twice

STEP = st.one_of(
    st.tuples(st.just("submit"), st.integers(0, 3), st.integers(-1, 1), st.integers(0, 5)),
    st.tuples(st.just("turn")),
    st.tuples(st.just("cancel"), st.integers(0, 50)),
    st.tuples(st.just("script ends"), st.integers(0, 50)),
    st.tuples(st.just("over"), st.integers(0, 50)),
    st.tuples(st.just("slots"), st.integers(1, 6)),
    st.tuples(st.just("gpu slots"), st.one_of(st.none(), st.integers(0, 6))),
    st.tuples(st.just("drain"), st.booleans()),
    st.tuples(st.just("quarantine"), st.booleans()),
    st.tuples(st.just("time"), st.integers(0, 600)),
)


@settings(max_examples=300, deadline=None)
@given(slots=st.integers(1, 6), gpus=st.integers(0, 5), steps=st.lists(STEP, max_size=80))
def test_no_history_gives_a_slot_or_a_gpu_twice(slots: int, gpus: int, steps: list[tuple[Any, ...]]) -> None:
    target = target_of(slots, gpus)
    rows: dict[int, Run] = {}
    numbers = count(1)
    now = NOW
    for kind, *values in steps:
        active = list(rows.values())
        if kind == "submit":
            experiment, priority, wanted = values
            number = next(numbers)
            rows[number] = waiting(number, experiment=experiment, priority=priority, gpus=wanted)
            rows[number].created_at = now
        elif kind == "slots":
            target.slots = values[0]
        elif kind == "gpu slots":
            target.gpu_slots = values[0]
        elif kind == "drain":
            target.enabled = not values[0]
        elif kind == "quarantine":
            target.quarantined_at = now if values[0] else None
        elif kind == "time":
            now += timedelta(seconds=values[0])
        elif kind in {"cancel", "script ends", "over"} and active:
            run = active[values[0] % len(active)]
            if kind == "cancel":
                run.status = S.CANCEL_REQUESTED if run.status != S.FINALIZING else run.status
            elif kind == "script ends" and run.launched:
                run.status = S.FINALIZING
            elif kind == "over" and (run.status == S.FINALIZING or not run.launched):
                del rows[run.number]
        elif kind == "turn":
            before = sum(run.launched and run.status != S.FINALIZING for run in active)
            found = queue.choose(target, active, now)
            assert not found or (target.enabled and target.quarantined_at is None)
            assert len(found) <= max(0, target.slots - before)
            for run, granted in found:
                assert run.status == S.QUEUED and not run.launched
                assert len(granted.get("gpus", ())) == run.gpus
                assert all(int(gpu) < target.gpus for gpu in granted.get("gpus", ()))
                run.launched, run.granted, run.status = True, granted, S.RUNNING
            idle = target.slots - before - len(found)
            if idle > 0 and target.enabled and target.quarantined_at is None:
                left = [run for run in active if run.status == S.QUEUED and not run.launched]
                assert all(run.gpus for run in left), "a slot stays empty beside a run that could use it"
        held = Counter(
            gpu
            for run in rows.values()
            if run.launched and run.status != S.FINALIZING
            for gpu in run.granted.get("gpus", ())
        )
        assert not held or max(held.values()) == 1


def test_a_canceled_run_keeps_its_slot_and_gpus_until_its_script_has_ended() -> None:
    target = target_of(1, 1)
    held = running(1, "0")
    held.status = S.CANCEL_REQUESTED
    assert chosen(target, held, waiting(2, gpus=1)) == []
    held.status = S.FINALIZING
    assert chosen(target, held, waiting(2, gpus=1)) == [2]


def test_gpus_of_a_run_stay_its_own_when_the_target_is_said_to_have_fewer() -> None:
    target = target_of(4, 4)
    held = running(1, "0", "3")
    target.gpu_slots = 2
    [(run, granted)] = queue.choose(target, [held, waiting(2, gpus=2), waiting(3, gpus=1)], NOW)
    assert (run.number, granted) == (3, {"gpus": ["1"]})


def test_where_there_are_gpus_a_run_that_asks_for_none_sees_none() -> None:
    run = waiting(1)
    run.granted = queue.choose(target_of(1, 2), [run], NOW)[0][1]
    assert queue.start_of(run).env["CUDA_VISIBLE_DEVICES"] == ""
    run.granted = queue.choose(target_of(1, 0), [run], NOW)[0][1]
    assert queue.start_of(run).env == {}
    run = waiting(2, gpus=2)
    run.granted = queue.choose(target_of(1, 2), [run], NOW)[0][1]
    # Numbered as nvidia-smi and the target's page number them, also where the GPUs differ.
    assert queue.start_of(run).env == {"CUDA_VISIBLE_DEVICES": "0,1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


# -- the order


def test_priority_first_then_the_experiment_with_fewer_runs_then_age() -> None:
    work = [
        running(1, experiment=1), running(2, experiment=1), running(3, experiment=2),
        waiting(4, experiment=1), waiting(5, experiment=2), waiting(6, experiment=3), waiting(7, experiment=3),
        waiting(8, experiment=1, priority=1),
    ]  # fmt: skip
    # 8 for its priority. Then experiment 3 (none running), 2 and 3 (one each; 5 is older), at last 1 (three).
    assert chosen(target_of(8), *work) == [8, 6, 5, 7, 4]


def test_a_large_sweep_does_not_keep_another_experiment_waiting() -> None:
    sweep = [waiting(n, experiment=1) for n in range(1, 50)]
    assert chosen(target_of(4), *sweep, waiting(99, experiment=2)) == [1, 99, 2, 3]


# -- GPUs


def test_a_smaller_run_goes_before_one_that_waits_for_gpus_but_not_for_ever() -> None:
    target = target_of(8, 4)
    held = running(1, "0", "1", "2")
    young, small, none = waiting(2, gpus=2), waiting(3, gpus=1), waiting(4)
    assert chosen(target, held, young, small, none) == [3, 4]
    old = waiting(2, gpus=2, age=queue.HOLD_AFTER.total_seconds())
    assert chosen(target, held, old, small, none) == [4]
    assert chosen(target, running(1, "0", "1"), old, small, none) == [2, 4]


def test_gpus_are_kept_at_once_from_runs_of_a_lower_priority() -> None:
    target = target_of(8, 4)
    held = running(1, "0", "1", "2")
    urgent = waiting(2, gpus=2, priority=1)
    assert chosen(target, held, urgent, waiting(3, gpus=1), waiting(4)) == [4]
    assert chosen(target, held, urgent, waiting(3, gpus=1, priority=1)) == [3]


def test_a_run_that_can_never_have_its_gpus_keeps_none_from_others() -> None:
    impossible = waiting(1, gpus=8, age=10_000, priority=9)
    assert chosen(target_of(2, 2), impossible, waiting(2, gpus=2)) == [2]


# -- what is read


@pytest.fixture
def target(workspace: Workspace) -> ComputeTarget:
    return make_target(workspace, "box", slots=3)


def fill(workspace: Workspace, target: ComputeTarget, dice: random.Random, runs: int) -> None:
    groups = [Experiment.objects.create(workspace=workspace, name=f"e{n}") for n in range(6)]
    for number in range(1, runs + 1):
        launched = dice.random() < 0.1
        gpus = dice.choice([0, 0, 1, 2])
        Run.objects.create(
            workspace=workspace, number=number, uid=f"r{number}", name="x", target=target, experiment=dice.choice(groups),
            priority=dice.choice([0, 0, 0, 1]), gpus=gpus, launched=launched, status=S.RUNNING if launched else S.QUEUED,
            created_at=NOW, config={},
        )  # fmt: skip


@pytest.mark.parametrize("seed", range(12))
def test_what_is_read_decides_like_all_rows_would(workspace: Workspace, target: ComputeTarget, seed: int) -> None:
    dice = random.Random(seed)
    fill(workspace, target, dice, 60)
    Run.objects.update(gpus=0)
    held = Run.objects.filter(launched=True).count()
    target.slots = held + dice.randint(1, 5)
    read = [pk for pk, *_ in queue.of_interest(target, [])]
    some, everything = Run.objects.filter(pk__in=read), Run.objects.all()
    assert len(read) < 60
    assert chosen(target, *some) == chosen(target, *everything) != []


@pytest.mark.parametrize("seed", range(6))
def test_runs_with_and_without_gpus_do_not_hide_each_other(
    workspace: Workspace, target: ComputeTarget, seed: int
) -> None:
    dice = random.Random(seed)
    target.facts = {"gpus": [{}, {}]}
    fill(workspace, target, dice, 60)
    Run.objects.filter(launched=True).delete()
    target.slots = 4
    read = Run.objects.filter(pk__in=[pk for pk, *_ in queue.of_interest(target, [])])
    first = {run.gpus for run in read}
    assert 0 in first and first & {1, 2}


def test_a_run_small_enough_for_the_free_gpu_is_found_behind_a_hundred_that_are_not(
    workspace: Workspace, target: ComputeTarget
) -> None:
    target.facts = {"gpus": [{}, {}]}
    make_run(workspace, target=target, status=S.RUNNING, launched=True, granted={"gpus": ["0"]}, gpus=1)
    for _ in range(100):
        make_run(workspace, target=target, status=S.QUEUED, gpus=2)
    small = make_run(workspace, target=target, status=S.QUEUED, gpus=1)
    work = Run.objects.filter(pk__in=[pk for pk, *_ in queue.of_interest(target, [])])
    assert chosen(target, *work) == [small.number] and len(work) < 20


def test_waiting_for_a_build_hides_nobody_and_ended_runs_are_not_read(
    workspace: Workspace, target: ComputeTarget
) -> None:
    build = make_build(target, make_version(None), status="Building")
    for _ in range(20):
        make_run(workspace, target=target, status=S.PREPARING, build=build)
    ready = make_run(workspace, target=target, status=S.QUEUED)
    ended = make_run(workspace, target=target, status=S.COMPLETED, launched=True, ended_at=NOW)
    asked = make_run(workspace, target=target, status=S.CANCEL_REQUESTED)
    read = [pk for pk, *_ in queue.of_interest(target, [build.pk])]
    assert ready.pk in read and asked.pk in read and ended.pk not in read and len(read) == 2


def test_a_quarantined_target_reads_only_what_it_must_go_on_with(workspace: Workspace, target: ComputeTarget) -> None:
    target.quarantined_at = NOW
    make_run(workspace, target=target, status=S.QUEUED)
    live = make_run(workspace, target=target, status=S.RUNNING, launched=True)
    assert [pk for pk, *_ in queue.of_interest(target, [])] == [live.pk]


def test_ten_thousand_that_wait_are_read_by_their_index_alone(workspace: Workspace, target: ComputeTarget) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("PostgreSQL plans by what the tables hold, and these are empty.")
    rows = queue.active_on(target).filter(launched=False, status__in=queue.WAITING, gpus=0)
    assert "COVERING INDEX run_active" in queue.first(rows, {}, 4).explain()


def test_the_rows_tell_a_gpu_that_two_runs_hold(workspace: Workspace, target: ComputeTarget) -> None:
    one = {"target": target, "status": S.RUNNING, "launched": True, "granted": {"gpus": ["0"]}}
    make_run(workspace, **one)
    assert queue.oversubscribed(target) == []
    make_run(workspace, **one)
    assert queue.oversubscribed(target) == ["GPU 0 of box is held by runs [1, 2]"]


# -- what is asked for


def test_more_gpus_than_the_target_has_are_refused_with_field_rule_and_fix(
    workspace: Workspace, target: ComputeTarget
) -> None:
    target.facts = {"gpus": [{}]}
    asked: dict[str, Any] = {
        "workspace": workspace, "user": None, "experiment": "digits", "target": target, "environment": make_version(None),
        "snapshot": make_snapshot(workspace, {"train.py": b""}),
    }  # fmt: skip
    with pytest.raises(ConfigError) as refused:
        submit(**asked, config=ScriptRunConfig(script="train.py", gpus=2))
    assert refused.value.errors == {"gpus": "box has 1 GPU. Ask for 1 at most, or choose another target."}
    assert submit(**asked, config=ScriptRunConfig(script="train.py", gpus=1)).gpus == 1
    target.facts = {}
    with pytest.raises(ConfigError) as refused:
        submit(**asked, config=ScriptRunConfig(script="train.py", gpus=1))
    assert "box has no GPU" in refused.value.errors["gpus"]


# -- what people are told


@pytest.mark.parametrize(
    ("change", "gpus", "told"),
    [
        ({}, 0, "The slot is busy, 2 runs ahead."),
        ({"slots": 2}, 0, "2 runs ahead."),
        ({"slots": 9}, 0, "Starting."),
        ({"slots": 9}, 2, "Needs 2 GPUs, 1 free."),
        ({"slots": 9}, 3, "Needs 3 GPUs, and box has 2: cancel it, or give the target more."),
        ({"enabled": False}, 0, "box is draining: nothing new starts."),
        (
            {"quarantined_at": NOW},
            0,
            "box is quarantined. Nothing new starts until an owner resumes it: runstead resume box.",
        ),
        (
            {"quarantined_at": NOW, "quarantine_reason": "5 runs failed there."},
            0,
            "box is quarantined: 5 runs failed there. Nothing new starts until an owner resumes it: runstead resume box.",
        ),
        ({"unreachable_since": NOW}, 0, "box does not answer."),
    ],
)
def test_a_run_that_waits_says_why_on_its_page_and_on_its_targets(
    workspace: Workspace, target: ComputeTarget, contributor_client: Any, change: dict, gpus: int, told: str
) -> None:
    values = {"slots": 1, "facts": {"gpus": [{}, {}]}, **change}
    ComputeTarget.objects.filter(pk=target.pk).update(**values)
    make_run(workspace, target=target, status=S.RUNNING, launched=True, granted={"gpus": ["0"]}, gpus=1)
    make_run(workspace, target=target, status=S.FINALIZING, launched=True, granted={"gpus": ["1"]}, gpus=1)
    for _ in range(2):
        make_run(workspace, target=target, status=S.QUEUED)
    run = make_run(workspace, target=target, status=S.QUEUED, gpus=gpus)
    for page in (f"/vision/runs/{run.number}", "/vision/compute/box"):
        assert told in contributor_client.get(page).content.decode(), page
