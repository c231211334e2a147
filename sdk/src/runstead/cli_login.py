"""The commands `login` and `logout`: where the studio is, and who calls."""

from __future__ import annotations

import argparse
import os
import re
import sys

from .errors import RunsteadError, UserError
from .shell import add_json, at_a_terminal, print_json, tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional

    from .transport import Transport

NOTE = """The token is read from the terminal, from standard input or from RUNSTEAD_TOKEN, never from the command line, where other people of the
machine could see it. It is kept in ~/.config/runstead/logins.json, readable by you alone.
"""


def add(commands: Any) -> None:
    """Add the commands to those of `runstead`."""
    login = commands.add_parser("login", help="sign in to a studio with a token", epilog=NOTE)
    login.add_argument("url", metavar="URL", nargs="?", help="the studio's address; asked for when it is missing")
    login.add_argument("--workspace", metavar="NAME", help="the token's workspace (default: the studio says it)")
    add_json(login, "where you are signed in now, as JSON, without the token")
    login.set_defaults(call=_login)
    logout = commands.add_parser("logout", help="forget the tokens of a studio")
    logout.add_argument("url", metavar="URL", nargs="?", help="the studio's address (default: all)")
    add_json(logout, "what was forgotten, as JSON")
    logout.set_defaults(call=_logout)


def _login(options: argparse.Namespace, line: Optional[List[str]]) -> int:
    from . import config
    from .transport import Transport

    url, workspace = _address(options)
    token = os.environ.get("RUNSTEAD_TOKEN") or _token(url)
    transport = Transport(url, workspace or "-", token)
    if url.startswith("http://") and not transport.is_local:
        tell(
            "runstead: note: %s is not encrypted: whoever is between can read the token. Use https://… where you can."
            % url
        )
    found = _who(transport, workspace)
    path = config.keep_login(transport.url, found["workspace"], token)
    if options.json:
        return print_json({"url": transport.url, **found})
    who = " as %s" % found["user"] if found.get("user") else ""
    print("Signed in to %s%s, workspace %s. Kept in %s." % (transport.url, who, found["workspace"], path))
    for name in ("RUNSTEAD_URL", "RUNSTEAD_DATA_DIR"):
        if os.environ.get(name):
            tell("runstead: note: %s is set in this shell and goes first." % name)
    return 0


def _address(options: argparse.Namespace) -> List[str]:
    url = options.url or (_asked("Address of the studio: ") if at_a_terminal() else "")
    if not url:
        raise UserError("URL: give the studio's address, for example: runstead login https://studio.example.org")
    url = url.strip().rstrip("/")
    if "://" not in url:
        url = ("http://" if url.partition(":")[0] in ("localhost", "127.0.0.1") else "https://") + url
    # The address of any page does: what follows the host is a workspace and more.
    match = re.match(r"(https?://[^/?#]+)/([A-Za-z0-9_-]+)(?:/.*)?$", url)
    if match and not options.workspace:
        return [match.group(1), match.group(2)]
    return [url, options.workspace or ""]


def _token(url: str) -> str:
    if at_a_terminal():
        import getpass

        token = getpass.getpass("Token (%s, Settings, Tokens makes one): " % url)
    else:
        token = sys.stdin.readline()
    token = token.strip()
    if not token:
        raise UserError("token: there is none. Make one in Settings, Tokens, and paste it, or pipe it in.")
    return token


def _asked(prompt: str) -> str:
    sys.stderr.write(prompt)
    sys.stderr.flush()
    return sys.stdin.readline().strip()


def _who(transport: Transport, workspace: str) -> Dict[str, Any]:
    """Whose token it is, and of which workspace. Raises RunsteadError when it does not open the one that was named."""
    from .transport import ApiError

    me = transport.request("GET", "/me").json()
    token = me.get("token") or {}
    own = str(token.get("workspace") or "")
    if workspace and own and own != workspace:
        raise UserError(
            "token: it opens the workspace %s, not %s. Make one there, or leave the workspace out." % (own, workspace)
        )
    transport.workspace = workspace or own
    try:
        transport.request("GET", "runs", query={"limit": 1})
    except ApiError as error:
        if error.status == 404:
            raise RunsteadError(
                "workspace: there is none named %s that this token opens." % transport.workspace
            ) from None
        raise
    return {"workspace": transport.workspace, "user": me.get("email"), "role": token.get("scope")}


def _logout(options: argparse.Namespace, line: Optional[List[str]]) -> int:
    from . import config

    gone = [{"url": entry["url"], "workspace": entry["workspace"]} for entry in config.forget_logins(options.url or "")]
    if options.json:
        return print_json(gone)
    for entry in gone:
        print(
            "Forgotten: %s, workspace %s. The token itself lives on until Settings, Tokens revokes it."
            % tuple(entry.values())
        )
    if not gone:
        print("There was none to forget.")
    return 0
