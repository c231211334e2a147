"""Disks that are full or gone, of a target and of the studio itself, while runs go on."""

import os
import sqlite3
import subprocess
import time

import pytest

from tests.faults.conftest import survivors
from tests.faults.hosts import INFRA, Hosts
from tests.faults.remote import Remote
from tests.live import Studio
from tests.waiting import until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

LOUD = """
import os, sys, time
with open(sys.argv[2], "a") as file:
    file.write("start %s %d\\n" % (os.environ["AZUREML_RUN_ID"], os.getpid()))
for number in range(400):
    sys.stdout.write("%08d %s\\n" % (number, "x" * 50_000))
    sys.stdout.flush()
print("done")
"""


@pytest.fixture(scope="module")
def studio(tmp_path_factory, hosts):
    """A studio whose data directory is a disk of its own."""
    if os.geteuid():
        (pytest.fail if os.environ.get("CI") else pytest.skip)("Mounting a small disk needs root.")
    place = tmp_path_factory.mktemp("disk")
    faults("disk", place, 160)
    live = Studio(place / "data").start()
    yield live
    try:
        assert live.stop() == 0, live.output.read_text()[-3000:]
        until(lambda: not survivors(live.data_dir), 10, what="processes of this studio outlive it")
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def faults(*words: object) -> None:
    subprocess.run([str(INFRA / "faults.sh"), *map(str, words)], check=True, capture_output=True)


def small_disk(hosts: Hosts, path: str, megabytes: int) -> None:
    hosts.run(1, "mkdir", "-p", path)
    hosts.run(1, "mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=1777", "none", path)


def test_a_target_whose_disk_is_full_says_so_and_is_of_use_again_when_it_is_not(studio, hosts):
    small_disk(hosts, "/tmp/small", 10)
    remote = Remote(studio, hosts, 1, "small", "/tmp/small/runstead")
    script = remote.oracle.folder / "train.py"
    kept = script.read_text()
    script.write_text(LOUD)
    ids = remote.submit()
    (row,) = studio.wait_for(ids, seconds=60)
    record = row["final"]
    assert row["status"] in {"Completed", "Failed"}, row
    assert record["log"]["lost"] > 5_000_000, record  # the gap is known, to the byte
    assert record["log"]["total"] == 400 * 50_010 + 5
    stored = studio.control("log", id=ids[0])
    assert stored["size"] == record["log"]["bytes"] and stored["sha256"] == record["log"]["sha256"]
    assert remote.oracle.count("start", studio.control("uid", id=ids[0])) == 1
    until(lambda: studio.run(ids[0])["cleaned_at"], 20)  # or its log makes room for the next
    hosts.run(1, "bash", "-c", "head -c 20M /dev/zero >/tmp/small/ballast || true")
    script.write_text(kept)
    later = remote.submit(lines=5)
    (row,) = studio.wait_for(later, {"Failed", "Completed"}, seconds=60)
    assert (row["status"], row["reason"]) == ("Failed", "disk_full"), row
    assert row["error"]["message"]
    hosts.run(1, "rm", "/tmp/small/ballast")
    last = remote.submit(lines=5)
    studio.wait_for(last)
    remote.invariants.check(last, lines=5)


def test_a_target_whose_disk_is_unmounted_loses_no_run(studio, hosts, measured):
    small_disk(hosts, "/tmp/other", 50)
    hosts.run(1, "mkdir", "-p", "/tmp/kept")
    hosts.run(1, "mount", "--bind", "/tmp/other", "/tmp/kept")
    remote = Remote(studio, hosts, 1, "other", "/tmp/other/runstead")
    ids = remote.running(remote.submit(count=2, lines=300, every=0.05))
    hosts.run(1, "umount", "-l", "/tmp/other")
    began = time.monotonic()
    until(lambda: "is not the one it was" in remote.health()["error"], 30)
    measured["disk of the runs unmounted: said so after"] = f"{time.monotonic() - began:.1f} s"
    later = remote.submit(lines=5)
    time.sleep(2)  # nothing may happen in this time
    rows = studio.control("runs", ids=ids + later)
    assert [row["status"] for row in rows[:2]] == ["Running", "Running"], rows
    assert rows[2]["status"] in {"NotStarted", "Preparing"}, rows
    hosts.run(1, "mount", "--bind", "/tmp/kept", "/tmp/other")
    studio.wait_for(ids + later, seconds=90)
    remote.invariants.check(ids, lines=300)
    remote.invariants.check(later, lines=5)
    remote.empty()


def test_the_studios_own_disk_is_full_while_runs_go_on(studio, hosts, measured):
    remote = Remote(studio, hosts, 1, "third", "~/.third")
    studio.wait_for(remote.submit(lines=1))
    ids = remote.running(remote.submit(lines=60, every=0.05) + remote.submit(count=2, lines=400, every=0.05))
    with sqlite3.connect(studio.data_dir / "studio.sqlite3") as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # or its log would hold room for many a transaction
    faults("fill", studio.data_dir.parent)
    try:
        # The first ends meanwhile, and the others go on printing: none of it has room here.
        until(lambda: remote.oracle.count("end", studio.control("uid", id=ids[0])), 30)
        sizes = [studio.control("size", id=pk) for pk in ids]
        time.sleep(4)  # the full disk is what is tested
        rows = studio.control("runs", ids=ids)
        assert [studio.control("size", id=pk) for pk in ids] == sizes, "there was room after all"
        assert all(row["status"] in {"Running", "Finalizing"} for row in rows), rows
        assert studio.up.poll() is None
    finally:
        faults("free", studio.data_dir.parent)
    began = time.monotonic()
    until(lambda: studio.control("size", id=ids[1]) > sizes[1], 30)
    studio.wait_for(ids[:1], seconds=40)
    measured["studio's disk was full: runs observed and ended after it has room"] = f"{time.monotonic() - began:.1f} s"
    until(studio.answers, 30)
    studio.wait_for(ids, seconds=60)
    remote.invariants.check(ids[:1], lines=60)
    remote.invariants.check(ids[1:], lines=400)
    later = remote.submit()
    studio.wait_for(later)
    remote.invariants.check(later)
    remote.empty()
