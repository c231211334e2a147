"""The client from a shell: a project of 10,000 files submitted again after one change, lists, and what an import costs."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from tests.bench.report import Report
from tests.live import ROOT, Studio

REPEAT = 9
FOLDERS, EACH = 100, 100
SOURCE = str(ROOT / "sdk" / "src")


def measure(report: Report, folder: Path) -> None:
    env = {**{k: v for k, v in os.environ.items() if not k.startswith("RUNSTEAD_")}, "PYTHONPATH": SOURCE}
    report.add(
        "floor: python -c pass", "ms", [1000 * timed([sys.executable, "-c", "pass"], env) for _ in range(REPEAT)]
    )
    for name in ("runstead", "runstead.cli"):
        words = [sys.executable, "-c", f"import {name}"]
        report.add(
            f"import {name}, from shell to shell", "ms", [1000 * timed(words, env) for _ in range(REPEAT)], goal="≤ 100"
        )
    studio = Studio(folder / "data").start()
    try:
        from_a_shell(
            report,
            studio,
            folder,
            {**env, "XDG_CACHE_HOME": str(folder / "cache"), "RUNSTEAD_DATA_DIR": str(studio.data_dir)},
        )
    finally:
        studio.stop()


def from_a_shell(report: Report, studio: Studio, folder: Path, env: dict[str, str]) -> None:
    command = [sys.executable, "-m", "runstead"]
    project = make_project(folder / "project")
    submit = [*command, "run", str(project), "--experiment", "bench", "--json", "--", "train.py"]
    # Of 16 KiB at most each, as in a repository with its notebooks and configurations.
    report.add("runstead run, 10,000 files, first", "s", [timed(submit, env)])
    time.sleep(0.2)  # time stamps that are too young are not trusted
    timed(submit, env)
    changed, unchanged, listed, costs = [], [], [], []
    for number in range(REPEAT):
        (project / "package_050/module_050.py").write_text(f"x = {number}\n")
        before = cpu_of_children()
        changed.append(timed(submit, env))
        costs.append(cpu_of_children() - before)
        time.sleep(0.2)
        unchanged.append(timed(submit, env))
    before = cpu_of_children()
    for _ in range(REPEAT):
        listed.append(1000 * timed([*command, "runs", "--limit", "20"], env))
    cost = (cpu_of_children() - before) / REPEAT
    report.add(
        "runstead run, 10,000 files after one change, from shell to answer",
        "s",
        changed,
        goal="≤ 0.6",
        cpu=sorted(costs)[REPEAT // 2],
    )
    report.add("the same without a change", "s", unchanged)
    report.add("runstead runs, from shell to shell", "ms", listed, goal="≤ 300", cpu=cost)


def make_project(project: Path) -> Path:
    for number in range(FOLDERS):
        place = project / f"package_{number:03d}"
        place.mkdir(parents=True)
        for file in range(EACH):
            (place / f"module_{file:03d}.py").write_bytes(json.dumps([number, file]).encode() * (1 + file * 16))
    (project / "train.py").write_text("print(1)\n")
    for words in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@example.test", "commit", "-qm", "first"],
    ):
        subprocess.run(["git", *words], cwd=project, check=True, stdout=subprocess.DEVNULL)
    return project


def timed(words: list[str], env: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run(words, env=env, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def cpu_of_children() -> float:
    """CPU seconds of the processes that this one started and that have ended: the clients, without the studio."""
    times = os.times()
    return times.children_user + times.children_system
