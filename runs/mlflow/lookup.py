"""Experiments and runs by the ids that a client names, within its workspace; and the ids that it is shown."""

import re
from datetime import UTC, datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from runs.mlflow.auth import Caller
from runs.mlflow.problems import Problem, invalid, missing
from runs.models import Experiment, Run
from studio.workspaces.models import Workspace, name_rule

DEFAULT = "Default"
MAX_EXPERIMENT_NAME = 500
# MLflow's clients refuse ids with other characters, such as the dots that the id of a submitted run may have from its experiment.
RUN_ID = re.compile(r"[a-zA-Z0-9][\w\-]{0,255}\Z")
NUMBERED = re.compile(r"run-([0-9]{1,18})\Z")


def experiment_id(pk: int, name: str) -> str:
    """``0`` is the experiment in which runs are that name none."""
    return "0" if name == DEFAULT else str(pk)


def default_experiment(workspace: Workspace) -> Experiment:
    return Experiment.objects.get_or_create(workspace=workspace, name=DEFAULT)[0]


def find_experiment(caller: Caller, wanted: str, *, active: bool = False) -> Experiment:
    """Raises Problem when there is none, or, with ``active``, when it is deleted."""
    rows = Experiment.objects.filter(workspace=caller.workspace)
    if wanted == "0":
        row: Experiment | None = rows.filter(name=DEFAULT).first() or default_experiment(caller.workspace)
    else:
        row = rows.filter(pk=int(wanted)).first() if is_key(wanted) else None
    if row is None:
        raise Problem("RESOURCE_DOES_NOT_EXIST", f"No Experiment with id={wanted[:100]} exists")
    if active and row.archived_at is not None:
        raise Problem(
            "INVALID_PARAMETER_VALUE",
            f"The experiment {wanted} must be in the 'active' state. It is deleted; restore it.",
        )
    return row


def is_key(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19


def experiment_keys(caller: Caller, wanted: list[str]) -> list[int]:
    """Keys of those of the experiments that there are."""
    keys = [int(item) for item in wanted if is_key(item) and item != "0"]
    rows = Experiment.objects.filter(workspace=caller.workspace)
    found = [
        pk
        for first in range(0, len(keys), 500)
        for pk in rows.filter(pk__in=keys[first : first + 500]).values_list("pk", flat=True)
    ]
    if "0" in wanted:
        found.append(default_experiment(caller.workspace).pk)
    return found


def shown_name(name: str, title: str) -> str:
    return title or name


def named(workspace: Workspace, name: str) -> Experiment | None:
    rows = Experiment.objects.filter(workspace=workspace)
    return rows.filter(title=name).first() or rows.filter(name=name, title="").first()


def new_experiment(caller: Caller, name: str, tags: dict[str, str]) -> Experiment:
    """Make an experiment. A name that no address can have is kept as its title. Raises Problem when the name is taken."""
    with transaction.atomic():
        Workspace.objects.select_for_update().get(pk=caller.workspace.pk)
        refuse_taken(caller.workspace, name)
        slug, title = free_name(caller.workspace, name)
        return Experiment.objects.create(
            workspace=caller.workspace, name=slug, title=title, tags=tags, created_by=caller.user
        )


def refuse_taken(workspace: Workspace, name: str) -> None:
    taken = named(workspace, name)
    if taken is None:
        return
    state = "" if taken.archived_at is None else " It is deleted: restore it, or choose another name."
    raise Problem("RESOURCE_ALREADY_EXISTS", f"Experiment {name[:200]!r} already exists.{state}")


def free_name(workspace: Workspace, name: str) -> tuple[str, str]:
    """(name as addresses have it, title: the name as it was given, when that is another)."""
    taken = Experiment.objects.filter(workspace=workspace)
    try:
        name_rule(name)
    except Exception:
        base = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-._")[:200] or "experiment"
    else:
        if not taken.filter(name=name).exists():
            return name, ""
        base = name[:200]
    slug, n = base, 1
    while taken.filter(name=slug).exists():
        n += 1
        slug = f"{base}-{n}"
    return slug, name


def run_id(uid: str, number: int) -> str:
    return uid if RUN_ID.match(uid) else f"run-{number}"


def find_run(caller: Caller, wanted: str, *, active: bool = False, lock: bool = False) -> Run:
    """The run of an id. ``active``: raises Problem when it is deleted; ``lock``: inside a transaction, until its end."""
    rows = Run.objects.filter(workspace_id=caller.workspace.pk)
    if lock:
        rows = rows.select_for_update()
    row = rows.filter(uid=wanted).first()
    if row is None and (numbered := NUMBERED.match(wanted)):
        row = rows.filter(number=int(numbered[1])).first()
    if row is None:
        raise missing("Run", wanted)
    if active and row.archived_at is not None:
        raise Problem(
            "INVALID_PARAMETER_VALUE", f"The run {wanted} must be in the 'active' state. It is deleted; restore it."
        )
    return row


def milliseconds(moment: datetime | None) -> int | None:
    return None if moment is None else round(moment.timestamp() * 1000)


def moment(value: Any, field: str) -> datetime | None:
    """A time in milliseconds as a client sends it; None for none."""
    if value is None or value == 0:
        return None
    try:
        return datetime.fromtimestamp(int(value) / 1000, UTC)
    except (ValueError, TypeError, OverflowError, OSError):
        raise invalid(field, value, "a time in milliseconds since 1970 is needed.") from None


def archive(run: Run, *, deleted: bool) -> None:
    Run.objects.filter(pk=run.pk).update(archived_at=timezone.now() if deleted else None)
