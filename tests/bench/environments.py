"""A virtual environment of numpy, pandas and scikit-learn, beside what pip and uv need for the same; and what a warm one costs a run."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from uv import find_uv_bin

from tests.bench.report import Lacking, Report, cpu_seconds
from tests.bench.runs import TRIVIAL, Api, project
from tests.live import FINAL, Studio
from tests.waiting import until

PACKAGES = ["numpy", "pandas", "scikit-learn"]
REPEAT = 25
SECONDS = 600


def measure(report: Report, folder: Path) -> None:
    # With a cache of its own, so that cold means cold.
    studio = Studio(folder / "data", XDG_CACHE_HOME=str(folder / "cache")).start()
    try:
        pip(report, folder)
        uv(report, folder)
        built(report, studio, folder)
        hit(report, studio, folder)
    finally:
        studio.stop()


def pip(report: Report, folder: Path) -> None:
    place = folder / "by-pip"
    subprocess.run([sys.executable, "-m", "venv", place], check=True)
    command = [
        str(place / "bin/python"),
        "-m",
        "pip",
        "install",
        "-q",
        "--no-cache-dir",
        "--disable-pip-version-check",
        *PACKAGES,
    ]
    report.add("pip install, no cache", "s", [timed(command, dict(os.environ))])


def uv(report: Report, folder: Path) -> None:
    env = {**os.environ, "UV_CACHE_DIR": str(folder / "uv-cache")}
    for name in ("cold", "warm"):
        place = folder / f"by-uv-{name}"
        subprocess.run([find_uv_bin(), "venv", "-q", "--python", sys.executable, place], check=True, env=env)
        command = [
            find_uv_bin(),
            "pip",
            "install",
            "-q",
            "--compile-bytecode",
            "--python",
            str(place / "bin/python"),
            *PACKAGES,
        ]
        report.add(f"uv pip install with byte-code, {name}", "s", [timed(command, env)])


def timed(command: list[str], env: dict[str, str]) -> float:
    began = time.monotonic()
    if code := subprocess.run(command, env=env, check=False).returncode:
        raise Lacking(f"{command[0]} ended with {code}: is there a package index?")
    return time.monotonic() - began


def built(report: Report, studio: Studio, folder: Path) -> None:
    """From the wish to ready: the first build resolves and downloads; another target of the machine has the lock, and nothing else;
    a refreshed version resolves anew and has the packages."""
    studio.control("target", root=str(folder / "first"))
    studio.control("target", root=str(folder / "second"))
    studio.control("environment", name="stack", packages=PACKAGES)
    for name, target in [("cold, resolved", "first"), ("cold, from the lock", "second")]:
        began = time.monotonic()
        before = cpu_seconds(studio.up.pid)
        studio.control("prewarm", environment="stack", target=target)
        ready(studio, "stack", target)
        report.add(f"build, {name}", "s", [time.monotonic() - began], cpu=cpu_seconds(studio.up.pid) - before)
    times = []
    for _ in range(3):
        studio.control("refresh", environment="stack")
        began = time.monotonic()
        studio.control("prewarm", environment="stack", target="first")
        ready(studio, "stack", "first")
        times.append(time.monotonic() - began)
    report.add("build, warm: resolved anew, packages in the cache", "s", times)


def ready(studio: Studio, environment: str, target: str) -> None:
    def look() -> bool:
        build = studio.control("build", environment=environment, target=target)
        assert build["status"] != "Failed", build["error"]
        return build["status"] == "Ready"

    until(look, SECONDS, every=0.02)


def hit(report: Report, studio: Studio, folder: Path) -> None:
    """A run in an environment that is ready beside one in the interpreter that is there already, in turn."""
    place = project(folder, "trivial", TRIVIAL)
    api = Api(studio)
    request = {"experiment": "bench", "target": "first", "script": "train.py"}
    times: dict[str, list[float]] = {"stack": [], "python": []}
    for environment in times:  # the snapshot is there, and the connection open
        studio.wait_for(studio.submit(place, target="first", environment=environment))
    snapshot = studio.control("snapshot", id=studio.submit(place, target="first", environment="python")[0])
    for _ in range(REPEAT):
        for environment, found in times.items():
            began = time.time()
            _, body = api("POST", "/runs", {**request, "environment": environment, "snapshot": snapshot})
            number = json.loads(body)["number"]
            text = until(lambda: api("GET", f"/runs/{number}/log?offset=0")[1], 20, every=0.002)  # noqa: B023
            found.append((float(text) - began) * 1000)
            until(lambda: json.loads(api("GET", f"/runs/{number}")[1])["status"] in FINAL, 20, every=0.002)  # noqa: B023
    report.add("submit → first line, interpreter that is there", "ms", times["python"])
    report.add("submit → first line, environment that is ready", "ms", times["stack"])
    costs = [warm - floor for warm, floor in zip(times["stack"], times["python"], strict=True)]
    report.add("what a warm environment costs a run", "ms", costs, goal="≤ 50")
