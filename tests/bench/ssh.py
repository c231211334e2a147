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
    """From a folder here to the first line that its script prints there: submitted, and by rsync with ssh python3 behind it. Who goes first
    alternates, because the second meets a disk that is still busy with the first. "At once" is without a tree laid out ahead."""
    home = Path(facts["SSH_1_HOME"])
    options = [
        "-i",
        facts["SSH_KEY"],
        "-o",
        f"UserKnownHostsFile={facts['SSH_KNOWN_HOSTS']}",
        "-p",
        facts["SSH_1_PORT"],
    ]
    there = f"{facts['SSH_1_USER']}@{facts['SSH_1_HOST']}"
    figures: dict[str, list[float]] = {}

    def note(name: str, turn: str, seconds: float) -> None:
        figures.setdefault(f"{name}, {turn}", []).append(seconds)

    def by_rsync(place: Path, turn: str) -> None:
        began = time.time()
        subprocess.run(["rsync", "-a", "-e", shlex.join(["ssh", *options]), f"{place}/", f"{there}:copy/"], check=True)
        note("rsync -a -e ssh alone", turn, time.time() - began)
        argv = ["ssh", *options, there, "cd copy && python3 train.py"]
        said = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
        note("rsync, ssh python3 → first line", turn, float(said) - began)

    def submitted(place: Path, turn: str) -> None:
        began = time.time()
        ids = studio.submit(place, target="remote")
        studio.wait_for(ids, seconds=300)
        note("submit → first line", turn, float(studio.control("text", id=ids[0])) - began)

    def parts(place: Path, turn: str) -> None:
        found = studio.control("timed_ship", folder=str(place), target="remote")
        note("scanned and stored", turn, found["snapshot"])
        note("shipped", turn, found["ship"])
        note("laid out as a run's folder", turn, found["lay_out"])

    def spare_is_made() -> bool:
        names = [path.name for path in (home / ".runstead" / "spares").iterdir()]
        return any(len(name) == 64 for name in names) and not any(name.startswith(".new-") for name in names)

    for seed in range(SHIPPED):
        place = make_project(folder, seed)
        (place / "train.py").write_text(TRIVIAL)
        changed, rng = place / "package_050" / "module_050.py", random.Random(seed)
        for turn in ("first", "after one changed file", "after another, at once"):
            if turn != "first":
                changed.write_bytes(rng.randbytes(5000))
            if turn == "after one changed file":
                until(spare_is_made, 120)  # it takes less than a person who edits a file
            for way in (by_rsync, submitted) if seed % 2 else (submitted, by_rsync):
                way(place, turn)
        changed.write_bytes(rng.randbytes(5000))
        until(spare_is_made, 120)
        parts(place, "after one changed file")
        shutil.rmtree(home / "copy")
        shutil.rmtree(place)
        other = make_project(folder, SHIPPED + seed)
        parts(other, "first")
        shutil.rmtree(other)
    for name, values in figures.items():
        goal = "< rsync" if name.startswith(("submit", "shipped")) and not name.endswith("at once") else ""
        report.add(f"SSH: 10,000 files + 200 MB: {name}", "s", values, goal=goal)


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
