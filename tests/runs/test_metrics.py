"""Records become series, parameters, tags and values; hostile ones become a count; charts lose no extreme."""

import json
import math
import time
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runs import metrics
from runs.metrics.packing import CAPACITY, TAIL, Columns
from runs.metrics.reading import sample
from runs.models import Experiment, MetricSeries, Run
from studio.workspaces.models import Workspace


@pytest.fixture
def run(workspace: Workspace) -> Run:
    experiment = Experiment.objects.create(workspace=workspace, name="digits")
    return Run.objects.create(workspace=workspace, number=1, uid="digits_1", experiment=experiment, name="one")


def apply(run: Run, *records: object) -> None:
    text = "".join((item if isinstance(item, str) else json.dumps(item)) + "\n" for item in records)
    metrics.apply_records(run, text.encode(errors="surrogatepass"))


def series(run: Run, name: str = "loss") -> MetricSeries:
    return run.series.get(name=name)


def test_a_series_keeps_every_point_and_its_summary_over_many_small_pieces(run: Run) -> None:
    for first in range(0, 600, 7):
        apply(
            run, *({"k": "loss", "v": math.sin(n), "s": n, "t": 1000.0 + n} for n in range(first, min(first + 7, 600)))
        )
    found = series(run)
    values = [math.sin(n) for n in range(600)]
    assert metrics.points(found) == {
        "step": list(range(600)),
        "time": [1000.0 + n for n in range(600)],
        "value": values,
    }
    assert (found.count, found.last, found.last_step, found.ordered) == (600, values[-1], 599, True)
    assert (found.low, found.low_step) == (min(values), values.index(min(values)))
    assert (found.high, found.high_step) == (max(values), values.index(max(values)))


