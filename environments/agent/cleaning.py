"""What is given back below the root because nobody needs it any more.

The studio says what it still needs; the locks, the claims and the specifications that are here say the rest, so that a list
which is out of date, or of another studio, costs no live or waiting run anything. What goes is renamed first: a removal that
was cut short leaves nothing half under its own name, and the next cleaning takes the rest.
"""

import fcntl
import os
import re
import threading
import time

from . import evidence, files, processes, publishing
from .layout import KINDS, Layout, Refused
from .protocol import MAX_HEADER
from .space import KEY, Walk, changed, contents, disk, last_sign, mtime, names_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Set, Tuple

DAY = 86400.0
GRACE = 3600.0
"""What was used, or answered for, within this time is never taken."""
STALE_PART = DAY
_NEEDS = re.compile(rb"/(envs|lib)/([0-9a-f]{64})\b")
_SHOWN_FAILURES = 20


class Cleaner(object):
    """One cleaning of a root."""

    def __init__(self, layout: Layout, wish: "Dict[str, Any]") -> None:
        self._layout = layout
        self._studio = str(wish.get("studio") or "")
        self._keep = set(_texts(wish, "keep_runs"))
        self._keep_envs = set(_texts(wish, "keep_envs"))
        self._run_seconds = _number(wish, "run_days") * DAY
        self._build_seconds = _number(wish, "build_days") * DAY
        self._env_seconds = _number(wish, "environment_days") * DAY
        self._cache_bytes = _number(wish, "cache_bytes")
        self._now = time.time()
        self._known: "Set[str]" = set()
        self._needed: "Set[str]" = set()
        """Keys of environments and digests of packages that a live, waiting or kept attempt names."""
        self._busy_builds = False
        self._live = 0
        self._foreign: "List[str]" = []
        self._freed = 0
        self._failed: "List[Dict[str, str]]" = []
        self.removed: "Dict[str, List[str]]" = {
            kind: [] for kind in ("runs", "builds", "envs", "cache", "lib", "agent", "tools", "spares")
        }
        self.blobs = 0

    def clean(self) -> "Dict[str, Any]":
        """Take away what is old and not needed; {"removed", "freed", "failed", "live", "foreign", "disk"}."""
        with open(os.path.join(self._layout.agent, "clean.lock"), "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise Refused("in_use", "another cleaning of this root goes on", permanent=False)
            self._sweep()
            self._attempts()
            self._environments()
            self._packages()
            self._contents()
            self._libraries()
            self._programs()
            self._tools()
        return {
            "removed": dict(self.removed, blobs=self.blobs),
            "freed": self._freed,
            "failed": self._failed[:_SHOWN_FAILURES],
            "live": self._live,
            "foreign": self._foreign,
            "disk": disk(self._layout.root),
        }

    def _old(self, moment: float, seconds: float) -> bool:
        return self._now - moment > max(seconds, 0.0)

    def _discard(self, kind: str, name: str) -> bool:
        """Rename, then remove; whether it is gone from its name."""
        place = os.path.join(self._layout.root, kind)
        gone = os.path.join(place, ".new-gone-%s-%d-%d" % (name, os.getpid(), threading.get_ident()))
        try:
            os.rename(os.path.join(place, name), gone)
        except OSError as error:
            self._fail(kind, name, error)
            return False
        self.removed[kind].append(name)
        self._destroy(kind, name, gone)
        return True

    def _destroy(self, kind: str, name: str, path: str) -> None:
        size = Walk(60.0).size(path)
        try:
            remove_tree(path)
            self._freed += size
        except OSError as error:
            self._fail(kind, name, error)

    def _fail(self, kind: str, name: str, error: OSError) -> None:
        self._failed.append({"path": "%s/%s" % (kind, name), "why": error.strerror or str(error)})

    def _sweep(self) -> None:
        """What an agent that was killed left half made or half removed."""
        for kind in ("runs", "builds", "envs", "lib", "cache", "tools", "spares"):
            for name in names_in(os.path.join(self._layout.root, kind)):
                path = os.path.join(self._layout.root, kind, name)
                passing = name.startswith(".new-") or name.endswith(".new")
                if passing and self._old(max(mtime(path), mtime(os.path.join(path, "code"))), GRACE):
                    self._destroy(kind, name, path)

    # -- attempts

    def _attempts(self) -> None:
        for kind in KINDS:
            for attempt in self._layout.attempts(kind):
                self._attempt(kind, attempt)

    def _attempt(self, kind: str, attempt: str) -> None:
        folder = self._layout.attempt(kind, attempt)
        self._known.add(attempt)
        spec = files.read_small(os.path.join(folder, "spec.json"), MAX_HEADER) or b""
        state, moment = _state(folder)
        owner = _owner(spec)
        foreign = bool(owner and self._studio and owner != self._studio)
        # The list is a little older than what was laid out since.
        seconds = max(self._run_seconds if kind == "runs" else self._build_seconds, GRACE)
        self._live += state == "live"
        if foreign:
            self._foreign.append(attempt)
        kept = attempt in self._keep or foreign or state == "live" or not self._old(moment, seconds)
        if not kept and (state == "ended" or _nobody_will_start(folder)) and self._discard(kind, attempt):
            return
        if state != "ended" or attempt in self._keep:
            self._needed.update(match.group(2).decode() for match in _NEEDS.finditer(spec))
            self._busy_builds = self._busy_builds or kind == "builds"

    def _look_again(self) -> None:
        """Take in attempts that were laid out since we looked."""
        for kind in KINDS:
            for attempt in self._layout.attempts(kind):
                if attempt not in self._known:
                    self._known.add(attempt)
                    path = os.path.join(self._layout.attempt(kind, attempt), "spec.json")
                    data = files.read_small(path, MAX_HEADER) or b""
                    self._needed.update(match.group(2).decode() for match in _NEEDS.finditer(data))
                    self._busy_builds = self._busy_builds or kind == "builds"

    # -- what attempts share

    def _environments(self) -> None:
        for key in names_in(self._layout.envs):
            folder = os.path.join(self._layout.envs, key)
            if not KEY.match(key) or key in self._keep_envs:
                continue
            mark = os.path.join(folder, publishing.MARK)
            # Without its mark it is what a builder left that died; nobody uses it.
            used, seconds = mtime(mark), self._env_seconds
            if not used:
                used, seconds = max([mtime(folder)] + [mtime(path) for path in _inside(folder)]), self._build_seconds
            if self._old(used, max(seconds, GRACE)):
                self._look_again()
                if key not in self._needed and mtime(mark) <= used:
                    self._discard("envs", key)

    def _packages(self) -> None:
        """Package caches, the largest first, where they take more than half of what caches may take. A whole one at a time: what
        is inside only its installer knows."""
        place = os.path.join(self._layout.root, "cache")
        sizes = {name: Walk(60.0).size(os.path.join(place, name)) for name in names_in(place) if name[:1] != "."}
        for name in sorted(sizes, key=lambda name: -sizes[name]):
            if sum(sizes.values()) <= self._cache_bytes / 2:
                break
            self._look_again()
            if self._busy_builds:
                break  # it reads there
            if self._discard("cache", name):
                sizes[name] = 0
        self._cached = sum(sizes.values())

    def _spares(self, excess: float) -> float:
        """Spares that no run took for long, and as many as are too much; what is then still too much. They save time, and no
        transfer, so they go before contents."""
        for name in sorted(
            names_in(self._layout.spares), key=lambda name: changed(os.path.join(self._layout.spares, name))
        ):
            path = os.path.join(self._layout.spares, name)
            if KEY.match(name) and (excess > 0 or self._old(changed(path), self._run_seconds)):
                size = Walk(60.0).size(path)
                if self._discard("spares", name):
                    excess -= size
        return excess

    def _contents(self) -> None:
        """Contents least recently used, until the caches fit."""
        found = sorted(contents(self._layout))
        excess = sum(size for _, size, _ in found) + self._cached - self._cache_bytes
        excess = self._spares(excess + Walk(60.0).size(self._layout.spares))
        for used, size, path in found:
            if excess <= 0 or not self._old(used, GRACE):
                break
            if self._drop_blob(path):
                excess -= size
                self._freed += size
                self.blobs += 1
        for folder in names_in(self._layout.blobs):
            for name in names_in(os.path.join(self._layout.blobs, folder)):
                if not KEY.match(name):
                    self._drop_unfinished(os.path.join(self._layout.blobs, folder, name))

    @staticmethod
    def _drop_blob(path: str) -> bool:
        # Out of its place first, then looked at: who has just been told that it is here has touched it before.
        gone = "%s.%d-%d.gone" % (path, os.getpid(), threading.get_ident())
        try:
            os.rename(path, gone)
            if time.time() - os.lstat(gone).st_mtime < GRACE:
                os.rename(gone, path)
                return False
            os.unlink(gone)
            return True
        except OSError:
            return False

    def _drop_unfinished(self, path: str) -> None:
        if not self._old(max(mtime(path), changed(path)), STALE_PART):
            return
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # somebody may send it at this moment
            self._freed += os.fstat(fd).st_blocks * 512
            os.unlink(path)
        except OSError:
            pass
        finally:
            os.close(fd)

    def _libraries(self) -> None:
        for name in names_in(self._layout.lib):
            path = os.path.join(self._layout.lib, name)
            if KEY.match(name) and self._old(mtime(path), max(self._run_seconds, GRACE)):
                self._look_again()
                if name not in self._needed:
                    self._discard("lib", name)

    def _programs(self) -> None:
        """Agents of studios that have moved on. While anything lives here they stay: a supervisor may be one of them."""
        own = os.path.basename(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        for name in names_in(self._layout.agent):
            path = os.path.join(self._layout.agent, name)
            passing = name.endswith((".new", ".tmp")) or name.startswith("selftest-")
            if passing and self._old(mtime(path), GRACE):
                self._destroy("agent", name, path)
                continue
            unused = not self._live and self._old(mtime(path), max(self._run_seconds, GRACE))
            if unused and name.endswith(".pyz") and name != own:
                self._discard("agent", name)

    def _tools(self) -> None:
        """Programs that builds use, sent by the studio: those that no build asked for. While one lives or waits they stay."""
        for name in names_in(self._layout.tools):
            if self._old(mtime(os.path.join(self._layout.tools, name)), max(self._run_seconds, GRACE)):
                self._look_again()
                if not self._busy_builds:
                    self._discard("tools", name)


def _state(folder: str) -> "Tuple[str, float]":
    """("live" | "waiting" | "ended", since when) of an attempt. What cannot be told is live."""
    moment = last_sign(folder)
    sup, job = evidence.locks(folder)
    if "held" in (sup, job):
        return "live", moment
    if not os.path.isdir(os.path.join(folder, "claim")):
        return "waiting", moment
    if sup == "free" or os.path.isfile(os.path.join(folder, "exit.json")):
        return "ended", moment
    owner = files.read_json(os.path.join(folder, "claim", "owner.json")) or {}
    rebooted = owner.get("boot_id") not in (None, processes.boot_id())
    return ("ended" if rebooted or time.time() - moment > DAY else "live"), moment


def _nobody_will_start(folder: str) -> bool:
    """Take the claim of an attempt that waits, as its supervisor would: from then on nobody can start it."""
    try:
        lock = take_lock(folder)
    except OSError:
        return False
    if lock is None:
        return False
    try:
        os.mkdir(os.path.join(folder, "claim"), 0o700)
        return True
    except OSError:
        return False
    finally:
        os.close(lock)


def take_lock(folder: str) -> "Optional[int]":
    """Hold an attempt's sup.lock, as a supervisor does before it claims; None when somebody else has it. Raises OSError."""
    fd = os.open(os.path.join(folder, "sup.lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return fd
    except OSError:
        os.close(fd)
        return None


def _owner(spec: bytes) -> str:
    import json

    try:
        found = json.loads(spec.decode())
    except ValueError:
        return ""
    return str(found.get("studio") or "") if isinstance(found, dict) else ""


def _inside(folder: str) -> "List[str]":
    return [os.path.join(folder, name) for name in names_in(folder)]


def _texts(wish: "Dict[str, Any]", name: str) -> "List[str]":
    values = wish.get(name) or []
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise Refused("bad_request", "%s: a list of texts is needed" % name)
    return values


def _number(wish: "Dict[str, Any]", name: str) -> float:
    value: "Optional[Any]" = wish.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        raise Refused("bad_request", "%s: a number, 0 or more, is needed, got %r" % (name, value))
    return float(value)


def remove_tree(path: str) -> None:
    """Remove a file or a folder, also one from which a script has taken the rights. Raises OSError for what stays."""
    import shutil

    def open_up(function: "Any", failed: str, _: "Any") -> None:
        for place in (os.path.dirname(failed), failed):
            if place.startswith(path) and os.path.isdir(place) and not os.path.islink(place):
                os.chmod(place, 0o700)
        if os.path.isdir(failed) and not os.path.islink(failed):
            shutil.rmtree(failed, ignore_errors=True)
        elif os.path.lexists(failed):
            os.unlink(failed)

    if os.path.islink(path) or not os.path.isdir(path):
        os.unlink(path)
        return
    shutil.rmtree(path, onerror=open_up)
    if os.path.isdir(path):
        shutil.rmtree(path)
