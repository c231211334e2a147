"""Environments that an attendant has built on its target, for runs that wait and people who asked."""

import copy
from functools import partial

from django.db import transaction

from environments import builds
from environments.build_spec import CannotBuild
from environments.host import Host
from environments.models import Build, BuildStatus, ComputeTarget
from runs.applying import guard
from runs.errands import Errands
from runs.models import LogStream, Run
from runs.status import EndReason, RunStatus

UNBUILT = (BuildStatus.WAITING, BuildStatus.BUILDING)


class Building:
    """The builds of one target over one connection."""

    def __init__(self, target: ComputeTarget, token: int, host: Host, errands: Errands) -> None:
        self.target = target
        self.token = token
        self.host = host
        self.errands = errands
        self.waiting: list[Build] = []
        """Those that are not ready yet."""
        self.begun: set[str] = set()
        """Attempts whose directory is known to be laid out."""
        self.held: dict[int, str] = {}
        """Builds that wait for another target, id → its name: see ``builds.waits_for``."""
        self.stopped: set[str] = set()
        """Attempts that were told to end because somebody cancelled them."""

    def load(self) -> None:
        rows = Build.objects.filter(target=self.target, status__in=UNBUILT).select_related("version", "target")
        self.waiting = [build for build in rows if builds.adopt(build)]

    def ready(self, run: Run) -> Build | None:
        """The ready build that the run needs, or None while it is not ready (or the run has failed for
        it)."""
        assert run.environment is not None
        build = run.build
        if build is None:
            build = builds.ensure(self.target, run.environment)
            if not Run.objects.filter(run.as_held, pk=run.pk).update(build=build):
                return None  # taken back by its pool
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
                    guard(self.target.pk, self.token)
                    run.move_to(
                        RunStatus.FAILED,
                        reason=EndReason.ENVIRONMENT_FAILED,
                        only=run.as_held,
                        error={"type": "Environment", "message": build.error, "build": build.pk},
                    )
                return None
            # It failed for an earlier run: a new one deserves a new try, by what its own version says.
            builds.retry(builds.ensure(self.target, run.environment))
            build.refresh_from_db()
        self.tend(build)
        other = self.held.get(build.pk)
        note = f"Building the environment {run.environment}"
        if other is not None:
            note = f"Waiting for {other}, which is resolving {run.environment}: both then have the same packages"[:300]
        if run.waiting_for != note:
            Run.objects.filter(run.as_held, pk=run.pk, status=RunStatus.PREPARING).update(waiting_for=note)
            run.waiting_for = note
        return None

    def tend(self, build: Build) -> bool:
        """Begin a build that is asked for, by a run or by a person. Returns whether it goes on, and is to be followed."""
        key = ("build", build.pk)
        if not self.errands.may_start(key):
            return False
        own = copy.copy(build)  # the errand's, while the attendant's thread reads its own anew
        if build.status == BuildStatus.BUILDING and build.cancel_requested_at and build.attempt not in self.stopped:
            self.errands.start(key, partial(self.stop, own))
            return False
        if build.status == BuildStatus.BUILDING and build.attempt in self.begun:
            return True
        if build.status in UNBUILT:
            other = builds.waits_for(build)
            if other is not None:
                self.held[build.pk] = other.name
                return False
            self.held.pop(build.pk, None)
            # One that is begun may be of another attendant, who went before anything was sent. Sent again it starts once.
            self.errands.start(key, partial(self.begin, own))
        return False

    def begin(self, build: Build) -> None:
        with transaction.atomic():
            guard(self.target.pk, self.token)
            if builds.new_attempt(build):
                LogStream.objects.filter(build=build).delete()
        try:
            builds.begin(build, self.host, self.target)
        except CannotBuild as error:
            with transaction.atomic():
                guard(self.target.pk, self.token)
                builds.give_up(build, error)
        else:
            self.begun.add(build.attempt)

    def stop(self, build: Build) -> None:
        """Somebody cancelled it. Its end is seen like any other's; one that never came to the target ends here."""
        if builds.stop(build, self.host):
            self.stopped.add(build.attempt)
            self.begun.add(build.attempt)
            return
        with transaction.atomic():
            guard(self.target.pk, self.token)
            builds.finish(build, None)
