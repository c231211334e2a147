"""Submit to first line, to visible, to final; many at once; a long log."""

import json
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.bench.report import Report, cpu_seconds
from tests.live import FINAL, Studio
from tests.waiting import until

TRIVIAL = "import time\nprint(repr(time.time()), flush=True)\n"
TICKER = "import time\nfor _ in range(100):\n    print(repr(time.time()), flush=True)\n    time.sleep(0.03)\n"
LONG = "import sys\nline = 'x' * 99 + '\\n'\nfor _ in range(1000):\n    sys.stdout.write(line * 1000)\n"
REPEAT = 25
REQUEST = {"experiment": "bench", "target": "local", "environment": "python", "script": "train.py"}


class Api:
    """The HTTP API of a studio, as a client sees it: one kept connection."""

    def __init__(self, studio: Studio) -> None:
        import http.client

        known = json.loads((studio.data_dir / "local-client.json").read_text())
        self.headers = {"Authorization": f"Bearer {known['token']}", "Content-Type": "application/json"}
        self.connection = http.client.HTTPConnection("127.0.0.1", studio.port)
        self.base = f"/api/v1/{known['workspace']}"

    def __call__(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        data = None if body is None else json.dumps(body)
        self.connection.request(method, self.base + path, data, self.headers)
        answer = self.connection.getresponse()
        return answer.status, answer.read()


def measure(report: Report, folder: Path) -> None:
    studio = Studio(folder / "data").start()
    try:
        api = Api(studio)
        one_by_one(report, studio, api, folder)
        print_to_visible(report, studio, api, folder)
        hundred_at_once(report, studio, folder)
        long_log(report, studio, folder)
    finally:
        studio.stop()


def project(folder: Path, name: str, script: str) -> Path:
    place = folder / name
    place.mkdir()
    (place / "train.py").write_text(script)
    return place


def one_by_one(report: Report, studio: Studio, api: Api, folder: Path) -> None:
    place = project(folder, "trivial", TRIVIAL)
    warm = studio.submit(place)  # the snapshot is there and the connection to the target is open
    studio.wait_for(warm)
    snapshot = studio.control("snapshot", id=warm[0])
    first, visible, final = [], [], []
    before = cpu_seconds(studio.up.pid)
    for _ in range(REPEAT):
        began = time.time()
        status, body = api("POST", "/runs", {**REQUEST, "snapshot": snapshot})
        assert status in {200, 201}, body
        number = json.loads(body)["number"]
        text = until(lambda: api("GET", f"/runs/{number}/log?offset=0")[1], 20, every=0.002)  # noqa: B023
        visible.append((time.time() - began) * 1000)
        first.append((float(text) - began) * 1000)
        until(lambda: json.loads(api("GET", f"/runs/{number}")[1])["status"] in FINAL, 20, every=0.002)  # noqa: B023
        final.append((time.time() - began) * 1000)
    cpu = (cpu_seconds(studio.up.pid) - before) / REPEAT
    report.add("submit → first line", "ms", first, goal="≤ 150", cpu=cpu)
    report.add("submit → first line visible over HTTP", "ms", visible, goal="≤ 250")
    report.add("submit → final status", "ms", final)


def print_to_visible(report: Report, studio: Studio, api: Api, folder: Path) -> None:
    ids = studio.submit(project(folder, "ticker", TICKER))
    number = studio.run(ids[0])["number"]
    delays, offset, rest = [], 0, b""
    while len(delays) < 100:
        _, data = api("GET", f"/runs/{number}/log?offset={offset}")
        now = time.time()
        offset += len(data)
        *lines, rest = (rest + data).split(b"\n")
        delays += [(now - float(line)) * 1000 for line in lines]
        time.sleep(0.005)  # how often a reader asks
    studio.wait_for(ids)
    report.add("print → visible over HTTP", "ms", delays, goal="p95 ≤ 200")


def hundred_at_once(report: Report, studio: Studio, folder: Path) -> None:
    place = project(folder, "hundred", TRIVIAL)
    # The floor: the same processes, as many at once as the target has slots, and nothing around them.
    slots, python = studio.control("capacity")
    began = time.monotonic()
    with ThreadPoolExecutor(slots) as pool:
        list(
            pool.map(
                lambda _: subprocess.run([python, str(place / "train.py")], stdout=subprocess.DEVNULL, check=True),
                range(100),
            )
        )
    report.add("floor: 100 subprocesses, as many at once as slots", "runs/s", [100 / (time.monotonic() - began)])
    rates, costs = [], []
    for _ in range(3):
        before, began = cpu_seconds(studio.up.pid), time.monotonic()
        ids = studio.submit(place, count=100)
        studio.wait_for(ids, seconds=120)
        rates.append(100 / (time.monotonic() - began))
        costs.append((cpu_seconds(studio.up.pid) - before) / 100)
    report.add("100 trivial runs at once", "runs/s", rates, goal="≥ 20", cpu=sorted(costs)[1])


def long_log(report: Report, studio: Studio, folder: Path) -> None:
    place = project(folder, "long", LONG)
    times, costs = [], []
    for _ in range(3):
        before, began = cpu_seconds(studio.up.pid), time.monotonic()
        ids = studio.submit(place)
        until(lambda: studio.control("size", id=ids[0]) == 100_000_000, 120, every=0.05)  # noqa: B023
        times.append(time.monotonic() - began)
        studio.wait_for(ids, seconds=120)
        costs.append(cpu_seconds(studio.up.pid) - before)
    report.add("1,000,000 lines of 100 bytes, all visible", "s", times, goal="≤ 4", cpu=sorted(costs)[1])
    report.add("the same", "MB/s", [100 / t for t in times])
