"""Points of metrics, as MLflow's clients read them back."""

from array import array

from runs.metrics.packing import Columns, read
from runs.mlflow.fields import Call
from runs.mlflow.found import bad_token, offset_of, offset_token
from runs.mlflow.lookup import find_run, run_id
from runs.mlflow.problems import Problem
from runs.mlflow.shapes import Json, metric_json
from runs.models import MetricSeries, Run

MAX_PAGE = 25_000
MAX_RUNS = 100
MAX_POINTS_PER_RUN = 2500


def get_history(call: Call) -> Json:
    """In the order of arrival, a page at a time: every page is found by its place, however long the series is."""
    run = find_run(call.caller, call.run_id)
    name = call.text("metric_key")
    most = call.integer("max_results", MAX_PAGE, 1, 2**31 - 1)
    token = call.text("page_token", "")
    start = offset_of(token)
    series = MetricSeries.objects.filter(run=run, name=name, system=False).first()
    if series is None:
        return {"metrics": []}
    if token and start >= series.count:
        raise bad_token(token)
    end = min(series.count, start + min(most, MAX_PAGE))
    answer: Json = {"metrics": points_json(name, read(series, start, end))}
    if end < series.count:
        answer["next_page_token"] = offset_token(end)
    return answer


def points_json(name: str, columns: Columns) -> list[Json]:
    return [metric_json(name, *point) for point in zip(columns.steps, columns.times, columns.values, strict=True)]


def runs_of(call: Call, name: str) -> list[Run]:
    wanted = call.texts(name)
    if not wanted or len(wanted) > MAX_RUNS:
        raise Problem(
            "INVALID_PARAMETER_VALUE", f"The request must name 1 to {MAX_RUNS} runs as '{name}'. Got {len(wanted)}."
        )
    return [find_run(call.caller, item) for item in wanted]


def get_history_bulk(call: Call) -> Json:
    """One metric of up to 100 runs."""
    name = call.text("metric_key")
    most = min(MAX_PAGE, call.integer("max_results", MAX_PAGE, 1, 2**31 - 1))
    found: list[Json] = []
    for run in runs_of(call, "run_id"):
        series = MetricSeries.objects.filter(run=run, name=name, system=False).first()
        if series is not None and len(found) < most:
            shown = run_id(run.uid, run.number)
            found += [
                {**point, "run_id": shown}
                for point in points_json(name, read(series, 0, min(series.count, most - len(found))))
            ]
    return {"metrics": found}


def get_history_interval(call: Call) -> Json:
    """One metric of up to 100 runs between two steps, at most ``max_results`` points of each, evenly picked."""
    name = call.text("metric_key")
    most = call.integer("max_results", MAX_POINTS_PER_RUN, 1, MAX_POINTS_PER_RUN)
    given = [field for field in ("start_step", "end_step") if call.fields.get(field) is not None]
    if len(given) == 1:
        raise Problem(
            "INVALID_PARAMETER_VALUE", "If either start step or end step are specified, both must be specified."
        )
    low = call.integer("start_step", -(2**63), -(2**63), 2**63 - 1)
    high = call.integer("end_step", 2**63 - 1, -(2**63), 2**63 - 1)
    if low > high:
        raise Problem(
            "INVALID_PARAMETER_VALUE",
            f"end_step must be greater than start_step. Found start_step={low} and end_step={high}.",
        )
    found: list[Json] = []
    for run in runs_of(call, "run_ids"):
        series = MetricSeries.objects.filter(run=run, name=name, system=False).first()
        if series is not None:
            shown = run_id(run.uid, run.number)
            found += [{**point, "run_id": shown} for point in points_json(name, thinned(read(series), low, high, most))]
    return {"metrics": found}


def thinned(columns: Columns, low: int, high: int, most: int) -> Columns:
    """Between two steps, by step; the first and the last stay."""
    places = sorted(
        (i for i, step in enumerate(columns.steps) if low <= step <= high),
        key=lambda i: (columns.steps[i], columns.times[i]),
    )
    if len(places) > most:
        last = len(places) - 1
        places = [places[i * last // (most - 1)] for i in range(most)] if most > 1 else places[-1:]
    return Columns(
        array("q", [columns.steps[i] for i in places]),
        array("d", [columns.times[i] for i in places]),
        array("d", [columns.values[i] for i in places]),
    )
