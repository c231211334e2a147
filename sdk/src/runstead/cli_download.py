"""The command `runstead download`: artifacts, logs and the snapshot of a run, as files."""

from __future__ import annotations

import argparse
import functools
import hashlib
import os
import re

from .errors import UserError
from .places import apart, parts_of
from .progress import Bar
from .shell import add_json, artifacts_of, close, connect, print_json, run_of, tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any, Callable, Dict, Iterable, List, Optional

    from .transport import Transport

BLOCK = 1 << 20
PART = ".runstead-part"
EXAMPLES = """examples:
  runstead download 12                       everything that run 12 produced, into ./run-12
  runstead download 12 outputs/model.pt      one file
  runstead download 12 outputs/plots/ -o .   what lies in a folder
  runstead download 12 --snapshot --log      its code and its log too
"""


def add(commands: Any) -> None:
    """Add the command to those of `runstead`."""
    parser = commands.add_parser(
        "download", help="fetch what a run produced", epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )  # fmt: skip
    parser.add_argument("run", metavar="RUN", help="number, id, or the address of its page")
    parser.add_argument("paths", metavar="PATH", nargs="*", help="files or folders of it (default: all artifacts)")
    parser.add_argument("-o", "--output", metavar="FOLDER", help="where to (default: run-<number>)")
    parser.add_argument("--snapshot", action="store_true", help="the code it ran too, below snapshot/")
    parser.add_argument("--log", action="store_true", help="its log too, as log.txt")
    parser.add_argument("--force", action="store_true", help="write over files that differ")
    add_json(parser, "what was fetched, as JSON")
    parser.set_defaults(call=_download)


def _download(options: argparse.Namespace, line: Optional[List[str]]) -> int:
    transport = connect()
    run = run_of(transport, options.run)
    number = run["number"]
    folder = options.output or "run-%d" % number
    wanted: List[Content] = []
    if options.paths or not (options.snapshot or options.log):
        place = "runs/%d/artifacts/content" % number
        chosen = list(_chosen(artifacts_of(transport, number), options.paths, number))
        apart(row["path"] for row in chosen)
        for row in chosen:
            if row["digest"]:
                wanted.append(Content(place, {"path": row["path"]}, row["path"], row["size"], row["digest"]))
            else:
                tell("%s is not kept: %s" % (row["path"], row["skipped"]))
    files = None
    if options.snapshot and run["snapshot"]:
        from urllib.parse import quote

        files = transport.request("GET", "runs/%d/snapshot" % number).json()
        apart(file["path"] for file in files["files"])
        for file in files["files"]:
            place = "snapshots/%s/files/%s" % (run["snapshot"], quote(file["path"], safe="/"))
            wanted.append(Content(place, None, "snapshot/" + _as_bytes(file["path"]), file["size"], file["digest"]))
    if options.log:
        wanted.append(Content("runs/%d/log" % number, None, "log.txt", None, None))
    done = fetch_all(transport, wanted, folder, options.force)
    if files is not None:
        _structure(files, os.path.join(folder, "snapshot"))
    if options.json:
        return print_json(done)
    size = sum(row["size"] for row in done)
    words = "%.1f MB" % (size / 1e6) if size >= 50_000 else "%d bytes" % size
    print("%d file%s, %s in %s" % (len(done), "" if len(done) == 1 else "s", words, os.path.abspath(folder)))
    return 0


def _chosen(listed: List[Dict[str, Any]], wanted: List[str], number: int) -> Iterable[Dict[str, Any]]:
    found: Dict[str, Dict[str, Any]] = {}
    for text in wanted:
        rows = [row for row in listed if row["path"] == text or row["path"].startswith(text.rstrip("/") + "/")]
        if not rows:
            near = close(text, [row["path"] for row in listed])
            raise UserError("PATH: run %d has no artifact %s.%s" % (number, text, near))
        found.update((row["path"], row) for row in rows)
    return found.values() if wanted else listed


class Content:
    """Something to fetch: where the API has it, and what it becomes. Size and SHA-256 are None where they are not known before."""

    def __init__(
        self, place: str, query: Optional[Dict[str, Any]], path: str, size: Optional[int], digest: Optional[str]
    ) -> None:
        self.place, self.query, self.path, self.size, self.digest = place, query, path, size, digest


