"""Models that a script asked for become versions when its run ends, and what hangs on the run ends with it.

Both happen in the transaction that makes the run final: a wish becomes one version, whenever the studio is killed and however often the
end is tried again.
"""

from django.db import transaction
from django.utils import timezone

from runs import registering
from runs.config import ConfigError
from runs.metrics import children
from runs.models import ModelVersion, ModelWish, Run, RunEvent


def settle(run: Run) -> None:
    """Close the children that a run's script left open, and make the models that it asked for. Call in the transaction that ends it,
    when the rows of its files are written."""
    children.close(run)
    for wish in ModelWish.objects.filter(run__in=[run, *children.told_of(run)], settled_at=None).select_related("run"):
        try:
            with transaction.atomic():
                detail = f"Registered {fulfil(wish, run)}, as the script asked."
        except ConfigError as error:
            why = " ".join(error.errors.values())
            detail = f"The script asked for the model {wish.name}, which was not registered: {why}"
        ModelWish.objects.filter(pk=wish.pk).update(settled_at=timezone.now())
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
