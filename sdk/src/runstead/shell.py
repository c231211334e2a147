"""What the commands of `runstead` share: the parser, the connection, tables, times."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import re
import sys

from .errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterable, List, NoReturn, Optional, Sequence

    from .transport import Transport


class Parser(argparse.ArgumentParser):
    """A parser that takes no abbreviations and names what may have been meant."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("allow_abbrev", False)
        super().__init__(**options)
        self.hint = ""
        """What to say of a word too many."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As in argparse, but `--sort -val/acc` gives a value, since there is no such option."""
        words = list(sys.argv[1:] if args is None else args)
        joined: List[str] = []
        while words:
            word = words.pop(0)
            action = self._option_string_actions.get(word)
            takes = word.startswith("--") and action is not None and action.nargs is None
            if takes and words and re.match(r"-[^-]", words[0]) and words[0] not in self._option_string_actions:
                word += "=" + words.pop(0)
            joined.append(word)
        return super().parse_known_args(joined, namespace)

    def error(self, message: str) -> NoReturn:
        choice = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        if choice:
            near = close(choice.group(1), re.findall(r"[\w.@:-]+", choice.group(2)))
            message = message[: choice.start()] + "there is no %r." % choice.group(1)
            message += near or " Choose from: %s." % choice.group(2).replace("'", "")
        self.print_usage(sys.stderr)
        self.exit(2, "%s: %s\n" % (self.prog, message))

    def unknown(self, words: Sequence[str]) -> NoReturn:
        """End because of words that no option of this command takes."""
        options = [option for option in self._option_string_actions if option.startswith("--")]
        first = words[0].partition("=")[0]
        fix = close(first, options) if first.startswith("-") else self.hint
        self.error("%s is not known here.%s" % (words[0], fix))


def close(word: str, known: Iterable[str]) -> str:
    """` Did you mean …?`, or nothing."""
    near = difflib.get_close_matches(word, list(known), 1, 0.6)
    return " Did you mean %s?" % near[0] if near else ""


def add_json(parser: Any, text: str = "the answer as JSON") -> None:
    # Not the default False: given before a command of a command, it would be forgotten.
    parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=text)


def connect() -> Transport:
    """The connection to the studio that is found. Raises UserError."""
    from . import config
    from .transport import Transport

    found = config.find()
    return Transport(found["url"], found["workspace"], found["token"])


def path_of_run(transport: Transport, text: str) -> str:
    """Where the API has the run that a number, an id, or the address of its page names. Raises UserError."""
    from urllib.parse import quote

    found = re.search(r"(?:^|/runs/)([0-9]{1,15})(?:[/?#].*)?$", text)
    if found:
        _check_place(transport, text, text[: found.start()])
        return "runs/" + found.group(1)
    if "/" in text or not text:
        raise UserError("RUN: %r is no run. Give its number, its id or the address of its page." % text)
    return "runs/%d" % fetch(transport, "runs/by-id/" + quote(text, safe=""), text)["number"]


def _check_place(transport: Transport, text: str, place: str) -> None:
    """Raises UserError when the address of a run leads to another studio or workspace: its number means another run here."""
    from urllib.parse import quote

    own = "%s/%s" % (transport.url, quote(transport.workspace, safe=""))
    if not place or _leads_to(place, own, text):
        return
    # Pages may have another address than the API: the studio knows it.
    rows = transport.request("GET", "runs", query={"limit": 1}).json()["runs"]
    if rows and _leads_to(place, rows[0]["url"].rpartition("/runs/")[0], text):
        return
    here = "workspace %s of %s" % (transport.workspace, transport.url)
    given = _whole(place, own)
    if "://" not in given:
        raise UserError("RUN: %r is no run of %s." % (text, here))
    raise UserError(
        "RUN: %s is not in %s, where commands go. 'runstead login %s' leads there."
        % (text, here, quote(given, safe=":/[]"))
    )


