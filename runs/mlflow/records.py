"""What a client logs: points, parameters and tags. All of a call is checked first, and applied in one transaction or not at all."""

import json
from typing import Any

from django.db import connection, transaction

from runs.metrics.applying import apply_batch
from runs.metrics.quick import add
from runs.metrics.records import MAX_NOTE, MAX_RUN_NAME, Batch, Column
from runs.mlflow.fields import MAX_PARAMETER, MAX_TAG, Call, Fields, cut, items, name_of, point
from runs.mlflow.importing import refuse_repeated
from runs.mlflow.lookup import NUMBERED, find_run, run_id
from runs.mlflow.models import log_model_points
from runs.mlflow.problems import Problem, invalid
from runs.mlflow.shapes import NOTE, PARENT, RUN_NAME
from runs.models import Run, RunParameter, RunTag

MAX_METRICS = 1000
MAX_PARAMETERS = 100
MAX_TAGS = 100
MAX_ITEMS = 1000
LOG_MODEL = "mlflow.log-model.history"
_FIND = "SELECT id FROM runs_run WHERE uid = %s AND workspace_id = %s AND archived_at IS NULL"
FIND = {"sqlite": _FIND, "postgresql": f"{_FIND} FOR UPDATE"}


def log_metric(call: Call) -> None:
    _apply_points(call, [call.fields], "")


def log_batch(call: Call) -> None:
    fields = call.fields
    points, params, tags = items(fields, "metrics"), items(fields, "params"), items(fields, "tags")
    for name, listed, most in (
        ("metrics", points, MAX_METRICS),
        ("params", params, MAX_PARAMETERS),
        ("tags", tags, MAX_TAGS),
    ):
        if len(listed) > most:
            raise Problem(
                "INVALID_PARAMETER_VALUE",
                f"A batch logging request can contain at most {most} {name}. Got {len(listed)} {name}. Please split up {name} across multiple requests and try again.",
            )
    if (total := len(points) + len(params) + len(tags)) > MAX_ITEMS:
        raise Problem(
            "INVALID_PARAMETER_VALUE",
            f"A batch logging request can contain at most {MAX_ITEMS} items together. Got {total}.",
        )
    batch = Batch()
    for place, item in enumerate(params):
        name = name_of(item.get("key"), f"params[{place}].key")
        if name in batch.parameters:
            raise Problem(
                "INVALID_PARAMETER_VALUE",
                f"Duplicate parameter keys have been submitted: [{name!r}]. Please ensure the request contains only one param value per param key.",
            )
        batch.parameters[name] = cut(item.get("value", ""), f"params[{place}].value", MAX_PARAMETER)
    for place, item in enumerate(tags):
        add_tag(batch, name_of(item.get("key"), f"tags[{place}].key"), item.get("value", ""), f"tags[{place}].value")
    _apply_points(call, points, "metrics[{}].", batch)


def _apply_points(call: Call, listed: list[Fields], where: str, batch: Batch | None = None) -> None:
    batch = batch or Batch()
    columns, checked = batch.points, set[str]()
    of_models = []
    for place, item in enumerate(listed):
        name, step, at, value = point(item, where.format(place), checked)
        column = columns.get(name)
        if column is None:
            column = columns[name] = Column()
        column.steps.append(step)
        column.times.append(at)
        column.values.append(value)
        if item.get("model_id"):
            of_models.append((item, name, step, at, value))
    if (
        not of_models
        and not batch.parameters
        and not batch.tags
        and batch.name is batch.note is None
        and "counts_before" not in call.fields
        and _quickly(call, columns)
    ):
        return
    with transaction.atomic():
        run = apply(call, batch)
        if of_models:
            log_model_points(call, run, of_models)


