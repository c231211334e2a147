"""Models that a script asked for become versions when its run ends, and what hangs on the run ends with it.

A wish becomes one version, whenever the studio is killed and however often the end is tried again: what says that it is settled is
written with the version.
"""

from collections.abc import Callable

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from runs import registering
from runs.config import ConfigError
from runs.metrics import children
from runs.models import ModelVersion, ModelWish, Run, RunEvent


def open_wishes(run: Run) -> "QuerySet[ModelWish]":
    return ModelWish.objects.filter(run__in=[run, *children.told_of(run)], settled_at=None).select_related("run")


def grant(run: Run, held: Callable[[], None]) -> None:
    """Make the models before the run ends, when the rows of its files are written. Each in a transaction of its own: a thousand in one
    would keep everybody else from writing for minutes. ``held`` is called in it first, and raises if somebody else attends the run."""
    for wish in open_wishes(run):
        with transaction.atomic():
            held()
            settle_one(wish, run)


def settle(run: Run) -> None:
    """Close the children that a run's script left open, and see to the wishes that nobody granted: its files may not have come home.
    Call in the transaction that ends it."""
    children.close(run)
    for wish in open_wishes(run).order_by("name", "pk"):  # in one order for all who hold several models
        settle_one(wish, run)


def settle_one(wish: ModelWish, run: Run) -> None:
    if not ModelWish.objects.filter(pk=wish.pk, settled_at=None).update(settled_at=timezone.now()):
        return  # somebody else did at this moment
    try:
        with transaction.atomic():
            detail = f"Registered {fulfil(wish, run)}, as the script asked."
    except ConfigError as error:
        why = " ".join(error.errors.values())
        detail = f"The script asked for the model {wish.name}, which was not registered: {why}"
    for row in {wish.run, run}:
        RunEvent.objects.create(run=row, detail=detail)


def fulfil(wish: ModelWish, run: Run) -> ModelVersion:
    """The version that was wished for. What a child asks for may be among its own files, or those of the script. Raises ConfigError."""
    owners = [wish.run, run] if wish.run_id != run.pk else [run]
    for owner in owners:
        if owner is owners[-1] or registering.has_files(owner, wish.path):
            break
    return registering.register(
        run.workspace, run.created_by, wish.name, owner, wish.path, description=wish.description, tags=wish.tags,
        properties=wish.properties,
    )  # fmt: skip
