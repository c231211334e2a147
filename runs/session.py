"""What an attendant does over one open connection to its target.

Each turn: load what is to be done (a short read), do it on the target (no transaction), apply what came back (a short
transaction per run, guarded by the token). Long transfers and layouts run beside it in a small pool and never in the way of
observing.
"""

import copy
import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from environments import builds, inrun
from environments.host import Host, HostError, HostLost
from environments.launchers import LAUNCHERS, Start
from environments.models import Build, ComputeTarget
from environments.target import RootChanged, check_root, note_probe, note_reached
from runs import finishing, pools, preparing, quarantine, queue, wishes
from runs.applying import (
    Key,
    LeaseLost,
    Part,
    Watched,
    all_here,
    apply_build,
    apply_runs,
    end_run,
    guard,
    log_end,
    read_evidence,
)
from runs.building import Building
from runs.cleaning import Cleaning
from runs.config import ScriptRunConfig
from runs.errands import Errands
from runs.evidence import Kind
from runs.models import LogStream, Run
from runs.models.run import new_attempt
from runs.status import EndReason, RunStatus
from studio.database import AWAY

log = logging.getLogger("runstead.session")

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
PACE_SECONDS = 0.001
"""Pause after a turn for each live run, in which more news gather: nothing to one run, a fifth of a second to two hundred."""
APPLIED_TOGETHER = 25
"""Runs whose news become rows in one transaction: it takes a tenth of a second at most, in which nobody else can write."""
RELAUNCH_SECONDS = 5.0
MAX_LAUNCHES = 4
MAX_TRIES = 3
News = tuple[Key, Watched, dict[str, Any]]
ENGINE_AWAY = "engine_away"
"""What a HostError says of a container engine that does not answer: it is waited for."""


class Changed(Exception):
    """How the target is reached was edited: connect again."""


