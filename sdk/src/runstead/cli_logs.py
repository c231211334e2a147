"""The command `runstead logs`."""

from __future__ import annotations

import argparse
import sys

from .shell import add_json, connect, fetch, path_of_run, print_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, List, Optional


def add(commands: Any) -> None:
    """Add the command to those of `runstead`."""
    logs = commands.add_parser("logs", help="print the log of a run, byte for byte")
    logs.add_argument("run", metavar="RUN", help="number, id, or the address of its page")
    logs.add_argument(
        "-f", "--follow", action="store_true", help="go on until the run ends, also while the studio is away"
    )
    logs.add_argument("--name", default="log", metavar="LOG", help="another log of the run, such as logs/info.txt")
    logs.add_argument("--offset", type=int, default=0, metavar="BYTES", help="begin there")
    logs.add_argument("--list", action="store_true", help="the names and sizes of the run's logs instead")
    add_json(logs, "the names and sizes of the run's logs, as JSON")
    logs.set_defaults(call=_logs)


def _logs(options: argparse.Namespace, line: Optional[List[str]]) -> int:
    from .following import follow

    transport = connect()
    path = path_of_run(transport, options.run)
    if options.list or options.json:
        return _listed({"logs": transport.rows(path + "/logs", "logs")}, options.json)
    number = int(path.rpartition("/")[2])
    fetch(transport, path, options.run)
    out = sys.stdout.buffer
    if options.follow:
        return 0 if follow(transport, number, out, name=options.name, offset=options.offset) else 1
    offset = options.offset
    while True:
        query = {"offset": offset, "name": options.name}
        data = transport.request("GET", path + "/log", query=query).data
        if not data:
            return 0
        offset += len(data)
        out.write(data)
        out.flush()


def _listed(found: Any, as_json: bool) -> int:
    if as_json:
        return print_json(found)
    for log in found["logs"]:
        print("%s  %d" % (log["name"], log["size"]))
    return 0
