"""The process that holds attendants: an RQ worker runs it; one process attends many targets, a thread each.

It listens to the bell, takes free leases of targets that have work, and renews them. It leaves when nothing
has been to do for a while, or when its worker is told to stop. Any number of houses may exist: the leases
decide.
"""

import contextlib
import logging
import signal
import threading
import time
from types import FrameType

from django.db import close_old_connections, connection
from redis.exceptions import RedisError

from environments.models import Build, BuildStatus, ComputeTarget, Lease
from environments.owners import own_name
from runs import pools
from runs.attending import Attendant
from runs.models import Run
from runs.status import ACTIVE
from studio.database import AWAY
from studio.queues import BELL, redis

log = logging.getLogger("runstead.house")

RENEW_SECONDS = 1.0
IDLE_SECONDS = 30.0


class House:
    def __init__(self) -> None:
        self.owner = own_name()
        self.attendants: dict[int, Attendant] = {}
        self.rung: set[int] = set()
        self.bell = threading.Event()
        self.stopping = False
        self.lock = threading.Lock()

    def run(self) -> None:
        """Stay until idle or told to stop."""
        self.obey()
        listener = threading.Thread(target=self.listen, name="bell", daemon=True)
        listener.start()
        idle_since = time.monotonic()
        swept_at = 0.0
        while not self.stopping:
            try:
                self.renew()
                with self.lock:
                    rung, self.rung = self.rung, set()
                if rung or time.monotonic() - swept_at > RENEW_SECONDS:
                    swept_at = time.monotonic()
                    self.open(rung | waiting_targets())
            except AWAY as error:
                log.warning("the database is away: %s", error)
                connection.close()
            if self.attendants:
                idle_since = time.monotonic()
            elif time.monotonic() - idle_since > IDLE_SECONDS:
                break
            self.bell.wait(RENEW_SECONDS)
            self.bell.clear()
        self.close()

    def obey(self) -> None:
        """End cleanly on SIGTERM, which also comes when the worker above us dies."""

        def stop(number: int, frame: FrameType | None) -> None:
            self.stopping = True
            self.bell.set()

        signal.signal(signal.SIGTERM, stop)

    def renew(self) -> None:
        for target_id, attendant in list(self.attendants.items()):
            if not attendant.is_alive():
                del self.attendants[target_id]
        held = {target_id: attendant.token for target_id, attendant in self.attendants.items()}
        for target_id in held.keys() - Lease.renew(self.owner, held):
            log.warning("target %s: the lease was lost", target_id)
            self.attendants[target_id].stop()

    def open(self, target_ids: set[int]) -> None:
        for target_id in target_ids - self.attendants.keys():
            token = Lease.take(target_id, self.owner)
            if token is not None:
                self.attendants[target_id] = Attendant(target_id, token, self.owner)
                self.attendants[target_id].start()

    def listen(self) -> None:
        """Hear the bell. It may go away and come back; the sweep of the main loop covers for it meanwhile."""
        while not self.stopping:
            bell = redis().pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
            with contextlib.suppress(RedisError, OSError), bell as sub:
                sub.subscribe(BELL)
                while not self.stopping:
                    message = sub.get_message(timeout=1.0)
                    if message is not None:
                        self.hear(int(message["data"]))
            time.sleep(0.2)

    def hear(self, target_id: int) -> None:
        attendant = self.attendants.get(target_id)
        if attendant is not None and attendant.is_alive():
            attendant.wake()
            return
        with self.lock:
            self.rung.add(target_id)
        self.bell.set()

    def close(self) -> None:
        for attendant in self.attendants.values():
            attendant.stop()
        for attendant in self.attendants.values():
            attendant.join(timeout=10)
        close_old_connections()


def waiting_targets() -> set[int]:
    """Targets that have work and nobody who attends them: active runs, or builds or a cleaning that somebody asked for. Also those
    that a pool with waiting runs could use if they answered again."""
    runs = Run.objects.filter(
        ended_at=None, status__in=ACTIVE, target__isnull=False
    )  # by the index of those that have not ended
    unbuilt = Build.objects.filter(
        status__in=[BuildStatus.WAITING, BuildStatus.BUILDING], version__isnull=False, target__detached_at=None
    )
    to_clean = ComputeTarget.objects.attached().filter(clean_requested_at__isnull=False).values_list("pk", flat=True)
    return {
        pk for rows in (runs, unbuilt) for pk in rows.order_by().values_list("target_id", flat=True).distinct()
    }.union(to_clean, pools.wanted_members()) - Lease.attended()
