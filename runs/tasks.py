"""What RQ workers do. Tasks take ids, read the row again, and may be repeated."""

import logging
from datetime import timedelta

from django.db import connection
from django.db.models import Q, QuerySet
from django.utils import timezone

from environments.models import BuildStatus
from runs import logs, pools
from runs.house import House, waiting_targets
from runs.models import LogStream
from runs.silence import Silence
from runs.status import FINAL
from studio import leftovers
from studio.blobs import BlobStore
from studio.database import AWAY
from studio.queues import once, ring_now

log = logging.getLogger("runstead.tasks")

SEAL_AFTER = timedelta(seconds=30)
"""Just ended, a log is read most; and a burst of runs has better use for the processors."""
SEAL_EVERY = 30
silence = Silence(timezone.now())
BUILT = (BuildStatus.READY, BuildStatus.FAILED)


def attend() -> None:
    """Listen to the bell and attend targets, until there is nothing to do."""
    connection.close()  # the fork that runs this must not share its parent's connection
    House().run()


def seal() -> None:
    """Turn the log rows of runs and builds that have ended into compressed objects, until none is left."""
    for stream in unsealed().select_related("run", "build__target").iterator(chunk_size=100):
        owner = stream.run or (stream.build.target if stream.build is not None else None)
        if owner is None:
            continue
        try:
            logs.seal(stream, BlobStore(owner.workspace_id))
        except AWAY:
            raise
        except Exception:  # one log that cannot be sealed must not keep all others from it
            log.exception("the log %s stays as rows: it could not be sealed", stream)


def unsealed() -> "QuerySet[LogStream]":
    """Logs that nothing is added to any more and that rows still hold."""
    old = timezone.now() - SEAL_AFTER
    ended = Q(run__status__in=FINAL, run__ended_at__lt=old) | Q(build__status__in=BUILT, build__ended_at__lt=old)
    return LogStream.objects.filter(ended, sealed="", size__gt=0)


def sweep() -> None:
    """One turn of the reconciler: place what waits in pools, ring for work that nobody attends, and have ended logs sealed."""
    pools.sweep()
    for target_id in waiting_targets():
        ring_now(target_id)
    if unsealed().exists():
        once("runs.tasks.seal", SEAL_EVERY)
    silence.look(timezone.now())
    leftovers.sweep()
