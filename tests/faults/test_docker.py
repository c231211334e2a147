"""Containers, their engine and the studio's workers are killed, frozen and taken away while runs execute in containers."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from environments.engine import Engine
from environments.host import Host, HostError
from environments.transports.ssh import SshTransport
from tests.environments.docker_engine import IMAGE, SCRIPT, engine_or_skip
from tests.environments.sshd import server
from tests.faults.containers import SlowEngine, container_of, containers, docker
from tests.faults.oracle import Oracle
from tests.waiting import until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]
STUBBORN = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    os.fork()
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def target(studio, place):
    engine_or_skip()
    mounts = [{"source": str(place), "target": str(place), "read_only": False}]
    return studio.control("docker_target", root=str(studio.data_dir.parent / "root"), slots=4, mounts=mounts)


@pytest.fixture
def oracle(place):
    return Oracle(Path(tempfile.mkdtemp(dir=place)))


@pytest.fixture
def begin(studio, target, oracle, invariants):
    """Submit runs of the oracle's script to the engine; at the end nothing of them is on it."""
    every = []

    def submit(count=1, on=target, **options):
        ids = studio.submit(oracle.folder, *oracle.arguments(**options), count=count, target=on)
        every.extend(ids)
        return ids

    yield submit
    attempts = [row["attempt"] for row in studio.control("runs", ids=every)]
    until(lambda: not [name for name in containers() if name.removeprefix("runstead-") in attempts], 20)


def running(studio, ids: list[int]) -> list[int]:
    """Wait until the runs have written something."""
    studio.wait_for(ids, {"Running"})
    until(lambda: all(studio.control("size", id=pk) for pk in ids), 30)
    return ids


def test_runs_in_containers_complete_with_everything_they_made(studio, begin, invariants):
    ids = begin(count=6)
    studio.wait_for(ids)
    invariants.check(ids)
    root = studio.data_dir.parent / "root"
    assert len(list((root / "builds").iterdir())) == 1, "the image was looked at once for all of them"
    until(lambda: not list((root / "runs").iterdir()), 20)


def test_workers_killed_in_every_phase_of_a_container(studio, begin, invariants):
    studio.wait_for(begin(lines=1))
    seen, every = set(), []
    for phase, later in [
        ("NotStarted", 0.0),
        ("NotStarted", 0.25),
        ("Queued", 0.0),
        ("Queued", 0.3),
        ("Running", 0.0),
        ("Running", 0.3),
    ]:
        until(lambda: studio.processes("house") and studio.control("attended"), 60)
        ids = begin(lines=20, every=0.03)
        studio.wait_for(ids[:1], {phase, "Running", "Finalizing", "Completed"})
        time.sleep(later)  # the moment of the kill is what is tested
        seen.add(studio.status(ids[0]))
        studio.kill_workers()
        every += ids
    studio.wait_for(every, seconds=120)
    invariants.check(every)
    assert len(seen) >= 3, f"the kills met too few phases: {seen}"


@pytest.mark.parametrize("how", [("rm", "-f"), ("kill",), ("stop", "-t", "1")], ids=["removed", "killed", "stopped"])
def test_a_container_ended_by_hand_fails_its_run_and_no_other(studio, begin, invariants, how):
    lost, kept = begin(lines=2000, every=0.05), begin(lines=60, every=0.05)
    running(studio, lost + kept)
    began = time.monotonic()
    docker(*how, container_of(studio, lost[0]))
    (row,) = studio.wait_for(lost, seconds=20)
    assert time.monotonic() - began < 8
    assert "killed on the target" in row["error"]["message"]
    studio.wait_for(kept)
    invariants.check(lost, status="Failed", reason="supervisor_lost", whole=False)
    invariants.check(kept, lines=60)


def test_a_paused_container_is_neither_failed_nor_started_again(studio, begin, invariants):
    ids = begin(lines=40, every=0.05)
    running(studio, ids)
    name = container_of(studio, ids[0])
    docker("pause", name)
    time.sleep(8)  # longer than any heartbeat's interval: the silence is what is tested
    assert studio.status(ids[0]) == "Running"
    docker("unpause", name)
    studio.wait_for(ids)
    invariants.check(ids, lines=40)


def test_cancel_ends_what_ignores_it_and_hides_inside_its_container(studio, target, tmp_path):
    (tmp_path / "train.py").write_text(STUBBORN)
    ids = studio.submit(tmp_path, target=target, grace_seconds=1)
    running(studio, ids)
    name = container_of(studio, ids[0])
    pids = docker("top", name, "-o", "pid").split()[1:]
    assert len(pids) == 4
    began = time.monotonic()
    assert studio.control("cancel", id=ids[0])
    (row,) = studio.wait_for(ids, seconds=20)
    assert (row["status"], row["reason"]) == ("Canceled", "canceled")
    assert time.monotonic() - began < 4
    until(lambda: name not in containers(), 20)
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_more_memory_than_it_asked_for_ends_a_run_and_says_so(studio, target, tmp_path):
    (tmp_path / "train.py").write_text("print('begun', flush=True)\nx = b'x' * (600 << 20)\n")
    ids = studio.submit(tmp_path, target=target, memory_bytes=128 << 20)
    (row,) = studio.wait_for(ids)
    assert (row["status"], row["reason"], row["log_complete"]) == ("Failed", "out_of_memory", True)


