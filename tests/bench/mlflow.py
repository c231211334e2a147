"""MLflow's own client against the studio, beside an MLflow server of the same version that is started in the same run.

Both keep their rows in SQLite on this machine. The client is a process of its own; calls of the two servers alternate, so that
whatever else the machine does meets both. What the client itself needs is part of every call: ``null`` is a server that answers
at once and does nothing.
"""

import json
import os
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from threading import Barrier

from tests.bench.report import Report, cpu_seconds
from tests.live import ROOT, Studio, free_port
from tests.waiting import until

CALLS, BATCHES, CLIENTS = 150, 15, 4
CLIENT = """\
import json, os, sys, time
import mlflow
from mlflow.entities import Metric
places = json.loads(sys.argv[1])
calls, batches = json.loads(sys.argv[2])
found, at = {}, {}
for name, (uri, token) in places.items():
    os.environ["MLFLOW_TRACKING_TOKEN"] = token
    client = mlflow.MlflowClient(uri)
    at[name] = (client, client.create_run("0").info.run_id)
    found[name] = {"call": [], "batch": []}
def timed(name, kind, call):
    os.environ["MLFLOW_TRACKING_TOKEN"] = places[name][1]
    began = time.perf_counter()
    call(*at[name])
    found[name][kind].append((time.perf_counter() - began) * 1000)
for step in range(calls):
    for name in places:
        timed(name, "call", lambda client, run: client.log_metric(run, "loss", step / 7, step=step))
for n in range(batches):
    for name in places:
        points = [Metric(f"m{i % 10}", i / 7, 1_700_000_000_000 + i, n * 1000 + i) for i in range(1000)]
        timed(name, "batch", lambda client, run: client.log_batch(run, metrics=points))
print(json.dumps(found))
"""
NULL = """\
import http.server, json, sys
class Nothing(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        info = {"run_id": "0" * 32, "run_uuid": "0" * 32, "experiment_id": "0", "status": "RUNNING", "start_time": 1, "lifecycle_stage": "active"}
        body = json.dumps({"run": {"info": info, "data": {}}} if self.path.endswith("create") else {}).encode()
        head = f"HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\nContent-Length: {len(body)}\\r\\n\\r\\n"
        self.wfile.write(head.encode() + body)
    def log_message(self, *words):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Nothing)
server.serve_forever()
"""


def whole_mlflow() -> str:
    """The Python of an environment with MLflow's server."""
    env = {**os.environ, "INFRA_PYTHON": sys.executable}
    done = subprocess.run(
        [ROOT / "tests/infra/mlflow.sh", "start"], env=env, capture_output=True, text=True, check=True
    )
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)["MLFLOW_PYTHON"]


@contextmanager
def served(argv: list[str], port: int, folder: Path, path: str = "") -> Iterator[subprocess.Popen[bytes]]:
    with (folder / f"server-{port}.log").open("wb") as log:
        process = subprocess.Popen(argv, cwd=folder, stdout=log, stderr=log, start_new_session=True)
        try:
            until(lambda: answers(port, path), 120)
            yield process
        finally:
            os.killpg(process.pid, 15)
            process.wait(timeout=30)


def answers(port: int, path: str) -> bool:
    try:
        if path:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
                return bool(answer.status == 200)
        with socket.create_connection(("127.0.0.1", port), timeout=2):
            return True
    except OSError:
        return False


def measure(report: Report, folder: Path) -> None:
    python = whole_mlflow()
    port, nothing = free_port(), free_port()
    argv = [
        python, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination",
        f"{folder}/artifacts", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
    ]  # fmt: skip
    studio = Studio(folder / "data").start()
    try:
        with (
            served(argv, port, folder, "/health") as theirs,
            served([sys.executable, "-c", NULL, str(nothing)], nothing, folder),
        ):
            places = {
                "studio": (studio.url, studio.control("token")),
                "mlflow": (f"http://127.0.0.1:{port}", "x"),
                "null": (f"http://127.0.0.1:{nothing}", "x"),
            }
            client(report, places)
            servers(report, places, {"studio": studio.up.pid, "mlflow": theirs.pid})
    finally:
        studio.stop()


def client(report: Report, places: dict[str, tuple[str, str]]) -> None:
    """What a script waits, by MLflow's client."""
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, json.dumps(places), json.dumps([CALLS, BATCHES])],
        capture_output=True, text=True, check=True, env={**os.environ, "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "1"},
    )  # fmt: skip
    found = json.loads(done.stdout.splitlines()[-1])
    for kind, name in (("call", "log_metric"), ("batch", "log_batch of 1,000")):
        for place in places:
            values = found[place][kind][3:]
            report.add(f"mlflow {name}, {place}", "ms", values, goal="≤ 1/10 of mlflow's" if place == "studio" else "")
        own = {place: statistics.median(found[place][kind][3:]) for place in places}
        floor = own["null"]
        report.add(f"mlflow {name}: times faster, seen by a script", "×", [own["mlflow"] / own["studio"]], goal="≥ 10")
        rest = max(own["studio"] - floor, 0.01)
        report.add(
            f"mlflow {name}: times faster, without the client's own part",
            "×",
            [(own["mlflow"] - floor) / rest],
            goal="≥ 10",
        )


def servers(report: Report, places: dict[str, tuple[str, str]], pids: dict[str, int]) -> None:
    """What the servers do in a second, asked by several connections with bodies that were made before; and their CPU time."""
    for kind, count in (("log-metric", 400), ("log-batch", 40)):
        rates: dict[str, float] = {}
        for place, pid in pids.items():
            before = cpu_seconds(pid)
            seconds = ask(*places[place], kind, count // CLIENTS)
            rates[place] = count / seconds
            cpu = (cpu_seconds(pid) - before) / count
            report.add(f"mlflow {kind}, {CLIENTS} connections, {place}", "per s", [rates[place]], cpu=cpu)
        ratio = rates["studio"] / rates["mlflow"]
        report.add(f"mlflow {kind}: times the throughput of mlflow's server", "×", [ratio], goal="≥ 10")


def ask(url: str, token: str, kind: str, count: int) -> float:
    """Seconds that CLIENTS connections take for ``count`` calls each, each to a run of its own."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    began = Barrier(CLIENTS + 1)

    def one() -> None:
        connection = HTTPConnection(url.removeprefix("http://"), timeout=120)
        connection.request("POST", "/api/2.0/mlflow/runs/create", b'{"experiment_id": "0"}', headers)
        run = json.loads(connection.getresponse().read())["run"]["info"]["run_id"]
        bodies = [body(kind, run, n) for n in range(count)]
        began.wait()
        for data in bodies:
            connection.request("POST", f"/api/2.0/mlflow/runs/{kind}", data, headers)
            answer = connection.getresponse()
            assert answer.read().strip() == b"{}" and answer.status == 200
        connection.close()

    with ThreadPoolExecutor(CLIENTS) as pool:
        asked = [pool.submit(one) for _ in range(CLIENTS)]
        began.wait()
        start = time.perf_counter()
        for each in asked:
            each.result()
        return time.perf_counter() - start


def body(kind: str, run: str, n: int) -> bytes:
    point = {"key": "loss", "value": n / 7, "timestamp": 1_700_000_000_000 + n, "step": n}
    if kind == "log-metric":
        return json.dumps({"run_id": run, "run_uuid": run, **point}).encode()
    metrics = [{**point, "key": f"m{i % 10}", "step": n * 1000 + i, "value": i / 7} for i in range(1000)]
    return json.dumps({"run_id": run, "metrics": metrics}).encode()
