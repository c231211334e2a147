"""The attendant: the one owner of everything that touches a target.

Held by a lease row with a fencing token; one connection; one thread. Long transfers and layouts run beside it
in a small pool and never in the way of observing. Each turn: load what is to be done (a short read), do it on
the target (no transaction), apply what came back (a short transaction per run, guarded by the token).
"""

import contextlib
import copy
import logging
import threading
import time
from datetime import timedelta
from functools import partial
from typing import Any

from django.db import connection, transaction
from django.db.models import Q
from django.utils import timezone

from environments import builds, inrun
from environments.host import Host, HostError, HostLost
from environments.launchers import LAUNCHERS, Launcher
from environments.models import Build, BuildStatus, ComputeTarget, Lease
from environments.target import note_probe, note_reached, note_unreachable, open_target
from environments.transports.base import TransportError
from runs import finishing, preparing, queue
from runs.applying import (
    Key,
    LeaseLost,
    Part,
    Watched,
    all_here,
    apply_build,
    apply_run,
    end_run,
    guard,
    log_end,
    read_evidence,
)
from runs.config import ScriptRunConfig
from runs.errands import Errands
from runs.evidence import Kind
from runs.models import LogStream, Run
from runs.models.run import new_attempt
from runs.status import ACTIVE, EndReason, RunStatus
from studio.database import AWAY

log = logging.getLogger("runstead.attending")

POLL_SECONDS = 4.0
"""How long one look at the target waits for something to change; a bell ends it at once."""
REPORT_BYTES = 4 * 1024**2
KEEP_WARM = timedelta(minutes=10)
"""An idle connection is kept this long, so that the next run pays for no sign-in."""
RELOAD_SECONDS = 2.0
SEEN_SECONDS = 10.0
LOOK_SECONDS = 0.5
"""How often slots and builds that people asked for are looked at."""
RELATED = ("workspace", "experiment", "environment__environment", "build", "parent", "target", "snapshot", "created_by")
UNBUILT = (BuildStatus.WAITING, BuildStatus.BUILDING)
RELAUNCH_SECONDS = 5.0
MAX_LAUNCHES = 4
MAX_TRIES = 3


