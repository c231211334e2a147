"""Runs in containers, here and behind SSH at once: cancelled at any moment, while workers, queue, link and disk fail."""

import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from redis import Redis

from tests.environments.docker_engine import IMAGE, engine_or_skip
from tests.environments.sshd import server
from tests.faults.conftest import Invariants
from tests.faults.containers import containers
from tests.faults.hosts import INFRA
from tests.faults.oracle import Oracle
from tests.faults.test_disks import LOUD
from tests.live import Studio
from tests.waiting import until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]
CANCELED = {("Canceled", "canceled")}


class Fleet:
    """The same runs on each of some targets; the scripts of all note what they do in one place."""

    def __init__(self, studio: Studio, roots: dict[str, Path], oracle: Oracle) -> None:
        self.studio, self.roots, self.oracle = studio, roots, oracle
        self.invariants = Invariants(studio, oracle)
        self.attempts: set[str] = set()

    def submit(self, count: int = 1, **arguments: float) -> list[int]:
        words = self.oracle.arguments(**arguments)
        ids = []
        for target in self.roots:
            ids += self.studio.submit(self.oracle.folder, *words, count=count, target=target, grace_seconds=1)
        return ids

    def running(self, ids: list[int]) -> list[int]:
        """Wait until each of these has printed something that the studio has."""
        self.studio.wait_for(ids, {"Running"})
        until(lambda: all(self.studio.control("size", id=pk) for pk in ids), 30)
        return ids

    def canceled(self, ids: list[int], seconds: float = 30) -> None:
        rows = self.studio.wait_for(ids, seconds=seconds)
        assert {(row["status"], row["reason"]) for row in rows} == CANCELED, rows
        self.started_once(ids)

    def started_once(self, ids: list[int]) -> None:
        """Or not at all."""
        starts = {pk: self.oracle.count("start", self.studio.control("uid", id=pk)) for pk in ids}
        assert set(starts.values()) <= {0, 1}, starts

    def empty(self) -> None:
        """No container of a run is left, no directory, and so no process: each was in a container."""
        attempts = {row["attempt"] for row in self.studio.control("runs")}
        until(
            lambda: not {name.removeprefix("runstead-") for name in containers()} & attempts, 20, what="containers stay"
        )
        for root in self.roots.values():
            until(lambda: not list((root / "runs").iterdir()), 20, what=f"directories stay in {root}")  # noqa: B023


@pytest.fixture(scope="module")
def sshd():
    """The engine as a user of another machine reaches it."""
    engine_or_skip()
    state = Path(tempfile.mkdtemp(prefix="rs-sshd-"))
    with server(state, 2288, "dockerfar") as found:
        subprocess.run(["usermod", "-aG", "docker", found.user], check=True)
        yield found
        fault("heal", found)


@pytest.fixture(scope="module")
def roots(studio, place, sshd):
    """Both targets, by name."""
    docker = {"base_image": IMAGE, "mounts": [{"source": str(place), "target": str(place), "read_only": False}]}
    here = studio.data_dir.parent / "root"
    studio.control("docker_target", name="here", root=str(here), slots=4, **docker)
    studio.control(
        "ssh_target", name="there", launcher="docker", slots=4, credentials={"private_key": sshd.private_key},
        **{**sshd.options(), "docker": docker},
    )  # fmt: skip
    return {"here": here, "there": sshd.home / ".runstead"}


@pytest.fixture
def oracle(place):
    found = Oracle(Path(tempfile.mkdtemp(dir=place)), 0o666)
    found.path.parent.chmod(0o755)
    return found


@pytest.fixture
def fleet(studio, roots, oracle):
    made = Fleet(studio, roots, oracle)
    studio.wait_for(made.submit(lines=1))  # from here on somebody attends, and the image is known
    yield made
    made.empty()


@pytest.fixture
def far(studio, roots, oracle):
    made = Fleet(studio, {"there": roots["there"]}, oracle)
    studio.wait_for(made.submit(lines=1))
    yield made
    made.empty()


def fault(what: str, sshd, *words: object) -> None:
    argv = [str(INFRA / "faults.sh"), what, sshd.host, str(sshd.port), *map(str, words)]
    subprocess.run(argv, check=True, capture_output=True)


# -- cancelled


@pytest.mark.parametrize("phase", ["NotStarted", "Preparing", "Queued", "Running"])
def test_cancelled_in_every_phase(studio, fleet, phase):
    blockers = fleet.running(fleet.submit(count=4, lines=4000, every=0.05)) if phase == "Queued" else []
    ids = fleet.submit(lines=4000, every=0.05)
    if phase == "Preparing":
        studio.wait_for(ids, {"Preparing", "Queued", "Running"})
    elif phase != "NotStarted":
        studio.wait_for(ids, {phase})
    for pk in ids + blockers:
        assert studio.control("cancel", id=pk)
    fleet.canceled(ids + blockers)