def fetch_all(transport: Transport, wanted: Iterable[Content], folder: str, force: bool) -> List[Dict[str, Any]]:
    """Fetch contents below a folder, with a bar for all; a row of each. Raises UserError, RunsteadError."""
    wanted = list(wanted)
    done: List[Dict[str, Any]] = []
    total, begin = sum(content.size or 0 for content in wanted), 0
    with Bar() as bar:
        for content in wanted:
            done.append(_fetch(transport, content, folder, force, functools.partial(_told, bar, begin, total)))
            begin += content.size or 0
    return done


def _told(bar: Bar, begin: int, total: int, count: int) -> None:
    bar.told("fetching", begin + count, total)


def _fetch(
    transport: Transport, content: Content, folder: str, force: bool, told: Callable[[int], None]
) -> Dict[str, Any]:
    """Fetch one content to its file, which appears whole or not at all; a part that is there from before goes on. `told`: how many
    bytes are here.

    Raises UserError, and RunsteadError when what came is not what was promised, or cannot be written.
    """
    from .fetching import fetch, writing
    from .transport import Unreachable

    path, size, digest = content.path, content.size, content.digest
    target = os.path.join(folder, *parts_of(path))
    if os.path.isfile(target) and digest and os.path.getsize(target) == size and _digest(target) == digest:
        return {"path": path, "file": target, "size": size, "fetched": False}
    if os.path.exists(target) and not force:
        raise UserError("%s is there already and differs. Give --force to write over it, or another --output." % target)
    part = target + PART
    with writing(target):
        os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
        try:
            with open(part, "a+b") as file:
                if size is None:
                    _whole_log(transport, content.place, file)
                else:
                    fetch(transport, content.place, content.query, file, path, digest, told)
                count = file.tell()
            os.replace(part, target)
        except Unreachable as error:
            fix = "" if size is None else " The same command goes on where it stopped."
            raise Unreachable("%s%s" % (error, fix)) from None
        finally:
            if os.path.exists(part) and not os.path.getsize(part):
                os.unlink(part)
    return {"path": path, "file": target, "size": count, "fetched": True}


def _whole_log(transport: Transport, place: str, file: IO[bytes]) -> None:
    file.seek(0)
    file.truncate()
    while True:
        data = transport.request("GET", place, query={"offset": file.tell()}).data
        if not data:
            return
        file.write(data)


def _structure(files: Dict[str, Any], folder: str) -> None:
    """Executable bits, empty folders, and links that stay inside."""
    for file in files["files"]:
        if file["mode"] & 0o100:
            os.chmod(os.path.join(folder, *parts_of(_as_bytes(file["path"]))), 0o755)  # noqa: S103 as it was in the folder
    for path in files["dirs"]:
        os.makedirs(os.path.join(folder, *parts_of(_as_bytes(path))), exist_ok=True)
    for path, target in (map(_as_bytes, link) for link in files["links"]):
        place = os.path.join(folder, *parts_of(path))
        os.makedirs(os.path.dirname(place), exist_ok=True)
        inside = os.path.normpath(os.path.join(os.path.dirname(path), target))
        if os.path.isabs(target) or inside.split(os.sep)[0] == "..":
            tell("%s: a link that leads out of the folder is not made." % path)
        elif not os.path.lexists(place):
            try:
                os.symlink(target, place)
            except OSError as error:  # Windows lets only some accounts make them
                tell("%s: the link to %s cannot be made here: %s" % (path, target, error.strerror or error))


def _as_bytes(path: str) -> str:
    """A name of a snapshot as it was on its disk: the API shows a byte that is not UTF-8 as `\\xff`, and no name holds a backslash."""
    if "\\" not in path or os.name != "posix":
        return path
    return re.sub(r"\\x([89a-f][0-9a-f])", lambda found: chr(0xDC00 + int(found.group(1), 16)), path)


def _digest(path: str) -> str:
    sha256 = hashlib.sha256()
    with open(path, "rb") as file:
        while True:
            block = file.read(BLOCK)
            if not block:
                return sha256.hexdigest()
            sha256.update(block)
