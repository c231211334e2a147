"""How soon the studio knows what became of a run, here, over SSH and in containers, and what runs that say nothing cost there."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.bench.report import Report
from tests.bench.runs import project
from tests.bench.ssh import INFRA, attach, server
from tests.environments.docker_engine import SCRIPT
from tests.live import FINAL, Studio
from tests.waiting import until

REPEAT = 5
IDLE = 50
GRACE = 1
SECONDS = 10
TALKING = "import time\nwhile True:\n    print(time.time(), flush=True)\n    time.sleep(0.05)\n"
STUBBORN = (
    "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('ready', flush=True)\ntime.sleep(600)\n"
)


@dataclass
class Place:
    """A target, and how its processes are found on this machine, which is all targets of the benchmark."""

    label: str
    target: str
    root: Path
    supervisor: Callable[[str], int]
    """Attempt → pid."""
    user: str = ""
    """Whose the processes are, where nobody else's are his."""

    def script(self, attempt: str) -> psutil.Process:
        return psutil.Process(self.supervisor(attempt)).children()[0]

    def attending(self) -> list[psutil.Process]:
        """The agent and the supervisors: what is there because of the studio."""
        found = []
        for process in psutil.process_iter(["name", "username", "cmdline"]):
            words = process.info["cmdline"] or []
            if self.user:
                name = process.info["name"]
                ours = process.info["username"] == self.user and name != "sleep" and not name.startswith("sshd")
            else:
                ours = "-I" in words[:4] and str(self.root) in words
            if ours:
                found.append(process)
        return found


def measure(report: Report, folder: Path) -> None:
    studio = Studio(folder / "data").start()
    try:
        with server() as facts:
            places = [Place("here", "local", studio.data_dir / "local", claimed(studio.data_dir / "local"))]
            attach(studio, facts, IDLE)
            root = Path(facts["SSH_1_HOME"]) / ".runstead"
            places.append(Place("SSH", "remote", root, claimed(root), facts["SSH_1_USER"]))
            places += containers(studio, folder / "root")
            for place in places:
                studio.control("slots", count=IDLE, name=place.target)
                readopted(report, studio, folder, place)
                dead_script(report, studio, folder, place)
                canceled(report, studio, folder, place)
                idle(report, studio, folder, place)
            unreachable(report, studio, folder, facts)
    finally:
        studio.stop()


def containers(studio: Studio, root: Path) -> list[Place]:
    """A target on the engine, where there is one."""
    started = subprocess.run([SCRIPT, "start"], capture_output=True, text=True, check=False)
    if started.returncode:
        print(f"  not measured in containers: {started.stderr.strip() or 'no engine could be started'}")
        return []
    studio.control("docker_target", root=str(root), slots=IDLE)

    def main_process(attempt: str) -> int:
        argv = ["docker", "inspect", "-f", "{{.State.Pid}}", f"runstead-{attempt}"]
        return int(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)

    return [Place("Docker", "docker", root, main_process)]


def claimed(root: Path) -> Callable[[str], int]:
    """Who has claimed an attempt, by the record that it left."""
    return lambda attempt: json.loads((root / "runs" / attempt / "claim/owner.json").read_text())["pid"]


def running(studio: Studio, place: Path, target: str, count: int = 1) -> list[int]:
    """Runs of a project that have printed something, which the studio has."""
    ids = studio.submit(place, count=count, target=target, grace_seconds=GRACE)
    studio.wait_for(ids, {"Running"}, seconds=120)
    until(lambda: all(studio.control("size", id=pk) for pk in ids), 30)
    return ids


def end(studio: Studio, ids: list[int]) -> None:
    for pk in ids:
        studio.control("cancel", id=pk)
    studio.wait_for(ids, seconds=120)


