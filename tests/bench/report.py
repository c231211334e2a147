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


class Lacking(Exception):
    """What a part measures is not to be had on this machine; the text says why."""


class Report:
    def __init__(self) -> None:
        self.figures: list[Figure] = []
        self.missing: dict[str, str] = {}
        """Part → why it was not measured, or not to its end."""

    def lacks(self, part: str, why: str) -> None:
        self.missing[part] = " ".join(why.split()) or "no reason was given"
        print(f"  not measured: {self.missing[part]}", flush=True)

    def add(self, name: str, unit: str, values: list[float], *, goal: str = "", cpu: float | None = None) -> None:
        self.figures.append(Figure(name, unit, goal, values, cpu))
        figure = self.figures[-1]
        print(f"  {name}: {figure.median:.4g} {unit}", flush=True)

    def print(self) -> None:
        table = Table("what", "median", "p95", "unit", "CPU s", "goal", "n")
        for f in self.figures:
            cpu = "" if f.cpu is None else f"{f.cpu:.3f}"
            table.add_row(f.name, f"{f.median:.4g}", f"{f.p95:.4g}", f.unit, cpu, f.goal, str(len(f.values)))
        console = Console(width=150)
        console.print(table)
        for part, why in self.missing.items():
            console.print(f"{part}: not measured: {why}", markup=False)

    def write(self, path: Path) -> None:
        data: dict[str, object] = {
            f.name: {"median": round(f.median, 6), "p95": round(f.p95, 6), "cpu": f.cpu, "unit": f.unit, "goal": f.goal}
            for f in self.figures
        }
        data |= {part: {"not measured": why} for part, why in self.missing.items()}
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
