"""Interactive runs whose program is not heard of any more: killed, or its machine asleep or cut off.

Their client promises to be heard of every minute. After two minutes of silence the run's page says so; after
RUNSTEAD_SILENT_RUN_HOURS the run ends as Failed, because nobody else would ever end it. When the client is heard of again, a laptop
that slept over a weekend say, the run goes on (``outside.hear``). MLflow's clients promise nothing, and their runs stay as they are.
"""

from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import F, Q

from runs.models import Run
from runs.status import EndReason, RunStatus

MARKED_AFTER = timedelta(minutes=2)
GAP = timedelta(seconds=60)
"""Longer between two looks, the studio itself was down or asleep."""
AT_ONCE = 200


class Silence:
    """Looks again and again. Time in which the studio could not hear anybody counts for nobody."""

    def __init__(self, now: datetime) -> None:
        self.looked_at = self.listening_since = now

    def look(self, now: datetime) -> None:
        if not timedelta() <= now - self.looked_at < GAP:
            self.listening_since = now
        self.looked_at = now
        if now - self.listening_since >= MARKED_AFTER:
            mark(now)


def mark(now: datetime) -> None:
    silent = Run.objects.filter(heard_at__lt=now - MARKED_AFTER, ended_at=None)
    silent.filter(unreachable_since=None).update(unreachable_since=F("heard_at"))
    hours = settings.SILENT_RUN_HOURS
    if not hours:
        return
    for run in silent.filter(heard_at__lt=now - timedelta(hours=hours)).order_by("heard_at")[:AT_ONCE]:
        message = f"Nothing was heard of its program for {hours} h. If that is alive, the run goes on when it is heard of again."
        run.move_to(
            RunStatus.FAILED, reason=EndReason.CLIENT_LOST, error={"message": message}, ended_at=run.heard_at,
            only=Q(heard_at=run.heard_at),
        )  # fmt: skip
