"""The attendant: the one owner of everything that touches a target.

Held by a lease row with a fencing token; one connection; one thread. It connects, again and again where it must, and hands the
open connection to a ``Session``.
"""

import contextlib
import logging
import threading
from datetime import timedelta

from django.db import connection, transaction
from django.db.models import Q
from django.utils import timezone

from environments.host import Host, HostError, HostLost
from environments.models import ComputeTarget, Lease
from environments.target import check_root, note_reached, note_unreachable, open_target
from environments.transports.base import TransportError
from runs import pools
from runs.applying import LeaseLost, guard
from runs.errands import Errands
from runs.models import Run
from runs.session import Changed, Session
from runs.status import ACTIVE, EndReason, RunStatus
from studio.database import AWAY

log = logging.getLogger("runstead.attending")

FIRST_DELAY = 0.5
LONGEST_DELAY = 5.0
"""Seconds between two tries to reach a target; SLOW_DELAY where trying again does not help by itself."""
SLOW_DELAY = 30.0


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
            host.poke()

    def stop(self) -> None:
        self.stopping = True
        session = self.session
        if session is not None:
            session.stopping = True
        self.wake()

    # The thread.

    def run(self) -> None:
        delay = FIRST_DELAY
        try:
            while not self.stopping:
                self.woken.clear()  # before the row is read: a bell that rings while this fails has it tried again at once
                try:
                    self.connect()
                    return
                except Changed:
                    delay = FIRST_DELAY
                    continue
                except (HostLost, HostError, TransportError, OSError) as error:
                    if self.session is not None:  # it had been reached
                        delay = FIRST_DELAY
                    if isinstance(error, TransportError) and error.permanent:
                        delay = SLOW_DELAY  # somebody has to change something, which rings
                    self.lost(error)
                except AWAY as error:
                    log.warning("target %s: the database is away: %s", self.target_id, error)
                    connection.close()
                    delay = 0.5  # asking it again costs little
                except (LeaseLost, ComputeTarget.DoesNotExist):
                    raise
                except Exception:  # who left would be followed at once by another, with a sign-in each second
                    log.exception("target %s: an error of the studio's; it is tried again", self.target_id)
                    delay = LONGEST_DELAY
                finally:
                    self.session = None
                self.woken.wait(delay)
                delay = min(delay * 2, LONGEST_DELAY)
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
        if target.detached_at is not None:
            return  # nobody can sign in there any more
        with open_target(target) as host:
            launched = Run.objects.filter(target=target, status__in=ACTIVE, launched=True)
            check_root(target, host, in_use=launched.exists())
            host.pulse.on_silence, host.pulse.on_heard = self.silent, self.heard
            self.reached(target)
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

    def reached(self, target: ComputeTarget) -> None:
        note_reached(target)
        Run.objects.filter(target=target, unreachable_since__isnull=False).update(unreachable_since=None)
        pools.freed(target.pk)

    # From the thread of the connection's pulse.

    def heard(self) -> None:
        with contextlib.suppress(*AWAY):
            self.reached(ComputeTarget.objects.get(pk=self.target_id))
        connection.close()

    def silent(self, seconds: float) -> None:
        """Nothing came for a while, and nothing is lost yet: people are told since when."""
        with contextlib.suppress(LeaseLost, *AWAY):
            self.note_silence(f"nothing was heard of it for {seconds:.0f} s", timedelta(seconds=seconds))
        connection.close()

    # In the attendant's own.

    def note_silence(self, why: str, since: timedelta = timedelta()) -> None:
        note_unreachable(self.target_id, why)
        active = Run.objects.filter(target_id=self.target_id, status__in=ACTIVE, launched=True, unreachable_since=None)
        active.update(unreachable_since=timezone.now() - since)
        with transaction.atomic():
            guard(self.target_id, self.token)
            pools.put_back(self.target_id, "unreachable")

    def lost(self, error: Exception) -> None:
        """The target does not answer. That is noted, and changes no status of a run that may be there; what never went there can be
        cancelled, and goes back to its pool if it has one."""
        log.warning("target %s: %s", self.target_id, error)
        with contextlib.suppress(*AWAY):
            self.note_silence(f"{error} {getattr(error, 'fix', '')}".strip())
            active = Run.objects.filter(target_id=self.target_id, status__in=ACTIVE)
            for run in active.filter(launched=False, status=RunStatus.CANCEL_REQUESTED):
                with transaction.atomic():
                    guard(self.target_id, self.token)
                    run.move_to(RunStatus.CANCELED, reason=EndReason.CANCELED, only=run.as_held & Q(launched=False))
