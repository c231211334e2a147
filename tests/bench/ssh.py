"""A target over SSH: submit to first line, a hundred runs, a project shipped beside what rsync needs, many live logs."""

import os
import random
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.bench.report import Lacking, Report, cpu_seconds
from tests.bench.runs import TRIVIAL, project
from tests.bench.snapshots import make_project
from tests.live import Studio
from tests.waiting import until

INFRA = Path(__file__).resolve().parent.parent / "infra"
STATE = Path("/tmp/runstead-bench-ssh")
REPEAT = 25
SHIPPED = 2
LIVE = 200
LOGGING = """
import os, sys, time
while not os.path.exists(sys.argv[1]):
    print(repr(time.time()), flush=True)
    time.sleep(1)
"""
# What OpenSSH takes by itself: many live runs must not need a server that was told to expect them.
LIMITS = "MaxStartups 10:30:100\nMaxSessions 10"
ENV = {**os.environ, "INFRA_STATE": str(STATE), "SSH_PORT": "2371", "SSH_USER": "rsbench", "SSH_EXTRA": LIMITS}


def measure(report: Report, folder: Path) -> None:
    with server() as facts:
        studio = Studio(folder / "data").start()
        try:
            attach(studio, facts, os.cpu_count() or 2)
            one_by_one(report, studio, folder)
            hundred(report, studio, folder)
            shipping(report, studio, folder, facts)
            live_logs(report, studio, folder, facts["SSH_1_USER"])
        finally:
            studio.stop()


@contextmanager
def server() -> Iterator[dict[str, str]]:
    """What there is to know of an SSH server that runs meanwhile. Raises Lacking where none can be started."""
    started = subprocess.run([INFRA / "sshd.sh", "start"], env=ENV, capture_output=True, text=True, check=False)
    if started.returncode:
        raise Lacking(started.stderr.strip() or "an SSH server could not be started")
    try:
        yield dict(word.split("=", 1) for word in shlex.split(started.stdout))
    finally:
        subprocess.run([INFRA / "sshd.sh", "stop"], env=ENV, check=False, capture_output=True)


def attach(studio: Studio, facts: dict[str, str], slots: int) -> None:
    """Make that server the target ``remote``."""
    studio.control(
        "ssh_target", name="remote", slots=slots, credentials={"private_key": Path(facts["SSH_KEY"]).read_text()},
        ssh={
            "host": facts["SSH_1_HOST"], "port": int(facts["SSH_1_PORT"]), "user": facts["SSH_1_USER"],
            "host_key": facts["SSH_1_KNOWN_HOSTS_LINE"].split(" ", 1)[1], "jump": None,
        },
    )  # fmt: skip


def one_by_one(report: Report, studio: Studio, folder: Path) -> None:
    place = project(folder, "trivial-ssh", TRIVIAL)
    studio.wait_for(studio.submit(place, target="remote"), seconds=120)
    first = []
    before = cpu_seconds(studio.up.pid)
    for _ in range(REPEAT):
        began = time.time()
        ids = studio.submit(place, target="remote")
        studio.wait_for(ids)
        first.append((float(studio.control("text", id=ids[0])) - began) * 1000)
    cpu = (cpu_seconds(studio.up.pid) - before) / REPEAT
    report.add("SSH: submit → first line", "ms", first, goal="≤ 500", cpu=cpu)


def hundred(report: Report, studio: Studio, folder: Path) -> None:
    place = project(folder, "hundred-ssh", TRIVIAL)
    rates = []
    for _ in range(3):
        began = time.monotonic()
        studio.wait_for(studio.submit(place, count=100, target="remote"), seconds=240)
        rates.append(100 / (time.monotonic() - began))
    report.add("SSH: 100 trivial runs at once", "runs/s", rates)


def shipping(report: Report, studio: Studio, folder: Path, facts: dict[str, str]) -> None:
    """Who goes first alternates, because the second meets a disk that is still busy with the first. Both begin with the folder here, and end with its
    contents there."""
    home = Path(facts["SSH_1_HOME"])
    ssh = f"ssh -i {facts['SSH_KEY']} -o UserKnownHostsFile={facts['SSH_KNOWN_HOSTS']} -p {facts['SSH_1_PORT']}"
    there = f"{facts['SSH_1_USER']}@{facts['SSH_1_HOST']}:copy/"
    figures: dict[str, list[float]] = {}

    def rsync(place: Path) -> float:
        began = time.monotonic()
        subprocess.run(["rsync", "-a", "-e", ssh, f"{place}/", there], check=True)
        return time.monotonic() - began

    def ship(place: Path) -> dict[str, float]:
        return studio.control("timed_ship", folder=str(place), target="remote")

    for seed in range(SHIPPED):
        place = make_project(folder, seed)
        changed = place / "package_050" / "module_050.py"
        for turn in ("first", "after one changed file"):
            if turn != "first":
                changed.write_bytes(random.Random(seed).randbytes(5000))
            if seed % 2:
                theirs, ours = rsync(place), ship(place)
            else:
                ours, theirs = ship(place), rsync(place)
            figures.setdefault(f"rsync -a -e ssh, {turn}", []).append(theirs)
            figures.setdefault(f"shipped, {turn}", []).append(ours["ship"])
            figures.setdefault(f"scanned, stored and shipped, {turn}", []).append(ours["snapshot"] + ours["ship"])
            figures.setdefault(f"laid out as a run's folder, {turn}", []).append(ours["lay_out"])
        shutil.rmtree(home / "copy")
        shutil.rmtree(place)
    for name, values in figures.items():
        goal = "< rsync" if name.startswith("shipped") else ""
        report.add(f"SSH: 10,000 files + 200 MB {name}", "s", values, goal=goal)


def live_logs(report: Report, studio: Studio, folder: Path, user: str) -> None:
    """How long after a script printed a line a reader of the studio's rows has it, with all runs live at once, and how many
    connections it took."""
    place = project(folder, "logging-ssh", LOGGING)
    enough = STATE / "enough"
    enough.unlink(missing_ok=True)
    studio.control("slots", count=LIVE, name="remote")
    ids = studio.submit(place, str(enough), count=LIVE, target="remote")
    try:
        until(lambda: all(r["status"] == "Running" for r in studio.control("runs", ids=ids)), 300, every=0.5)
        delays = studio.control("log_delays", ids=ids, seconds=10)
        report.add(
            f"SSH: print → visible, {LIVE} live runs, a server with its own limits", "ms", delays, goal="p95 ≤ 1000"
        )
        report.add("the same, connections", "", [connections(user)], goal="1")
    finally:
        enough.touch()
        studio.wait_for(ids, seconds=600)


def connections(user: str) -> int:
    """Processes of the SSH server that serve somebody: one for each connection, as its user."""
    found = 0
    for process in psutil.process_iter(["name", "username"]):
        found += process.info["username"] == user and process.info["name"].startswith("sshd")
    return found