def test_cancelled_at_thirty_moments_between_submit_and_end(studio, fleet):
    """Each is cancelled, or was over before; nobody is left, whatever the moment."""
    every = []
    for step in range(30):
        ids = fleet.submit(lines=10, every=0.02)
        time.sleep(step * 0.04)  # the moment is what is tested
        every += [pk for pk in ids if studio.control("cancel", id=pk)]
    rows = studio.wait_for(every, seconds=90)
    assert {(row["status"], row["reason"]) for row in rows} <= {*CANCELED, ("Completed", "exited")}
    fleet.started_once(every)


# -- studio and link fail


def test_all_workers_down_for_twenty_seconds(studio, fleet):
    lasting, short = fleet.submit(lines=320, every=0.1), fleet.submit(lines=60, every=0.05)
    unwanted = fleet.running(fleet.submit(lines=4000, every=0.05))
    fleet.running(lasting)
    waiting = fleet.submit(count=3)
    studio.up.send_signal(signal.SIGSTOP)  # nobody starts them again
    try:
        studio.kill_workers()
        for pk in unwanted:
            assert studio.control("cancel", id=pk)
        time.sleep(20)  # the outage is what is tested
    finally:
        studio.up.send_signal(signal.SIGCONT)
    fleet.canceled(unwanted)
    studio.wait_for(lasting + short + waiting)
    fleet.invariants.check(lasting, lines=320)
    fleet.invariants.check(short, lines=60)
    fleet.invariants.check(waiting)


def test_queue_flushed_with_runs_in_every_phase(studio, fleet):
    ids = fleet.submit(count=6, lines=20, every=0.1)
    until(lambda: any(row["status"] == "Running" for row in studio.control("runs", ids=ids)), 30)
    password = (studio.data_dir / "keys" / "doorbell").read_text()
    Redis(unix_socket_path=str(studio.data_dir / "doorbell" / "valkey.sock"), password=password).flushall()
    studio.wait_for(ids, seconds=90)
    fleet.invariants.check(ids)


@pytest.mark.parametrize(
    ("seconds", "later"), [(2, 0.05), (12, 0.15), (4, 0.4), pytest.param(35, 0.6, marks=pytest.mark.long)]
)
def test_the_link_to_an_engine_is_cut_while_runs_are_launched_on_it(studio, far, sshd, seconds, later):
    ids = far.submit(count=3, lines=40, every=0.05)
    unwanted = far.submit(lines=4000, every=0.05)
    time.sleep(later)  # the moment of the cut is what is tested
    fault("cut", sshd)
    try:
        assert studio.control("cancel", id=unwanted[0])
        time.sleep(seconds)  # the outage is what is tested
        assert not any(row["status"] == "Failed" for row in studio.control("runs", ids=ids + unwanted))
    finally:
        fault("heal", sshd)
    far.canceled(unwanted, seconds=60)
    studio.wait_for(ids)
    far.invariants.check(ids, lines=40)


# -- no room


def test_a_full_disk_of_an_engines_target_is_named_and_it_is_of_use_again_when_it_is_not(studio, place, oracle):
    engine_or_skip()
    if os.geteuid():
        (pytest.fail if os.environ.get("CI") else pytest.skip)("Mounting a small disk needs root.")
    disk = place / "disk"
    faults = [str(INFRA / "faults.sh")]
    subprocess.run([*faults, "disk", disk, "10"], check=True)
    try:
        mounts = [{"source": str(place), "target": str(place), "read_only": False}]
        studio.control("docker_target", name="small", root=str(disk / "root"), slots=2, mounts=mounts)
        small = Fleet(studio, {"small": disk / "root"}, oracle)
        kept = (oracle.folder / "train.py").read_text()
        (oracle.folder / "train.py").write_text(LOUD)
        [loud] = small.submit()
        (row,) = studio.wait_for([loud])
        record = row["final"]
        assert row["status"] in {"Completed", "Failed"}, row
        assert record["log"]["lost"] > 5_000_000, record  # the gap is known, to the byte
        assert record["log"]["total"] == 400 * 50_010 + 5
        stored = studio.control("log", id=loud)
        assert (stored["size"], stored["sha256"]) == (record["log"]["bytes"], record["log"]["sha256"])
        small.started_once([loud])
        until(lambda: studio.run(loud)["cleaned_at"], 20)  # or its log makes room for the next
        (oracle.folder / "train.py").write_text(kept)
        subprocess.run([*faults, "fill", disk], check=True)
        (row,) = studio.wait_for(small.submit(lines=5))
        assert (row["status"], row["reason"]) == ("Failed", "disk_full"), row
        assert row["error"]["message"]
        subprocess.run([*faults, "free", disk], check=True)
        last = small.submit(lines=5)
        studio.wait_for(last)
        small.invariants.check(last, lines=5)
        attempts = {row["attempt"] for row in studio.control("runs")}
        until(lambda: not {name.removeprefix("runstead-") for name in containers()} & attempts, 20)
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