def _leads_to(place: str, own: str, text: str) -> bool:
    """Whether an address, which may lack its scheme or also its host, is that of a workspace."""
    from .transport import LOCAL, address_of

    scheme, host, port, path = address_of(own)
    place = _whole(place, own)
    if "://" not in place:
        return path == "/" + place.strip("/")
    try:
        given = address_of(place)
    except UserError:
        raise UserError("RUN: %r is no run. Give its number, its id or the address of its page." % text) from None
    same = given[1] == host or (given[1] in LOCAL and host in LOCAL)
    return same and (given[0], given[2], given[3]) == (scheme, port, path)


def _whole(place: str, own: str) -> str:
    """An address with a host, with a scheme too."""
    without = "://" not in place and not place.startswith("/") and "/" in place
    return own.partition("://")[0] + "://" + place if without else place


def run_of(transport: Transport, text: str) -> Dict[str, Any]:
    """The run that a number, an id, or the address of its page names. Raises UserError."""
    return fetch(transport, path_of_run(transport, text), text)


def fetch(transport: Transport, path: str, text: str) -> Dict[str, Any]:
    from .transport import ApiError

    try:
        found: Dict[str, Any] = transport.request("GET", path).json()
    except ApiError as error:
        if error.status != 404 or error.names("workspace"):
            raise
        where = "workspace %s of %s" % (transport.workspace, transport.url)
        raise UserError("RUN: there is no run %s in %s. 'runstead runs' lists them." % (text, where)) from None
    return found


def artifacts_of(transport: Transport, number: int) -> List[Dict[str, Any]]:
    """The files that a run produced, those too whose content is not kept."""
    found: List[Dict[str, Any]] = []
    after = ""
    while True:
        page = transport.request("GET", "runs/%d/artifacts" % number, query={"after": after, "limit": 10_000}).json()
        found += page["artifacts"]
        if page["next"] is None:
            return found
        after = page["next"]


def count(text: str) -> int:
    """A number of things, for argparse."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError("%r is no number of things: use 0 or more" % text)
    return int(text)


def table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows, the first the heads, in columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join("%-*s" % (width, text) for width, text in zip(widths, row)).rstrip())


def print_json(value: Any) -> int:
    print(json.dumps(value, indent=2), flush=True)
    return 0


def tell(text: str) -> None:
    """Say something beside the output."""
    print(text, file=sys.stderr, flush=True)


def line_of(text: Optional[str], most: int = 60) -> str:
    """A text that somebody typed, fit for a terminal: one line, no control characters, not too long."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text or "")
    return plain if len(plain) <= most else plain[: most - 1] + "…"


def seconds_between(first: Optional[str], last: Optional[str]) -> Optional[float]:
    """Seconds from one time of the API to another, or to now."""
    from datetime import datetime, timezone

    if not first:
        return None
    end = moment(last) if last else datetime.now(timezone.utc)
    return max(0.0, (end - moment(first)).total_seconds())


def moment(text: str) -> Any:
    """A time of the API, which Python before 3.11 reads only with `+00:00`."""
    from datetime import datetime

    return datetime.fromisoformat(re.sub(r"Z$", "+00:00", text))


def span(seconds: Optional[float]) -> str:
    """A duration for people: `42 s`, `3 m 10 s`, `5 h 2 m`, `3 d`."""
    if seconds is None:
        return ""
    whole = int(seconds)
    if whole < 60:
        return "%d s" % whole
    if whole < 3600:
        return "%d m %d s" % divmod(whole, 60)
    if whole < 86400:
        return "%d h %d m" % (whole // 3600, whole % 3600 // 60)
    return "%d d %d h" % (whole // 86400, whole % 86400 // 3600)


def local(text: Optional[str]) -> str:
    """A time of the API by this machine's clock and zone."""
    return moment(text).astimezone().strftime("%Y-%m-%d %H:%M:%S") if text else ""


def at_a_terminal() -> bool:
    """Whether somebody sits here who can be asked."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty() and not os.environ.get("CI")
