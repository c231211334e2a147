"""Figures of a benchmark: collected, printed as a table, written as JSON."""

import json
import statistics
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table


@dataclass
class Figure:
    name: str
    unit: str
    goal: str = ""
    values: list[float] = field(default_factory=list)
    cpu: float | None = None
    """CPU seconds of all processes involved, per repetition."""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def p95(self) -> float:
        ordered = sorted(self.values)
        return ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))]


class Report:
    def __init__(self) -> None:
        self.figures: list[Figure] = []

    def add(self, name: str, unit: str, values: list[float], *, goal: str = "", cpu: float | None = None) -> None:
        self.figures.append(Figure(name, unit, goal, values, cpu))
        figure = self.figures[-1]
        print(f"  {name}: {figure.median:.4g} {unit}", flush=True)

    def print(self) -> None:
        table = Table("what", "median", "p95", "unit", "CPU s", "goal", "n")
        for f in self.figures:
            cpu = "" if f.cpu is None else f"{f.cpu:.3f}"
            table.add_row(f.name, f"{f.median:.4g}", f"{f.p95:.4g}", f.unit, cpu, f.goal, str(len(f.values)))
        Console(width=150).print(table)

    def write(self, path: Path) -> None:
        data = {
            f.name: {"median": round(f.median, 6), "p95": round(f.p95, 6), "cpu": f.cpu, "unit": f.unit, "goal": f.goal}
            for f in self.figures
        }
        path.write_text(json.dumps(data, indent=1) + "\n")


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and of all its living descendants, with that of their ended children."""
    total = 0.0
    root = psutil.Process(pid)
    for process in [root, *root.children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total
