"""Submit to first line in a container of a warm engine, beside ``docker run`` of the same script."""

import json
import subprocess
import time
from pathlib import Path

from tests.bench.report import Lacking, Report, cpu_seconds
from tests.bench.runs import REQUEST, TRIVIAL, Api, project
from tests.environments.docker_engine import IMAGE, SCRIPT
from tests.live import FINAL, Studio
from tests.waiting import until

REPEAT = 15


def measure(report: Report, folder: Path) -> None:
    started = subprocess.run([SCRIPT, "start"], capture_output=True, text=True, check=False)
    if started.returncode:
        raise Lacking(started.stderr.strip() or "a Docker engine could not be started")
    studio = Studio(folder / "data").start()
    try:
        studio.control("docker_target", root=str(folder / "root"), slots=4)
        place = project(folder, "trivial", TRIVIAL)
        floor(report, place)
        one_by_one(report, studio, place)
    finally:
        studio.stop()


def floor(report: Report, place: Path) -> None:
    """A container with the same limits and mounts, by the engine's own command line; nothing supervises it."""
    argv = [
        "docker", "run", "--rm", "--pull", "never", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--shm-size", "2g",
        "-v", f"{place}:{place}", "-w", str(place), IMAGE, "python3", "train.py",
    ]  # fmt: skip
    first = []
    for _ in range(REPEAT):
        began = time.time()
        said = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
        first.append((float(said) - began) * 1000)
    report.add("floor: docker run → first line", "ms", first)


def one_by_one(report: Report, studio: Studio, place: Path) -> None:
    api = Api(studio)
    warm = studio.submit(place, target="docker")  # the image is looked at, the snapshot there, the connection open
    studio.wait_for(warm)
    wish = {**REQUEST, "target": "docker", "snapshot": studio.control("snapshot", id=warm[0])}
    first, final = [], []
    before = cpu_seconds(studio.up.pid)
    for _ in range(REPEAT):
        began = time.time()
        status, body = api("POST", "/runs", wish)
        assert status in {200, 201}, body
        number = json.loads(body)["number"]
        text = until(lambda: api("GET", f"/runs/{number}/log?offset=0")[1], 30, every=0.005)  # noqa: B023
        first.append((float(text) - began) * 1000)
        until(lambda: json.loads(api("GET", f"/runs/{number}")[1])["status"] in FINAL, 30, every=0.005)  # noqa: B023
        final.append((time.time() - began) * 1000)
    cpu = (cpu_seconds(studio.up.pid) - before) / REPEAT
    report.add("Docker: submit → first line", "ms", first, goal="≤ 1200", cpu=cpu)
    report.add("Docker: submit → final status", "ms", final)