def _quickly(call: Call, columns: dict[str, Column]) -> bool:
    """The way of most calls: points of metrics that the run has already. Whether it was enough; if not, nothing was done."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(FIND[connection.vendor], [call.run_id, call.caller.workspace.pk])
        row = cursor.fetchone()
        return row is not None and add(row[0], columns)


def log_param(call: Call) -> None:
    batch = Batch()
    batch.parameters[name_of(call.fields.get("key"), "key")] = cut(call.fields.get("value", ""), "value", MAX_PARAMETER)
    apply(call, batch)


def set_tag(call: Call) -> None:
    batch = Batch()
    add_tag(batch, name_of(call.fields.get("key"), "key"), call.fields.get("value", ""), "value")
    apply(call, batch)


def delete_tag(call: Call) -> None:
    name = name_of(call.fields.get("key"), "key")
    with transaction.atomic():
        run = find_run(call.caller, call.run_id, active=True, lock=True)
        if name == NOTE and run.notes:
            Run.objects.filter(pk=run.pk).update(notes="")
        elif name == PARENT and run.parent_id:
            Run.objects.filter(pk=run.pk).update(parent=None)
        elif not RunTag.objects.filter(run=run, name=name).delete()[0]:
            raise Problem("RESOURCE_DOES_NOT_EXIST", f"No tag with name: {name} in run with id {call.run_id}")


def log_model(call: Call) -> None:
    """What clients before MLflow 3 tell of a model: a tag that lists them."""
    try:
        model = json.loads(call.text("model_json"))
    except (ValueError, RecursionError):
        raise invalid("model_json", call.fields.get("model_json"), "JSON is needed.") from None
    with transaction.atomic():
        run = find_run(call.caller, call.run_id, active=True, lock=True)
        held = RunTag.objects.filter(run=run, name=LOG_MODEL).values_list("value", flat=True).first()
        history = [*_listed(held), model]
        while len(value := json.dumps(history)) > MAX_TAG and len(history) > 1:
            history.pop(0)  # the tag holds the newest
        if len(value) <= MAX_TAG:
            RunTag.objects.update_or_create(
                run=run, name=LOG_MODEL, defaults={"workspace_id": run.workspace_id, "value": value}
            )


def _listed(value: str | None) -> list[Any]:
    try:
        found = json.loads(value or "[]")
    except ValueError:
        return []
    return found if isinstance(found, list) else []


def add_tag(batch: Batch, name: str, value: Any, field: str) -> None:
    """Some of MLflow's tags are columns here."""
    if name == RUN_NAME:
        batch.name = shown_name(value, field)
    elif name == NOTE:
        batch.note = cut(value, field, MAX_NOTE)
    else:
        batch.tags[name] = (cut(value, field, MAX_TAG),)


def shown_name(value: Any, field: str) -> str:
    """A run's name is one line that is not empty."""
    name = " ".join(cut(value, field, MAX_RUN_NAME).split())
    if not name:
        raise invalid(field, value, "a run's name is not empty.")
    return name


def apply(call: Call, batch: Batch) -> Run:
    """Apply a batch to the run that a call names, all of it or, raising Problem, nothing."""
    with transaction.atomic():
        run = find_run(call.caller, call.run_id, active=True, lock=True)
        refuse_repeated(call, run)
        if batch.parameters:
            refuse_changes(run, batch.parameters)
        if PARENT in batch.tags:
            _take_parent(call, run, batch)
        apply_batch(run, batch)
        if batch.first is not None:
            raise Problem("INVALID_PARAMETER_VALUE", f"{batch.first[1]} Nothing of the call was stored.")
    return run


def _take_parent(call: Call, run: Run, batch: Batch) -> None:
    """The parent by its id; an id that there is not stays a tag."""
    value = (batch.tags[PARENT] or ("",))[0] or ""
    parent = parent_of(call, value)
    if parent is not None and parent.pk != run.pk:
        del batch.tags[PARENT]
        Run.objects.filter(pk=run.pk).update(parent=parent)


def parent_of(call: Call, value: str) -> Run | None:
    rows = Run.objects.filter(workspace=call.caller.workspace)
    numbered = NUMBERED.match(value)
    return rows.filter(uid=value).first() or (rows.filter(number=int(numbered[1])).first() if numbered else None)


def refuse_changes(run: Run, params: dict[str, str]) -> None:
    """What a client logged once it does not change. What a script's arguments said may be said again, and otherwise."""
    rows = RunParameter.objects.filter(run=run, name__in=list(params), logged=True)
    for name, old in rows.values_list("name", "value"):
        if old != params[name]:
            raise Problem(
                "INVALID_PARAMETER_VALUE",
                f"Changing param values is not allowed. Param with key='{name}' was already logged with value='{old[:100]}' "
                f"for run ID='{run_id(run.uid, run.number)}'. Attempted logging new value '{params[name][:100]}'.",
            )
