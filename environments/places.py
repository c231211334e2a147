"""A version of an environment on the targets of a workspace: where it is, and in which state, in words."""

from collections.abc import Iterable
from dataclasses import dataclass

from environments.definition import Definition
from environments.models import Build, BuildStatus, ComputeTarget, EnvironmentVersion

# Status of a build → icon, tone, word.
STATES = {
    BuildStatus.WAITING: ("clock", "idle", "Waiting"),
    BuildStatus.BUILDING: ("prep", "run", "Building"),
    BuildStatus.READY: ("ok", "ok", "Ready"),
    BuildStatus.FAILED: ("fail", "fail", "Failed"),
}


@dataclass(frozen=True)
class Place:
    """A version on a target: built, being built, or not asked for yet."""

    target: ComputeTarget
    build: Build | None
    definition: Definition

    @property
    def state(self) -> tuple[str, str, str]:
        """Icon, tone and words."""
        if self.build is None:
            if not self.possible:
                return ("slash", "idle", "Needs a container engine")
            return ("clock", "idle", "Not checked yet" if self.used_as_it_is else "Not built yet")
        if self.gone:
            return ("slash", "idle", "No longer there")
        if self.going_on and self.build.cancel_requested_at:
            return ("prep", "idle", "Canceling")
        return STATES[BuildStatus(self.build.status)]

    @property
    def used_as_it_is(self) -> bool:
        """Something that is on the target already: looked at, not built."""
        return self.definition.user_managed and not self.definition.needs_engine

    @property
    def possible(self) -> bool:
        """Whether this target can make it at all."""
        return self.target.launcher == "docker" or not self.definition.needs_engine

    @property
    def ready(self) -> bool:
        return self.build is not None and self.build.status == BuildStatus.READY

    @property
    def gone(self) -> bool:
        """It was there once, and somebody or a cleaning took it away."""
        return self.build is not None and self.build.status == BuildStatus.FAILED and self.build.ended_at is None

    @property
    def failed(self) -> bool:
        return self.build is not None and self.build.status == BuildStatus.FAILED and not self.gone

    @property
    def going_on(self) -> bool:
        return self.build is not None and self.build.status in {BuildStatus.WAITING, BuildStatus.BUILDING}


def places_of(versions: Iterable[EnvironmentVersion], targets: list[ComputeTarget]) -> dict[str, list[Place]]:
    """For the key of each version its state on every target, in one query."""
    wanted = {version.key: Definition.from_json(version.definition) for version in versions}
    rows = Build.objects.filter(key__in=wanted, target__in=targets).defer("packages", "lock")
    found = {(row.key, row.target_id): row for row in rows}
    return {
        key: [Place(target, found.get((key, target.pk)), definition) for target in targets]
        for key, definition in wanted.items()
    }
