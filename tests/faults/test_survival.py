"""The studio's parts are killed, frozen and taken away while runs execute. The runs must not notice."""

import signal
import time

import psutil
import pytest

from tests.faults.conftest import survivors
from tests.waiting import until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]


def test_a_run_completes_with_everything_it_made(studio, oracle, invariants):
    ids = studio.submit(oracle.folder, *oracle.arguments())
    studio.wait_for(ids)
    invariants.check(ids)


def test_workers_killed_at_any_moment_of_a_run(studio, oracle, invariants):
    """Sweeps the kill over the whole life of a run, from the submit to after the end."""
    studio.wait_for(studio.submit(oracle.folder, *oracle.arguments(lines=1)))  # from here on somebody attends
    seen = set()
    every = []
    for step in range(16):
        until(lambda: studio.processes("house") and studio.control("attended"), 60)
        ids = studio.submit(oracle.folder, *oracle.arguments(lines=20, every=0.02))
        time.sleep(step * 0.05)  # the moment of the kill is what is tested
        seen.add(studio.status(ids[0]))
        studio.kill_workers()
        every += ids
    studio.wait_for(every, seconds=120)
    invariants.check(every)
    assert len(seen) >= 3, f"the kills met too few phases: {seen}"


def test_all_workers_dead_for_thirty_seconds(studio, oracle, invariants):
    ids = studio.submit(oracle.folder, *oracle.arguments(lines=800, every=0.05), count=4)
    ids += studio.submit(oracle.folder, *oracle.arguments(lines=800, every=0.001), count=4)
    studio.wait_for(ids[:1], {"Running"})
    studio.up.send_signal(signal.SIGSTOP)  # nobody starts them again
    try:
        studio.kill_workers()
        time.sleep(30)  # the outage is what is tested
        assert studio.status(ids[0]) == "Running", "a run changed its status while nobody looked"
    finally:
        studio.up.send_signal(signal.SIGCONT)
    began = time.monotonic()
    studio.wait_for(ids[:4], seconds=60)
    print(f"back after {time.monotonic() - began:.1f} s")
    studio.wait_for(ids, seconds=60)
    invariants.check(ids, lines=800)


def twenty(studio, oracle):
    """Twenty runs in every phase: some over, some running, some waiting."""
    ids = studio.submit(oracle.folder, *oracle.arguments(lines=20, every=0.2), count=20)
    until(lambda: sum(r["status"] == "Completed" for r in studio.control("runs", ids=ids)) >= 2, 60)
    return ids


def test_queue_flushed_with_twenty_runs(studio, oracle, invariants):
    from redis import Redis

    ids = twenty(studio, oracle)
    password = (studio.data_dir / "keys" / "doorbell").read_text()
    Redis(unix_socket_path=str(studio.data_dir / "doorbell" / "valkey.sock"), password=password).flushall()
    studio.wait_for(ids, seconds=120)
    invariants.check(ids)


def test_queue_server_stopped_for_thirty_seconds(studio, oracle, invariants):
    ids = twenty(studio, oracle)
    (server,) = studio.processes("queue")
    server.send_signal(signal.SIGSTOP)
    try:
        time.sleep(30)  # the outage is what is tested
        more = studio.submit(oracle.folder, *oracle.arguments(lines=20), count=2)
    finally:
        server.send_signal(signal.SIGCONT)
    studio.wait_for(ids + more, seconds=120)
    invariants.check(ids + more)


def test_queue_server_killed(studio, oracle, invariants):
    ids = twenty(studio, oracle)
    studio.kill("queue")
    more = studio.submit(oracle.folder, *oracle.arguments(lines=20), count=2)
    studio.wait_for(ids + more, seconds=120)
    invariants.check(ids + more)


