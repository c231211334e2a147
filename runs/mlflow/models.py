"""MLflow 3's logged models. Their files are artifacts of the run that made them, in a folder of the model's name."""

import secrets
from typing import Any

from django.db import transaction
from django.utils import timezone

from runs import outside
from runs.artifacts import ArtifactRefused, check_path
from runs.mlflow.auth import Caller
from runs.mlflow.fields import Call, Fields, name_of, pairs
from runs.mlflow.found import offset_of, offset_token
from runs.mlflow.importing import kept_model_id
from runs.mlflow.lookup import experiment_id, experiment_keys, find_experiment, find_run, milliseconds, run_id
from runs.mlflow.problems import Problem, invalid
from runs.mlflow.search import LOGGED, Clause, holds, identifier, parse
from runs.mlflow.shapes import Json, metric_json, tags_json
from runs.models import Artifact, LoggedModel, ModelVersion, Run
from runs.models.logged import new_model_uid
from runs.status import RunStatus

STATUSES = {
    "LOGGED_MODEL_PENDING": "LOGGED_MODEL_PENDING", "LOGGED_MODEL_READY": "LOGGED_MODEL_READY",
    "LOGGED_MODEL_UPLOAD_FAILED": "LOGGED_MODEL_UPLOAD_FAILED", "1": "LOGGED_MODEL_PENDING", "2": "LOGGED_MODEL_READY",
    "3": "LOGGED_MODEL_UPLOAD_FAILED",
}  # fmt: skip
MAX_SEARCH = 1000
MAX_PARAMS = 1000
MAX_VALUE = 100_000


def find_model(caller: Caller, uid: str, *, deleted: bool = False, lock: bool = False) -> LoggedModel:
    rows = LoggedModel.objects.filter(workspace=caller.workspace, uid=uid)
    rows = rows.select_for_update(of=("self",)) if lock else rows
    row = rows.select_related("experiment", "run").first()
    if row is None or (row.deleted_at is not None and not deleted):
        raise Problem("RESOURCE_DOES_NOT_EXIST", f"Logged model with ID '{uid[:200]}' not found.")
    return row


def create_model(call: Call) -> Json:
    experiment = find_experiment(call.caller, call.text("experiment_id", "0") or "0", active=True)
    name = model_name(call.text("name", "") or f"model-{secrets.token_hex(4)}")
    tags = pairs(call.items("tags"), "tags", MAX_VALUE)
    params = pairs(call.items("params"), "params", MAX_VALUE)
    uid = kept_model_id(call) or new_model_uid()
    with transaction.atomic():
        source = call.text("source_run_id", "")
        run = find_run(call.caller, source, active=True, lock=True) if source else None
        row = LoggedModel.objects.create(
            workspace=call.caller.workspace, experiment=experiment, uid=uid, name=name, run=run, tags=tags, params=params,
            folder=free_folder(run, name) if run else name, type=call.text("model_type", "", 255),
        )  # fmt: skip
    return {"model": model_json(row)}


def model_name(name: str) -> str:
    if len(name) > 200 or any(letter in name for letter in "/:.%\"'"):
        raise invalid("name", name, "a model's name has up to 200 characters and none of / : . % \" '.")
    try:
        check_path(name)
    except ArtifactRefused as error:
        raise invalid("name", name, error.rule) from None
    return name


def free_folder(run: Run, name: str) -> str:
    """Models of one name must not share a folder: the first has the plain name, the next ones a number."""
    taken = set(LoggedModel.objects.filter(run=run).values_list("folder", flat=True))
    taken |= {path.partition("/")[0] for path in Artifact.objects.filter(run=run).values_list("path", flat=True)}
    folder, n = name, 1
    while folder in taken:
        n += 1
        folder = f"{name}-{n}"
    return folder


