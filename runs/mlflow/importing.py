"""What only an import asks, see ``runstead import mlflow``: MLflow's own clients never send these.

An import may be cut off at any moment and begun again. It keeps the ids that things had, and asks how much of them is here.
"""

from runs.mlflow.fields import Call, integer
from runs.mlflow.lookup import find_run
from runs.mlflow.problems import Problem, invalid
from runs.mlflow.shapes import Json
from runs.models import Artifact, LoggedModel, MetricSeries, RegisteredModel, Run, RunParameter, RunTag


def held(call: Call) -> Json:
    """How much of a run is here: points of each metric, parameters, files."""
    run = find_run(call.caller, call.run_id)
    series = MetricSeries.objects.filter(run=run, system=False)
    return {
        "lifecycle_stage": "active" if run.archived_at is None else "deleted",
        "number": run.number,
        "points": dict(series.values_list("name", "count")),
        "params": RunParameter.objects.filter(run=run).count(),
        "files": dict(Artifact.objects.filter(run=run).values_list("path", "size")),
        "imported": RunTag.objects.filter(run=run, name="imported").exists(),
    }


def refuse_repeated(call: Call, run: Run) -> None:
    """``counts_before``: how many points each metric has if this call was not applied yet. Raises Problem when it was."""
    counts = call.fields.get("counts_before")
    if counts is None:
        return
    if not isinstance(counts, dict):
        raise invalid("counts_before", counts, "an object of names and counts is needed.")
    have = dict(MetricSeries.objects.filter(run=run, name__in=list(counts)[:1000]).values_list("name", "count"))
    for name, count in counts.items():
        if have.get(name, 0) != integer(count, f"counts_before.{name[:100]}", 0, 2**63 - 1):
            raise Problem(
                "RESOURCE_CONFLICT", f"The metric {name[:200]!r} has {have.get(name, 0)} points, not {count}."
            )


def kept_model_id(call: Call) -> str:
    """The id that a logged model shall keep; empty for a new one."""
    uid = call.text("model_id", "", 40)
    if uid and (len(uid) != 34 or uid[:2] != "m-" or not set(uid[2:]) <= set("0123456789abcdef")):
        raise invalid("model_id", uid, "'m-' and 32 lower-case hex digits are needed, or none.")
    if uid and LoggedModel.objects.filter(uid=uid).exists():
        raise Problem("RESOURCE_ALREADY_EXISTS", f"A logged model with ID '{uid}' exists.")
    return uid


def make_room(call: Call, model: RegisteredModel) -> None:
    """``version``: the number that the next version shall have. Raises Problem when the model is beyond it."""
    if "version" not in call.fields:
        return
    number = integer(call.fields["version"], "version", 1, 10**6)
    moved = RegisteredModel.objects.filter(pk=model.pk, last_number__lt=number).update(last_number=number - 1)
    if not moved:
        raise Problem("RESOURCE_ALREADY_EXISTS", f"Model Version (name={model.name}, version={number}) already exists.")
