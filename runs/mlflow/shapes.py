"""Experiments and runs as MLflow's clients read them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from runs.metrics.packing import pieces, read
from runs.mlflow.lookup import experiment_id, milliseconds, run_id, shown_name
from runs.models import Experiment, MetricSeries, Run, RunInput, RunModel, RunParameter, RunTag
from runs.status import RunStatus

Json = dict[str, Any]
RUN_NAME, NOTE, PARENT, USER = "mlflow.runName", "mlflow.note.content", "mlflow.parentRunId", "mlflow.user"
EXPERIMENT_NOTE = "mlflow.note.content"
SCHEDULED = (RunStatus.NOT_STARTED, RunStatus.PREPARING, RunStatus.QUEUED)
STATUSES: dict[str, tuple[str, ...]] = {
    "SCHEDULED": SCHEDULED,
    "RUNNING": (RunStatus.RUNNING, RunStatus.FINALIZING, RunStatus.CANCEL_REQUESTED),
    "FINISHED": (RunStatus.COMPLETED,),
    "FAILED": (RunStatus.FAILED,),
    "KILLED": (RunStatus.CANCELED,),
}
SHOWN = {status: name for name, statuses in STATUSES.items() for status in statuses}
RUN = (
    "pk", "uid", "number", "name", "notes", "experiment_id", "experiment__name", "status", "created_at", "started_at",
    "ended_at", "archived_at", "created_by__email", "parent__uid", "parent__number",
)  # fmt: skip


def artifact_root(shown_id: str) -> str:
    """An address that only this studio's proxy understands: it names the run and no place."""
    return f"mlflow-artifacts:/{shown_id}/artifacts"


def experiment_json(row: Experiment) -> Json:
    shown = experiment_id(row.pk, row.name)
    tags = {name: value or "" for name, value in row.tags.items()}
    if row.description:
        tags[EXPERIMENT_NOTE] = row.description
    return {
        "experiment_id": shown,
        "name": shown_name(row.name, row.title),
        "artifact_location": f"mlflow-artifacts:/{shown}",
        "lifecycle_stage": "active" if row.archived_at is None else "deleted",
        "creation_time": milliseconds(row.created_at),
        "last_update_time": milliseconds(row.last_run_at or row.created_at),
        "tags": tags_json(tags),
    }


def tags_json(tags: Mapping[str, str | None]) -> list[Json]:
    return [{"key": name, "value": value or ""} for name, value in tags.items()]


def metric_json(name: str, step: int, at: float, value: float) -> Json:
    return {"key": name, "value": number_json(value), "timestamp": round(at * 1000), "step": step}


def number_json(value: float) -> float | str:
    """JSON has no words for what is no number; protocol buffers have these."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def run_json(pk: int) -> Json:
    return runs_json([pk])[0]


def info_json(pk: int) -> Json:
    """A run's facts without what it logged."""
    return _info(Run.objects.filter(pk=pk).values_list(*RUN).get(), {})["info"]  # type: ignore[no-any-return]


def runs_json(pks: Sequence[int]) -> list[Json]:
    """Runs with all that they logged, in the order of ``pks``. A handful of queries, however many runs."""
    found: dict[int, Json] = {}
    tags: dict[int, dict[str, str]] = {}
    for part in pieces(pks):
        for pk, name, value in RunTag.objects.filter(run_id__in=part).values_list("run_id", "name", "value"):
            tags.setdefault(pk, {})[name] = value or ""
        for row in Run.objects.filter(pk__in=part).values_list(*RUN):
            found[row[0]] = _info(row, tags.get(row[0], {}))
        for pk, name, value in RunParameter.objects.filter(run_id__in=part).values_list("run_id", "name", "value"):
            found[pk]["data"]["params"].append({"key": name, "value": value})
        _add_metrics(found, part)
        _add_inputs(found, part)
    return [found[pk] for pk in pks if pk in found]


def _info(row: Any, tags: dict[str, str]) -> Json:
    (_, uid, number, name, notes, experiment, group, status, created, started, ended, archived, email, parent, of) = row
    shown = run_id(uid, number)
    facts: Json = {
        "run_id": shown,
        "run_uuid": shown,
        "run_name": name,
        "experiment_id": experiment_id(experiment, group),
        "user_id": tags.get(USER, email or ""),
        "status": SHOWN[status],
        "start_time": milliseconds(started or created),
        "artifact_uri": artifact_root(shown),
        "lifecycle_stage": "active" if archived is None else "deleted",
    }
    if ended is not None:
        facts["end_time"] = milliseconds(ended)
    told = {USER: email, **tags} if email else dict(tags)
    told[RUN_NAME] = name
    if notes:
        told[NOTE] = notes
    if parent:
        told[PARENT] = run_id(parent, of)
    data: Json = {"metrics": [], "params": [], "tags": tags_json(told)}
    return {
        "info": facts,
        "data": data,
        "inputs": {"dataset_inputs": [], "model_inputs": []},
        "outputs": {"model_outputs": []},
    }


def _add_metrics(found: dict[int, Json], pks: Sequence[int]) -> None:
    odd: dict[int, Json] = {}
    rows = MetricSeries.objects.filter(run_id__in=pks, system=False, count__gt=0).order_by("run_id", "pk")
    for pk, key, name, step, at, last in rows.values_list("run_id", "pk", "name", "last_step", "last_time", "last"):
        shown = {"key": name, "value": last, "timestamp": round((at or 0.0) * 1000), "step": step}
        found[pk]["data"]["metrics"].append(shown)
        if last is None:
            odd[key] = shown
    for key, value in _newest_values(odd).items():
        odd[key]["value"] = number_json(value)


def _newest_values(keys: Iterable[int]) -> dict[int, float]:
    """The last values that are no numbers, which the summary does not hold: read from the points themselves."""
    return {series.pk: _newest_value(series) for series in MetricSeries.objects.filter(pk__in=list(keys))}


def _newest_value(series: MetricSeries) -> float:
    columns = read(series)
    places = zip(columns.steps, columns.times, range(len(columns)), strict=True)
    return columns.values[max(places)[2]]


def _add_inputs(found: dict[int, Json], pks: Sequence[int]) -> None:
    for row in RunInput.objects.filter(run_id__in=pks).order_by("pk"):
        dataset = {"name": row.name, "digest": row.digest, **row.data}
        found[row.run_id]["inputs"]["dataset_inputs"].append({"dataset": dataset, "tags": tags_json(row.tags)})
    uses = RunModel.objects.filter(run_id__in=pks, model__deleted_at=None).order_by("pk")
    for pk, uid, made, step in uses.values_list("run_id", "model__uid", "made", "step"):
        if made:
            found[pk]["outputs"]["model_outputs"].append({"model_id": uid, "step": step})
        else:
            found[pk]["inputs"]["model_inputs"].append({"model_id": uid})
