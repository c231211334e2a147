"""``make bench``: what things cost here and now. Prints a table, writes ``bench.json``.

``python -m tests.bench runs logs`` measures only these.
"""

import sys
import tempfile
from importlib import import_module
from pathlib import Path

from tests.bench.report import Report

PARTS = ("runs", "snapshots", "logging", "lists", "ssh", "docker", "environments", "client")


def main() -> None:
    wanted = sys.argv[1:] or PARTS
    unknown = set(wanted) - set(PARTS)
    if unknown:
        raise SystemExit(f"unknown: {', '.join(sorted(unknown))}. Choose from: {', '.join(PARTS)}")
    report = Report()
    for name in wanted:
        print(name, flush=True)
        with tempfile.TemporaryDirectory(prefix="runstead-bench-") as folder:
            import_module(f"tests.bench.{name}").measure(report, Path(folder))
    report.print()
    report.write(Path("bench.json"))


if __name__ == "__main__":
    main()
