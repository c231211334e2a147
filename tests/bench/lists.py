"""Server time of the pages over 100,000 runs, each with 5 metrics, 5 parameters and 3 tags."""

import subprocess
import sys
from pathlib import Path

from tests.bench.report import Report
from tests.live import ROOT, Control, Studio

RUNS = 100_000
REPEAT = 15
PAGES = {
    "run list, newest first": "/bench/runs",
    "run list, by a metric": "/bench/runs?sort=-val/acc",
    "run list, by a metric, filtered by a parameter": "/bench/runs?q=lr%3D0.1&sort=-val/acc",
    "run list, filtered by a parameter, few matches": "/bench/runs?q=run-500-500",
    "run list, by duration": "/bench/runs?sort=-duration",
    "one experiment": "/bench/experiments/experiment-7",
    "experiments": "/bench/experiments",
    "home": "/bench/",
}


def measure(report: Report, folder: Path) -> None:
    # Server time is that of the view with its template; no socket and no browser is in it.
    studio = Studio(folder / "data")
    studio.data_dir.mkdir(mode=0o700)
    for command in (["migrate", "-v0"], ["collectstatic", "-v0", "--noinput"]):
        subprocess.run([sys.executable, "manage.py", *command], cwd=ROOT, env=studio.env, check=True)
    control = Control(studio.env)
    try:
        report.add("seeding 100,000 runs", "s", [control("seed", runs=RUNS)])
        for name, path in PAGES.items():
            report.add(f"{name}, at 100,000 runs", "ms", control("page", path=path, times=REPEAT), goal="≤ 50")
    finally:
        control.close()
