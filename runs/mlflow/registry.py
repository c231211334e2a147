"""Registered models: made, read, found, renamed, described, with aliases, taken away."""

import re
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from runs import registering
from runs.config import ConfigError
from runs.mlflow.fields import Call, pairs, text
from runs.mlflow.found import offset_of, offset_token
from runs.mlflow.lookup import milliseconds
from runs.mlflow.problems import Problem, invalid
from runs.mlflow.search import MODELS, Clause, orders, parse
from runs.mlflow.shapes import Json, tags_json
from runs.mlflow.versions import MAX_TAG, STAGES, find_registered, find_version, matches, tag_key, version_json
from runs.models import ModelVersion, RegisteredModel
from studio import audit

MAX_SEARCH = 1000
ALIAS = re.compile(r"[\w\-]{1,255}\Z")


def model_json(row: RegisteredModel, versions: "list[ModelVersion] | None" = None) -> Json:
    if versions is None:
        versions = versions_of([row])[row.pk]
    newest: dict[str, ModelVersion] = {}
    for version in versions:
        newest.setdefault(version.stage or "None", version)
    return {
        "name": row.name,
        "creation_timestamp": milliseconds(row.created_at),
        "last_updated_timestamp": milliseconds(row.updated_at),
        "user_id": row.created_by.email if row.created_by else "",
        "description": row.description,
        "tags": tags_json(row.tags),
        "latest_versions": [version_json(version) for version in newest.values()],
        "aliases": [
            {"alias": alias, "version": str(version.number)} for version in versions for alias in version.aliases
        ],
    }


def versions_of(rows: list[RegisteredModel]) -> dict[int, list[ModelVersion]]:
    """Newest first."""
    found: dict[int, list[ModelVersion]] = {row.pk: [] for row in rows}
    versions = ModelVersion.objects.filter(model__in=rows).select_related("model", "run", "created_by")
    for version in versions.order_by("-number"):
        found[version.model_id].append(version)
    return found


def create_model(call: Call) -> Json:
    name = call.text("name")
    try:
        row, new = registering.create_model(
            call.caller.workspace, call.caller.user, name, description=call.text("description", ""),
            tags=pairs(call.items("tags"), "tags", MAX_TAG),
        )  # fmt: skip
    except ConfigError as error:
        raise Problem("INVALID_PARAMETER_VALUE", "; ".join(error.errors.values())) from None
    if not new:
        raise Problem("RESOURCE_ALREADY_EXISTS", f"Registered Model (name={name}) already exists.")
    return {"registered_model": model_json(row)}


def get_model(call: Call) -> Json:
    return {"registered_model": model_json(find_registered(call.caller, call.text("name")))}


def rename_model(call: Call) -> Json:
    row = find_registered(call.caller, call.text("name"))
    name = call.text("new_name")
    try:
        registering.check_model_name(name)
        with transaction.atomic():
            row.name = name
            _save(row, "name")
    except ConfigError as error:
        raise Problem("INVALID_PARAMETER_VALUE", "; ".join(error.errors.values())) from None
    except IntegrityError:
        raise Problem("RESOURCE_ALREADY_EXISTS", f"Registered Model (name={name}) already exists.") from None
    return {"registered_model": model_json(row)}


def update_model(call: Call) -> Json:
    row = find_registered(call.caller, call.text("name"))
    if "description" in call.fields:
        row.description = call.text("description", "")
        _save(row, "description")
    return {"registered_model": model_json(row)}


def delete_model(call: Call) -> None:
    row = find_registered(call.caller, call.text("name"))
    with transaction.atomic():
        registering.remove(row.versions.select_related("model__workspace"), call.caller.user)
        audit.note(call.caller.user, "model.delete", workspace=call.caller.workspace, subject=row.name)
        row.delete()


def _save(row: RegisteredModel, *fields: str) -> None:
    row.updated_at = timezone.now()
    row.save(update_fields=[*fields, "updated_at"])


def set_tag(call: Call) -> None:
    with transaction.atomic():
        row = RegisteredModel.objects.select_for_update().get(pk=find_registered(call.caller, call.text("name")).pk)
        row.tags[tag_key(call)] = text(call.fields.get("value", ""), "value", MAX_TAG)
        _save(row, "tags")


def delete_tag(call: Call) -> None:
    with transaction.atomic():
        row = RegisteredModel.objects.select_for_update().get(pk=find_registered(call.caller, call.text("name")).pk)
        row.tags.pop(tag_key(call), None)
        _save(row, "tags")


def set_alias(call: Call) -> None:
    alias = call.text("alias")
    if not ALIAS.match(alias) or alias.lower() == "latest" or re.fullmatch(r"[vV]\d+", alias):
        raise invalid("alias", alias, "up to 255 letters, digits, '_' and '-'; not 'latest', and not as 'v1'.")
    registering.set_alias(find_version(call), alias)


def delete_alias(call: Call) -> None:
    registering.drop_alias(find_registered(call.caller, call.text("name")), call.text("alias"))


def get_by_alias(call: Call) -> Json:
    model, alias = find_registered(call.caller, call.text("name")), call.text("alias")
    versions = versions_of([model])[model.pk]
    found = (
        versions[0]
        if alias.lower() == "latest" and versions
        else next((v for v in versions if alias in v.aliases), None)
    )
    if found is None:
        raise Problem("INVALID_PARAMETER_VALUE", f"Registered model alias {alias[:255]} not found.")
    return {"model_version": version_json(found)}


def latest_versions(call: Call) -> Json:
    model = find_registered(call.caller, call.text("name"))
    wanted = []
    for stage in call.texts("stages"):
        if stage.lower() not in STAGES:
            raise invalid("stages", stage, f"one of {', '.join(STAGES.values())} is needed.")
        wanted.append(STAGES[stage.lower()])
    found = model_json(model)["latest_versions"]
    return {"model_versions": [item for item in found if not wanted or item["current_stage"] in wanted]}


def search_models(call: Call) -> Json:
    clauses = parse(call.text("filter", ""), MODELS)
    sorted_by = orders(call.texts("order_by"), MODELS) or [("attribute", "name", True)]
    size = call.integer("max_results", 100, 1, MAX_SEARCH)
    start = offset_of(call.text("page_token", ""))
    rows = RegisteredModel.objects.filter(workspace=call.caller.workspace).select_related("created_by").order_by("name")
    found = [row for row in rows if all(matches(clause, value_of(row, clause)) for clause in clauses)]
    for _, key, ascending in reversed(sorted_by):
        found.sort(key=lambda row, key=key: value_of(row, Clause("attribute", key, "=")), reverse=not ascending)  # type: ignore[misc]
    shown = found[start : start + size]
    versions = versions_of(shown)
    answer: Json = {"registered_models": [model_json(row, versions[row.pk]) for row in shown]}
    if len(found) > start + size:
        answer["next_page_token"] = offset_token(start + size)
    return answer


def value_of(row: RegisteredModel, clause: Clause) -> Any:
    if clause.kind == "tag":
        return row.tags.get(clause.key)
    return {
        "name": row.name,
        "creation_timestamp": milliseconds(row.created_at),
        "last_updated_timestamp": milliseconds(row.updated_at),
    }[clause.key]
