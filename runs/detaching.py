"""What becomes of a target's runs when it is detached."""

from django.db import transaction
from django.db.models import F

from environments import attaching
from environments.attaching import Refused
from environments.models import ComputeTarget, Pool
from environments.pools import remove
from runs import pools, wishes
from runs.models import Run
from runs.status import ACTIVE, WAITING, EndReason, RunStatus
from runs.submission import cancel
from studio import audit
from studio.accounts.models import User

CHOICES = ("refuse", "cancel", "abandon")


def live(target: ComputeTarget) -> list[Run]:
    """Its runs that have not ended. Not those that a pool gave it and that it has not launched: they go elsewhere."""
    rows = Run.objects.filter(workspace_id=target.workspace_id, target=target, status__in=sorted(ACTIVE))
    return list(rows.exclude(pools.MOVABLE).order_by("pk"))  # as all who lock several do


def detach(target: ComputeTarget, user: User, runs: str = "refuse") -> bool:
    """Take a target out of use for good; whether it is.

    ``runs``: what becomes of those that have not ended. ``refuse`` raises Refused; ``cancel`` asks for their end and drains the target,
    which can be detached once they have ended; ``abandon`` is for a machine that is gone: they fail, and if they still execute there,
    they go on unheard. It is refused for a target that answers.
    """
    if runs not in CHOICES:
        raise Refused({"runs": f"Use one of: {', '.join(CHOICES)}."})
    going = live(target)
    if going and runs == "cancel":
        attaching.set_enabled(target, user, False)
        for run in going:
            cancel(run, user)
        return False
    if going and runs == "abandon":
        if target.unreachable_since is None:
            raise Refused({"runs": f"{target.name} answers. Cancel its runs; they can be ended properly."})
        give_up(target, going, user)
    with transaction.atomic():
        # Held first: a pool that would place something here meanwhile waits for the row, and then finds it detached.
        ComputeTarget.objects.select_for_update().get(pk=target.pk)
        pools.put_back(target.pk, "detached")
        attaching.detach(target, user)
    return True


def remove_pool(pool: Pool, user: User, *, cancel_waiting: bool = False) -> int:
    """Take a pool away, its members untouched; how many runs were cancelled for it. Runs that execute go on. Raises Refused while runs
    wait in it, unless they are to be cancelled."""
    canceled = 0
    if cancel_waiting:
        waits = Run.objects.filter(pool=pool, ended_at=None, launched=False, status__in=sorted(WAITING))
        # Those without a target first: a slot that another one leaves must not be given to them.
        order = (F("target").asc(nulls_first=True), "pk")
        canceled = sum(cancel(run, user) for run in waits.select_related("workspace", "created_by").order_by(*order))
    remove(pool, user)
    return canceled


def give_up(target: ComputeTarget, going: list[Run], user: User) -> None:
    message = (
        f"{target.name} was detached while it did not answer. Whether the script went on there is not known; what it wrote after the "
        "studio last heard of it is not here."
    )
    with transaction.atomic():
        for run in going:
            reason = EndReason.SUPERVISOR_LOST if run.launched else EndReason.CANCELED
            new = RunStatus.FAILED if run.launched else RunStatus.CANCELED
            error = {"type": "TargetDetached", "message": message, "line": None} if run.launched else {}
            while not run.move_to(new, reason=reason, error=error):
                run.refresh_from_db()  # the attendant moved it meanwhile
                if run.is_final:
                    break
            else:
                wishes.settle(run)
        numbers = ", ".join(f"#{run.number}" for run in going[:20])
        audit.note(
            user,
            "target.give_up",
            workspace=target.workspace,
            subject=target.name,
            detail=f"{len(going)} runs: {numbers}",
        )
