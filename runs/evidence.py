"""From what is found on a target to what is true of a run: one pure function.

The rules: an exit record is the only proof of an ending by itself. A run without one is lost only when that
is proven: the lock that its supervisor held for life is free, or the machine has another boot id. Silence
proves nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Self

from runs.status import EndReason

# A heartbeat is written each 2 s; only where locks cannot be trusted (network file systems) does its age
# count.
STALE_HEARTBEAT_SECONDS = 60


class Kind(Enum):
    NOT_CLAIMED = auto()
    """Nobody has started it; launching (again) is safe, because the claim lets one start only."""
    ALIVE = auto()
    ENDED = auto()
    LOST = auto()
    UNKNOWN = auto()
    """Nothing is proven: leave the run as it is."""


@dataclass(frozen=True)
class Verdict:
    kind: Kind
    reason: EndReason | None = None


@dataclass(frozen=True)
class Evidence:
    """What the agent found in a run's directory, as in docs/run-directory.md."""

    exists: bool = True
    claimed: bool = False
    sup: str = "none"
    job: str = "none"
    heartbeat: tuple[int, float] | None = None
    state: Mapping[str, Any] | None = None
    exit: Mapping[str, Any] | None = None
    boot_id: str = ""
    claim_boot_id: str = ""
    now: float = 0.0

    @classmethod
    def read(cls, found: Mapping[str, Any]) -> Self:
        beat = found.get("heartbeat")
        state = found.get("state")
        return cls(
            exists=bool(found.get("exists", True)),
            claimed=bool(found.get("claimed")),
            sup=str(found.get("sup", "none")),
            job=str(found.get("job", "none")),
            heartbeat=(int(beat[0]), float(beat[1])) if beat else None,
            state=state,
            exit=found.get("exit"),
            boot_id=str(found.get("boot_id", "")),
            claim_boot_id=str(found.get("claim_boot_id") or (state or {}).get("boot_id", "")),
            now=float(found.get("now", 0.0)),
        )


def derive(evidence: Evidence) -> Verdict:
    """Decide from the evidence alone. See the table in tests/runs/test_evidence.py."""
    if evidence.exit is not None:
        return Verdict(Kind.ENDED, reason_of(evidence.exit))
    if not evidence.exists:
        return Verdict(Kind.LOST, EndReason.SUPERVISOR_LOST)
    if not evidence.claimed:
        return Verdict(Kind.NOT_CLAIMED)
    if evidence.claim_boot_id and evidence.boot_id and evidence.claim_boot_id != evidence.boot_id:
        return Verdict(Kind.LOST, EndReason.TARGET_REBOOTED)
    if evidence.sup == "held":
        return Verdict(Kind.ALIVE)
    if evidence.sup == "free":
        return Verdict(Kind.LOST, EndReason.SUPERVISOR_LOST)
    if evidence.heartbeat is not None and evidence.now - evidence.heartbeat[1] <= STALE_HEARTBEAT_SECONDS:
        return Verdict(Kind.ALIVE)
    return Verdict(Kind.UNKNOWN)


def reason_of(record: Mapping[str, Any]) -> EndReason:
    """The reason in an exit record; one that this studio does not know is our error, not the script's
    success."""
    try:
        return EndReason(record.get("reason", ""))
    except ValueError:
        return EndReason.STUDIO_ERROR