def test_database_locked_by_another_program_for_thirty_seconds(studio, oracle, invariants):
    """Somebody's shell, or a backup, holds SQLite's one write lock; everybody waits, gives up, and tries again."""
    import sqlite3

    ids = studio.submit(oracle.folder, *oracle.arguments(lines=800, every=0.05), count=4)
    studio.wait_for(ids, {"Running"})
    other = sqlite3.connect(studio.data_dir / "studio.sqlite3", isolation_level=None, timeout=20)
    other.execute("BEGIN IMMEDIATE")
    try:
        before = studio.control("size", id=ids[0])
        time.sleep(33)  # longer than anybody waits for the lock
        until(studio.answers, 10, what="pages can be read while nobody can write")
        assert studio.control("size", id=ids[0]) == before, "the lock kept nobody from writing"
    finally:
        other.execute("ROLLBACK")
        other.close()
    began = time.monotonic()
    until(lambda: studio.control("size", id=ids[0]) > before, 30)
    print(f"recovered after {time.monotonic() - began:.2f} s")
    studio.wait_for(ids, seconds=60)
    invariants.check(ids, lines=800)


def test_web_killed(studio, oracle, invariants):
    ids = studio.submit(oracle.folder, *oracle.arguments(lines=20, every=0.1))
    studio.wait_for(ids, {"Running"})
    (server,) = studio.processes("web")
    workers = until(lambda: server.children(recursive=True), 10)
    studio.kill("web")
    until(lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in workers), 10)
    until(studio.answers, 30)
    studio.wait_for(ids)
    invariants.check(ids)


def test_house_frozen_and_thawed_is_fenced_off(studio, oracle, invariants):
    """A frozen attendant loses its lease; thawed, it must not write over its successor."""
    ids = studio.submit(oracle.folder, *oracle.arguments(lines=400, every=0.05))
    studio.wait_for(ids, {"Running"})
    frozen = until(lambda: studio.processes("house"), 10)
    for process in frozen:
        process.suspend()
    time.sleep(8)  # longer than the lease
    for process in frozen:
        process.resume()
    studio.wait_for(ids, seconds=90)
    invariants.check(ids, lines=400)


def test_two_reconcilers_and_a_hundred_bells(studio, oracle, invariants):
    import subprocess
    import sys

    more = [
        subprocess.Popen([sys.executable, "manage.py", "reconcile", "--every", "0.05"], env=studio.env)
        for _ in range(2)
    ]
    try:
        ids = studio.submit(oracle.folder, *oracle.arguments(lines=20, every=0.01), count=12)
        studio.wait_for(ids, seconds=90)
    finally:
        for process in more:
            process.terminate()
            process.wait(timeout=20)
    invariants.check(ids)


def supervisor_of(studio, pk) -> psutil.Process:
    import json

    path = studio.runs_dir() / studio.run(pk)["attempt"] / "claim" / "owner.json"
    return psutil.Process(json.loads(path.read_text())["pid"])


def test_supervisor_killed_ends_the_run_as_lost_and_leaves_nothing(studio, oracle, invariants):
    ids = studio.submit(oracle.folder, *oracle.arguments(lines=2000, every=0.05))
    studio.wait_for(ids, {"Running"})
    supervisor = supervisor_of(studio, ids[0])
    script = until(supervisor.children, 10)  # Running means claimed: the script starts a moment later
    supervisor.kill()
    studio.wait_for(ids, seconds=20)
    invariants.check(ids, status="Failed", reason="supervisor_lost", whole=False)
    until(lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in script), 10)


@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1],
)
def test_script_killed_by_a_signal_is_failed_with_its_name(studio, oracle, invariants, number):
    ids = studio.submit(oracle.folder, *oracle.arguments(signal=int(number), every=0))
    (row,) = studio.wait_for(ids)
    # On SIGINT Python adds a traceback of its own to what the script printed.
    invariants.check(ids, status="Failed", reason="signal", whole=number != signal.SIGINT)
    assert row["signal"] == number


def test_exit_code_is_kept(studio, oracle, invariants):
    ids = studio.submit(oracle.folder, *oracle.arguments(code=3, every=0))
    (row,) = studio.wait_for(ids)
    invariants.check(ids, status="Failed", reason="exit_code")
    assert row["exit_code"] == 3


