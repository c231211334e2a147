"""The commands `runs`, `show`, `cancel` and `open`."""

from __future__ import annotations

import argparse
import os
import sys

from .shell import (
    add_json,
    artifacts_of,
    connect,
    count,
    line_of,
    local,
    print_json,
    run_of,
    seconds_between,
    span,
    table,
    tell,
)
from .status import FINAL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Tuple

STATUSES = ("NotStarted", "Preparing", "Queued", "Running", "Finalizing", "CancelRequested", *FINAL)
PAGE = 200
EXAMPLES = """examples:
  runstead runs --experiment digits --status Completed --sort -val/acc
  runstead runs --filter 'lr<0.1 status:failed' --tag stage=final --limit 100
"""


def add(commands: Any) -> None:
    """Add the commands to those of `runstead`."""
    runs = commands.add_parser(
        "runs", help="list the runs, newest first", epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )  # fmt: skip
    runs.add_argument("--experiment", metavar="NAME", help="only of this experiment")
    runs.add_argument(
        "--status",
        type=lambda text: {name.lower(): name for name in STATUSES}.get(text.lower(), text),
        choices=STATUSES,
        action="append",
        default=[],
        metavar="STATUS",
        help="one or more of: %s" % ", ".join(STATUSES),
    )
    runs.add_argument("--kind", choices=("script", "interactive"), help="submitted, or begun by a client elsewhere")
    runs.add_argument("--tag", action="append", default=[], metavar="NAME[=VALUE]", help="only with this tag")
    runs.add_argument("--property", action="append", default=[], metavar="NAME[=VALUE]", help="only with this property")
    runs.add_argument("--filter", metavar="TEXT", help="as in the search field of the run list")
    runs.add_argument("--parent", type=int, metavar="NUMBER", help="the children of this run")
    runs.add_argument("--archived", choices=("no", "yes", "any"), help="whether archived ones are listed (default: no)")
    runs.add_argument("--children", action="store_true", help="children too, which are left out otherwise")
    runs.add_argument(
        "--sort", metavar="[-]COLUMN", help="a column, a metric or param.NAME; - is descending (default: -number)"
    )
    runs.add_argument("-n", "--limit", type=count, default=20, metavar="N", help="how many (default: 20; 0: all)")
    add_json(runs, "everything the studio says about them")
    runs.set_defaults(call=_runs)
    show = commands.add_parser("show", help="what a run is, how it goes, what it logged")
    show.add_argument("run", metavar="RUN", help="number, id, or the address of its page")
    add_json(show, "the run with its metrics, parameters and artifacts as JSON")
    show.set_defaults(call=_show)
    cancel = commands.add_parser("cancel", help="ask for the end of runs")
    cancel.add_argument("run", metavar="RUN", nargs="+", help="number, id, or the address of its page")
    cancel.add_argument("--wait", action="store_true", help="until they have ended")
    add_json(cancel, "the runs as JSON")
    cancel.set_defaults(call=_cancel)
    opened = commands.add_parser("open", help="open the page of a run, or of the workspace, in a browser")
    opened.add_argument("run", metavar="RUN", nargs="?", help="number or id")
    opened.add_argument("--print", action="store_true", help="only print its address")
    add_json(opened, "the address as JSON")
    opened.set_defaults(call=_open)


def _runs(options: argparse.Namespace, line: Optional[List[str]]) -> int:
    transport = connect()
    asked = {
        "experiment": options.experiment, "status": options.status, "kind": options.kind, "tag": options.tag, "q": options.filter,
        "property": options.property, "parent": options.parent, "order_by": options.sort, "archived": options.archived,
        "include_children": "true" if options.children else None,
    }  # fmt: skip
    query = {name: value for name, value in asked.items() if value not in (None, [])}
    left = options.limit if options.limit > 0 else sys.maxsize
    found: List[Dict[str, Any]] = []
    while left > 0:
        page = transport.request("GET", "runs", query={**query, "limit": min(left, PAGE)}).json()
        found += page["runs"]
        left -= len(page["runs"])
        if page["next"] is None:
            break
        query["before"] = page["next"]
    if options.json:
        return print_json(found)
    rows = [("RUN", "NAME", "EXPERIMENT", "STATUS", "TARGET", "CREATED", "TOOK", "BY")]
    for run in found:
        took = "" if not run["started_at"] else span(seconds_between(run["started_at"], run["ended_at"]))
        rows.append(
            (
                str(run["number"]), line_of(run["name"], 40), line_of(run["experiment"], 30), run["status"], run["target"] or run["pool"] or "-",
                local(run["created_at"])[:16], took, line_of(run["created_by"], 30),
            )
        )  # fmt: skip
    table(rows)
    return 0


