"""Runs on another machine are cancelled in every phase, whatever they do about it and whether or not they can be reached."""

import time

import pytest

from tests.faults.remote import Remote
from tests.waiting import until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

STUBBORN = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.environ.clear()
            print("grandchild", flush=True)
            os.execve("/bin/sleep", ["sleep", "4321"], {})
        os._exit(0)
time.sleep(0.3)
print("ready", flush=True)
time.sleep(600)
"""
CANCELED = {"status": "Canceled", "reason": "canceled", "whole": False}


@pytest.fixture(scope="module")
def studio(far_studio):
    return far_studio


@pytest.fixture(scope="module")
def remote(studio, hosts):
    made = Remote(studio, hosts, 1, "cancel", "~/.cancel")
    studio.wait_for(made.submit(lines=1))  # from here on somebody attends
    return made


def canceled(remote: Remote, ids: list[int], seconds: float = 20) -> float:
    """Ask for the end of these runs; seconds until the last was over."""
    began = time.monotonic()
    for pk in ids:
        assert remote.studio.control("cancel", id=pk)
    remote.studio.wait_for(ids, seconds=seconds)
    return round(time.monotonic() - began, 2)


@pytest.mark.parametrize("phase", ["NotStarted", "Preparing", "Queued", "Running"])
def test_in_every_phase(remote, phase):
    blockers = []
    if phase == "Queued":
        blockers = remote.running(remote.submit(count=4, lines=4000, every=0.05))
    ids = remote.submit(count=2, lines=4000, every=0.05)
    if phase in {"Queued", "Running"}:
        remote.studio.wait_for(ids, {phase})
    elif phase == "Preparing":
        remote.studio.wait_for(ids, {"Preparing", "Queued", "Running"})
    canceled(remote, ids + blockers)
    for row in remote.studio.control("runs", ids=ids + blockers):
        assert (row["status"], row["reason"]) == ("Canceled", "canceled"), row
        assert remote.oracle.count("start", remote.studio.control("uid", id=row["id"])) <= 1
    remote.empty()


def test_at_thirty_moments_between_submit_and_end(remote):
    """Each is cancelled, or was over before; nobody is left, whatever the moment."""
    every = []
    for step in range(30):
        ids = remote.submit(lines=10, every=0.02)
        time.sleep(step * 0.02)  # the moment is what is tested
        if remote.studio.control("cancel", id=ids[0]):
            every += ids
    rows = remote.studio.wait_for(every, seconds=60)
    assert {(row["status"], row["reason"]) for row in rows} <= {("Canceled", "canceled"), ("Completed", "exited")}
    for pk in every:
        assert remote.oracle.count("start", remote.studio.control("uid", id=pk)) <= 1
    remote.empty()


def test_a_script_that_ends_when_asked(remote, measured):
    ids = remote.running(remote.submit(count=3, lines=4000, every=0.05, grace_seconds=10))
    measured["cancel of a script that obeys"] = f"{canceled(remote, ids)} s"
    remote.invariants.check(ids, **CANCELED)
    remote.empty()


def test_a_script_that_ignores_term_and_double_forks_with_an_empty_environment(remote, measured, hosts):
    kept = (remote.oracle.folder / "train.py").read_text()
    (remote.oracle.folder / "train.py").write_text(STUBBORN)
    try:
        ids = remote.submit(grace_seconds=1)
        until(lambda: remote.studio.control("log", id=ids[0])["lines"] >= 4, 30)
        assert len(hosts.processes(1, "sleep 4321")) == 3
        measured["cancel of one that does not, with 1 s of grace"] = f"{canceled(remote, ids)} s"
    finally:
        (remote.oracle.folder / "train.py").write_text(kept)
    (row,) = remote.studio.control("runs", ids=ids)
    assert (row["status"], row["reason"]) == ("Canceled", "canceled"), row
    assert hosts.processes(1, "sleep 4321") == []
    remote.empty()


def test_while_the_link_is_cut(remote, hosts, measured):
    """What was launched is cancelled when the target is back; what never went there at once."""
    ids = remote.running(remote.submit(lines=4000, every=0.05))
    hosts.fault("cut", 1)
    try:
        later = remote.submit(lines=10)
        assert remote.studio.control("cancel", id=ids[0])
        remote.unreachable()
        assert remote.studio.status(ids[0]) == "CancelRequested"
        assert remote.studio.control("cancel", id=later[0])
        remote.studio.wait_for(later, {"Canceled"}, seconds=40)
    finally:
        hosts.fault("heal", 1)
    began = time.monotonic()
    remote.studio.wait_for(ids, seconds=30)
    measured["cancelled while cut off: over after the link is back"] = f"{time.monotonic() - began:.1f} s"
    remote.invariants.check(ids, **CANCELED)
    assert remote.oracle.count("start", remote.studio.control("uid", id=later[0])) == 0
    remote.empty()


def test_while_all_workers_are_down(remote, measured):
    ids = remote.running(remote.submit(count=2, lines=4000, every=0.05))
    remote.studio.kill_workers()
    measured["cancel right after all workers were killed"] = f"{canceled(remote, ids, 30)} s"
    remote.invariants.check(ids, **CANCELED)
    remote.empty()
