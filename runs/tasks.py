"""What RQ workers do. Tasks take ids, read the row again, and may be repeated."""

from datetime import timedelta

from django.db import connection
from django.db.models import Q
from django.utils import timezone

from runs import logs
from runs.house import House, waiting_targets
from runs.models import LogStream, Run
from runs.status import FINAL
from studio.blobs import BlobStore
from studio.queues import later, ring_now


def attend() -> None:
    """Listen to the bell and attend targets, until there is nothing to do."""
    connection.close()  # the fork that runs this must not share its parent's connection
    House().run()


def seal(run_id: int) -> None:
    """Turn the log rows of an ended run into one compressed object."""
    run = Run.objects.filter(pk=run_id, status__in=FINAL).first()
    if run is None:
        return
    store = BlobStore(run.workspace_id)
    for stream in LogStream.objects.filter(run=run, sealed=""):
        logs.seal(stream, store)


def sweep() -> None:
    """One turn of the reconciler: ring for work that nobody attends, and queue again what a lost message asked for."""
    for target_id in waiting_targets():
        ring_now(target_id)
    old = timezone.now() - timedelta(minutes=1)
    unsealed = LogStream.objects.filter(sealed="", size__gt=0, run__ended_at__lt=old).filter(Q(run__status__in=FINAL))
    for run_id in set(unsealed.values_list("run_id", flat=True)[:50]):
        later("runs.tasks.seal", run_id)
