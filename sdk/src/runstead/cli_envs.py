"""The commands of `runstead` about environments."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import re

from . import definitions
from . import environment_calls as calls
from .client import Workspace
from .environment import ImageBuildDetails
from .errors import RunsteadError, UserError
from .shell import tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional

KINDS = ("requirements", "conda", "dockerfile", "definition")
REFERENCE = "NAME[:VERSION|@LABEL]"
EPILOG = """examples:
  runstead envs register environment.yml --name vision
  runstead envs build vision --target gpu-box-3 --follow
  runstead envs diff vision:1 vision:2
"""


def add(commands: Any) -> None:
    """Add the commands to those of `runstead`."""
    parser = commands.add_parser(
        "envs", help="environments: list, show, register, build, …", epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="everything the studio says about them")
    parser.set_defaults(call=_list)
    parts = parser.add_subparsers(title="commands", metavar="COMMAND")
    show = _part(parts, "show", _show, "what is in one, and where it is built")
    show.add_argument("environment", metavar=REFERENCE)
    register = _part(parts, "register", _register, "keep what a file says; unchanged, it keeps its version")
    register.add_argument(
        "file", metavar="FILE", help="requirements.txt, environment.yml, a Dockerfile, or a definition"
    )
    register.add_argument("--name", required=True)
    register.add_argument("--format", choices=KINDS, help="what the file is (default: by its name)")
    build = _part(parts, "build", _build, "have it built on a target before a run needs it")
    build.add_argument("environment", metavar=REFERENCE)
    build.add_argument("--target", default="local", help="the compute target (default: local)")
    build.add_argument(
        "--follow", action="store_true", help="print the log until it has ended; exits with 0 when it is ready"
    )
    refresh = _part(
        parts, "refresh", _refresh, "a new version of the same definition with the newest packages that fit"
    )
    refresh.add_argument("environment", metavar=REFERENCE)
    diff = _part(parts, "diff", _diff, "what differs; exits with 1 when something does")
    diff.add_argument("first", metavar=REFERENCE)
    diff.add_argument("second", metavar=REFERENCE)
    label = _part(parts, "label", _label, "have a label point to a version")
    label.add_argument("environment", metavar="NAME[:VERSION]")
    label.add_argument("label")


def _part(parts: Any, name: str, call: Any, text: str) -> Any:
    parser = parts.add_parser(name, help=text)
    # Not the default False: given before the command, it would be forgotten.
    parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="the answer as JSON")
    parser.set_defaults(call=call)
    return parser


def _list(options: argparse.Namespace, line: Optional[List[str]]) -> int:
    rows = calls.listed(Workspace.from_config())
    if options.json:
        return _print(rows)
    table = [("NAME", "VERSION", "KIND", "WHOSE", "DESCRIPTION")]
    for row in rows:
        whose = "curated" if row["curated"] else "workspace"
        table.append((row["name"], str(row["version"]), row["kind"], whose, row["description"]))
    _table(table)
    return 0


def _show(options: argparse.Namespace, line: Optional[List[str]]) -> int:
    workspace = Workspace.from_config()
    row = calls.fetch(workspace, options.environment)
    reference = _reference(row)
    built = calls.builds(workspace, reference)
    if options.json:
        return _print({**row, "builds": built})
    labels = " ".join("@" + name for name in row.get("labels") or [])
    print(" ".join(part for part in (reference, labels, "(curated)" if row["curated"] else "") if part))
    if row["description"]:
        print(row["description"])
    for name, value in row["definition"].items():
        if isinstance(value, list):
            print("%s:" % name)
            for one in value:
                print("  " + str(one))
        elif isinstance(value, dict):
            print("%s:" % name)
            for key, one in value.items():
                print("  %s: %s" % (key, ", ".join(map(str, one)) if isinstance(one, list) else one))
        elif isinstance(value, str) and "\n" in value:
            print("%s:\n  %s" % (name, value.rstrip("\n").replace("\n", "\n  ")))
        else:
            print("%s: %s" % (name, str(value).lower() if isinstance(value, bool) else value))
    if built:
        print()
        _table([("TARGET", "STATUS", "SIZE", "ERROR")] + [
            (one["target"], one["status"], _size(one.get("size")), one.get("error") or "") for one in built
        ])  # fmt: skip
    return 0


def _register(options: argparse.Namespace, line: Optional[List[str]]) -> int:
    text = definitions.read("FILE", options.file)
    row = calls.register_text(
        Workspace.from_config(), options.name, options.format or kind_of(options.file, text), text
    )
    if options.json:
        return _print(row)
    print(_reference(row))
    for note in row.get("notes") or ():
        tell(note)
    return 0


def kind_of(path: str, text: str) -> str:
    """What a file is, by its name and first words. Raises UserError."""
    name = os.path.basename(path).lower()
    if "dockerfile" in name:
        return "dockerfile"
    if name.endswith((".txt", ".in")):
        return "requirements"
    if name.endswith((".yml", ".yaml")):
        return "conda" if re.search(r"^(dependencies|channels):", text, re.M) else "definition"
    if name.endswith(".json"):
        return "definition"
    raise UserError("FILE: what is %s? Say it: --format %s." % (path, " or ".join(KINDS)))


def _build(options: argparse.Namespace, line: Optional[List[str]]) -> int:
    workspace = Workspace.from_config()
    reference = _reference(calls.fetch(workspace, options.environment))
    build = ImageBuildDetails(workspace, reference, calls.build(workspace, reference, options.target))
    if options.follow:
        try:
            build.wait_for_completion(show_output=not options.json)
        except RunsteadError:
            if not options.json:
                raise
    if options.json:
        _print(build.serialize())
    elif not options.follow:
        print("%s on %s: %s" % (reference, build.target, build.status))
    return 1 if build.serialize()["status"] == "Failed" else 0


def _refresh(options: argparse.Namespace, line: Optional[List[str]]) -> int:
    row = calls.refresh(Workspace.from_config(), options.environment)
    if options.json:
        return _print(row)
    print("%s: its packages are resolved anew where it is built next." % _reference(row))
    return 0


def _diff(options: argparse.Namespace, line: Optional[List[str]]) -> int:
    found = calls.compare(Workspace.from_config(), options.first, options.second)
    if options.json:
        _print(found)
    elif found["same"]:
        print("%s and %s are the same." % (found["old"], found["new"]))
    else:
        _differences(found)
    return 0 if found["same"] else 1


def _differences(found: Dict[str, Any]) -> None:
    print("%s -> %s" % (found["old"], found["new"]))
    packages = [one for part in ("added", "removed", "changed") for one in found[part]]
    if found["built"]:
        kinds = " and ".join(sorted({kind for kind in found["platforms"] if kind}))
        print("installed%s:" % (" (%s)" % kinds if kinds else ""))
        _changes(packages)
        if found["asked"]:
            print("asked for:")
    else:
        print("asked for (not both are built in this workspace, so what would be installed is not known):")
    _changes(found["asked"])
    for one in found["fields"]:
        print(one["name"] + ":")
        old, new = one["old"].splitlines(), one["new"].splitlines()
        for line in difflib.ndiff(old, new):
            if line[:2] in ("+ ", "- "):
                print("  " + line)


def _changes(rows: List[Dict[str, str]]) -> None:
    for one in sorted(rows, key=lambda one: one["name"].lower()):
        if not one["old"]:
            print("  + %s %s" % (one["name"], one["new"]))
        elif not one["new"]:
            print("  - %s %s" % (one["name"], one["old"]))
        else:
            print("  ~ %s %s -> %s" % (one["name"], one["old"], one["new"]))


def _label(options: argparse.Namespace, line: Optional[List[str]]) -> int:
    row = calls.set_label(Workspace.from_config(), options.environment, options.label)
    if options.json:
        return _print(row)
    print("%s@%s is %s" % (row["name"], options.label, _reference(row)))
    return 0


def _reference(row: Dict[str, Any]) -> str:
    return "%s:%s" % (row["name"], row["version"])


def _size(size: Any) -> str:
    return "%.0f MB" % (size / 1e6) if size else ""


def _table(rows: List[Any]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join("%-*s" % (width, text) for width, text in zip(widths, row)).rstrip())


def _print(value: Any) -> int:
    print(json.dumps(value, indent=2))
    return 0
