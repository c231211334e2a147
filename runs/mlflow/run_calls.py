"""Calls about runs: begun, read, ended, taken away and back, and what they read and made."""

import re
import secrets

from django.db import transaction
from django.utils import timezone

from runs import outside
from runs.config import ConfigError
from runs.metrics.applying import apply_batch
from runs.metrics.records import Batch
from runs.mlflow.fields import Call, integer, items, pairs, text
from runs.mlflow.lookup import find_experiment, find_run, moment
from runs.mlflow.problems import Problem, invalid
from runs.mlflow.records import add_tag, parent_of, shown_name
from runs.mlflow.shapes import PARENT, RUN_NAME, Json, info_json, run_json
from runs.models import LoggedModel, Run, RunInput, RunModel
from runs.status import FINAL, RunStatus

MAX_INPUTS = 1000
MAX_SOURCE = 65_535
MAX_SCHEMA = 1_048_575
STATUSES = {
    "RUNNING": RunStatus.RUNNING, "SCHEDULED": RunStatus.RUNNING, "FINISHED": RunStatus.COMPLETED, "FAILED": RunStatus.FAILED,
    "KILLED": RunStatus.CANCELED, "1": RunStatus.RUNNING, "2": RunStatus.RUNNING, "3": RunStatus.COMPLETED, "4": RunStatus.FAILED,
    "5": RunStatus.CANCELED,
}  # fmt: skip
IMPORTED = re.compile(r"[0-9a-f]{32}\Z")


def create_run(call: Call) -> Json:
    """A run that is running. ``run_id``, which MLflow's own clients never send, keeps the id of a run that is imported."""
    caller = call.caller
    group = find_experiment(caller, call.text("experiment_id", "0") or "0", active=True)
    batch = Batch()
    for name, value in pairs(call.items("tags"), "tags", 100_000).items():
        add_tag(batch, name, value, f"tags.{name[:100]}")
    name = call.text("run_name", "")
    if name and batch.name and shown_name(name, "run_name") != batch.name:
        raise Problem(
            "INVALID_PARAMETER_VALUE",
            f"Both 'run_name' argument and '{RUN_NAME}' tag are specified, but with different values (run_name='{name[:100]}', "
            f"{RUN_NAME}='{batch.name[:100]}').",
        )
    batch.name = shown_name(name, "run_name") if name else batch.name or random_name()
    uid = call.text("run_id", "") or secrets.token_hex(16)
    if not IMPORTED.match(uid):
        raise invalid("run_id", uid, "32 lower-case hex digits are needed, or none.")
    if user := call.text("user_id", "", 250):
        batch.tags.setdefault("mlflow.user", (user,))
    told = batch.tags.get(PARENT)
    parent = parent_of(call, (told[0] or "") if told else "")
    if parent is not None:
        del batch.tags[PARENT]
    try:
        with transaction.atomic():
            run = outside.begin(
                caller.workspace, caller.user, group.name, name=batch.name, notes=batch.note or "", parent=parent, uid=uid,
                started_at=moment(call.fields.get("start_time"), "start_time"),
            )  # fmt: skip
            batch.name = batch.note = None
            apply_batch(run, batch)
            if batch.first is not None:
                raise Problem("INVALID_PARAMETER_VALUE", batch.first[1])
    except ConfigError as error:
        if "uid" in error.errors:
            raise Problem("RESOURCE_ALREADY_EXISTS", f"A run with id={uid} exists.") from None
        raise Problem("INVALID_PARAMETER_VALUE", "; ".join(f"{k}: {v}" for k, v in error.errors.items())) from None
    return {"run": run_json(run.pk)}


def random_name() -> str:
    return f"run-{secrets.token_hex(4)}"


def get_run(call: Call) -> Json:
    return {"run": run_json(find_run(call.caller, call.run_id).pk)}