@pytest.mark.parametrize(
    "pieces",
    [[1] * 5, [TAIL - 1, 1, TAIL, 3], [CAPACITY - 1, 1, 1], [CAPACITY - 2, 5], [3 * CAPACITY + 5, 2, CAPACITY]],
)
def test_chunks_are_contiguous_and_blocks_are_never_over_full(run: Run, pieces: list[int]) -> None:
    at = 0
    for size in pieces:
        apply(run, *({"k": "loss", "v": n, "s": n} for n in range(at, at + size)))
        at += size
    rows = list(series(run).chunks.order_by("position").values_list("position", "count"))
    assert sum(count for _, count in rows) == at
    assert [position for position, _ in rows] == [sum(count for _, count in rows[:n]) for n in range(len(rows))]
    assert all(position // CAPACITY == (position + count - 1) // CAPACITY for position, count in rows)
    assert len(rows) <= at // CAPACITY * 2 + 2
    assert metrics.points(series(run))["value"] == [float(n) for n in range(at)]


def test_points_without_a_step_are_numbered_from_the_count(run: Run) -> None:
    apply(run, {"k": "loss", "v": 1}, {"k": "loss", "v": 2, "s": 50}, {"k": "loss", "v": 3})
    apply(run, {"k": "loss", "v": 4})
    assert metrics.points(series(run))["step"] == [0, 50, 2, 3]
    assert series(run).ordered is False
    assert metrics.buckets(series(run))["x"] == [0, 2, 3, 50]


def test_values_that_are_no_numbers_are_counted_and_break_the_line(run: Run) -> None:
    apply(
        run,
        {"k": "loss", "v": 2},
        {"k": "loss", "v": "NaN"},
        {"k": "loss", "v": "Infinity"},
        '{"k": "loss", "v": 1e309}',
        {"k": "loss", "v": 1},
    )
    found = series(run)
    assert (found.count, found.not_numbers, found.low, found.high, found.last) == (5, 3, 1.0, 2.0, 1.0)
    assert metrics.buckets(found)["y"] == [2.0, None, None, None, 1.0]
    apply(run, {"k": "loss", "v": "NaN"})
    assert series(run).last is None


HOSTILE = [
    "x", "[1]", '"a"', "null", "{}", '{"k": "loss"}', '{"k": 1, "v": 1}', '{"k": "", "v": 1}', '{"k": "a", "v": true}',
    '{"k": "a", "v": "1"}', '{"k": "a", "v": 1, "s": 9223372036854775808}', '{"k": "a", "v": 1, "s": "1"}',
    '{"k": "a", "v": 1, "s": true}', '{"k": "a", "v": 1, "s": 1.5}', json.dumps({"k": "a" * 251, "v": 1}),
    '{"k": "a\\u0000b", "v": 1}', '{"k": "\\ud800", "v": 1}', "[" * 100_000, '{"op": "property", "k": "p", "v": ' + "[" * 500 + "]" * 500 + "}",
    '{"op": "batch", "m": [1]}', '{"op": "nothing"}', '{"op": {"a": 1}}', '{"op": "table", "k": "t", "v": {"a": [1], "b": [1, 2]}}',
    '{"op": "row", "k": "r", "v": {"a": {}}}', '{"op": "image", "k": "i", "path": "../x"}', '{"op": "image", "k": "i", "path": "/x"}',
    '{"op": "param", "k": "p", "v": null}', '{"op": "tag", "v": "x"}', '{"op": "name", "v": "  "}', '{"op": "name"}',
    '{"k": "a", "v": 1' + "0" * 400 + "}", '{"k": "a", "v": ' + "9" * 5000 + "}", "\x00", '{"op": "artifact", "path": "a/../b"}',
]  # fmt: skip


@pytest.mark.parametrize("line", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_line_is_counted_once_and_spoils_no_other(run: Run, line: str) -> None:
    apply(run, {"k": "loss", "v": 1}, line, {"k": "loss", "v": 2})
    run.refresh_from_db()
    assert run.bad_records == 1
    assert series(run).count == 2


def test_bytes_that_are_no_utf8_are_counted(run: Run) -> None:
    metrics.apply_records(run, b'\xff\xfe\xfd\n{"k": "loss", "v": 1}\n')
    run.refresh_from_db()
    assert (run.bad_records, series(run).count) == (1, 1)


def test_a_batch_keeps_its_good_points_and_counts_as_bad(run: Run) -> None:
    apply(run, {"op": "batch", "s": 3, "t": 5.0, "m": {"loss": 0.5, "acc": "high", "f1": 1}})
    run.refresh_from_db()
    assert run.bad_records == 1
    assert sorted(run.series.values_list("name", "last", "last_step")) == [("f1", 1.0, 3), ("loss", 0.5, 3)]


def test_parameters_tags_name_notes_and_properties(run: Run, workspace: Workspace) -> None:
    run.parameters.create(workspace=workspace, name="lr", value="0.1", head="0.1", number=0.1)
    apply(
        run,
        {"op": "param", "k": "lr", "v": "0.2"}, {"op": "param", "k": "flag", "v": True}, {"op": "param", "k": "nul", "v": "a\0b"},
        {"op": "tag", "k": "stage", "v": "final"}, {"op": "tag", "k": "old"}, {"op": "untag", "k": "old"}, {"op": "tag", "k": "bare", "v": None},
        {"op": "name", "v": " a <b>name</b> "}, {"op": "note", "v": "why"},
        {"op": "property", "k": "git", "v": "abc"}, {"op": "property", "k": "git", "v": "other"},
    )  # fmt: skip
    run.refresh_from_db()
    assert list(run.parameters.order_by("name").values_list("name", "value", "number", "logged")) == [
        ("flag", "true", None, True), ("lr", "0.2", 0.2, True), ("nul", "a�b", None, True),
    ]  # fmt: skip
    assert dict(run.tags.values_list("name", "value")) == {"stage": "final", "bare": None}
    assert (run.name, run.notes, run.properties, run.bad_records) == ("a <b>name</b>", "why", {"git": "abc"}, 1)


def test_a_value_of_nothing_is_kept_and_stops_no_other(run: Run) -> None:
    apply(run, {"op": "value", "k": "none", "v": None}, {"op": "value", "k": "text", "v": "a"}, {"k": "loss", "v": 1.0})
    assert list(run.values.order_by("pk").values_list("name", "data")) == [("none", None), ("text", "a")]
    assert series(run).count == 1


def test_rows_and_tables_become_one_table(run: Run) -> None:
    apply(
        run,
        {"op": "row", "k": "t", "v": {"x": 1}}, {"op": "row", "k": "t", "v": {"x": 2, "y": "b"}},
        {"op": "table", "k": "t", "v": {"y": ["c", "d"], "z": [1, 2]}}, {"op": "value", "k": "n", "v": "text"},
        '{"op": "list", "k": "l", "v": [1, NaN]}',
    )  # fmt: skip
    assert metrics.table(run, "t") == {"x": [1, 2, None, None], "y": [None, "b", "c", "d"], "z": [None, None, 1, 2]}
    assert run.values.get(name="l").data == [1, "NaN"]


def test_too_many_series_are_refused_and_counted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runs.metrics.applying.MAX_SERIES", 3)
    apply(run, *({"k": f"m{n}", "v": n} for n in range(5)), {"k": "m4", "v": 1})
    apply(run, {"k": "m0", "v": 9}, {"k": "m9", "v": 9})
    run.refresh_from_db()
    assert (run.series.count(), run.bad_records) == (3, 4)
    assert series(run, "m0").count == 2


def test_samples_become_system_series_that_a_script_cannot_write(run: Run) -> None:
    line = {
        "t": 1000.0,
        "cpu": 150.5,
        "rss": 4096,
        "procs": 1,
        "read": 1,
        "write": 2,
        "gpus": [{"i": 0, "util": 93, "mem": 1, "total": 2}],
    }
    metrics.apply_samples(run, (json.dumps(line) + "\nnonsense\n").encode())
    apply(run, {"k": "system/cpu", "v": 1})
    run.refresh_from_db()
    found = dict(run.series.filter(system=True).values_list("name", "last"))
    assert found["system/cpu"] == 150.5 and found["system/memory"] == 4096 and found["system/gpu/0"] == 93
    assert (series(run, "system/cpu").count, run.bad_records) == (1, 1)


def test_ten_thousand_points_are_applied_in_few_queries(run: Run, django_assert_max_num_queries) -> None:
    data = "".join(f'{{"k":"loss","v":{n / 7},"s":{n},"t":{1e9 + n}}}\n' for n in range(10_000)).encode()
    metrics.apply_records(run, b'{"k":"loss","v":1,"s":-1}\n')
    began = time.thread_time()
    with django_assert_max_num_queries(10):
        metrics.apply_records(run, data)
    assert time.thread_time() - began < 0.6  # 40 ms alone; tests share the machine
    assert series(run).count == 10_001


@given(
    st.lists(
        st.one_of(st.floats(allow_nan=True, allow_infinity=True), st.integers(-5, 5).map(float)),
        min_size=1,
        max_size=400,
    ),
    st.integers(2, 60),
)
def test_buckets_keep_the_extremes_the_gaps_and_the_order(values: list[float], limit: int) -> None:
    columns = Columns(array("q", range(len(values))), array("d", map(float, range(len(values)))), array("d", values))
    found = sample(columns, limit, "step")
    numbers = [value for value in values if math.isfinite(value)]
    shown = [value for value in found["y"] if value is not None]
    if numbers:
        assert (min(shown), max(shown)) == (min(numbers), max(numbers))
    else:
        assert not shown
    assert (None in found["y"]) == (len(numbers) < len(values))
    assert found["x"] == sorted(found["x"]) and len(found["x"]) <= max(
        limit * 1.5 + 3, len(values) if not found["sampled"] else 0
    )
    assert all(y is None or values[x] == y for x, y in zip(found["x"], found["y"], strict=True))


def test_a_zoom_reads_only_its_steps_and_later_points_follow(run: Run) -> None:
    apply(run, *({"k": "loss", "v": n, "s": n * 10} for n in range(3000)))
    found = series(run)
    zoom = metrics.buckets(found, 100, 200)
    assert (zoom["x"], zoom["sampled"]) == (list(range(100, 201, 10)), False)
    whole = metrics.buckets(found)
    assert whole["sampled"] and len(whole["x"]) <= 1000 and whole["next"] == 3000
    apply(run, {"k": "loss", "v": 7, "s": 30000})
    assert metrics.since(series(run), 3000) == {"x": [30000], "y": [7.0], "count": 1, "sampled": False, "next": 3001}


def test_pinned_charts_begin_with_the_primary_metric(run: Run) -> None:
    run.experiment.primary_metric = "f1"
    apply(run, *({"op": "batch", "s": n, "m": {"lr": 0.1, "loss": 1 - n, "f1": n}} for n in range(3)))
    metrics.apply_samples(run, b'{"t": 1, "cpu": 1, "rss": 2}\n')
    pins = metrics.pinned(run)
    assert [pin.title for pin in pins] == ["f1", "loss", "CPU"]
    assert pins[0].note == "best 2, step 2"
