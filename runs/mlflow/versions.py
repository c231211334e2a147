"""Versions of registered models: made of a run's files, read, described, staged, taken away."""

import re
from typing import Any

from django.db import transaction
from django.utils import timezone

from runs import registering
from runs.config import ConfigError
from runs.mlflow.auth import Caller
from runs.mlflow.fields import Call, pairs, text
from runs.mlflow.found import offset_of, offset_token
from runs.mlflow.importing import make_room
from runs.mlflow.lookup import find_run, milliseconds, run_id
from runs.mlflow.models import find_model
from runs.mlflow.places import check, place_of
from runs.mlflow.problems import Problem, invalid
from runs.mlflow.search import VERSIONS, Clause, holds, orders, parse
from runs.mlflow.shapes import Json, tags_json
from runs.models import ModelVersion, RegisteredModel, Run

MAX_TAG = 100_000
MAX_SEARCH = 200_000
MODEL_ID = "mlflow.modelId"
RUN_LINK = "mlflow.runLink"
STAGES = {"none": "None", "staging": "Staging", "production": "Production", "archived": "Archived"}
NO_PROMPT = "mlflow.prompt.is_prompt"
LOGGED = re.compile(r"models:/(m-[0-9a-f]{32})\Z")
REGISTERED = re.compile(r"models:/([^/:@]+)(?:/([^/:@]+)|@([^/:@]+))\Z")
OF_RUN = re.compile(r"runs:/([^/]+)(?:/(.+))?\Z")


def find_registered(caller: Caller, name: str) -> RegisteredModel:
    row = RegisteredModel.objects.filter(workspace=caller.workspace, name=name).first()
    if row is None:
        raise Problem("RESOURCE_DOES_NOT_EXIST", f"Registered Model with name={name[:300]} not found")
    return row


def find_version(call: Call) -> ModelVersion:
    model = find_registered(call.caller, call.text("name"))
    number = str(call.fields.get("version") or "")
    if not number.isascii() or not number.isdigit() or len(number) > 9:
        raise invalid("version", number, "the number of a version is needed.")
    row = (
        ModelVersion.objects.filter(model=model, number=int(number))
        .select_related("model", "run", "created_by")
        .first()
    )
    if row is None:
        raise Problem("RESOURCE_DOES_NOT_EXIST", f"Model Version (name={model.name}, version={number}) not found")
    return row


def version_json(row: ModelVersion) -> Json:
    shown: Json = {
        "name": row.model.name,
        "version": str(row.number),
        "creation_timestamp": milliseconds(row.created_at),
        "last_updated_timestamp": milliseconds(row.updated_at),
        "user_id": row.created_by.email if row.created_by else "",
        "current_stage": row.stage or "None",
        "description": row.description,
        "source": row.source or location(row),
        "status": "READY",
        "tags": tags_json(row.tags),
        "aliases": row.aliases,
        "run_link": str(row.properties.get(RUN_LINK, "")),
    }
    if row.run is not None:
        shown["run_id"] = run_id(row.run.uid, row.run.number)
    if row.properties.get(MODEL_ID):
        shown["model_id"] = row.properties[MODEL_ID]
    return shown


def location(row: ModelVersion) -> str:
    """Where its files can be read: as they were when it was registered."""
    return f"mlflow-artifacts:/versions/{row.pk}/artifacts" if row.files or not row.source else row.source


def create_version(call: Call) -> Json:
    """Its source names files of a run of this workspace, in one of MLflow's ways; any other address is refused."""
    model = find_registered(call.caller, call.text("name"))
    source = call.text("source", "", 2000)
    logged = call.text("model_id", "")
    run, path, model_id = origin(call, source, logged)
    named = call.text("run_id", "")
    if named and run is not None and find_run(call.caller, named).pk != run.pk:
        raise invalid("source", source, f"it is none of the files of the run {named}.")
    properties = {name: value for name, value in ((MODEL_ID, model_id), (RUN_LINK, call.text("run_link", ""))) if value}
    try:
        with transaction.atomic():
            make_room(call, model)
            row = registering.register(
                call.caller.workspace, call.caller.user, model.name, run, path, description=call.text("description", ""),
                tags=pairs(call.items("tags"), "tags", MAX_TAG), properties=properties, source=source,
            )  # fmt: skip
    except ConfigError as error:
        raise Problem("INVALID_PARAMETER_VALUE", "; ".join(error.errors.values())) from None
    return {"model_version": version_json(row)}