class Attendant(threading.Thread):
    """Attends one target until told to stop, idle for long, or robbed of its lease."""

    def __init__(self, target_id: int, token: int, owner: str) -> None:
        super().__init__(name=f"attend-{target_id}", daemon=True)
        self.target_id = target_id
        self.token = token
        self.owner = owner
        self.stopping = False
        self.host: Host | None = None
        self.woken = threading.Event()
        self.errands = Errands(f"attend-{target_id}", self.wake)
        self.watched: dict[Key, Watched] = {}
        self.shipped: set[str] = set()
        """Snapshots known to be on the target, so that a hundred runs of one cost no question."""
        self.begun: set[str] = set()
        """Attempts of builds whose directory this attendant knows to be laid out."""
        self.used_at = timezone.now()
        self.loaded_at = 0.0
        self.seen_at = 0.0
        self.looked_at = 0.0
        self.rows: dict[int, Run] = {}
        self.work: list[Run] = []
        self.building: list[Build] = []

    # Called from other threads.

    def wake(self) -> None:
        self.woken.set()
        host = self.host
        if host is not None:
            with contextlib.suppress(HostLost):
                host.poke()

    def stop(self) -> None:
        self.stopping = True
        self.wake()

    # The thread.

    def run(self) -> None:
        delay = 0.5
        try:
            while not self.stopping:
                try:
                    self.connect()
                    delay = 0.5
                    return
                except (HostLost, HostError, TransportError, OSError) as error:
                    self.lost(error)
                except AWAY as error:
                    log.warning("target %s: the database is away: %s", self.target_id, error)
                    connection.close()
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
        self.watched.clear()
        self.shipped.clear()
        self.work.clear()
        self.rows.clear()
        self.building.clear()
        self.loaded_at = 0.0
        with open_target(target) as host:
            self.target = target
            self.launcher: Launcher = LAUNCHERS[target.launcher](host, target.options)
            self.inrun = self.send_inrun(host)
            note_reached(target)
            Run.objects.filter(target=target, unreachable_since__isnull=False).update(unreachable_since=None)
            self.host = host
            try:
                self.errands.start(("probe", self.target_id), lambda: note_probe(target, host.probe()))
                builds.verify(target, host.envs())
                self.attend(host)
            finally:
                self.host = None
                self.launcher.close()
                host.close()  # or a long transfer would hold up the end
                self.errands.settle()

    def lost(self, error: Exception) -> None:
        """The target does not answer. That is noted, and changes no run's status."""
        log.warning("target %s: %s", self.target_id, error)
        with contextlib.suppress(*AWAY):
            note_unreachable(self.target_id, str(error))
            launched = Run.objects.filter(target_id=self.target_id, launched=True, status__in=ACTIVE)
            launched.filter(unreachable_since=None).update(unreachable_since=timezone.now())

    def send_inrun(self, host: Host) -> str:
        digest, data = inrun.sdk_zip()
        host.lib(digest, lambda: data)
        return digest

    def attend(self, host: Host) -> None:
        while not self.stopping:
            self.errands.reap(self.failed)
            if self.woken.is_set() or time.monotonic() - self.loaded_at > RELOAD_SECONDS:
                self.woken.clear()
                self.load()
            self.cancel(host)
            self.take()
            self.advance(host)
            self.launch()
            asked = {k: w for k, w in self.watched.items() if time.monotonic() >= w.skip_until}
            if asked:
                draining = any(w.verdict and w.verdict.kind in {Kind.ENDED, Kind.LOST} for w in asked.values())
                timeout = 0.0 if self.woken.is_set() or draining else POLL_SECONDS
                entries = [w.entry() for w in asked.values()]
                found, _ = host.watch(entries, timeout=timeout, limit=REPORT_BYTES, woken=self.woken.is_set)
                self.seen()
                self.report(host, found, asked)
            elif self.work or self.building or self.errands or self.watched:
                self.woken.wait(RELOAD_SECONDS)
            else:
                if timezone.now() - self.used_at > KEEP_WARM:
                    return
                self.woken.wait(30)
                host.hello()  # notices a connection that has died in the meantime
                self.seen()

    def seen(self) -> None:
        """It has just answered. The page says when it last did; a row each few seconds is enough for that."""
        if time.monotonic() - self.seen_at > SEEN_SECONDS:
            self.seen_at = time.monotonic()
            note_reached(self.target)

    # What is to be done.

    def load(self) -> None:
        """Read which runs of the target are active: all that are launched, and as many waiting ones as may matter now.

        States are read each time, whole rows once: what a run asks for does not change.
        """
        now = time.monotonic()
        self.loaded_at = now
        if self.building or now - self.looked_at > LOOK_SECONDS:
            self.looked_at = now
            self.target.refresh_from_db(fields=["slots", "gpu_slots", "enabled", "quarantined_at", "facts"])
            unbuilt = Q(status__in=UNBUILT, version__isnull=False)
            self.building = list(Build.objects.filter(unbuilt, target_id=self.target_id).select_related("version"))
        states = queue.of_interest(self.target, [build.pk for build in self.building])
        new = [pk for pk, *_ in states if pk not in self.rows]
        rows = {**self.rows, **Run.objects.select_related(*RELATED).in_bulk(new)}
        self.rows = {pk: rows[pk] for pk, *_ in states if pk in rows}
        for pk, status, launched in states:
            if pk in self.rows:
                self.rows[pk].status, self.rows[pk].launched = status, launched
        self.work = list(self.rows.values())
        if self.work or self.building:
            self.used_at = timezone.now()
        for key in [key for key in self.watched if key[0] == "run" and key[1] not in self.rows]:
            del self.watched[key]  # ended by somebody else
        for run in self.work:
            if run.launched and run.status != RunStatus.FINALIZING:
                self.watch_run(run)

    def watch_run(self, run: Run) -> Watched:
        key = ("run", run.pk)
        if key not in self.watched:
            sizes = dict(LogStream.objects.filter(run=run).values_list("name", "size"))
            self.watched[key] = Watched(
                run.pk, "runs", run.attempt, sizes.pop("log", 0), run.records_offset, run.samples_offset, run.times_offset,
                files=sizes,
            )  # fmt: skip
        return self.watched[key]

    def watch_build(self, build: Build) -> None:
        key = ("build", build.pk)
        if key not in self.watched:
            size = LogStream.objects.filter(build=build, name="log").values_list("size", flat=True).first()
            self.watched[key] = Watched(build.pk, "builds", build.attempt, size or 0)

    def cancel(self, host: Host) -> None:
        for run in self.work:
            if run.status != RunStatus.CANCEL_REQUESTED:
                continue
            if not run.launched:
                with transaction.atomic():
                    guard(self.target_id, self.token)
                    run.move_to(RunStatus.CANCELED, reason=EndReason.CANCELED)
                continue
            watched = self.watch_run(run)
            if not watched.cancel_sent:
                try:
                    host.cancel("runs", run.attempt, ScriptRunConfig.from_json(run.config).grace_seconds)
                    watched.cancel_sent = True
                except HostError as error:  # its directory is gone, say: what is found there decides, and others go on
                    log.warning("run %s: the cancel was refused: %s", run.pk, error)

    def take(self) -> None:
        """NotStarted → Preparing: the attempt has a name before anything is done for it."""
        new = [run for run in self.work if run.status == RunStatus.NOT_STARTED]
        if new:
            with transaction.atomic():
                guard(self.target_id, self.token)
                for run in new:
                    run.move_to(RunStatus.PREPARING, attempt=new_attempt(), waiting_for="")

    def advance(self, host: Host) -> None:
        """Send contents, build or find the environment, lay out; collect what has ended. All in the pool."""
        for build in self.building:
            self.tend_build(build, host)
        for run in self.work:
            key = ("run", run.pk)
            if not self.errands.may_start(key):
                continue
            if run.status == RunStatus.PREPARING:
                ready = self.environment(run, host)
                if ready is not None:
                    self.errands.start(key, partial(self.prepare, run, ready, host))
            elif run.status == RunStatus.FINALIZING:
                self.watched.pop(key, None)
                self.errands.start(key, partial(self.finish, run, host))

    def environment(self, run: Run, host: Host) -> Build | None:
        """The ready build that the run needs, or None while it is not ready (or the run has failed for
        it)."""
        assert run.environment is not None
        build = run.build
        if build is None:
            build = builds.ensure(self.target, run.environment)
            Run.objects.filter(pk=run.pk).update(build=build)
            run.build = build
        if build.status != BuildStatus.READY:
            build.refresh_from_db()
        if build.status == BuildStatus.READY:
            return build
        if self.errands.runs(("build", build.pk)):
            return None
        if build.status == BuildStatus.FAILED:
            if build.ended_at is not None and build.ended_at > run.created_at:
                with transaction.atomic():
                    guard(self.target_id, self.token)
                    run.move_to(
                        RunStatus.FAILED,
                        reason=EndReason.ENVIRONMENT_FAILED,
                        error={"type": "Environment", "message": build.error, "build": build.pk},
                    )
                return None
            builds.retry(build)  # it failed for an earlier run: a new one deserves a new try
        self.tend_build(build, host)
        note = f"Building the environment {run.environment}"
        if run.waiting_for != note:
            Run.objects.filter(pk=run.pk, status=RunStatus.PREPARING).update(waiting_for=note)
            run.waiting_for = note
        return None

    def tend_build(self, build: Build, host: Host) -> None:
        """Begin a build that is asked for, by a run or by a person; follow one that goes on."""
        key = ("build", build.pk)
        if not self.errands.may_start(key):
            return
        if build.status == BuildStatus.BUILDING and build.attempt in self.begun:
            self.watch_build(build)
        elif build.status in {BuildStatus.WAITING, BuildStatus.BUILDING}:
            # One that is begun may be of another attendant, who went before anything was sent. Sent again it starts once.
            self.errands.start(key, partial(self.begin_build, build, host))

    def begin_build(self, build: Build, host: Host) -> None:
        with transaction.atomic():
            guard(self.target_id, self.token)
            if builds.new_attempt(build):
                LogStream.objects.filter(build=build).delete()
        builds.begin(build, host, self.target)
        self.begun.add(build.attempt)

    def prepare(self, run: Run, build: Build, host: Host) -> None:
        compress = self.target.transport != "local"
        run = copy.copy(run)  # the attendant's thread renews the states of its own while this goes on
        assert run.snapshot is not None
        if run.snapshot.digest not in self.shipped:
            preparing.ship(run.snapshot, host, compress=compress)
            self.shipped.add(run.snapshot.digest)
        preparing.lay_out(run, build, host, self.inrun, compress=compress)
        with transaction.atomic():
            guard(self.target_id, self.token)
            run.move_to(RunStatus.QUEUED, waiting_for="")
            builds.used(build)

    def finish(self, run: Run, host: Host) -> None:
        run = copy.copy(run)
        run.refresh_from_db(fields=["status", "final", "reason"])
        finishing.finish(run, host, self.launcher, target_id=self.target_id, token=self.token)

    def launch(self) -> None:
        """Start queued runs while there is room. That a launch may have been sent is written before it is."""
        chosen = queue.choose(self.target, self.work)
        if not chosen:
            return
        starting = []
        with transaction.atomic():
            guard(self.target_id, self.token)
            queued = Run.objects.filter(status=RunStatus.QUEUED)
            for run, granted in chosen:
                if queued.filter(pk=run.pk).update(launched=True, granted=granted):
                    starting.append((run, granted))
        for run, granted in starting:
            run.launched, run.granted = True, granted
        self.send_launch([self.watch_run(run) for run, _ in starting])

    def send_launch(self, starting: list[Watched]) -> None:
        """Ask for the starts, for the first time or again."""
        for watched in starting:
            watched.launched_at = time.monotonic()
            watched.launches += 1
        if self.launcher.beside:
            for watched in starting:
                key = ("launch", watched.row_id)
                if self.errands.may_start(key):
                    self.errands.start(key, partial(self.ask_launcher, [watched]))
        elif starting:
            self.ask_launcher(starting)

    def ask_launcher(self, starting: list[Watched]) -> None:
        try:
            self.launcher.launch([queue.start_of(self.rows[watched.row_id]) for watched in starting])
        except HostError as error:  # one of them has no directory any more, say: what is found there decides
            log.warning("target %s: a launch was refused: %s", self.target_id, error)

    # What came back.

    def report(self, host: Host, found: list[dict[str, Any]], asked: dict[Key, Watched]) -> None:
        """Apply what was reported, and judge what had nothing new. What was not asked for is not judged: bytes that could
        not be applied a moment ago are still to come."""
        items = {item["attempt"]: item for item in found}
        again: list[Watched] = []
        for key, watched in asked.items():
            item = items.get(watched.attempt)
            try:
                if item is not None:
                    parts: list[Part] = item["parts"]
                    read_evidence(watched, item["evidence"])
                    watched.quiet = not parts or all_here(watched, parts)
                    self.digest(host, key, watched, parts, again)
                    watched.seen, watched.errors = item["rev"], 0
                elif watched.verdict:
                    self.judge(host, key, watched, again)  # nothing new: all its bytes are here
            except (LeaseLost, HostLost, *AWAY):
                raise
            except Exception:
                watched.errors += 1
                watched.skip_until = time.monotonic() + min(2.0**watched.errors, 60.0)
                log.exception("%s %s: what the target reported could not be applied", *key)
        if again:
            self.send_launch(again)

    def digest(self, host: Host, key: Key, watched: Watched, parts: list[Part], again: list[Watched]) -> None:
        apply = apply_run if key[0] == "run" else apply_build
        if apply(watched, parts, target_id=self.target_id, token=self.token):
            self.over(key)
        elif watched.quiet:
            self.judge(host, key, watched, again)

    def judge(self, host: Host, key: Key, watched: Watched, again: list[Watched]) -> None:
        """All bytes known to be there have been read: act on what the evidence says."""
        assert watched.verdict is not None
        kind = watched.verdict.kind
        if kind is Kind.NOT_CLAIMED:
            self.unclaimed(host, watched, again)
        elif kind is Kind.LOST:
            # Proven by one look. Look again after ending what is left: the record may have been written in
            # between.
            if key[0] == "run":
                self.launcher.kill(watched.attempt)
            else:
                host.kill(watched.dir, watched.attempt)
            verdict = read_evidence(watched, host.inspect([watched.attempt])[watched.attempt])
            if verdict.kind is Kind.LOST:
                self.ended(host, key, watched)
        elif kind is Kind.ENDED:
            self.ended(host, key, watched)

    def unclaimed(self, host: Host, watched: Watched, again: list[Watched]) -> None:
        """The start was asked for and nobody has claimed it. Asking again is safe: the claim lets one start
        only."""
        if time.monotonic() - watched.launched_at < RELAUNCH_SECONDS:
            return
        if watched.launches < MAX_LAUNCHES:
            again.append(watched)
        elif host.void(watched.dir, watched.attempt):
            # The studio took the claim itself: now it is certain that nothing will start.
            log.error("attempt %s: %s launches, no start", watched.attempt, watched.launches)

    def ended(self, host: Host, key: Key, watched: Watched) -> None:
        if key[0] == "run":
            end_run(watched, target_id=self.target_id, token=self.token)
        else:
            build = Build.objects.get(pk=watched.row_id)
            with transaction.atomic():
                guard(self.target_id, self.token)
                builds.finish(build, watched.evidence.exit, log_end(build))
        self.over(key)

    def over(self, key: Key) -> None:
        self.watched.pop(key, None)
        self.woken.set()

    # What went wrong beside.

    def failed(self, key: Key, error: BaseException) -> None:
        log.error("%s %s failed in the studio", *key, exc_info=error)
        permanent = isinstance(error, HostError) and error.permanent
        tries = self.errands.failures(key)
        if key[0] == "probe" or (tries < MAX_TRIES and not permanent):
            self.errands.postpone(key, min(2.0**tries, 60.0))
            return
        if key[0] == "build":
            self.errands.forget(key)
            with transaction.atomic():
                guard(self.target_id, self.token)
                builds.give_up(Build.objects.get(pk=key[1]), error)
            return
        run = Run.objects.get(pk=key[1])
        if run.is_final:
            return
        reason = (
            EndReason.DISK_FULL
            if isinstance(error, HostError) and error.code == "disk_full"
            else EndReason.STUDIO_ERROR
        )
        with transaction.atomic():
            guard(self.target_id, self.token)
            run.move_to(RunStatus.FAILED, reason=reason, error={"type": type(error).__name__, "message": str(error)})
