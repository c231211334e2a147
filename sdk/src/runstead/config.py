"""Where the studio is, and who calls: found without asking, in the order of how plainly it was said."""

from __future__ import annotations

import json
import os
import stat
import warnings

from .errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterator, List, Optional

NAMES = ("runstead.json", "config.json")
FOLDERS = ("", ".runstead", ".azureml", "aml_config")
LOCAL = "local-client.json"
LOGINS = "logins.json"


def find(path: Optional[str] = None) -> Dict[str, str]:
    """`url`, `workspace` and `token` of the studio to use.

    From the file or folder `path`; else from RUNSTEAD_URL, RUNSTEAD_WORKSPACE and RUNSTEAD_TOKEN; else of the studio whose
    RUNSTEAD_DATA_DIR is set; else of the last `runstead login`; else of the studio on this machine; else from runstead.json or
    config.json, searched upward from the working directory. A place that names no token gets the one of a login there. Inside a run
    only files count: what is signed in on its machine is not the run's. Raises UserError.
    """
    inside = bool(os.environ.get("RUNSTEAD_RUN_DIR"))
    if path is not None:
        found: Optional[Dict[str, str]] = _named(path)
    elif inside:
        found = _upward(os.getcwd())
    else:
        found = _environment() or _data_dir() or next(iter(logins()), None) or _this_machine() or _upward(os.getcwd())
    if inside and not (found and found.get("token")):
        raise UserError(
            "A run has no sign-in to its studio: log with Run.get_context(), and do from outside what needs more. A script that must "
            "reach a studio is given a file with url, workspace and token: Workspace.from_config(path)."
        )
    if found is None:
        raise UserError(
            "No studio was found. Start one on this machine ('make up' in its folder), sign in to one elsewhere ('runstead login'), "
            "or set RUNSTEAD_URL, RUNSTEAD_WORKSPACE and RUNSTEAD_TOKEN (Settings, Tokens), or write them to runstead.json as url, "
            "workspace and token."
        )
    url, workspace = found["url"], found.get("workspace") or "default"
    own = found.get("token", "")
    other = os.environ.get("RUNSTEAD_WORKSPACE") if path is None and not inside else None
    if other and other != workspace:
        workspace, own = other, ""  # a token is of one workspace
    # Inside a run RUNSTEAD_TOKEN is the run's own, for another purpose.
    token = ("" if inside else os.environ.get("RUNSTEAD_TOKEN")) or own or token_of(url, workspace)
    if not token:
        raise UserError(
            "token: there is none for the workspace %s of %s. Sign in with 'runstead login', or set RUNSTEAD_TOKEN; Settings, Tokens makes "
            "one." % (workspace, url)
        )
    return {"url": url, "workspace": workspace, "token": token}


def logins() -> List[Dict[str, str]]:
    """Where somebody signed in from this account, the last first: url, workspace and token of each."""
    path = _own(LOGINS)
    listed = (_json(path) or {}).get("logins")
    if not listed:
        return []
    if os.name == "posix" and os.stat(path).st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        warnings.warn("%s holds tokens and others may read it: chmod 600 it." % path, stacklevel=2)
    names = ("url", "workspace", "token")
    return [entry for entry in listed if isinstance(entry, dict) and all(isinstance(entry.get(n), str) for n in names)]


def keep_login(url: str, workspace: str, token: str) -> str:
    """Keep a token, readable by this account only, and make its place the one to use; returns the file's path."""
    rest = [entry for entry in logins() if (entry["url"], entry["workspace"]) != (url, workspace)]
    return _keep_logins([{"url": url, "workspace": workspace, "token": token}, *rest])


def forget_logins(url: str = "") -> List[Dict[str, str]]:
    """Forget the tokens of a studio, or all; returns those that are gone."""
    before = logins()
    gone = [entry for entry in before if not url or entry["url"] == url.rstrip("/")]
    if gone:
        _keep_logins([entry for entry in before if entry not in gone])
    return gone


def _keep_logins(listed: List[Dict[str, str]]) -> str:
    path = _own(LOGINS)
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    draft = "%s.%d" % (path, os.getpid())
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump({"logins": listed}, file, indent=1)
    os.replace(draft, path)
    return path


def token_of(url: str, workspace: str) -> str:
    """The token of a login there, or of the studio on this machine; empty when there is none."""
    place = (url.rstrip("/"), workspace)
    known = [*logins(), *filter(None, (_data_dir(), _this_machine()))]
    return next(
        (one.get("token", "") for one in known if (one["url"].rstrip("/"), one.get("workspace", "")) == place), ""
    )


def _environment() -> Optional[Dict[str, str]]:
    url = os.environ.get("RUNSTEAD_URL")
    return {"url": url, "workspace": os.environ.get("RUNSTEAD_WORKSPACE", "")} if url else None


def _data_dir() -> Optional[Dict[str, str]]:
    folder = os.environ.get("RUNSTEAD_DATA_DIR")
    return _read(os.path.join(folder, LOCAL)) if folder else None


def _this_machine() -> Optional[Dict[str, str]]:
    client = noted().get("client")
    return _read(client) if isinstance(client, str) else None


def noted() -> Dict[str, Any]:
    """What the studio that was last started on this machine says of itself: `client`, a file of settings, and `home`."""
    return _json(_own("studio.json")) or {}


def _own(name: str) -> str:
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return os.path.join(base, "runstead", name)


def _named(path: str) -> Optional[Dict[str, str]]:
    found = _upward(os.path.abspath(path)) if os.path.isdir(path) else _read(path)
    if found is not None:
        return found
    if not os.path.exists(path):
        raise UserError("path: there is no file or folder %r. The working directory is %s." % (path, os.getcwd()))
    if os.path.isdir(path):
        raise UserError("path: neither %s nor a folder above it has a %s with a 'url'." % (path, " or ".join(NAMES)))
    raise UserError(
        "path: %s is no JSON object with the 'url' of a studio. Without a path the one is found that was signed in to ('runstead login')."
        % path
    )


def _upward(folder: str) -> Optional[Dict[str, str]]:
    while True:
        for file in _candidates(folder):
            found = _read(file)
            if found is not None:
                return found
        above = os.path.dirname(folder)
        if above == folder:
            return None
        folder = above


def _candidates(folder: str) -> Iterator[str]:
    for inner in FOLDERS:
        for name in NAMES:
            yield os.path.join(folder, inner, name)


def _read(path: str) -> Optional[Dict[str, str]]:
    # Other programs have a config.json too: one without an address is not ours.
    found = _json(path)
    if found is None or not isinstance(found.get("url"), str):
        return None
    return {name: value for name, value in found.items() if isinstance(value, str)}


def _json(path: str) -> Optional[Dict[str, Any]]:
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