def run_for_files(caller: Caller, row: LoggedModel) -> Run:
    """The run that keeps the model's files: its own, or, for a model that no run made, one that is made for it."""
    if row.run is not None:
        return row.run
    with transaction.atomic():
        row = find_model(caller, row.uid, lock=True)
        if row.run is None:
            row.run = outside.begin(
                caller.workspace, caller.user, row.experiment.name, name=row.name, tags={"model": row.uid}
            )
            row.own_run = True
            row.save(update_fields=["run", "own_run"])
            outside.finish(row.run, RunStatus.COMPLETED)
    return row.run


def get_model(call: Call) -> Json:
    deleted = str(call.fields.get("allow_deleted", "")).lower() == "true"
    return {"model": model_json(find_model(call.caller, call.parts[0], deleted=deleted))}


def finalize_model(call: Call) -> Json:
    status = STATUSES.get(str(call.fields.get("status")))
    if status is None:
        raise invalid(
            "status", call.fields.get("status"), "LOGGED_MODEL_READY or LOGGED_MODEL_UPLOAD_FAILED is needed."
        )
    return {"model": model_json(_change(call, status=status))}


def delete_model(call: Call) -> None:
    _change(call, deleted_at=timezone.now())


def set_model_tags(call: Call) -> Json:
    tags = pairs(call.items("tags"), "tags", MAX_VALUE)
    with transaction.atomic():
        row = find_model(call.caller, call.parts[0], lock=True)
        return {"model": model_json(_save(row, tags={**row.tags, **tags}))}


def delete_model_tag(call: Call) -> None:
    with transaction.atomic():
        row = find_model(call.caller, call.parts[0], lock=True)
        if call.parts[1] not in row.tags:
            raise Problem(
                "RESOURCE_DOES_NOT_EXIST",
                f"No tag with key {call.parts[1][:100]!r} found for model with ID {row.uid!r}.",
            )
        _save(row, tags={k: v for k, v in row.tags.items() if k != call.parts[1]})


def log_model_params(call: Call) -> Json:
    params = pairs(call.items("params"), "params", MAX_VALUE)
    with transaction.atomic():
        row = find_model(call.caller, call.parts[0], lock=True)
        merged = {**row.params, **params}
        if len(merged) > MAX_PARAMS:
            raise invalid("params", len(merged), f"a model has up to {MAX_PARAMS}.")
        return {"model": model_json(_save(row, params=merged))}


def _change(call: Call, **fields: Any) -> LoggedModel:
    with transaction.atomic():
        return _save(find_model(call.caller, call.parts[0], lock=True), **fields)


def _save(row: LoggedModel, **fields: Any) -> LoggedModel:
    for name, value in fields.items():
        setattr(row, name, value)
    row.updated_at = timezone.now()
    row.save(update_fields=[*fields, "updated_at"])
    return row


def log_model_points(call: Call, run: Run, points: list[tuple[Fields, str, int, float, float]]) -> None:
    """The newest point of each metric and data set of the models that points speak of. Inside the transaction of the points."""
    changed: dict[str, LoggedModel] = {}
    for item, name, step, at, value in points:
        uid = str(item["model_id"])
        row = changed.get(uid) or changed.setdefault(uid, find_model(call.caller, uid, lock=True))
        dataset = {field: str(item[field])[:500] for field in ("dataset_name", "dataset_digest") if item.get(field)}
        new = {
            **metric_json(name_of(name, "key"), step, at, value),
            **dataset,
            "model_id": uid,
            "run_id": run_id(run.uid, run.number),
        }
        same = [old for old in row.metrics if old["key"] == name and _dataset_of(old) == _dataset_of(new)]
        if same and (same[0]["step"], same[0]["timestamp"]) > (new["step"], new["timestamp"]):
            continue
        row.metrics = [old for old in row.metrics if old not in same] + [new]
    for row in changed.values():
        _save(row, metrics=row.metrics)


def _dataset_of(metric: Json) -> tuple[Any, Any]:
    return metric.get("dataset_name"), metric.get("dataset_digest")