def based_on(name: str, label: str) -> str:
    """Make an image that differs from the usual one by a label; its id."""
    text = f"FROM {IMAGE}\nLABEL test={label}\n"
    argv = ["docker", "build", "-q", "-t", name, "-"]
    env = {**os.environ, "DOCKER_BUILDKIT": "0"}
    subprocess.run(argv, input=text.encode(), check=True, capture_output=True, env=env)
    return docker("images", "-q", "--no-trunc", name)


def test_an_image_that_was_taken_away_is_made_again_before_the_next_run(studio, begin, invariants, place):
    name = "runstead-test/base:1"
    mounts = [{"source": str(place), "target": str(place), "read_only": False}]
    root = str(studio.data_dir.parent / "images")
    on = studio.control("docker_target", root=root, name="images", base_image=name, mounts=mounts)
    try:
        first = based_on(name, "one")
        ids = begin(on=on)
        studio.wait_for(ids)
        until(lambda: container_of(studio, ids[0]) not in containers(), 20)
        docker("rmi", name)
        assert based_on(name, "two") != first
        ids += begin(on=on)
        studio.wait_for(ids)
        invariants.check(ids)
        until(lambda: container_of(studio, ids[1]) not in containers(), 20)
        docker("rmi", name)
        (lost,) = studio.wait_for(begin(on=on))
        assert lost["reason"] == "environment_failed"
        assert f"{name} was not pulled" in lost["error"]["message"]
    finally:
        subprocess.run(["docker", "rmi", "-f", name], check=False, capture_output=True)


def test_a_container_that_is_made_after_its_run_was_given_up_goes_too(studio, begin, tmp_path):
    """Asked to remove it, the engine knew none: it was still making it."""
    folder = Path(tempfile.mkdtemp(prefix="rs-engine-"))  # a socket's path must be short
    with SlowEngine(folder / "docker.sock") as engine:
        on = studio.control("docker_target", root=str(tmp_path / "root"), name="slow", socket=str(engine.path))
        [first] = begin(on=on, lines=1)  # from here on the image is known
        until(lambda: studio.run(first)["cleaned_at"], 30)
        engine.slow.set()
        [unwanted] = begin(on=on, lines=4000, every=0.05)
        assert engine.asked.wait(20)
        assert studio.control("cancel", id=unwanted)
        studio.wait_for([unwanted], seconds=20)
        assert studio.status(unwanted) == "Canceled"
        assert engine.made.wait(20)
        until(lambda: container_of(studio, unwanted) not in containers(), 20)
    shutil.rmtree(folder)


