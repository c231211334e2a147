"""Runs on machines reached over SSH, while links, servers, keys, disks and power fail. The runs must not notice."""

import signal
import time
from datetime import datetime

import psutil
import pytest

from tests.faults.remote import Remote, inner
from tests.live import FINAL
from tests.waiting import until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def studio(far_studio):
    return far_studio


@pytest.fixture(scope="module")
def remote(studio, hosts):
    return Remote(studio, hosts, 1, "first", "~/.first")


@pytest.fixture(scope="module")
def second(studio, hosts):
    return Remote(studio, hosts, 2, "second", "~/.second")


@pytest.fixture(scope="module")
def third(studio, hosts):
    return Remote(studio, hosts, 3, "third", "~/.third")


def test_a_run_completes_and_leaves_nothing(remote, measured):
    ids = remote.submit(count=2)
    remote.studio.wait_for(ids)
    remote.invariants.check(ids)
    remote.empty()


def test_a_link_that_is_cut_for_two_seconds_is_not_even_mentioned(remote, hosts):
    ids = remote.running(remote.submit(count=2, lines=100, every=0.05))
    hosts.fault("cut", 1, 2)
    remote.studio.wait_for(ids)
    assert remote.health()["unreachable_since"] is None
    remote.invariants.check(ids, lines=100)
    remote.empty()


def cut_for(remote: Remote, seconds: float, measured: dict) -> None:
    """Runs that end while the link is cut, that go on, that are cancelled meanwhile, that are submitted meanwhile."""
    studio, label = remote.studio, f"link cut for {seconds:g} s"
    over = remote.submit(lines=100, every=0.08)
    lasting = remote.submit(lines=int(seconds * 10 + 100), every=0.1)
    unwanted = remote.submit(lines=int(seconds * 10 + 300), every=0.1)
    remote.running(over + lasting + unwanted)
    began = time.monotonic()
    remote.hosts.fault("cut", remote.number)
    try:
        measured[f"{label}: shown as unreachable after"] = f"{remote.unreachable()} s"
        studio.control("cancel", id=unwanted[0])
        later = remote.submit()
        until(lambda: all(row["unreachable_since"] for row in studio.control("runs", ids=over + lasting + unwanted)), 5)
        time.sleep(max(0, seconds - (time.monotonic() - began)))  # the outage is what is tested
        rows = studio.control("runs", ids=over + lasting + unwanted + later)
        assert [row["status"] for row in rows] == ["Running", "Running", "CancelRequested", "NotStarted"], rows
    finally:
        remote.hosts.fault("heal", remote.number)
    measured[f"{label}: found again after"] = f"{remote.reachable()} s"
    (row,) = studio.wait_for(unwanted, seconds=20)
    assert (row["status"], row["reason"]) == ("Canceled", "canceled")
    studio.wait_for(over + later, seconds=30)
    studio.wait_for(lasting, seconds=60)
    remote.invariants.check(over, lines=100)
    remote.invariants.check(lasting, lines=int(seconds * 10 + 100))
    remote.invariants.check(later)
    remote.invariants.check(unwanted, status="Canceled", reason="canceled", whole=False)
    remote.empty()


def test_a_link_that_is_cut_for_thirty_seconds(remote, measured):
    cut_for(remote, 30, measured)


@pytest.mark.long
def test_a_link_that_is_cut_for_ten_minutes(remote, measured):
    cut_for(remote, 600, measured)


@pytest.mark.parametrize("lasting", [35, pytest.param(12, marks=pytest.mark.long)])
def test_only_replies_are_lost_while_runs_are_launched(remote, second, hosts, measured, lasting):
    """What is asked for is done, and nobody hears of it: here for a moment, there for longer than a connection is waited for."""
    muted, ids = ((remote, 3), (second, lasting)), []
    for place, _ in muted:
        place.studio.wait_for(place.submit(lines=1))
    for place, seconds in muted:
        ids.append(place.submit(count=4, lines=30, every=0.1))
        place.launching(ids[-1])
        hosts.fault("mute", place.number, seconds)
    began = time.monotonic()
    later = [place.submit(count=3, lines=10) for place, _ in muted]
    measured[f"replies lost for {lasting} s: shown as unreachable after"] = f"{second.unreachable()} s"
    time.sleep(max(0, lasting - (time.monotonic() - began)))  # the silence is what is tested
    measured[f"replies lost for {lasting} s: found again after"] = f"{second.reachable()} s"
    for (place, _), mine, more in zip(muted, ids, later, strict=True):
        place.studio.wait_for(mine + more)
        place.invariants.check(mine, lines=30)
        place.invariants.check(more, lines=10)
        place.empty()