def update_run(call: Call) -> Json:
    """Status, end and name. How a run ended that was executed on a target is for its exit to say: its status stays."""
    run = find_run(call.caller, call.run_id, active=True)
    fields = call.fields
    status = fields.get("status")
    new = STATUSES.get(str(status)) if status is not None else None
    if status is not None and new is None:
        raise invalid("status", status, "one of RUNNING, SCHEDULED, FINISHED, FAILED, KILLED is needed.")
    if name := call.text("run_name", ""):
        Run.objects.filter(pk=run.pk).update(name=shown_name(name, "run_name"))
    if new is not None and run.is_interactive:
        _move(run, new, call)
    return {"run_info": info_json(run.pk)}


def _move(run: Run, new: RunStatus, call: Call) -> None:
    if new == RunStatus.RUNNING:
        outside.reopen(run)
        return
    if run.status in FINAL and run.status != new:
        outside.reopen(run)  # MLflow lets a client say another end than before
    try:
        outside.finish(run, new, ended_at=moment(call.fields.get("end_time"), "end_time"))
    except outside.Ended as error:
        raise Problem("RESOURCE_CONFLICT", str(error)) from None


def delete_run(call: Call) -> None:
    run = find_run(call.caller, call.run_id, active=True)
    Run.objects.filter(pk=run.pk).update(archived_at=timezone.now())


def restore_run(call: Call) -> None:
    run = find_run(call.caller, call.run_id)
    if run.archived_at is None:
        raise Problem("INVALID_PARAMETER_VALUE", f"The run {call.run_id} is not deleted.")
    Run.objects.filter(pk=run.pk).update(archived_at=None)


def log_inputs(call: Call) -> None:
    datasets, used = call.items("datasets"), call.items("models")
    if len(datasets) + len(used) > MAX_INPUTS:
        raise invalid("datasets", len(datasets), f"at most {MAX_INPUTS} at once.")
    rows = []
    for place, item in enumerate(datasets):
        dataset, where = item.get("dataset"), f"datasets[{place}].dataset"
        if not isinstance(dataset, dict):
            raise invalid(where, dataset, "an object is needed.")
        name, digest = (dataset.get(field) for field in ("name", "digest"))
        if not name or not digest:
            raise Problem("INVALID_PARAMETER_VALUE", f"{where} needs a name and a digest.")
        data = {
            field: text(dataset[field], f"{where}.{field}", limit)
            for field, limit in (
                ("source_type", 64),
                ("source", MAX_SOURCE),
                ("schema", MAX_SCHEMA),
                ("profile", 16 * MAX_SCHEMA),
            )
            if dataset.get(field) is not None
        }
        tags = pairs(items(item, "tags"), f"datasets[{place}].tags", 500)
        rows.append((text(name, f"{where}.name", 500), text(digest, f"{where}.digest", 36), data, tags))
    with transaction.atomic():
        run = find_run(call.caller, call.run_id, active=True, lock=True)
        for name, digest, data, tags in rows:
            RunInput.objects.update_or_create(run=run, name=name, digest=digest, defaults={"data": data, "tags": tags})
        _use(call, run, [(item.get("model_id"), 0) for item in used], made=False)


def log_outputs(call: Call) -> None:
    made = call.items("models")
    if len(made) > MAX_INPUTS:
        raise invalid("models", len(made), f"at most {MAX_INPUTS} at once.")
    with transaction.atomic():
        run = find_run(call.caller, call.run_id, active=True, lock=True)
        steps = [step_of(item, place) for place, item in enumerate(made)]
        _use(call, run, [(item.get("model_id"), step) for item, step in zip(made, steps, strict=True)], made=True)


def step_of(item: Json, place: int) -> int:
    return integer(item.get("step", 0), f"models[{place}].step", -(2**63), 2**63 - 1)


def _use(call: Call, run: Run, used: list[tuple[object, int]], *, made: bool) -> None:
    for uid, step in used:
        model = LoggedModel.objects.filter(workspace=call.caller.workspace, uid=str(uid), deleted_at=None).first()
        if model is None:
            raise Problem("RESOURCE_DOES_NOT_EXIST", f"Logged model with ID '{str(uid)[:200]}' not found.")
        RunModel.objects.update_or_create(run=run, model=model, made=made, defaults={"step": step})
