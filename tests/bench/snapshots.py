"""A project of 10,000 files and 200 MB becomes a snapshot, first and after one changed file, from Python in process."""

import random
import subprocess
import sys
from pathlib import Path

from tests.bench.report import Report, cpu_seconds
from tests.live import ROOT, Control, Studio

REPEAT = 3


def make_project(folder: Path, seed: int) -> Path:
    """10,000 files of 1–16 KiB in 100 folders, and one of 200 MB; other bytes for each seed."""
    rng = random.Random(seed)
    project = folder / f"project-{seed}"
    for number in range(100):
        place = project / f"package_{number:03d}"
        place.mkdir(parents=True)
        for file in range(100):
            (place / f"module_{file:03d}.py").write_bytes(rng.randbytes(rng.randrange(1024, 16384)))
    with (project / "weights.bin").open("wb") as file:
        for _ in range(200):
            file.write(rng.randbytes(1_000_000))
    return project


def measure(report: Report, folder: Path) -> None:
    # Only the rows and the blob store are needed: nothing of the studio runs.
    studio = Studio(folder / "data")
    studio.data_dir.mkdir(mode=0o700)
    env = {**studio.env, "XDG_CACHE_HOME": str(folder / "cache")}
    for command in (["migrate", "-v0"], ["first_start"]):
        subprocess.run(
            [sys.executable, "manage.py", *command], cwd=ROOT, env=env, check=True, stdout=subprocess.DEVNULL
        )
    control = Control(env)
    first, changed, sent, costs, costs_changed = [], [], [], [], []
    try:
        for seed in range(REPEAT):
            project = make_project(folder, seed)
            before = cpu_seconds(control.process.pid)
            first.append(control("timed_snapshot", folder=str(project))["seconds"])
            costs.append(cpu_seconds(control.process.pid) - before)
            for number in range(REPEAT):
                (project / "package_050" / "module_050.py").write_bytes(
                    random.Random(seed * 10 + number).randbytes(5000)
                )
                before = cpu_seconds(control.process.pid)
                result = control("timed_snapshot", folder=str(project))
                costs_changed.append(cpu_seconds(control.process.pid) - before)
                changed.append(result["seconds"])
                sent.append(result["stored"])
    finally:
        control.close()
    report.add("snapshot of 10,000 files + 200 MB, first", "s", first, goal="≤ 6", cpu=sorted(costs)[len(costs) // 2])
    report.add(
        "the same after one changed file",
        "s",
        changed,
        goal="≤ 0.4",
        cpu=sorted(costs_changed)[len(costs_changed) // 2],
    )
    report.add("stored for one changed file", "KB", [value / 1000 for value in sent])