def _show(options: argparse.Namespace, line: Optional[List[str]]) -> int:
    transport = connect()
    run = run_of(transport, options.run)
    path = "runs/%d/" % run["number"]
    metrics = transport.request("GET", path + "metrics").json()
    params: Dict[str, str] = {}
    after: Any = ""
    while after is not None:
        page = transport.request("GET", path + "params", query={"after": after} if after else None).json()
        params.update(page["params"])
        after = page.get("next")
    artifacts = artifacts_of(transport, run["number"])
    if options.json:
        return print_json(
            {**run, "metrics": metrics["series"], "values": metrics["values"], "params": params, "artifacts": artifacts}
        )
    print("Run %d  %s  %s" % (run["number"], line_of(run["name"], 100), run["url"]))
    for name, text in _facts(run):
        if text:
            print("  %-12s %s" % (name, text))
    listed = [("  METRIC", "LAST", "LOW", "HIGH", "COUNT")]
    listed += [
        ("  " + line_of(row["name"]), *(_number(row.get(key)) for key in ("last", "low", "high", "count")))
        for row in metrics["series"]
    ]
    if len(listed) > 1:
        print()
        table(listed)
    rows = [
        ("  PARAMETER", "VALUE"),
        *(("  " + line_of(name), line_of(value)) for name, value in params.items()),
    ]
    if len(rows) > 1:
        print()
        table(rows)
    if artifacts:
        print("\n  %d artifacts: runstead download %d" % (len(artifacts), run["number"]))
    return 0


def _facts(run: Dict[str, Any]) -> List[Tuple[str, str]]:
    from .following import failure

    config, properties = run["config"] or {}, run["properties"]
    commit = properties.get("azureml.git.commit", "")[:12]
    branch = properties.get("azureml.git.branch", "")
    dirty = " with changes" if properties.get("azureml.git.dirty") == "True" else ""
    words = config.get("command") or [config.get("script") or "", *config.get("arguments", [])]
    tags = [name if value is None else "%s=%s" % (name, value) for name, value in run["tags"].items()]
    took = span(seconds_between(run["started_at"], run["ended_at"])) if run["started_at"] else ""
    return [
        ("Status", run["status"] + (": " + line_of(failure(run), 200) if run["status"] == "Failed" else "")),
        ("Waits for", line_of(run["waiting_for"] or "", 200)),
        ("Silent since", "" if run["ended_at"] else local(run["unreachable_since"])),
        ("Experiment", run["experiment"]),
        ("Target", run["target"] or ""),
        ("Pool", run["pool"] or ""),
        ("Environment", run["environment"] or ""),
        ("Script", line_of(" ".join(words), 200)),
        ("Created", local(run["created_at"]) + (" by %s" % line_of(run["created_by"]) if run["created_by"] else "")),
        ("Started", local(run["started_at"])),
        ("Ended", local(run["ended_at"]) + (" after " + took if run["ended_at"] and took else "")),
        ("Tags", line_of(", ".join(tags), 200)),
        ("Git", ("%s %s%s" % (branch, commit, dirty)).strip()),
        ("Snapshot", (run["snapshot"] or "")[:12]),
        ("Notes", line_of(run["notes"], 200)),
        ("Id", run["id"]),
    ]


def _number(value: Any) -> str:
    return "" if value is None else "%.6g" % value if isinstance(value, float) else str(value)


def _cancel(options: argparse.Namespace, line: Optional[List[str]]) -> int:
    transport = connect()
    paths = ["runs/%d" % run_of(transport, text)["number"] for text in options.run]
    runs = [transport.request("POST", path + "/cancel").json() for path in paths]
    if options.wait:
        from .following import wait

        runs = [wait(transport, run["number"], shown=False) for run in runs]
    if options.json:
        return print_json(runs)
    for run in runs:
        print("Run %d: %s" % (run["number"], run["status"]))
    return 0


def _open(options: argparse.Namespace, line: Optional[List[str]]) -> int:
    transport = connect()
    url = run_of(transport, options.run)["url"] if options.run else "%s/%s/" % (transport.url, transport.workspace)
    if options.json:
        return print_json({"url": url})
    print(url)
    # A browser of the terminal itself would take the shell's place, and none can be seen from afar.
    near = sys.stdout.isatty() and not os.environ.get("CI") and not os.environ.get("SSH_CONNECTION")
    shows = sys.platform in ("win32", "darwin") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if near and shows and not options.print:
        import webbrowser

        if not webbrowser.open(url):
            tell("No browser could be started.")
    return 0
