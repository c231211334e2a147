"""``make bench``: what things cost here and now. Prints a table, writes ``bench.json``.

``python -m tests.bench runs logging`` measures only these. A part whose server is not to be had says so, and the others go on.
"""

import sys
import tempfile
import traceback
from importlib import import_module
from pathlib import Path

from tests.bench.report import Lacking, Report

PARTS = ("runs", "snapshots", "logging", "lists", "ssh", "docker", "faults", "environments", "client", "mlflow")


def main() -> None:
    wanted = sys.argv[1:] or PARTS
    unknown = set(wanted) - set(PARTS)
    if unknown:
        raise SystemExit(f"unknown: {', '.join(sorted(unknown))}. Choose from: {', '.join(PARTS)}")
    report, broken = Report(), False
    for name in wanted:
        print(name, flush=True)
        try:
            with tempfile.TemporaryDirectory(prefix="runstead-bench-") as folder:
                import_module(f"tests.bench.{name}").measure(report, Path(folder))
        except Lacking as error:
            report.lacks(name, str(error))
        except Exception as error:  # what was measured before it is not lost
            traceback.print_exc()
            report.lacks(name, f"it broke: {error}")
            broken = True
    report.print()
    report.write(Path("bench.json"))
    sys.exit(broken)


if __name__ == "__main__":
    main()