def test_three_machines_at_once_of_which_one_is_cut_off_and_one_loses_its_power(remote, second, third, hosts):
    """Neither is taken for the other, and what runs on the third is not even late."""
    studio = remote.studio
    cut, lost = remote.submit(count=2, lines=200, every=0.08), second.submit(count=2, lines=4000, every=0.05)
    fine = third.submit(count=2, lines=100, every=0.08)
    remote.running(cut), second.running(lost), third.running(fine)
    hosts.fault("cut", 1)
    hosts.crash(2)
    try:
        more = third.submit(count=4, lines=20)
        studio.wait_for(fine + more, {"Completed"}, seconds=40)
        third.invariants.check(fine, lines=100)
        third.invariants.check(more)
        remote.unreachable(), second.unreachable()
        assert third.health()["unreachable_since"] is None
        assert {studio.status(pk) for pk in cut + lost} == {"Running"}, "nobody can know yet"
    finally:
        hosts.fault("heal", 1)
        hosts.start()
    studio.wait_for(cut + lost)
    remote.invariants.check(cut, lines=200)
    second.invariants.check(lost, status="Failed", reason="target_rebooted", whole=False)
    later = remote.submit() + second.submit() + third.submit()
    studio.wait_for(later)
    for place, pk in zip((remote, second, third), later, strict=True):
        place.invariants.check([pk])
        place.empty()


def test_a_third_of_all_packets_lost(remote, hosts, measured):
    ids = remote.running(remote.submit(count=2, lines=100, every=0.05))
    hosts.fault("slow", 1, "loss=30")
    began = time.monotonic()
    try:
        later = remote.submit(count=1)
        remote.studio.wait_for(ids + later, seconds=150)
        measured["30 % of packets lost: three runs home after"] = f"{time.monotonic() - began:.1f} s"
    finally:
        hosts.fault("heal", 1)
    remote.invariants.check(ids, lines=100)
    remote.invariants.check(later)
    remote.empty()


def test_the_ssh_server_is_restarted_and_then_all_its_sessions_killed(remote, hosts, measured):
    ids = remote.running(remote.submit(count=2, lines=120, every=0.05))
    hosts.sshd(1)
    time.sleep(0.5)
    assert remote.health()["unreachable_since"] is None
    before = remote.health()["seen"]
    began = time.monotonic()
    hosts.sshd(1, kill_sessions=True)
    until(lambda: remote.health()["seen"] > before and not remote.health()["unreachable_since"], 20)
    measured["sshd and its sessions killed: found again after"] = f"{time.monotonic() - began:.1f} s"
    remote.studio.wait_for(ids)
    remote.invariants.check(ids, lines=120)
    remote.empty()


def test_twenty_runs_at_a_server_that_takes_two_connections_at_once(remote, hosts, measured):
    hosts.sshd(1, kill_sessions=True, MaxStartups="2")
    try:
        began = time.monotonic()
        ids = remote.submit(count=20, lines=20, every=0.01)
        remote.studio.wait_for(ids, seconds=90)
        measured["20 runs with MaxStartups 2"] = f"{time.monotonic() - began:.1f} s"
    finally:
        hosts.sshd(1, MaxStartups="500")
    remote.invariants.check(ids)
    remote.empty()


def test_a_changed_host_key_stops_everything_until_it_is_confirmed(remote, hosts):
    studio, folder = remote.studio, hosts.folder(1)
    ids = remote.running(remote.submit(lines=150, every=0.05))
    old = folder / "host_key.old"
    (folder / "host_key").rename(old)
    hosts.run(1, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "host_key")
    hosts.sshd(1, kill_sessions=True)
    until(lambda: "host key" in remote.health()["error"] and "has changed" in remote.health()["error"], 20)
    later = remote.submit()
    time.sleep(2)  # nothing may happen in this time
    rows = studio.control("runs", ids=ids + later)
    assert [row["status"] for row in rows] == ["Running", "NotStarted"], rows
    studio.control("change_target", name=remote.name, options=hosts.options(1, root=remote.root))
    studio.wait_for(ids + later, seconds=40)
    remote.invariants.check(ids, lines=150)
    remote.invariants.check(later)
    remote.empty()


def test_a_revoked_key_ends_no_run(remote, hosts, measured):
    keys = hosts.home(1) / ".ssh/authorized_keys"
    text = keys.read_text()
    ids = remote.running(remote.submit(lines=150, every=0.05))
    keys.write_text("")
    time.sleep(1)
    assert remote.health()["unreachable_since"] is None, "an open connection needs no key"
    hosts.sshd(1, kill_sessions=True)
    until(lambda: "did not let" in remote.health()["error"], 20)
    assert remote.studio.status(ids[0]) == "Running"
    keys.write_text(text)
    remote.studio.control("change_target", name=remote.name)  # a bell; by itself it tries again within half a minute
    measured["key put back: found again after"] = f"{remote.reachable()} s"
    remote.studio.wait_for(ids, seconds=40)
    remote.invariants.check(ids, lines=150)
    remote.empty()


def test_a_rebooted_target_is_told_from_an_unreachable_one(second, hosts, measured):
    ids = second.running(second.submit(count=2, lines=4000, every=0.05))
    hosts.crash(2)
    second.unreachable()
    assert {second.studio.status(pk) for pk in ids} == {"Running"}, "nobody can know yet"
    hosts.start()
    began = time.monotonic()
    rows = second.studio.wait_for(ids, seconds=40)
    measured["target rebooted: said so after"] = f"{time.monotonic() - began:.1f} s"
    second.invariants.check(ids, status="Failed", reason="target_rebooted", whole=False)
    assert all(row["log_complete"] is not True for row in rows)
    later = second.submit()
    second.studio.wait_for(later)
    second.invariants.check(later)
    until(lambda: not hosts.of_runs(2), 15)


