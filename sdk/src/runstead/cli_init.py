"""The command `runstead init`: files that another program works with, such as the tasks of VS Code."""

from __future__ import annotations

import argparse
import json
import os

from .errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional

SUMMARY = {
    "owner": "runstead",
    "source": "runstead",
    "fileLocation": ["relative", "${workspaceFolder}"],
    "severity": "error",
    "pattern": {"regexp": r"^(.+):(\d+): error: (.*)$", "file": 1, "line": 2, "message": 3},
}
"""What `runstead run --follow` and `logs --follow` say at the end of a run that failed: the project's own line, wherever the error was raised."""


def add(commands: Any) -> None:
    """Add the command to those of `runstead`."""
    parser = commands.add_parser("init", help="write the files by which an editor works with the studio")
    parser.add_argument(
        "folder", nargs="?", default=".", metavar="FOLDER", help="the project (default: the working directory)"
    )
    parser.add_argument(
        "--vscode", action="store_true", help="tasks of VS Code with problem matchers for Python tracebacks"
    )
    parser.add_argument("--print", action="store_true", help="print them instead of writing .vscode/tasks.json")
    parser.set_defaults(call=_init)


def _init(options: argparse.Namespace, line: Optional[List[str]]) -> int:
    if not options.vscode:
        raise UserError("init: say for which editor: runstead init --vscode")
    if not os.path.isdir(options.folder):
        raise UserError("FOLDER: there is no folder %s." % options.folder)
    path = os.path.join(options.folder, ".vscode", "tasks.json")
    mine = tasks()
    if options.print:
        print(json.dumps(mine, indent=2))
        return 0
    merged = _merged(path, mine) if os.path.exists(path) else mine
    os.makedirs(os.path.dirname(path), exist_ok=True)
    draft = "%s.%d" % (path, os.getpid())
    with open(draft, "w", encoding="utf-8") as file:
        file.write(json.dumps(merged, indent=2, ensure_ascii=False) + "\n")
    os.replace(draft, path)
    print("%s: %d tasks of Runstead. In VS Code: Terminal, Run Task." % (path, len(mine["tasks"])))
    return 0


def tasks() -> Dict[str, Any]:
    """The tasks, as VS Code reads them."""
    return {
        "version": "2.0.0",
        "tasks": [
            _task(
                "run this file",
                ["run", "${workspaceFolder}", "--follow", "--", "${relativeFile}"],
                [SUMMARY],
                group="build",
            ),
            _task(
                "run this file on a target",
                [
                    "run",
                    "${workspaceFolder}",
                    "--target",
                    "${input:runstead-target}",
                    "--env",
                    "${input:runstead-environment}",
                    "--follow",
                    "--",
                    "${relativeFile}",
                ],
                [SUMMARY],
            ),
            _task(
                "run as in run.yaml",
                ["run", "${workspaceFolder}", "--file", "${workspaceFolder}/run.yaml", "--follow"],
                [SUMMARY],
            ),
            _task("follow a run", ["logs", "--follow", "${input:runstead-run}"], [SUMMARY]),
            _task("cancel a run", ["cancel", "${input:runstead-run}"], []),
            _task("open the studio", ["open"], []),
        ],
        "inputs": [
            {"id": "runstead-target", "type": "promptString", "description": "Compute target", "default": "local"},
            {"id": "runstead-environment", "type": "promptString", "description": "Environment", "default": "python"},
            {"id": "runstead-run", "type": "promptString", "description": "Number of the run"},
        ],
    }


def _task(
    label: str, arguments: List[str], matchers: List[Dict[str, Any]], group: Optional[str] = None
) -> Dict[str, Any]:
    # A process and no shell: what the file is called stays one word.
    task: Dict[str, Any] = {"label": "Runstead: " + label, "type": "process", "command": "runstead", "args": arguments}
    task["problemMatcher"] = matchers
    task["presentation"] = {"panel": "dedicated", "clear": True}
    if group:
        task["group"] = group
    return task


def _merged(path: str, mine: Dict[str, Any]) -> Dict[str, Any]:
    """What is there, with our tasks in the place of those of the same names. Raises UserError."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            there = json.load(file)
        listed = {name: there.get(name, []) for name in ("tasks", "inputs")}
        known = {"tasks": {task["label"] for task in mine["tasks"]}, "inputs": {one["id"] for one in mine["inputs"]}}
        keys = {"tasks": "label", "inputs": "id"}
        kept = {name: [one for one in rows if one.get(keys[name]) not in known[name]] for name, rows in listed.items()}
    except (ValueError, AttributeError, TypeError):
        raise UserError(
            "%s is there and is no plain JSON (comments are lost when it is written). Add by hand what this prints: runstead init "
            "--vscode --print" % path
        ) from None
    return {**there, "version": "2.0.0", **{name: rows + mine[name] for name, rows in kept.items()}}