def test_out_of_memory_is_named(studio, tmp_path):
    folder = tmp_path / "hungry"
    folder.mkdir()
    (folder / "train.py").write_text("blocks = []\nwhile True:\n    blocks.append(bytearray(16 * 1024 * 1024))\n")
    ids = studio.submit(folder, memory_bytes=512 * 1024**2)
    (row,) = studio.wait_for(ids)
    assert (row["status"], row["reason"]) == ("Failed", "out_of_memory"), row


def test_time_limit_cancels(studio, oracle):
    ids = studio.submit(
        oracle.folder, *oracle.arguments(lines=5000, every=0.05), max_run_duration_seconds=1, grace_seconds=1
    )
    (row,) = studio.wait_for(ids)
    assert (row["status"], row["reason"]) == ("Canceled", "timed_out"), row


def test_cancel_of_a_script_that_ignores_term_and_double_forks_leaves_nobody(studio, tmp_path):
    folder = tmp_path / "stubborn"
    folder.mkdir()
    (folder / "train.py").write_text(
        "import os, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        print('grandchild', os.getpid(), flush=True)\n"
        "        time.sleep(600)\n"
        "    os._exit(0)\n"
        "time.sleep(0.2)\n"
        "print('ready', flush=True)\n"
        "time.sleep(600)\n"
    )
    ids = studio.submit(folder, grace_seconds=1)
    until(lambda: studio.control("log", id=ids[0])["lines"] >= 2, 30)
    grandchild = int(studio.control("text", id=ids[0]).split("grandchild ")[1].split()[0])
    assert psutil.pid_exists(grandchild)
    assert studio.control("cancel", id=ids[0])
    (row,) = studio.wait_for(ids, seconds=15)
    assert (row["status"], row["reason"]) == ("Canceled", "canceled"), row
    until(lambda: not psutil.pid_exists(grandchild) or psutil.Process(grandchild).status() == psutil.STATUS_ZOMBIE, 5)


@pytest.mark.parametrize("phase", ["NotStarted", "Preparing", "Queued", "Running"])
def test_cancel_in_every_phase(studio, oracle, phase):
    blockers = []
    if phase == "Queued":
        blockers = studio.submit(oracle.folder, *oracle.arguments(lines=400, every=0.05), count=4, grace_seconds=1)
        studio.wait_for(blockers, {"Running"})
    ids = studio.submit(oracle.folder, *oracle.arguments(lines=400, every=0.05), grace_seconds=1)
    if phase in {"Queued", "Running"}:
        studio.wait_for(ids, {phase})
    elif phase == "Preparing":
        studio.wait_for(ids, {"Preparing", "Queued", "Running"})
    for pk in ids + blockers:
        assert studio.control("cancel", id=pk)
    for row in studio.wait_for(ids + blockers, seconds=30):
        assert (row["status"], row["reason"]) == ("Canceled", "canceled"), row
        starts = oracle.count("start", studio.control("uid", id=row["id"]))
        assert starts <= 1 and not (starts and phase == "Queued" and row["id"] in ids), f"{starts} starts"
    left_nothing(studio, ids + blockers)


def test_a_script_that_has_ended_cannot_be_cancelled_any_more_and_comes_home_whole(studio, oracle, invariants):
    [pk] = studio.submit(oracle.folder, *oracle.arguments(lines=20, every=0, large=150_000_000))
    until(lambda: studio.status(pk) == "Finalizing", 60, every=0.002)
    assert studio.control("cancel", id=pk) is False
    studio.wait_for([pk])
    invariants.check([pk], large=150_000_000)
    left_nothing(studio, [pk])


def left_nothing(studio, ids: list[int]) -> None:
    """No directory of these runs, and no process that is in one."""
    attempts = {row["attempt"] for row in studio.control("runs", ids=ids)} - {""}
    until(lambda: not attempts & {path.name for path in studio.runs_dir().iterdir()}, 20, what="directories stay")
    for attempt in attempts:
        until(lambda: not survivors(studio.runs_dir() / attempt), 10, what=f"processes of {attempt} stay")  # noqa: B023