class Session:
    """One connection: what is known of the target's runs, and the turns that drive them."""

    def __init__(self, target: ComputeTarget, token: int, host: Host, errands: Errands, woken: threading.Event) -> None:
        self.target = target
        self.target_id = target.pk
        self.token = token
        self.host = host
        self.errands = errands
        self.woken = woken
        self.launcher = LAUNCHERS[target.launcher](host, target.options)
        self.building = Building(target, token, host, errands)
        self.cleaning = Cleaning(target, token, host, errands)
        self.stopping = False
        self.watched: dict[Key, Watched] = {}
        self.shipped: set[str] = set()
        """Snapshots known to be on the target, so that a hundred runs of one cost no question."""
        self.rows: dict[int, Run] = {}
        self.work: list[Run] = []
        self.inrun = ""
        self.used_at: datetime = timezone.now()
        self.loaded_at = 0.0
        self.seen_at = 0.0
        self.looked_at = 0.0
        self.denied = False
        """Whether the user may not use the engine there. Who is then let in is so from the next sign-in on."""
        self.untidy = True
        """Whether runs that have ended may have left something on the target."""
        self.room = self.room_now()
        """What its pools were last told of how much may run there."""

    def attend(self) -> None:
        """Turn after turn until told to stop, idle for long, or the connection ends (HostLost)."""
        digest, data = inrun.sdk_zip()
        self.host.lib(digest, lambda: data)
        self.inrun = digest
        self.errands.start(("probe", self.target_id), lambda: note_probe(self.target, self.host.probe()))
        if self.launcher.beside:
            # An engine that does not answer must not keep anybody from runs that go on.
            self.errands.start(("verify", self.target_id), self.verify)
        else:
            self.verify()
        while not self.stopping:
            self.errands.reap(self.failed)
            if self.woken.is_set() or time.monotonic() - self.loaded_at > RELOAD_SECONDS:
                self.woken.clear()
                self.load()
            self.cancel()
            self.take()
            self.advance()
            self.launch()
            self.cleaning.tend()
            asked = {k: w for k, w in self.watched.items() if time.monotonic() >= w.skip_until}
            if asked:
                draining = any(w.verdict and w.verdict.kind in {Kind.ENDED, Kind.LOST} for w in asked.values())
                timeout = 0.0 if self.woken.is_set() or draining else POLL_SECONDS
                entries = [w.entry() for w in asked.values()]
                found, _ = self.host.watch(entries, timeout=timeout, limit=REPORT_BYTES, woken=self.woken.is_set)
                self.seen()
                self.report(found, asked)
                # With hundreds of runs that talk all the time each byte must not be a turn of its own.
                self.woken.wait(len(asked) * PACE_SECONDS)
            elif self.work or self.building.waiting or self.errands or self.watched:
                self.woken.wait(RELOAD_SECONDS)
            else:
                if self.denied:
                    self.woken.wait(30)  # while runs wait for a person another would sign in at once, again and again
                    return
                if timezone.now() - self.used_at > KEEP_WARM:
                    return
                # A bell that rings twice within LOOK_SECONDS may have rung for something that was not looked at.
                self.woken.wait(30 if self.looked_at == self.loaded_at else RELOAD_SECONDS)
                self.host.hello()  # notices a connection that has died in the meantime
                self.seen()

    def verify(self) -> None:
        builds.verify(self.target, self.launcher.environments())

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
        if self.building.waiting or now - self.looked_at > LOOK_SECONDS:
            self.looked_at = now
            self.look()
            self.building.load()
        states = queue.of_interest(self.target, [build.pk for build in self.building.waiting])
        # One that has not started again was taken back by its pool meanwhile, and placed here once more. One that is to be cancelled
        # may have been since.
        anew = {RunStatus.NOT_STARTED, RunStatus.CANCEL_REQUESTED}
        new = [
            pk for pk, status, _ in states
            if pk not in self.rows or (status in anew and status != self.rows[pk].status)
        ]  # fmt: skip
        rows = {**self.rows, **Run.objects.select_related(*RELATED).in_bulk(new)}
        here = {pk for pk, *_ in states}.difference(new)
        # One that was prepared and is gone may have gone elsewhere.
        self.untidy |= any(run.attempt and not run.launched for pk, run in self.rows.items() if pk not in here)
        self.rows = {pk: rows[pk] for pk, *_ in states if pk in rows}
        for pk, status, launched in states:
            if pk in self.rows:
                self.rows[pk].status, self.rows[pk].launched = status, launched
        self.work = list(self.rows.values())
        if self.work or self.building.waiting:
            self.used_at = timezone.now()
        for key in [key for key in self.watched if key[0] == "run" and key[1] not in self.rows]:
            del self.watched[key]  # ended by somebody else
        for run in self.work:
            if run.launched and run.status != RunStatus.FINALIZING:
                self.watch_run(run)

    def look(self) -> None:
        """Read what people may change about the target meanwhile. Raises Changed when it is reached in another way now."""
        way = [self.target.transport, self.target.launcher, self.target.options, bytes(self.target.credentials or b"")]
        self.target.refresh_from_db()
        now = [self.target.transport, self.target.launcher, self.target.options, bytes(self.target.credentials or b"")]
        if now != way:
            raise Changed
        if self.room_now() != self.room:
            self.room = self.room_now()
            pools.settle(self.target_id)

    def room_now(self) -> tuple[Any, ...]:
        return self.target.slots, self.target.gpus, self.target.enabled, self.target.quarantined_at

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

    def cancel(self) -> None:
        for run in self.work:
            if run.status != RunStatus.CANCEL_REQUESTED:
                continue
            if not run.launched:
                with transaction.atomic():
                    guard(self.target_id, self.token)
                    run.move_to(RunStatus.CANCELED, reason=EndReason.CANCELED, only=run.as_held & Q(launched=False))
                self.untidy = True
                continue
            watched = self.watch_run(run)
            if not watched.cancel_sent:
                try:
                    self.host.cancel("runs", run.attempt, ScriptRunConfig.from_json(run.config).grace_seconds)
                    watched.cancel_sent = True
                    self.woken.set()  # one that nobody has claimed ends at the next look, and not when that has waited
                except HostError as error:  # its directory is gone, say: what is found there decides, and others go on
                    log.warning("run %s: the cancel was refused: %s", run.pk, error)

    def take(self) -> None:
        """NotStarted → Preparing: the attempt has a name before anything is done for it."""
        new = [run for run in self.work if run.status == RunStatus.NOT_STARTED]
        if new:
            with transaction.atomic():
                guard(self.target_id, self.token)
                for run in sorted(new, key=lambda run: run.pk):  # as all who lock several do
                    run.move_to(RunStatus.PREPARING, only=run.as_held, attempt=new_attempt(), waiting_for="")

    def advance(self) -> None:
        """Send contents, build or find the environment, lay out; collect what has ended. All in the pool."""
        tidy = ("tidy", self.target_id)
        if self.untidy and self.errands.may_start(tidy):
            self.untidy = False
            self.errands.start(tidy, partial(finishing.tidy, self.target, self.host, self.launcher))
        for build in self.building.waiting:
            if self.building.tend(build):
                self.watch_build(build)
        for run in self.work:
            key = ("run", run.pk)
            if not self.errands.may_start(key):
                continue
            if run.status == RunStatus.PREPARING:
                ready = self.building.ready(run)
                if ready is not None:
                    self.errands.start(key, partial(self.prepare, run, ready))
            elif run.status == RunStatus.FINALIZING:
                self.watched.pop(key, None)
                self.errands.start(key, partial(self.finish, run))

    def prepare(self, run: Run, build: Build) -> None:
        compress = self.target.transport != "local"
        run = copy.copy(run)  # the attendant's thread renews the states of its own while this goes on
        assert run.snapshot is not None
        if build.image and not self.launcher.holds(build.image):
            builds.vanished(build)
            return
        if run.snapshot.digest not in self.shipped:
            preparing.ship(run.snapshot, self.host, compress=compress)
            self.shipped.add(run.snapshot.digest)
        preparing.lay_out(run, build, self.host, self.inrun, compress=compress)
        with transaction.atomic():
            guard(self.target_id, self.token)
            if not run.move_to(RunStatus.QUEUED, only=run.as_held, waiting_for=""):
                self.untidy = True  # cancelled meanwhile, or taken back by its pool
            builds.used(build)

    def finish(self, run: Run) -> None:
        run = copy.copy(run)
        run.refresh_from_db(fields=["status", "final", "reason"])
        finishing.finish(run, self.host, self.launcher, target_id=self.target_id, token=self.token)

    def launch(self) -> None:
        """Start queued runs while there is room. That a launch may have been sent is written before it is."""
        if not queue.choose(self.target, self.work):
            return
        starting = []
        with transaction.atomic():
            guard(self.target_id, self.token)
            self.target.refresh_from_db(fields=queue.ROOM)  # people may have taken slots away since it was looked at
            chosen = queue.choose(self.target, self.work)
            queued = Run.objects.filter(status=RunStatus.QUEUED, launched=False)
            for run, granted in sorted(chosen, key=lambda one: one[0].pk):
                # Not one that its pool has taken back since it was read: it may be on another target by now.
                if queued.filter(run.as_held, pk=run.pk).update(launched=True, granted=granted):
                    starting.append((run, granted))
        for run, granted in starting:
            run.launched, run.granted = True, granted
        self.send_launch([self.watch_run(run) for run, _ in starting])

    def send_launch(self, starting: list[Watched]) -> None:
        """Ask for the starts, for the first time or again."""
        for watched in starting:
            watched.launched_at = time.monotonic()
            watched.launches += 1
        if building := [(watched.dir, watched.attempt) for watched in starting if watched.dir == "builds"]:
            self.host.launch(building)  # its supervisor is the agent's own, whatever starts runs
        runs = [watched for watched in starting if watched.dir == "runs" and watched.row_id in self.rows]
        wishes = [(watched, queue.start_of(self.rows[watched.row_id])) for watched in runs]
        if self.launcher.beside:
            for watched, start in wishes:
                key = ("launch", watched.row_id)
                if self.errands.may_start(key):
                    self.errands.start(key, partial(self.ask_beside, watched, start))
        elif wishes:
            self.ask_launcher([watched for watched, _ in wishes], [start for _, start in wishes])

    def ask_beside(self, watched: Watched, start: Start) -> None:
        try:
            self.ask_launcher([watched], [start])
        finally:
            if ("run", watched.row_id) not in self.watched:
                # It ended meanwhile, and what was just made for it came after its things were taken away.
                self.untidy = True

    def ask_launcher(self, starting: list[Watched], starts: list[Start]) -> None:
        try:
            self.launcher.launch(starts)
        except HostError as error:  # one of them has no directory any more, say: what is found there decides
            log.warning("target %s: a launch was refused: %s", self.target_id, error)
            if self.launcher.beside:
                self.not_launched(starting[0], error)

    def not_launched(self, watched: Watched, error: HostError) -> None:
        """What a launcher that is asked for one run at a time could not do. An engine that is away is waited for."""
        if error.code == ENGINE_AWAY:
            watched.launches -= 1
            self.waits(watched.row_id, error)
            return
        watched.refusal = str(error)
        if error.permanent:
            self.host.void(watched.dir, watched.attempt, watched.refusal)

    def waits(self, run_id: int, error: HostError) -> None:
        """Say of a run that has not begun what it waits for."""
        begun = [RunStatus.PREPARING, RunStatus.QUEUED]
        waiting = Run.objects.filter(pk=run_id, target=self.target_id, status__in=begun)
        waiting.exclude(waiting_for=str(error)[:300]).update(waiting_for=str(error)[:300])

    # What came back.

    def report(self, found: list[dict[str, Any]], asked: dict[Key, Watched]) -> None:
        """Apply what was reported, and judge what had nothing new. What was not asked for is not judged: bytes that could
        not be applied a moment ago are still to come."""
        items = {item["attempt"]: item for item in found}
        news = [(key, watched, items[watched.attempt]) for key, watched in asked.items() if watched.attempt in items]
        again: list[Watched] = []
        failed: set[Key] = set()
        for start in range(0, len(news), APPLIED_TOGETHER):
            some = news[start : start + APPLIED_TOGETHER]
            try:
                self.digest(some)
            except (LeaseLost, HostLost, RootChanged, *AWAY):
                raise
            except Exception:  # one of them: each is tried by itself, and that one waits
                failed |= {one[0] for one in some if not self.manages(one[0], one[1], partial(self.digest, [one]))}
        for key, watched in asked.items():
            unread = watched.attempt in items and not watched.quiet
            if watched.verdict is not None and key not in failed and not unread:
                self.manages(key, watched, partial(self.judge, key, watched, again))
        if again:
            self.send_launch(again)

    def manages(self, key: Key, watched: Watched, act: Callable[[], object]) -> bool:
        """Whether it went well. After a failure of ours that run is left alone for a while, and the others go on."""
        try:
            act()
        except (LeaseLost, HostLost, RootChanged, *AWAY):
            raise
        except Exception:
            watched.errors += 1
            watched.skip_until = time.monotonic() + min(2.0**watched.errors, 60.0)
            log.exception("%s %s: what the target reported could not be applied", *key)
            return False
        return True

    def digest(self, news: list[News]) -> None:
        """Rows of what was reported of some runs and builds, in one transaction for the runs."""
        reports: list[tuple[Watched, list[Part]]] = []
        for key, watched, item in news:
            parts: list[Part] = item["parts"]
            read_evidence(watched, item["evidence"])
            watched.quiet = not parts or all_here(watched, parts, more=item["more"])
            if key[0] == "run":
                reports.append((watched, parts))
            else:
                apply_build(watched, parts, target_id=self.target_id, token=self.token)
        ended = apply_runs(reports, target_id=self.target_id, token=self.token) if reports else set()
        for key, watched, item in news:
            watched.seen, watched.errors = item["rev"], 0
            if key[0] == "run" and watched.row_id in ended:
                watched.quiet = False  # nothing is left to judge
                self.over(key)

    def judge(self, key: Key, watched: Watched, again: list[Watched]) -> None:
        """All bytes known to be there have been read: act on what the evidence says."""
        assert watched.verdict is not None
        kind = watched.verdict.kind
        if kind is Kind.NOT_CLAIMED:
            self.unclaimed(watched, again)
        elif kind is Kind.LOST:
            if not watched.evidence.exists:
                check_root(self.target, self.host, in_use=True)  # a disk that was unmounted has lost nothing
            # Proven by one look. Look again after ending what is left: the record may have been written in
            # between.
            if key[0] == "run":
                self.launcher.kill(watched.attempt)
            else:
                self.host.kill(watched.dir, watched.attempt)
            verdict = read_evidence(watched, self.host.inspect([watched.attempt])[watched.attempt])
            if verdict.kind is Kind.LOST:
                self.ended(key, watched)
        elif kind is Kind.ENDED:
            self.ended(key, watched)

    def unclaimed(self, watched: Watched, again: list[Watched]) -> None:
        """The start was asked for and nobody has claimed it. Asking again is safe: the claim lets one start
        only. One that was cancelled meanwhile must not wait for whoever starts runs, an engine that is away say."""
        if watched.cancel_sent:
            self.untidy = self.host.void(watched.dir, watched.attempt) or self.untidy
            return
        patience = RELAUNCH_SECONDS * watched.launches  # a machine under load gets more each time
        if self.errands.runs(("launch", watched.row_id)) or time.monotonic() - watched.launched_at < patience:
            return
        if watched.launches < MAX_LAUNCHES:
            again.append(watched)
        elif self.host.void(watched.dir, watched.attempt, watched.refusal):
            # The studio took the claim itself: now it is certain that nothing will start.
            log.error("attempt %s: %s launches, no start", watched.attempt, watched.launches)

    def ended(self, key: Key, watched: Watched) -> None:
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
        if isinstance(error, HostError) and error.code == ENGINE_AWAY:
            log.warning("%s %s waits: %s", *key, error)
            self.errands.postpone(key, RELOAD_SECONDS)
            if key[0] == "run":
                self.waits(key[1], error)
            self.untidy = True  # runs that have ended may have kept their containers
            return
        log.error("%s %s failed in the studio", *key, exc_info=error)
        self.denied = self.denied or (isinstance(error, HostError) and error.code == "engine_denied")
        permanent = isinstance(error, HostError) and error.permanent
        tries = self.errands.failures(key)
        self.untidy = self.untidy or key[0] == "tidy"
        if key[0] in {"probe", "clean", "tidy", "verify", "launch"} or (tries < MAX_TRIES and not permanent):
            self.errands.postpone(key, min(2.0**tries, 60.0))
            return
        if key[0] == "build":
            self.errands.forget(key)
            with transaction.atomic():
                guard(self.target_id, self.token)
                builds.give_up(Build.objects.get(pk=key[1]), error)
            return
        run = Run.objects.get(pk=key[1])
        if run.is_final or run.target_id != self.target_id:
            self.untidy = True  # it was given up while something was being made for it
            return
        reason = (
            EndReason.DISK_FULL
            if isinstance(error, HostError) and error.code == "disk_full"
            else EndReason.STUDIO_ERROR
        )
        with transaction.atomic():
            guard(self.target_id, self.token)
            found = {"type": type(error).__name__, "message": str(error)}
            if run.move_to(RunStatus.FAILED, reason=reason, only=run.as_held, error=found):
                wishes.settle(run)
                quarantine.weigh(run)
