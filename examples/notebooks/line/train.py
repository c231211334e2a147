"""Fit a straight line to wavy points by gradient descent, with nothing but the standard library."""

import argparse
import json
import math
import time
from pathlib import Path

try:
    from runstead import Run
except ImportError:
    Run = None

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.1)
parser.add_argument("--epochs", type=int, default=60)
options = parser.parse_args()

run = Run.get_context() if Run is not None else None
points = [(x / 50, 3 * x / 50 + 1 + 0.1 * math.sin(7 * x)) for x in range(50)]
slope = offset = 0.0
for epoch in range(options.epochs):
    errors = [(x, slope * x + offset - y) for x, y in points]
    slope -= options.lr * 2 * sum(x * error for x, error in errors) / len(points)
    offset -= options.lr * 2 * sum(error for _, error in errors) / len(points)
    loss = sum(error**2 for _, error in errors) / len(points)
    print(f"epoch {epoch}: loss {loss:.4f}", flush=True)
    if run is not None:
        run.log("loss", loss, step=epoch)
    time.sleep(0.02)

Path("outputs").mkdir(exist_ok=True)
Path("outputs/line.json").write_text(json.dumps({"slope": slope, "offset": offset}))
