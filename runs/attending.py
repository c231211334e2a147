"""The attendant: the one owner of everything that touches a target.

Held by a lease row with a fencing token; one connection; one thread. It connects, again and again where it must, and hands the
open connection to a ``Session``.
"""

import contextlib
import logging
import threading

from django.db import connection, transaction
from django.utils import timezone

from environments.host import Host, HostError, HostLost
from environments.models import ComputeTarget, Lease
from environments.target import note_reached, note_unreachable, open_target
from environments.transports.base import TransportError
from runs.applying import LeaseLost, guard
from runs.errands import Errands
from runs.models import Run
from runs.session import Changed, Session
from runs.status import ACTIVE, EndReason, RunStatus
from studio.database import AWAY

log = logging.getLogger("runstead.attending")


class Attendant(threading.Thread):
    """Attends one target until told to stop, idle for long, or robbed of its lease."""

    def __init__(self, target_id: int, token: int, owner: str) -> None:
        super().__init__(name=f"attend-{target_id}", daemon=True)
        self.target_id = target_id
        self.token = token
        self.owner = owner
        self.stopping = False
        self.host: Host | None = None
        self.session: Session | None = None
        self.woken = threading.Event()
        self.errands = Errands(f"attend-{target_id}", self.wake)

    # Called from other threads.

    def wake(self) -> None:
        self.woken.set()
        host = self.host
        if host is not None:
            with contextlib.suppress(HostLost):
                host.poke()

    def stop(self) -> None:
        self.stopping = True
        session = self.session
        if session is not None:
            session.stopping = True
        self.wake()

    # The thread.

    def run(self) -> None:
        delay = 0.5
        try:
            while not self.stopping:
                try:
                    self.connect()
                    return
                except Changed:
                    delay = 0.5
                    continue
                except (HostLost, HostError, TransportError, OSError) as error:
                    if self.session is not None:  # it had been reached
                        delay = 0.5
                    self.lost(error)
                except AWAY as error:
                    log.warning("target %s: the database is away: %s", self.target_id, error)
                    connection.close()
                finally:
                    self.session = None
                self.woken.clear()
                self.woken.wait(delay)
                delay = min(delay * 2, 15.0)
        except LeaseLost:
            log.info("target %s: another attendant took over", self.target_id)
        except Exception:
            log.exception("target %s: the attendant stops", self.target_id)
        finally:
            self.errands.end()
            with contextlib.suppress(*AWAY):
                Lease.release(self.target_id, self.token)
            connection.close()

    def connect(self) -> None:
        target = ComputeTarget.objects.get(pk=self.target_id)
        with open_target(target) as host:
            note_reached(target)
            Run.objects.filter(target=target, unreachable_since__isnull=False).update(unreachable_since=None)
            session = Session(target, self.token, host, self.errands, self.woken)
            self.host, self.session = host, session
            session.stopping = self.stopping
            try:
                session.attend()
            finally:
                self.host = None
                session.launcher.close()
                host.close()  # or a long transfer would hold up the end
                self.errands.settle()

    def lost(self, error: Exception) -> None:
        """The target does not answer. That is noted, and changes no run's status; what never went there can be cancelled."""
        log.warning("target %s: %s", self.target_id, error)
        with contextlib.suppress(*AWAY):
            note_unreachable(self.target_id, str(error))
            active = Run.objects.filter(target_id=self.target_id, status__in=ACTIVE)
            active.filter(launched=True, unreachable_since=None).update(unreachable_since=timezone.now())
            for run in active.filter(launched=False, status=RunStatus.CANCEL_REQUESTED):
                with transaction.atomic():
                    guard(self.target_id, self.token)
                    run.move_to(RunStatus.CANCELED, reason=EndReason.CANCELED)