class OwnEngine:
    """An engine that may be killed: everybody's stays as it is. It has no bridge, and so its containers no network."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "docker.sock"
        self.host = f"unix://{self.socket}"
        self.state = folder / "infra"
        self.env = {
            **os.environ, "INFRA_STATE": str(self.state), "DOCKER_HOST": self.host, "DOCKER_DATA": str(folder / "data"),
        }  # fmt: skip
        (self.state / "docker").mkdir(parents=True)

    def start(self, *options: str) -> None:
        """In a network of its own: an engine without a bridge takes away the one that it finds, everybody's. Not by the script,
        which clears away what an engine that was killed has left running."""
        argv = [
            "unshare", "--net", "/usr/sbin/dockerd", "-H", self.host, "--data-root", self.env["DOCKER_DATA"],
            "--exec-root", f"{self.state}/docker/exec", "--pidfile", f"{self.state}/docker/dockerd.pid", "--bridge=none",
            "--iptables=false", *options,
        ]  # fmt: skip
        with (self.state / "docker" / "own.log").open("ab") as log:
            self.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        version = ["docker", "-H", self.host, "version"]
        until(lambda: subprocess.run(version, capture_output=True, check=False).returncode == 0, 60)

    def load(self) -> None:
        """Give it the image."""
        with subprocess.Popen(["docker", "save", IMAGE], stdout=subprocess.PIPE) as saved:
            load = ["docker", "-H", self.host, "load"]
            subprocess.run(load, stdin=saved.stdout, check=True, capture_output=True)

    def end(self, number: int) -> None:
        """Signal the engine and wait until it is gone. Killed, it leaves its containers running."""
        self.process.send_signal(number)
        self.process.wait(timeout=60)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.end(signal.SIGTERM)
        subprocess.run([SCRIPT, "stop"], env=self.env, check=True, capture_output=True)


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    engine_or_skip()
    folder = Path(tempfile.mkdtemp(prefix="rs-engine-"))  # a socket's path must be short
    own = OwnEngine(folder)
    bridges = docker("network", "ls", "-q")
    own.start()
    own.load()
    yield own
    own.stop()
    assert docker("network", "ls", "-q") == bridges
    assert Path("/sys/class/net/docker0").exists(), "the engine of these tests took away everybody's bridge"
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def fragile(studio, place, engine):
    mounts = [{"source": str(place), "target": str(place), "read_only": False}]
    root = str(studio.data_dir.parent / "fragile")
    docker = {"socket": str(engine.socket), "network": "none", "mounts": mounts}
    return studio.control("docker_target", root=root, slots=4, name="fragile", **docker)


def test_an_engine_that_is_killed_and_started_again(studio, begin, invariants, fragile, engine):
    """Its containers go on until it comes back, which ends them. What is to be started meanwhile waits, and is started once."""
    short, long = begin(on=fragile, count=3, lines=80, every=0.05), begin(on=fragile, lines=4000, every=0.05)
    running(studio, short + long)
    [unwanted] = begin(on=fragile)  # laid out, it gets its slot when the engine is gone
    studio.wait_for([unwanted], {"Queued"})
    engine.end(signal.SIGKILL)
    waiting = begin(on=fragile, count=2)
    studio.wait_for(short)  # an engine that is gone takes no script with it
    invariants.check(short, lines=80)
    waits_for(studio, waiting, "The Docker engine does not answer")
    until(lambda: studio.run(unwanted)["launched"], 10)
    studio.control("cancel", id=unwanted)
    studio.wait_for([unwanted], seconds=5)  # nobody is kept from giving up what waits for the engine
    assert studio.status(unwanted) == "Canceled"
    time.sleep(25)  # longer than all tries of a launch that is refused: the waiting is what is tested
    assert {studio.status(pk) for pk in waiting} <= {"Preparing", "Queued"}
    assert studio.status(long[0]) == "Running"
    engine.start()
    studio.wait_for(long + waiting, seconds=90)
    invariants.check(waiting)
    invariants.check(long, status="Failed", reason="supervisor_lost", whole=False)
    until(lambda: containers(engine.host) == [], 60)


def test_an_engine_that_is_restarted_in_order_and_keeps_its_containers(studio, begin, invariants, fragile, engine):
    engine.end(signal.SIGTERM)
    engine.start("--live-restore")
    ids = begin(on=fragile, lines=300, every=0.05)
    running(studio, ids)
    engine.end(signal.SIGTERM)
    engine.start("--live-restore")
    studio.wait_for(ids, seconds=60)
    invariants.check(ids, lines=300)
    until(lambda: containers(engine.host) == [], 60)


def waits_for(studio, ids: list[int], text: str) -> None:
    until(
        lambda: all(text in (studio.run(pk)["waiting_for"] or "") for pk in ids), 30, what=f"the runs to say {text!r}"
    )


@pytest.fixture(scope="module")
def remote(studio, place, tmp_path_factory):
    """The engine as a user of another machine reaches it: over SSH alone, as a member of its group."""
    engine_or_skip()
    state = Path(tempfile.mkdtemp(prefix="rs-sshd-"))
    with server(state, 2287, "dockerhost") as sshd:
        mounts = [{"source": str(place), "target": str(place), "read_only": False}]
        options = {**sshd.options(), "docker": {"base_image": IMAGE, "mounts": mounts}}
        credentials = {"private_key": sshd.private_key}
        fields = {"launcher": "docker", "credentials": credentials, "slots": 4, **options}
        yield sshd, studio.control("ssh_target", name="remote-docker", **fields)


def test_an_engine_behind_ssh_that_the_user_may_not_ask_says_what_to_do(remote):
    sshd, _ = remote
    subprocess.run(["gpasswd", "-d", sshd.user, "docker"], check=False, capture_output=True)
    options, credentials = sshd.options(), {"private_key": sshd.private_key}
    with Host(SshTransport(options, credentials), options["root"]) as host:
        with pytest.raises(HostError, match="Add the user to the group docker") as error:
            Engine(host, options).version()
        assert (error.value.code, error.value.permanent) == ("engine_denied", True)


def test_runs_in_containers_behind_ssh_complete_with_everything_they_made(studio, remote, begin, oracle, invariants):
    sshd, target = remote
    subprocess.run(["usermod", "-aG", "docker", sshd.user], check=True)
    oracle.path.chmod(0o666)
    oracle.path.parent.chmod(0o755)
    ids = begin(on=target, count=3, lines=60, every=0.05)
    running(studio, ids)
    studio.kill_workers()
    studio.wait_for(ids)
    invariants.check(ids, lines=60)
    until(lambda: not list((sshd.home / ".runstead" / "runs").iterdir()), 20)