def test_a_process_that_was_given_the_number_of_a_dead_supervisor_is_left_alone(second, hosts):
    ids = second.running(second.submit(lines=4000, every=0.05))
    supervisor = second.claim(ids[0])
    script = supervisor.children(recursive=True)
    numbers = [inner(process.pid) for process in [supervisor, *script]]
    hosts.fault("cut", 2)
    try:
        for process in [supervisor, *script]:
            process.kill()
        until(lambda: not any(psutil.pid_exists(p.pid) and p.status() != "zombie" for p in [supervisor, *script]), 10)
        started = "".join(
            f"for i in $(seq 400); do echo {n - 1} >/proc/sys/kernel/ns_last_pid; setsid sleep 987 & "
            f"[ $! = {n} ] && break; kill $!; wait $! 2>/dev/null; sleep 0.02; done;"
            for n in numbers
        )
        hosts.run(2, "bash", "-c", f"({started}) >/dev/null 2>&1 </dev/null")
        strangers = [p for p in hosts.processes(2, "sleep 987") if inner(p.pid) in numbers]
        assert sorted(inner(p.pid) for p in strangers) == sorted(numbers)
    finally:
        hosts.fault("heal", 2)
    second.studio.wait_for(ids, seconds=40)
    second.invariants.check(ids, status="Failed", reason="supervisor_lost", whole=False)
    assert all(p.is_running() for p in strangers), "a stranger was killed"
    for process in strangers:
        process.kill()


def test_a_supervisor_that_is_killed_is_seen_and_leaves_nobody(remote, measured):
    ids = remote.running(remote.submit(lines=4000, every=0.05))
    supervisor = remote.claim(ids[0])
    script = supervisor.children(recursive=True)
    began = time.monotonic()
    supervisor.kill()
    remote.studio.wait_for(ids, {"Finalizing", *FINAL}, seconds=20)
    measured["supervisor killed: seen after"] = f"{time.monotonic() - began:.1f} s"
    remote.studio.wait_for(ids, seconds=20)
    remote.invariants.check(ids, status="Failed", reason="supervisor_lost", whole=False)
    until(lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in script), 5)


def test_a_dead_script_is_seen_within_two_seconds(remote, measured):
    ids = remote.running(remote.submit(count=4, lines=4000, every=0.05))
    taken = []
    for pk in ids:
        script = remote.claim(pk).children()[0]
        began = time.monotonic()
        script.kill()
        remote.studio.wait_for([pk], seconds=10)
        taken.append(round(time.monotonic() - began, 2))
    measured["script killed: run ended after"] = f"{taken} s"
    assert max(taken) <= 2
    remote.invariants.check(ids, status="Failed", reason="signal", whole=False)


def test_a_supervisor_that_is_stopped_for_ten_seconds_loses_nothing(remote):
    ids = remote.running(remote.submit(lines=100, every=0.03))
    supervisor = remote.claim(ids[0])
    supervisor.suspend()
    time.sleep(10)  # longer than its heartbeat is due
    assert remote.studio.status(ids[0]) == "Running"
    supervisor.resume()
    remote.studio.wait_for(ids)
    remote.invariants.check(ids, lines=100)
    remote.empty()


def workers_down(remote: Remote, seconds: float, measured: dict) -> None:
    studio = remote.studio
    lines = int(seconds * 10 + 120)
    ids = remote.submit(lines=lines, every=0.1) + remote.submit(lines=60, every=0.05)
    remote.running(ids)
    studio.up.send_signal(signal.SIGSTOP)  # nobody starts them again
    try:
        studio.kill_workers()
        time.sleep(seconds)  # the outage is what is tested
    finally:
        studio.up.send_signal(signal.SIGCONT)
    began, then = time.monotonic(), datetime.now().astimezone()
    until(lambda: datetime.fromisoformat(remote.health()["seen"]) > then, 30)
    measured[f"all workers down for {seconds:g} s: runs found again after"] = f"{time.monotonic() - began:.1f} s"
    studio.wait_for(ids, seconds=60)
    remote.invariants.check(ids[:1], lines=lines)
    remote.invariants.check(ids[1:], lines=60)
    remote.empty()


@pytest.mark.parametrize("seconds", [0, 20, pytest.param(60, marks=pytest.mark.long)])
def test_all_workers_down(remote, measured, seconds):
    workers_down(remote, seconds, measured)


def test_web_killed_and_queue_flushed(remote):
    from redis import Redis

    studio = remote.studio
    ids = remote.submit(count=6, lines=40, every=0.1)
    remote.running(ids[:1])
    studio.kill("web")
    password = (studio.data_dir / "keys" / "doorbell").read_text()
    Redis(unix_socket_path=str(studio.data_dir / "doorbell" / "valkey.sock"), password=password).flushall()
    studio.wait_for(ids, seconds=60)
    until(studio.answers, 30)
    remote.invariants.check(ids, lines=40)
    remote.empty()