def model_json(row: LoggedModel) -> Json:
    info: Json = {
        "model_id": row.uid,
        "experiment_id": experiment_id(row.experiment_id, row.experiment.name),
        "name": row.name,
        "creation_timestamp_ms": milliseconds(row.created_at),
        "last_updated_timestamp_ms": milliseconds(row.updated_at),
        "artifact_uri": f"mlflow-artifacts:/models/{row.uid}/artifacts",
        "status": row.status,
        "model_type": row.type,
        "tags": tags_json(row.tags),
        "registrations": [
            {"name": name, "version": str(number)}
            for name, number in ModelVersion.objects.filter(
                model__workspace=row.workspace_id, source=f"models:/{row.uid}"
            ).values_list("model__name", "number")
        ],
    }
    if row.run is not None and not row.own_run:
        info["source_run_id"] = run_id(row.run.uid, row.run.number)
    return {"info": info, "data": {"params": tags_json(row.params), "metrics": row.metrics}}


def search_models(call: Call) -> Json:
    keys = experiment_keys(call.caller, call.texts("experiment_ids"))
    size = call.integer("max_results", 50, 1, MAX_SEARCH)
    clauses = parse(call.text("filter", ""), LOGGED)
    datasets = {(item.get("dataset_name"), item.get("dataset_digest")) for item in call.items("datasets")}
    sorted_by = [
        (
            *identifier(str(item.get("field_name") or "creation_time"), LOGGED),
            item.get("ascending", True) is not False,
            item,
        )
        for item in call.items("order_by")
    ]
    start = offset_of(call.text("page_token", ""))
    rows = LoggedModel.objects.filter(workspace=call.caller.workspace, experiment_id__in=keys, deleted_at=None)
    found = [
        row
        for row in rows.select_related("experiment", "run").order_by("-created_at", "-pk")
        if all(any(holds(clause, value) for value in values_of(row, clause, datasets)) for clause in clauses)
    ]
    for kind, key, ascending, item in reversed(sorted_by):
        chosen = {(item.get("dataset_name"), item.get("dataset_digest"))} if item.get("dataset_name") else set()

        def first(row: LoggedModel, kind: str = kind, key: str = key, chosen: Any = chosen) -> Any:
            return next(iter(values_of(row, Clause(kind, key, "="), chosen)), None)

        with_value = [row for row in found if first(row) is not None]
        without = [row for row in found if first(row) is None]
        with_value.sort(key=first, reverse=not ascending)
        found = with_value + without
    answer: Json = {"models": [model_json(row) for row in found[start : start + size]]}
    if len(found) > start + size:
        answer["next_page_token"] = offset_token(start + size)
    return answer


def values_of(row: LoggedModel, clause: Clause, datasets: set[tuple[Any, Any]]) -> list[Any]:
    """What a clause compares: of metrics, the value of each data set that is asked for."""
    if clause.kind == "metric":
        return [
            item["value"]
            for item in row.metrics
            if item["key"] == clause.key and isinstance(item["value"], float | int)
            and (not datasets or any(item.get("dataset_name") == name and digest in {None, item.get("dataset_digest")} for name, digest in datasets))
        ]  # fmt: skip
    if clause.kind in {"param", "tag"}:
        return [(row.params if clause.kind == "param" else row.tags).get(clause.key)]
    created, updated = milliseconds(row.created_at), milliseconds(row.updated_at)
    return [
        {
            "name": row.name,
            "model_id": row.uid,
            "model_type": row.type,
            "status": row.status.removeprefix("LOGGED_MODEL_"),
            "source_run_id": run_id(row.run.uid, row.run.number) if row.run is not None and not row.own_run else None,
            "experiment_id": experiment_id(row.experiment_id, row.experiment.name),
            "creation_timestamp": created,
            "creation_time": created,
            "last_updated_timestamp": updated,
        }[clause.key]
    ]
