"""Fit a straight line to noisy points by gradient descent, with nothing but the standard library."""

import argparse
import json
import random
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
noise = random.Random(7)
points = [(x / 50, 3 * x / 50 + 1 + noise.gauss(0, 0.05)) for x in range(50)]
slope = offset = 0.0
for epoch in range(options.epochs):
    errors = [slope * x + offset - y for x, y in points]
    slope -= options.lr * 2 * sum(e * x for e, (x, _) in zip(errors, points)) / len(points)
    offset -= options.lr * 2 * sum(errors) / len(points)
    loss = sum(e * e for e in errors) / len(points)
    print(f"epoch {epoch}: loss {loss:.4f}", flush=True)
    if run is not None:
        run.log("loss", loss, step=epoch)
    time.sleep(0.02)

Path("outputs").mkdir(exist_ok=True)
Path("outputs/line.json").write_text(json.dumps({"slope": slope, "offset": offset}))
