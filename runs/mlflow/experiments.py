"""Calls about experiments."""

import re
from typing import Any

from django.db import transaction
from django.utils import timezone

from runs.mlflow.fields import MAX_PAGE, Call, name_of, pairs, text
from runs.mlflow.found import VIEWS, offset_of, offset_token
from runs.mlflow.lookup import (
    MAX_EXPERIMENT_NAME,
    default_experiment,
    experiment_id,
    find_experiment,
    free_name,
    milliseconds,
    named,
    new_experiment,
    refuse_taken,
    shown_name,
)
from runs.mlflow.problems import Problem, invalid
from runs.mlflow.search import EXPERIMENTS, Clause, holds, orders, parse
from runs.mlflow.shapes import EXPERIMENT_NOTE, Json, experiment_json
from runs.models import Experiment, Run
from studio.workspaces.models import Workspace

MAX_TAG_VALUE = 20_000
LOCATION = re.compile(r"mlflow-artifacts:/(?:[\w\-]+(?:/[\w\-]+)*/?)?\Z")


def create_experiment(call: Call) -> Json:
    name = experiment_name(call.text("name"), "name")
    refuse_location(call.text("artifact_location", ""))
    tags = pairs(call.items("tags"), "tags", MAX_TAG_VALUE)
    note = tags.pop(EXPERIMENT_NOTE, "")
    row = new_experiment(call.caller, name, tags)
    if note:
        Experiment.objects.filter(pk=row.pk).update(description=note)
    return {"experiment_id": experiment_id(row.pk, row.name)}


def experiment_name(name: str, field: str) -> str:
    if not name.strip():
        raise Problem("INVALID_PARAMETER_VALUE", f"Invalid experiment name: {name!r}. A name is needed.")
    return text(name, field, MAX_EXPERIMENT_NAME)


def refuse_location(location: str) -> None:
    """The studio keeps artifacts itself: a location may only be one of its own, which are no places."""
    if location and not LOCATION.match(location):
        raise invalid(
            "artifact_location",
            location,
            "the studio keeps artifacts in its own store and opens no other place. Leave artifact_location out.",
        )


def get_experiment(call: Call) -> Json:
    return {"experiment": experiment_json(find_experiment(call.caller, call.text("experiment_id")))}


def get_by_name(call: Call) -> Json:
    name = call.text("experiment_name")
    if name == "Default":
        return {"experiment": experiment_json(default_experiment(call.caller.workspace))}
    row = named(call.caller.workspace, name)
    if row is None:
        raise Problem("RESOURCE_DOES_NOT_EXIST", f"Could not find experiment with name {name[:200]!r}")
    return {"experiment": experiment_json(row)}


def update_experiment(call: Call) -> None:
    row = find_experiment(call.caller, call.text("experiment_id"))
    name = call.text("new_name", "")
    if not name or name == shown_name(row.name, row.title):
        return
    experiment_name(name, "new_name")
    if row.archived_at is not None:
        raise Problem("INVALID_PARAMETER_VALUE", "Cannot rename a non-active experiment. Restore it first.")
    if experiment_id(row.pk, row.name) == "0":
        raise Problem(
            "INVALID_PARAMETER_VALUE", "The experiment 0 keeps its name: runs that name no experiment are in it."
        )
    with transaction.atomic():
        Workspace.objects.select_for_update().get(pk=call.caller.workspace.pk)
        refuse_taken(call.caller.workspace, name)
        row.name, row.title = free_name(call.caller.workspace, name)
        row.save(update_fields=["name", "title"])


def delete_experiment(call: Call) -> None:
    """Its runs that are active are deleted with it, and restored with it."""
    row = find_experiment(call.caller, call.text("experiment_id"), active=True)
    now = timezone.now()
    with transaction.atomic():
        Experiment.objects.filter(pk=row.pk).update(archived_at=now)
        Run.objects.filter(experiment=row, archived_at=None).update(archived_at=now)


def restore_experiment(call: Call) -> None:
    row = find_experiment(call.caller, call.text("experiment_id"))
    if row.archived_at is None:
        raise Problem("INVALID_PARAMETER_VALUE", f"The experiment {call.text('experiment_id')} is not deleted.")
    with transaction.atomic():
        Run.objects.filter(experiment=row, archived_at=row.archived_at).update(archived_at=None)
        Experiment.objects.filter(pk=row.pk).update(archived_at=None)


def set_experiment_tag(call: Call) -> None:
    name = name_of(call.fields.get("key"), "key")
    value = text(call.fields.get("value", ""), "value", MAX_TAG_VALUE)
    with transaction.atomic():
        row = _locked(call)
        if name == EXPERIMENT_NOTE:
            row.description = value
        else:
            row.tags[name] = value
        row.save(update_fields=["tags", "description"])


def delete_experiment_tag(call: Call) -> None:
    name = name_of(call.fields.get("key"), "key")
    with transaction.atomic():
        row = _locked(call)
        if name == EXPERIMENT_NOTE and row.description:
            row.description = ""
        elif row.tags.pop(name, None) is None:
            raise Problem(
                "RESOURCE_DOES_NOT_EXIST", f"No tag with name: {name} in experiment {call.text('experiment_id')}"
            )
        row.save(update_fields=["tags", "description"])


def _locked(call: Call) -> Experiment:
    found = find_experiment(call.caller, call.text("experiment_id"), active=True)
    return Experiment.objects.select_for_update().get(pk=found.pk)


def search_experiments(call: Call) -> Json:
    size = call.integer("max_results", 1000, 1, MAX_PAGE)
    clauses = parse(call.text("filter", ""), EXPERIMENTS)
    sorted_by = orders(call.texts("order_by"), EXPERIMENTS) or [
        ("attribute", "creation_time", False),
        ("attribute", "experiment_id", True),
    ]
    view = VIEWS.get(str(call.fields.get("view_type", "ACTIVE_ONLY")))
    if view is None:
        raise invalid("view_type", call.fields.get("view_type"), "ACTIVE_ONLY, DELETED_ONLY or ALL is needed.")
    start = offset_of(call.text("page_token", ""))
    default_experiment(call.caller.workspace)
    rows = Experiment.objects.filter(workspace=call.caller.workspace)
    if view:
        rows = rows.filter(archived_at__isnull="NOT" not in view)
    found = [row for row in rows if all(holds(clause, value_of(row, clause)) for clause in clauses)]
    if not any(key == "experiment_id" for _, key, _ in sorted_by):
        sorted_by.append(("attribute", "experiment_id", False))
    for _, key, ascending in reversed(sorted_by):
        found.sort(key=lambda row, key=key: sort_key(row, key), reverse=not ascending)  # type: ignore[misc]
    answer: Json = {"experiments": [experiment_json(row) for row in found[start : start + size]]}
    if len(found) > start + size:
        answer["next_page_token"] = offset_token(start + size)
    return answer


def value_of(row: Experiment, clause: Clause) -> Any:
    if clause.kind == "tag":
        return (row.description or None) if clause.key == EXPERIMENT_NOTE else row.tags.get(clause.key)
    return {
        "name": shown_name(row.name, row.title),
        "experiment_id": experiment_id(row.pk, row.name),
        "creation_time": milliseconds(row.created_at),
        "last_update_time": milliseconds(row.last_run_at or row.created_at),
    }[clause.key]


def sort_key(row: Experiment, key: str) -> Any:
    if key == "experiment_id":
        return 0 if experiment_id(row.pk, row.name) == "0" else row.pk
    return value_of(row, Clause("attribute", key, "="))
