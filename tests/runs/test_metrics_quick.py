"""Points added the quick way are those that the usual way would have added; the last one is of the highest step."""

import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runs.metrics.applying import apply_batch
from runs.metrics.quick import add
from runs.metrics.reading import points
from runs.metrics.records import Batch, Column
from runs.models import MetricSeries, Run
from studio.workspaces.models import Workspace
from tests.runs import factory

VALUES = st.one_of(st.floats(-1e6, 1e6), st.sampled_from([math.nan, math.inf, -math.inf]))
POINTS = st.lists(st.tuples(st.integers(-5, 5), st.integers(0, 3), VALUES), min_size=1, max_size=4)
SUMMARY = ("count", "last", "last_time", "last_step", "low", "high", "low_step", "high_step", "not_numbers", "ordered")


@pytest.fixture
def runs(workspace: Workspace) -> tuple[Run, Run]:
    return factory.make_run(workspace), factory.make_run(workspace)


def columns(calls: list[tuple[int, int, float]], names: list[str]) -> dict[str, Column]:
    return {
        name: Column([s for s, _, _ in calls], [float(t) for _, t, _ in calls], [v for _, _, v in calls])
        for name in names
    }


def usual(run: Run, found: dict[str, Column]) -> None:
    apply_batch(run, Batch(points=found))


def shown(run: Run, name: str) -> tuple[Any, ...]:
    series = MetricSeries.objects.get(run=run, name=name)
    return repr(points(series)), repr([getattr(series, field) for field in SUMMARY])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=st.lists(POINTS, min_size=1, max_size=12))
def test_both_ways_give_the_same_rows(runs: tuple[Run, Run], calls: list[list[tuple[int, int, float]]]) -> None:
    one, other = runs
    MetricSeries.objects.filter(run__in=runs).delete()
    quick = 0
    for n, call in enumerate(calls):
        names = ["a"] if n % 2 else ["a", "b"]
        if add(one.pk, columns(call, names)):
            quick += 1
        else:
            usual(one, columns(call, names))
        usual(other, columns(call, names))
    assert quick == len(calls) - 1  # the first makes the series
    for name in ("a", "b"):
        assert shown(one, name) == shown(other, name)


def test_across_the_borders_of_rows_nothing_is_lost(runs: tuple[Run, Run]) -> None:
    one, other = runs
    total, quick = 0, 0
    for size in [1, 100, 100, 54, 1, 1, 255, 1, 3000, 700, 1, 1] + [7] * 60:
        call = [(total + i, i, float(total + i)) for i in range(size)]
        total += size
        if add(one.pk, columns(call, ["a"])):
            quick += 1
        else:
            usual(one, columns(call, ["a"]))
        usual(other, columns(call, ["a"]))
        assert shown(one, "a") == shown(other, "a")
    assert quick > 40
    assert points(MetricSeries.objects.get(run=one, name="a"))["step"] == list(range(total))


def test_what_is_not_the_common_case_is_left_alone(runs: tuple[Run, Run]) -> None:
    run, _ = runs
    call = [(0, 0, 1.0)]
    assert not add(run.pk, columns(call, ["a"])) and not MetricSeries.objects.filter(run=run).exists()
    usual(run, columns(call, ["a"]))
    assert not add(run.pk, columns(call, ["a", "new"]))
    MetricSeries.objects.filter(run=run).update(system=True)
    assert not add(run.pk, columns(call, ["a"]))
    assert MetricSeries.objects.get(run=run).count == 1


@pytest.mark.parametrize(
    ("logged", "last"),
    [
        ([(0, 100, 1000.0), (3, 40, 100.0), (3, 50, 10.0), (3, 50, 20.0), (-3, 900, 900.0)], (3, 50.0, 20.0)),
        ([(5, 1, 1.0), (2, 2, 2.0)], (5, 1.0, 1.0)),
        ([(1, 1, 1.0), (1, 2, math.nan)], (1, 2.0, None)),
        ([(1, 2, math.nan), (1, 2, 5.0)], (1, 2.0, 5.0)),
        ([(1, 2, 5.0), (1, 1, 9.0)], (1, 2.0, 5.0)),
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
def test_the_last_point_is_of_the_highest_step_and_of_it_the_newest(
    runs: tuple[Run, Run], logged: list[tuple[int, int, float]], last: tuple[Any, ...], at_once: bool
) -> None:
    run, _ = runs
    for call in [logged] if at_once else [[point] for point in logged]:
        usual(run, columns(call, ["a"]))
    series = MetricSeries.objects.get(run=run)
    assert (series.last_step, series.last_time, series.last) == last
