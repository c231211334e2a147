"""What lies between this shell and the studio, looked at step by step: `runstead doctor`."""

from __future__ import annotations

import os
import shutil
import time

from . import __version__, config
from .errors import RunsteadError
from .pending import cache_folder
from .transport import ApiError, Transport

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterator

SKEW = 120
"""Seconds by which two clocks may differ before anybody is told: certificates and times of runs would be wrong."""


def steps_of_the_studio() -> Iterator[Dict[str, Any]]:
    """Steps as those of a target's connection test: title, ok, needed, milliseconds, detail, fix."""
    began = time.monotonic()
    try:
        found = config.find()
    except RunsteadError as error:
        yield _step("Configuration", began, False, "", str(error))
        return
    transport = Transport(found["url"], found["workspace"], found["token"])
    yield _step("Configuration", began, True, "%s, workspace %s" % (found["url"], found["workspace"]))
    began = time.monotonic()
    try:
        answer = transport.request("GET", "runs", query={"limit": 1})
        answer.json()
    except ApiError as error:
        reached = "it answers %d" % error.status
        yield _step("Studio", began, error.status in (401, 403, 404), reached, "" if error.status < 500 else str(error))
        yield _step("Token and workspace", began, False, "", str(error))
        return
    except RunsteadError as error:
        yield _step("Studio", began, False, "", str(error))
        return
    yield _step("Studio", began, True, "it answers")
    yield _step("Token and workspace", began, True, "the token opens %s" % found["workspace"])
    note = transport.version_note()
    yield _step(
        "Version", began, not note, "studio %s, client %s" % (transport.version or "unknown", __version__), note
    )
    yield _clock(answer.headers.get("date", ""))
    began = time.monotonic()
    folder = cache_folder()
    try:
        os.makedirs(folder, 0o700, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    fix = "" if writable else "Without it every submit reads the whole folder. Allow it, or set XDG_CACHE_HOME."
    yield _step("Cache of digests", began, writable, folder, fix, needed=False)
    git = shutil.which("git")
    fix = "" if git else "Without it runs are kept without their commit."
    yield _step("git", began, bool(git), git or "not found", fix, needed=False)


def _clock(date: str) -> Dict[str, Any]:
    from email.utils import parsedate_to_datetime

    began = time.monotonic()
    try:
        skew = time.time() - parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError, IndexError):
        return _step("Clock", began, True, "the studio tells no time", needed=False)
    good = abs(skew) <= SKEW
    text = (
        "%.0f s %s the studio's" % (abs(skew), "ahead of" if skew > 0 else "behind")
        if abs(skew) >= 2
        else "as the studio's"
    )
    fix = "" if good else "Set this machine's clock, or the studio's: times of runs and certificates are misjudged."
    return _step("Clock", began, good, text, fix, needed=False)


def _step(title: str, began: float, ok: bool, detail: str, fix: str = "", *, needed: bool = True) -> Dict[str, Any]:
    spent = (time.monotonic() - began) * 1000
    return {"title": title, "ok": ok, "needed": needed, "milliseconds": spent, "detail": detail, "fix": fix}
