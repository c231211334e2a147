"""A target cleaned beside an attendant's turns: what runs have left there, and who is still in need of it."""

import logging
import time
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from environments import cleaning
from environments.agent.space import ALL
from environments.host import Host, HostError
from environments.models import Build, ComputeTarget
from runs.applying import Key, guard
from runs.errands import Errands
from runs.models import GivenUp, Run, RunEvent
from runs.status import ACTIVE

log = logging.getLogger("runstead.cleaning")

SETTLE_SECONDS = 20.0
"""A fresh connection has better to do first."""
LOOK_SECONDS = 600.0
"""How often the free space of a target is asked for."""
NOTED_FIRST = timedelta(days=1)
"""What no run names is noted, and shown, for so long before it may go."""
USAGE_SECONDS = 10.0
MOST_NOTED = 1000


class Cleaning:
    """The cleanings of one target over one connection."""

    def __init__(self, target: ComputeTarget, token: int, host: Host, errands: Errands) -> None:
        self.target = target
        self.token = token
        self.host = host
        self.errands = errands
        self.key: Key = ("clean", target.pk)
        self.looked_at = time.monotonic()
        self.not_before = time.monotonic() + SETTLE_SECONDS
        self.disk: dict[str, Any] = dict(target.facts.get("disk") or {})

    def tend(self) -> None:
        """Called each turn, from the attendant's thread: start what is due."""
        if not self.errands.may_start(self.key):
            return
        if time.monotonic() < self.not_before and self.target.clean_requested_at is None:
            return
        full = cleaning.nearly_full(self.disk)
        if cleaning.due(self.target, timezone.now(), full=full):
            self.looked_at = time.monotonic()
            with transaction.atomic():
                guard(self.target.pk, self.token)
                retired = cleaning.retire(self.target, timezone.now())
            asked_at = self.target.clean_requested_at
            self.target.clean_requested_at = None
            # The row is read again each half second; until it is, the same wish must not begin a second cleaning.
            self.target.cleaning = {**self.target.cleaning, "at": timezone.now().isoformat()}
            self.errands.start(self.key, lambda: self.clean(retired, asked_at, full=full))
        elif time.monotonic() - self.looked_at > LOOK_SECONDS:
            self.looked_at = time.monotonic()
            self.errands.start(self.key, self.look)

    def look(self) -> None:
        self.disk = self.host.usage([])["disk"]

    def clean(self, retired: list[Build], asked_at: datetime | None, *, full: bool) -> None:
        """Clean, and keep what came of it. A refusal is noted, and tried again when the next cleaning is due."""
        begun = time.monotonic()
        try:
            keep, unknown = self.needed()
            done = self.host.clean(cleaning.wish(self.target, keep, full=full))
            usage = self.host.usage(list(ALL), USAGE_SECONDS)
        except (HostError, TimeoutError) as error:
            log.warning("target %s could not be cleaned: %s", self.target.pk, error)
            with transaction.atomic():
                guard(self.target.pk, self.token)
                cleaning.settle(retired, ())
                kept = {name: value for name, value in self.target.cleaning.items() if name in {"kinds", "unknown"}}
                cleaning.note(self.target, asked_at, {**kept, "error": str(error)})
            return
        self.disk = usage["disk"]
        removed = done["removed"]
        gone, foreign = set(removed["runs"]), set(done["foreign"])
        with transaction.atomic():
            guard(self.target.pk, self.token)
            cleaning.settle(retired, removed["envs"])
            self.note_runs(removed["runs"])
            found = {
                "kinds": usage["kinds"],
                "disk": usage["disk"],
                "freed": done["freed"],
                "removed": {kind: len(value) if isinstance(value, list) else value for kind, value in removed.items()},
                "failed": done["failed"],
                "live": done["live"],
                "foreign": len(foreign),
                "unknown": {
                    attempt: since
                    for attempt, since in unknown.items()
                    if attempt not in gone and attempt not in foreign
                },
                "full": full,
                "seconds": round(time.monotonic() - begun, 2),
            }
            cleaning.note(self.target, asked_at, found)
        if done["freed"] or any(found["removed"].values()):
            words = ", ".join(f"{count} {kind}" for kind, count in found["removed"].items() if count)
            log.info("target %s: %.1f MB freed (%s)", self.target.pk, done["freed"] / 1e6, words or "left-overs")
        if lost := gone & unknown.keys():
            log.warning("target %s: %d directories of runs that nobody knows were removed", self.target.pk, len(lost))

    def needed(self) -> tuple[list[str], dict[str, str]]:
        """(attempts that must stay, unknown ones → since when they are noted).

        A database that was restored knows less than the target holds. What it does not know stays until people could see it.
        """
        here = self.host.list()["runs"]
        runs = Run.objects.filter(target__in=cleaning.sharing(self.target)).exclude(attempt="")
        active = list(runs.filter(status__in=ACTIVE).values_list("attempt", flat=True))
        known: set[str] = set()
        for start in range(0, len(here), 500):
            known |= set(Run.objects.filter(attempt__in=here[start : start + 500]).values_list("attempt", flat=True))
        known |= set(GivenUp.objects.filter(target=self.target).values_list("attempt", flat=True))
        now = timezone.now()
        before = self.target.cleaning.get("unknown") or {}
        unknown = {
            name: before.get(name) or now.isoformat() for name in [n for n in here if n not in known][:MOST_NOTED]
        }
        fresh = [
            name
            for name in here
            if name not in known and (name not in unknown or now - datetime.fromisoformat(unknown[name]) < NOTED_FIRST)
        ]
        return [*active, *fresh], unknown

    def note_runs(self, removed: list[str]) -> None:
        """What did not come home is gone with its directory: the run says so."""
        now = timezone.now()
        days = cleaning.policy(self.target).keep_days
        for start in range(0, len(removed), 500):
            rows = Run.objects.filter(attempt__in=removed[start : start + 500])
            events = []
            for run in rows.prefetch_related("artifacts"):
                left = sum(1 for item in run.artifacts.all() if not item.digest)
                lost = [] if run.log_complete is not False else ["the missing part of its log"]
                lost += [f"{left} output{'s' if left != 1 else ''} that could not be collected"] if left else []
                words = f" With it went {' and '.join(lost)}." if lost else ""
                detail = f"Its directory on the target was removed after {days:g} days.{words}"
                events.append(RunEvent(run=run, detail=detail))
            RunEvent.objects.bulk_create(events)
            rows.update(cleaned_at=now)
