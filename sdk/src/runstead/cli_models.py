"""The command `runstead models`: models registered from the artifacts of runs."""

from __future__ import annotations

import argparse

from .errors import UserError
from .shell import add_json, connect, line_of, local, path_of_run, print_json, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional

    from .transport import Transport

EXAMPLES = """examples:
  runstead models register digits --run 12 --path outputs/model.pt
  runstead models show digits
"""


def add(commands: Any) -> None:
    """Add the commands to those of `runstead`."""
    parser = commands.add_parser(
        "models", help="registered models: list, show, register, download", epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )  # fmt: skip
    add_json(parser, "everything the studio says about them")
    parser.set_defaults(call=_list)
    parts = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=type(parser))
    show = parts.add_parser("show", help="the versions of one, and where they come from")
    show.add_argument("model", metavar="NAME[:VERSION]", help="a model, or one version of it")
    add_json(show)
    show.set_defaults(call=_show)
    register = parts.add_parser("register", help="keep an artifact, or a folder of artifacts, as the next version")
    register.add_argument("name", metavar="NAME", help="of the model; it comes into being with its first version")
    register.add_argument("--run", required=True, metavar="RUN", help="number, id, or the address of its page")
    register.add_argument("--path", required=True, metavar="PATH", help="of the artifact, or of a folder of them")
    register.add_argument("--description", default="", metavar="TEXT", help="of the version")
    register.add_argument("--tag", action="append", default=[], metavar="NAME[=VALUE]", help="of the version")
    add_json(register)
    register.set_defaults(call=_register)
    download = parts.add_parser("download", help="fetch the files of a version")
    download.add_argument("model", metavar="NAME[:VERSION]", help="the newest version when none is named")
    download.add_argument("-o", "--output", metavar="FOLDER", help="where to (default: the model's name)")
    download.add_argument("--force", action="store_true", help="write over files that differ")
    add_json(download, "what was fetched, as JSON")
    download.set_defaults(call=_download)


def _list(options: argparse.Namespace, line: Optional[List[str]]) -> int:
    transport = connect()
    found: List[Dict[str, Any]] = []
    after: Optional[str] = ""
    while after is not None:
        page = transport.request("GET", "models", query={"after": after, "limit": 200}).json()
        found += page["models"]
        after = page["next"]
    if options.json:
        return print_json(found)
    rows = [("NAME", "VERSION", "UPDATED", "DESCRIPTION")]
    for row in found:
        version = "" if row["latest"] is None else str(row["latest"])
        rows.append((row["name"], version, local(row["updated_at"])[:16], line_of(row["description"])))
    table(rows)
    return 0


def _show(options: argparse.Namespace, line: Optional[List[str]]) -> int:
    transport = connect()
    name, _, version = options.model.partition(":")
    path = "models/" + _quoted(name)
    found = _ask(transport, path + ("/versions/" + _quoted(version) if version else ""), options.model)
    if options.json:
        return print_json(found)
    rows = [("VERSION", "RUN", "PATH", "CREATED", "DESCRIPTION")]
    for row in [found] if version else found["all_versions"]:
        run = "" if row["run"] is None else str(row["run"])
        rows.append((str(row["version"]), run, row["path"], local(row["created_at"])[:16], line_of(row["description"])))
    table(rows)
    return 0


def _register(options: argparse.Namespace, line: Optional[List[str]]) -> int:
    from .pending import Pending

    transport = connect()
    run = int(path_of_run(transport, options.run).rpartition("/")[2])
    tags = {name: value if equals else None for name, equals, value in (text.partition("=") for text in options.tag)}
    body = {"name": options.name, "run": run, "path": options.path, "description": options.description, "tags": tags}
    with Pending(transport.place, body) as pending:
        found = transport.request("POST", "models", body, headers={"Idempotency-Key": pending.key}).json()
    if options.json:
        return print_json(found)
    print("%s:%s" % (found["name"], found["version"]))
    return 0


def _download(options: argparse.Namespace, line: Optional[List[str]]) -> int:
    from .cli_download import Content, fetch_all

    transport = connect()
    name, _, version = options.model.partition(":")
    path = "models/" + _quoted(name)
    if not version:
        newest = _ask(transport, path, options.model)["latest"]
        if newest is None:
            raise UserError("NAME: the model %s has no version any more." % name)
        version = str(newest)
    path += "/versions/" + _quoted(version)
    found = _ask(transport, path, options.model)
    folder = options.output or name
    content = path + "/content"
    wanted = [
        Content(content, {"path": file["path"]}, file["path"], file["size"], file["digest"]) for file in found["files"]
    ]
    done = fetch_all(transport, wanted, folder, options.force)
    if options.json:
        return print_json(done)
    print("%s: %d files in %s" % (found["id"], len(done), folder))
    return 0


def _ask(transport: Transport, path: str, name: str) -> Dict[str, Any]:
    from .transport import ApiError

    try:
        found: Dict[str, Any] = transport.request("GET", path).json()
    except ApiError as error:
        if error.status != 404 or error.names("workspace"):
            raise
        raise UserError("NAME: there is no model %s. 'runstead models' lists them." % name) from None
    return found


def _quoted(text: str) -> str:
    from urllib.parse import quote

    return quote(text, safe="")