def origin(call: Call, source: str, logged: str) -> tuple[Run, str, str]:
    """(run, path, id of the logged model or ""). Raises Problem for any address that names no files of a run here."""
    caller = call.caller
    if match := LOGGED.match(source):
        if logged and logged != match[1]:
            raise invalid("model_id", logged, f"the source is the model {match[1]}.")
        logged, source = match[1], ""
    if logged and not source:
        model = find_model(caller, logged)
        if model.run is None:
            raise invalid("model_id", logged, "no files of this model came yet.")
        return model.run, model.folder, logged
    if match := OF_RUN.match(source):
        path = (match[2] or "").strip("/")
        if path:
            check(path)
        return find_run(caller, match[1]), path, logged
    if source.startswith("mlflow-artifacts:/") and not source.startswith("mlflow-artifacts://"):
        place = place_of(caller, source.removeprefix("mlflow-artifacts:/").lstrip("/"))
        if place.run is not None:
            return place.run, place.full, logged or (place.model.uid if place.model else "")
    if match := REGISTERED.match(source):
        other = registering.find_version(find_registered(caller, match[1]), match[2] or match[3])
        if other is not None and other.run is not None:
            return other.run, other.path, logged or str(other.properties.get(MODEL_ID, ""))
    raise invalid(
        "source",
        source,
        "it must name files of a run of this workspace: runs:/<run id>/<path>, models:/<id> or an artifact's address.",
    )


def get_version(call: Call) -> Json:
    return {"model_version": version_json(find_version(call))}


def update_version(call: Call) -> Json:
    row = find_version(call)
    if "description" in call.fields:
        row.description = call.text("description", "")
    return {"model_version": version_json(_save(row, "description"))}


def delete_version(call: Call) -> None:
    registering.remove([find_version(call)], call.caller.user)


def download_uri(call: Call) -> Json:
    return {"artifact_uri": location(find_version(call))}


def transition(call: Call) -> Json:
    stage = STAGES.get(call.text("stage").lower())
    if stage is None:
        raise invalid("stage", call.fields.get("stage"), f"one of {', '.join(STAGES.values())} is needed.")
    alone = call.fields.get("archive_existing_versions") is True
    if alone and stage in {"None", "Archived"}:
        raise invalid("archive_existing_versions", True, "it goes with Staging and Production only.")
    with transaction.atomic():
        row = find_version(call)
        RegisteredModel.objects.select_for_update().get(pk=row.model_id)
        if alone:
            ModelVersion.objects.filter(model=row.model, stage=stage).exclude(pk=row.pk).update(
                stage="Archived", updated_at=timezone.now()
            )
        row.stage = "" if stage == "None" else stage
        return {"model_version": version_json(_save(row, "stage"))}


def set_version_tag(call: Call) -> None:
    with transaction.atomic():
        row = ModelVersion.objects.select_for_update(of=("self",)).select_related("model").get(pk=find_version(call).pk)
        row.tags[tag_key(call)] = text(call.fields.get("value", ""), "value", MAX_TAG)
        _save(row, "tags")


def delete_version_tag(call: Call) -> None:
    with transaction.atomic():
        row = ModelVersion.objects.select_for_update(of=("self",)).select_related("model").get(pk=find_version(call).pk)
        row.tags.pop(tag_key(call), None)
        _save(row, "tags")


def tag_key(call: Call) -> str:
    return call.text("key", limit=250)


def _save(row: ModelVersion, *fields: str) -> ModelVersion:
    row.updated_at = timezone.now()
    row.save(update_fields=[*fields, "updated_at"])
    RegisteredModel.objects.filter(pk=row.model_id).update(updated_at=row.updated_at)
    return row


def search_versions(call: Call) -> Json:
    clauses = parse(call.text("filter", ""), VERSIONS)
    sorted_by = orders(call.texts("order_by"), VERSIONS)
    size = call.integer("max_results", 10_000, 1, MAX_SEARCH)
    start = offset_of(call.text("page_token", ""))
    rows = ModelVersion.objects.filter(model__workspace=call.caller.workspace).select_related(
        "model", "run", "created_by"
    )
    for clause in clauses:
        if (clause.kind, clause.key, clause.sign) == ("attribute", "name", "="):
            rows = rows.filter(model__name=clause.value)
    found = [row for row in rows if all(matches(clause, value_of(row, clause)) for clause in clauses)]
    found.sort(key=lambda row: (row.model.name, -row.number))
    for _, key, ascending in reversed(sorted_by or [("attribute", "last_updated_timestamp", False)]):
        found.sort(key=lambda row, key=key: value_of(row, Clause("attribute", key, "=")) or "", reverse=not ascending)  # type: ignore[misc]
    answer: Json = {"model_versions": [version_json(row) for row in found[start : start + size]]}
    if len(found) > start + size:
        answer["next_page_token"] = offset_token(start + size)
    return answer


def matches(clause: Clause, value: Any) -> bool:
    """A prompt is a model with a tag; what lacks the tag is none, as in MLflow's own search."""
    if clause.kind == "tag" and clause.key == NO_PROMPT and value is None:
        return (clause.sign, clause.value) in {("=", "false"), ("!=", "true")}
    return holds(clause, value)


def value_of(row: ModelVersion, clause: Clause) -> Any:
    if clause.kind == "tag":
        return row.tags.get(clause.key)
    return {
        "name": row.model.name,
        "version_number": row.number,
        "run_id": run_id(row.run.uid, row.run.number) if row.run is not None else None,
        "source_path": row.source or location(row),
        "creation_timestamp": milliseconds(row.created_at),
        "last_updated_timestamp": milliseconds(row.updated_at),
    }[clause.key]
