"""The rules of evidence, as a table: what was found on the target, and what is therefore true."""

import pytest

from runs.evidence import Evidence, Kind, Verdict, derive
from runs.status import ACTIVE, FINAL, MOVES, OUTSIDE_MOVES, EndReason, RunStatus

NOW = 1_800_000_000.0
EXITED = {"reason": "exited", "exit_code": 0}

TABLE = [
    ("no claim: launching again is safe", {}, Kind.NOT_CLAIMED, None),
    ("claimed and its supervisor lives", {"claimed": True, "sup": "held"}, Kind.ALIVE, None),
    ("the record wins over a lock that is still held", {"claimed": True, "sup": "held", "exit": EXITED}, Kind.ENDED, "exited"),
    ("the record wins over another boot", {"claimed": True, "exit": EXITED, "boot_id": "b", "claim_boot_id": "a"}, Kind.ENDED, "exited"),
    ("the record wins even without a claim", {"exit": {"reason": "launch_rejected"}}, Kind.ENDED, "launch_rejected"),
    ("lock free, no record: the supervisor was killed", {"claimed": True, "sup": "free"}, Kind.LOST, "supervisor_lost"),
    ("lock free while the script lives", {"claimed": True, "sup": "free", "job": "held"}, Kind.LOST, "supervisor_lost"),
    ("another boot id", {"claimed": True, "sup": "free", "boot_id": "b", "claim_boot_id": "a"}, Kind.LOST, "target_rebooted"),
    ("another boot id beats a lock that seems held", {"claimed": True, "sup": "held", "boot_id": "b", "claim_boot_id": "a"}, Kind.LOST, "target_rebooted"),
    ("locks unknown, fresh heartbeat", {"claimed": True, "heartbeat": (7, NOW - 3)}, Kind.ALIVE, None),
    ("locks unknown, old heartbeat: nothing is proven", {"claimed": True, "heartbeat": (7, NOW - 3600)}, Kind.UNKNOWN, None),
    ("locks unknown, no heartbeat: nothing is proven", {"claimed": True}, Kind.UNKNOWN, None),
    ("the directory is gone", {"exists": False}, Kind.LOST, "supervisor_lost"),
    ("a reason from the future is our error, not a success", {"exit": {"reason": "ascended"}}, Kind.ENDED, "studio_error"),
]  # fmt: skip


@pytest.mark.parametrize(("found", "kind", "reason"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_evidence_gives_the_verdict(found, kind, reason):
    assert derive(Evidence(now=NOW, **found)) == Verdict(kind, EndReason(reason) if reason else None)


def test_evidence_is_read_from_what_the_agent_sends():
    read = Evidence.read(
        {"exists": True, "claimed": True, "sup": "free", "job": "none", "heartbeat": [3, 1.5], "now": 2.0, "boot_id": "b",
         "state": {"boot_id": "a"}, "exit": None}
    )  # fmt: skip
    assert read.heartbeat == (3, 1.5)
    assert derive(read).reason is EndReason.TARGET_REBOOTED


def test_final_states_allow_no_move():
    assert all(not MOVES[status] for status in FINAL)


def test_every_active_state_can_end():
    def reachable(status, seen=frozenset()):
        return {status} | {s for n in MOVES[status] - seen for s in reachable(n, seen | {status, n})}

    assert all(reachable(status) & FINAL for status in ACTIVE)


def test_a_run_of_a_client_can_end_and_be_taken_up_again():
    active = OUTSIDE_MOVES.keys() - FINAL
    assert all(OUTSIDE_MOVES[status] >= FINAL for status in active)
    assert all(OUTSIDE_MOVES[status] == {RunStatus.RUNNING} for status in FINAL)


@pytest.mark.parametrize("reason", list(EndReason))
def test_every_reason_has_a_final_status(reason):
    assert reason.status in FINAL
    assert (reason.status == RunStatus.COMPLETED) == (reason in {EndReason.EXITED, EndReason.REPORTED_COMPLETED})
