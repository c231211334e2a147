"""Where the studio is, and who calls: found without asking, in the order of how plainly it was said."""

from __future__ import annotations

import json
import os

from .errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterator, Optional

NAMES = ("runstead.json", "config.json")
FOLDERS = ("", ".runstead", ".azureml", "aml_config")
LOCAL = "local-client.json"


def find(path: Optional[str] = None) -> Dict[str, str]:
    """`url`, `workspace` and `token` of the studio to use.

    From the file or folder `path`; else from RUNSTEAD_URL, RUNSTEAD_WORKSPACE and RUNSTEAD_TOKEN; else of the
    studio on this
    machine; else from runstead.json or config.json, searched upward from the working directory. Raises
    UserError.
    """
    found = _named(path) if path is not None else _environment() or _this_machine() or _upward(os.getcwd())
    if found is None:
        raise UserError(
            "No studio was found. Start one on this machine ('make up' in its folder), or set RUNSTEAD_URL, RUNSTEAD_WORKSPACE "
            "and RUNSTEAD_TOKEN (Settings, Tokens), or write them to runstead.json as url, workspace and token."
        )
    token = os.environ.get("RUNSTEAD_TOKEN") or found.get("token", "")
    if not token:
        raise UserError("token: there is none for %s. Set RUNSTEAD_TOKEN; Settings, Tokens makes one." % found["url"])
    return {"url": found["url"], "workspace": found.get("workspace") or "default", "token": token}


def _environment() -> Optional[Dict[str, str]]:
    url = os.environ.get("RUNSTEAD_URL")
    return {"url": url, "workspace": os.environ.get("RUNSTEAD_WORKSPACE", "")} if url else None


def _this_machine() -> Optional[Dict[str, str]]:
    data_dir = os.environ.get("RUNSTEAD_DATA_DIR")
    if data_dir:
        return _read(os.path.join(data_dir, LOCAL))
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    noted = _json(os.path.join(base, "runstead", "studio.json"))
    client = noted.get("client") if noted else None
    return _read(client) if isinstance(client, str) else None


def _named(path: str) -> Optional[Dict[str, str]]:
    if os.path.isdir(path):
        found = next((settings for file in _candidates(path) for settings in [_read(file)] if settings), None)
    else:
        found = _read(path)
    if found is None:
        raise UserError("path: %s has no %s with a 'url'." % (path, " or ".join(NAMES)))
    return found


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
