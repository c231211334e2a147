"""What logging costs the script: ``run.log``, and MLflow's own client against the run's tracking server."""

import json
import time
from pathlib import Path

from tests.bench.report import Report
from tests.live import Studio

SCRIPT = """\
import json, sys, time
from runstead import Run
run = Run.get_context()
blocks = []
for _ in range(10):
    began = time.perf_counter()
    for step in range(1000):
        run.log("loss", 0.123456789 + step)
    blocks.append((time.perf_counter() - began) * 1000)
result = {"log": blocks}
try:
    sys.path.insert(0, sys.argv[1])
    import mlflow
except ImportError:
    pass
else:
    calls = []
    with mlflow.start_run():
        for step in range(200):
            began = time.perf_counter()
            mlflow.log_metric("accuracy", step / 200, step=step)
            calls.append((time.perf_counter() - began) * 1000)
    result["mlflow"] = calls[5:]
with open("outputs/result.json", "w") as file:
    json.dump(result, file)
print(json.dumps(result))
"""


def measure(report: Report, folder: Path) -> None:
    import mlflow

    place = folder / "project"
    place.mkdir()
    (place / "train.py").write_text(SCRIPT)
    studio = Studio(folder / "data").start()
    try:
        began = time.monotonic()
        ids = studio.submit(place, str(Path(mlflow.__file__).parent.parent))
        (row,) = studio.wait_for(ids, seconds=120)
        assert row["status"] == "Completed", studio.control("text", id=ids[0])[-2000:]
        result = json.loads(studio.control("text", id=ids[0]).splitlines()[-1])
        assert studio.control("metrics", id=ids[0])["loss"][0] == 10_000
        report.add("run.log, per call", "µs", list(result["log"]), goal="≤ 20")
        if "mlflow" in result:
            report.add(
                "mlflow.log_metric on loopback, per call", "ms", result["mlflow"], goal="≤ 1/4 of its own server"
            )
        report.add("10,000 run.log calls, submitted to final", "s", [time.monotonic() - began])
    finally:
        studio.stop()