def readopted(report: Report, studio: Studio, folder: Path, place: Place) -> None:
    """All workers are killed, and nobody starts new ones for a second; then from the first of them on until new lines of all runs
    are there."""
    ids = running(studio, project(folder, f"talking-{place.label}", TALKING), place.target, 4)
    seconds = []
    for _ in range(REPEAT):
        assert studio.up is not None
        studio.up.send_signal(signal.SIGSTOP)
        studio.kill_workers()
        time.sleep(1)  # who comes next finds something to read
        sizes = {pk: studio.control("size", id=pk) for pk in ids}
        studio.up.send_signal(signal.SIGCONT)
        until(lambda: studio.processes("worker"), 60)  # killed again and again, they are started again later each time
        began = time.monotonic()
        until(lambda: all(studio.control("size", id=pk) > size for pk, size in sizes.items()), 60)  # noqa: B023
        seconds.append(time.monotonic() - began)
    end(studio, ids)
    report.add(f"{place.label}: workers killed and back → runs re-adopted", "s", seconds, goal="≤ 5")


def dead_script(report: Report, studio: Studio, folder: Path, place: Place) -> None:
    ids = running(studio, project(folder, f"dying-{place.label}", TALKING), place.target, REPEAT)
    seconds = []
    for pk in ids:
        script = place.script(studio.run(pk)["attempt"])
        began = time.monotonic()
        script.kill()
        until(lambda: studio.status(pk) in {"Finalizing", *FINAL}, 60, every=0.01)  # noqa: B023
        seconds.append(time.monotonic() - began)
    studio.wait_for(ids)
    report.add(f"{place.label}: script killed → seen", "s", seconds, goal="≤ 2")


def canceled(report: Report, studio: Studio, folder: Path, place: Place) -> None:
    """Of a script that does not obey, beyond the grace that it was given."""
    seconds = []
    for pk in running(studio, project(folder, f"stubborn-{place.label}", STUBBORN), place.target, REPEAT):
        began = time.monotonic()
        assert studio.control("cancel", id=pk)
        until(lambda: studio.status(pk) in FINAL, 60, every=0.01)  # noqa: B023
        seconds.append(time.monotonic() - began - GRACE)
    report.add(f"{place.label}: cancel → over, beyond the grace", "s", seconds, goal="≤ 2")


def idle(report: Report, studio: Studio, folder: Path, place: Place) -> None:
    """The agent and the supervisors of runs that only wait."""
    quiet = {"script": "", "framework": "command", "command": ["/bin/sleep", "1234"], "grace_seconds": GRACE}
    ids = studio.submit(folder / f"stubborn-{place.label}", count=IDLE, target=place.target, **quiet)
    try:
        studio.wait_for(ids, {"Running"}, seconds=300)
        time.sleep(15)  # the starts are over, and it shows that the runs are quiet
        processes = place.attending()
        assert len(processes) > IDLE, processes
        shares = []
        for _ in range(3):
            before, began = spent(processes), time.monotonic()
            time.sleep(SECONDS)
            shares.append(100 * (spent(processes) - before) / (time.monotonic() - began))
    finally:
        end(studio, ids)
    report.add(f"{place.label}: {IDLE} quiet runs, agent and supervisors", "% of a core", shares, goal="< 1")


def spent(processes: list[psutil.Process]) -> float:
    """Seconds of processor that these have used, by the scheduler's own clock: what wakes for a quarter of a millisecond is
    mostly missed, or counted for too much, where the kernel counts ticks."""
    total = 0
    for process in processes:
        for path in Path(f"/proc/{process.pid}/task").glob("*/schedstat"):
            total += int(path.read_text().split()[0])
    return total / 1e9


def unreachable(report: Report, studio: Studio, folder: Path, facts: dict[str, str]) -> None:
    """The link is cut while a run talks."""
    if os.geteuid():
        print("  not measured: cutting a link needs root")
        return
    ids = running(studio, project(folder, "cut-off", TALKING), "remote")
    seconds = []

    def fault(what: str) -> None:
        subprocess.run(
            [INFRA / "faults.sh", what, facts["SSH_1_HOST"], facts["SSH_1_PORT"]], check=True, capture_output=True
        )

    def shown() -> bool:
        return bool(studio.control("health", name="remote")["unreachable_since"])

    try:
        for _ in range(3):
            fault("cut")
            began = time.monotonic()
            until(shown, 60)
            seconds.append(time.monotonic() - began)
            fault("heal")
            until(lambda: not shown(), 60)
    finally:
        fault("heal")
        end(studio, ids)
    report.add("SSH: link cut → shown as unreachable", "s", seconds, goal="≤ 15")
