"""What `RunDetails` shows: a run looked at once, as HTML without scripts, and as text."""

from __future__ import annotations

import math
from datetime import datetime, timezone
from html import escape

from .errors import RunsteadError
from .log_stream import LogStream
from .status import FINAL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional

    from .submitted import SubmittedRun

PHASES = ("NotStarted", "Preparing", "Queued", "Running", "Finalizing", "Completed")
LINES = 40
METRICS = 30
CHILDREN = 50
TAIL = 16 * 1024
WIDTH, HEIGHT = 160, 28
COLOURS = {"Completed": "#1a7f37", "Failed": "#c62828", "Canceled": "#8a6d00", "Running": "#1f5fbf"}


class View:
    """A run at one moment."""

    def __init__(self, row: Dict[str, Any], metrics: Dict[str, Any], log: str, children: List[Dict[str, Any]]) -> None:
        self.row = row
        self.metrics = metrics
        self.log = log
        self.children = children

    @property
    def status(self) -> str:
        return str(self.row["status"])

    @property
    def ended(self) -> bool:
        return self.status in FINAL

    @property
    def phase(self) -> int:
        """How far it is, 1 to the number of phases."""
        return PHASES.index(self.status) + 1 if self.status in PHASES else len(PHASES)

    def data(self) -> Dict[str, Any]:
        return {
            "status": self.status,
            "run_id": self.row["id"],
            "run_number": self.row["number"],
            "run_properties": self.row["properties"],
            "child_runs": self.children,
            "run_metrics": [{"name": name, "series": _numbers(value)} for name, value in self.metrics.items()],
            "run_logs": self.log,
            "workbench_run_details_uri": self.row["url"],
        }

    # HTML

    def html(self) -> str:
        return self.head() + self.metrics_table() + self.log_block()

    def head(self) -> str:
        row = self.row
        facts = [
            ("Experiment", row["experiment"]),
            ("Run", row["id"]),
            ("Target", row["target"] or row["pool"]),
            ("Duration", self.duration()),
        ]
        shown = " · ".join("%s: %s" % (name, escape(str(value))) for name, value in facts if value)
        why = (row["error"] or {}).get("message")
        problem = "<div style='color:%s'>%s</div>" % (COLOURS["Failed"], escape(str(why))) if why else ""
        colour = COLOURS.get(self.status, "#555")
        return (
            "<div style='font-family:sans-serif'><b style='color:%s'>%s</b> "
            "<a href='%s' target='_blank' rel='noopener'>%s</a><div style='color:#555'>%s</div>%s%s</div>"
            % (colour, escape(self.status), escape(row["url"]), escape(row["name"]), shown, problem, self._children())
        )

    def _children(self) -> str:
        if not self.children:
            return ""
        rows = "".join(
            "<tr><td>%s</td><td>%s</td></tr>" % (escape(str(one["name"])), escape(one["status"]))
            for one in self.children
        )
        return "<table><tr><th>Child run</th><th>Status</th></tr>%s</table>" % rows

    def metrics_table(self) -> str:
        rows = []
        for name, value in list(self.metrics.items())[:METRICS]:
            numbers = _numbers(value)
            last = "%.6g" % numbers[-1] if numbers else _short(value)
            rows.append(
                "<tr><td style='text-align:left'>%s</td><td>%s</td><td>%s</td></tr>"
                % (escape(name), escape(last), spark(numbers))
            )
        if not rows:
            return ""
        more = len(self.metrics) - METRICS
        rest = "<tr><td colspan='3'>and %d more</td></tr>" % more if more > 0 else ""
        return (
            "<table style='font-family:sans-serif'><tr><th>Metric</th><th>Last</th><th>Course</th></tr>%s%s</table>"
            % (
                "".join(rows),
                rest,
            )
        )

    def log_block(self) -> str:
        if not self.log:
            return ""
        # Reversed, a box without scripts stays at its end while it grows.
        return (
            "<div style='display:flex;flex-direction:column-reverse;max-height:24em;overflow:auto;background:#f6f6f6;padding:6px'>"
            "<pre style='margin:0'>%s</pre></div>" % escape(self.log)
        )

    # Text

    def duration(self) -> str:
        start, end = _time(self.row["started_at"]), _time(self.row["ended_at"])
        if start is None:
            return ""
        seconds = int(((end or datetime.now(timezone.utc)) - start).total_seconds())
        hours, rest = divmod(max(0, seconds), 3600)
        return "%d:%02d:%02d" % (hours, rest // 60, rest % 60)


def text(seen: View) -> str:
    """The same for a terminal."""
    row = seen.row
    lines = ["%s  %s  %s" % (row["id"], seen.status, seen.duration()), row["url"]]
    lines += ["  %s  %s" % (one["name"], one["status"]) for one in seen.children]
    for name, value in list(seen.metrics.items())[:METRICS]:
        numbers = _numbers(value)
        lines.append("  %s = %s" % (name, "%.6g" % numbers[-1] if numbers else _short(value)))
    return "\n".join([*lines, *([seen.log] if seen.log else [])]) + "\n"


def look(run: SubmittedRun) -> View:
    """Ask the studio how the run is now."""
    row = dict(run._fresh())
    children = [
        {"name": one.name, "run_id": one.id, "status": one.status, "run_number": one.number}
        for one, _ in zip(run.get_children(), range(CHILDREN))
    ]
    log = ""
    if run.type == "script":
        try:
            log = _tail(run).decode("utf-8", "replace")
        except RunsteadError as error:
            log = "[the log cannot be read: %s]" % error
    return View(row, run.get_metrics(), "\n".join(log.splitlines()[-LINES:]), children)


def _tail(run: SubmittedRun) -> bytes:
    """The last bytes of the log."""
    rows = run._ask("GET", "/logs")["logs"]
    size = next((row["size"] for row in rows if row["name"] == "log"), 0)
    return LogStream(run.workspace.transport, run.number, offset=max(0, size - TAIL)).piece() if size else b""


def spark(values: List[float]) -> str:
    """A small line; empty for fewer than two numbers."""
    if len(values) < 2:
        return ""
    count = min(len(values), WIDTH // 2)
    picked = [values[place * (len(values) - 1) // (count - 1)] for place in range(count)]
    low, high = min(picked), max(picked)
    scale = (HEIGHT - 4) / (high - low) if high > low else 0.0
    points = " ".join(
        "%.1f,%.1f" % (place * WIDTH / (count - 1), HEIGHT - 2 - (value - low) * scale if scale else HEIGHT / 2)
        for place, value in enumerate(picked)
    )
    return "<svg width='%d' height='%d' role='img'><polyline points='%s' fill='none' stroke='#1f5fbf'/></svg>" % (
        WIDTH,
        HEIGHT,
        points,
    )


def _numbers(value: Any) -> List[float]:
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in items):
        return []
    return [float(one) for one in items if math.isfinite(one)]


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return "table of %s" % ", ".join(map(str, value))
    shown = str(value)
    return shown if len(shown) <= 60 else shown[:57] + "…"


def _time(value: Optional[str]) -> Optional[datetime]:
    return None if value is None else datetime.fromisoformat(value.replace("Z", "+00:00"))
