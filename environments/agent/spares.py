"""Spare trees: a large snapshot laid out once more while the agent has nothing else to do, for the next run to take.

A run that comes takes the one that is nearest to its own snapshot by a rename, and has only what differs written. No script ever
saw it: a tree that a run has used is never used again, because somebody may still hold its files open. A spare is

    spares/<manifest>/about.json   what lies in `code`, as a manifest says it, and since which start of the machine
                      code/

and appears whole, by a rename. Nothing of it is flushed to the disk, so that after a restart of the machine it counts no more.
"""

import fcntl
import json
import os
import threading
import time

from . import files, laying, processes
from .blobs import Blobs
from .cleaning import remove_tree
from .laying import Tree
from .layout import Layout, Refused
from .space import KEY, changed, disk, names_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional, Tuple

LEAST_FILES = 200
"""Fewer are laid out in a few milliseconds."""
MOST_BYTES = 512 << 20
"""Of one spare. The largest files that do not find room in it are copied when it is taken: 200 MB in less than a tenth of a second
on an idle machine, in two seconds where the disk has more to write already."""
MOST = 3
"""How many are kept: of as many projects that are worked on at the same time."""
QUIET_SECONDS = 1.0
"""Without work for so long the agent has time for a spare."""
_ROOM_BYTES, _ROOM_SHARE = 4 * 10**9, 0.1
"""What must be free besides, of bytes and of files: twice of what makes a cleaning take the caches away."""
_NEAR = 0.9
_MOST_ABOUT = 256 << 20


class Spares(object):
    """The spares of one root. Several agents may work there: a rename has one winner."""

    def __init__(self, layout: Layout, blobs: Blobs) -> None:
        self._layout = layout
        self._blobs = blobs

    def lay_out(self, manifest: str, folder: str) -> None:
        """Make the new folder `code` in `folder`, with a snapshot's files. Raises Refused("blobs_missing") when contents lack."""
        want = self._blobs.tree(manifest)
        code = os.path.join(folder, "code")
        have = self._take(manifest, want, folder)
        if have is None:
            self._blobs.need(list(want.files.values()))
            laying.lay_out(self._blobs, want, code)
        else:
            laying.mend(self._blobs, have, want, code)

    def _take(self, manifest: str, want: Tree, folder: str) -> "Optional[Tree]":
        """Move the `code` of the nearest spare into `folder`; what it holds, or None where none is worth mending."""
        if len(want.files) < LEAST_FILES:
            return None
        found = self._nearest(manifest, want)
        if found is None:
            return None
        name, have = found
        # Before it is taken: what is refused for want of contents is asked again, and finds it still here.
        self._blobs.need(want.beside(have))
        taken = os.path.join(folder, "spare")
        try:
            os.rename(os.path.join(self._layout.spares, name), taken)
        except OSError:
            return None  # somebody was first
        os.rename(os.path.join(taken, "code"), os.path.join(folder, "code"))
        remove_tree(taken)
        return have

    def _nearest(self, manifest: str, want: Tree) -> "Optional[Tuple[str, Tree]]":
        best, best_cost = None, len(want.files) // 2
        for name in self._names(manifest):
            have = self._read(name)
            if have is None:
                continue
            cost = len(want.beside(have)) + len(have.beside(want))
            if cost < best_cost:
                best, best_cost = (name, have), cost
            if cost <= (1 - _NEAR) * len(want.files):
                break
        return best

    def _names(self, first: str = "") -> "List[str]":
        """Those that are here: `first`, then from the newest to the oldest."""
        names = [name for name in names_in(self._layout.spares) if KEY.match(name)]
        return sorted(names, key=lambda name: (name != first, -changed(os.path.join(self._layout.spares, name))))

    def _read(self, name: str) -> "Optional[Tree]":
        """What a spare holds; None where it is gone, or is from before the machine was started."""
        about = files.read_json(os.path.join(self._layout.spares, name, "about.json"), _MOST_ABOUT)
        if about is None or about.get("boot_id") != processes.boot_id() or processes.boot_id() == "unknown":
            return None
        try:
            return Tree(about)
        except (Refused, TypeError, ValueError):
            return None

    def make(self, manifest: str, go_on: "Callable[[], None]" = lambda: None) -> bool:
        """Have a spare of this snapshot, unless it does not pay, there is no room, or somebody else is at it; whether one was made.
        `go_on` is called before each file, and may raise."""
        with open(os.path.join(self._layout.spares, ".lock"), "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return False
            for name in names_in(self._layout.spares):
                if name.startswith(".new-"):  # of one who died, since we hold the lock
                    remove_tree(os.path.join(self._layout.spares, name))
            kept = self._kept(manifest)
            if kept is None:
                return False
            temp = os.path.join(self._layout.spares, ".new-%s-%d" % (manifest, os.getpid()))
            os.mkdir(temp, 0o700)
            try:
                self._make(manifest, kept, temp, go_on)
            finally:
                if os.path.isdir(temp):
                    remove_tree(temp)
            for name in self._names(manifest)[MOST:]:
                self.discard(name)
        return True

    def _kept(self, manifest: str) -> "Optional[Dict[str, Any]]":
        """What of a snapshot a spare of it holds, as a manifest says it; None where there is one, or should be none."""
        if self._read(manifest) is not None:
            return None
        whole = self._blobs.tree(manifest)
        size, kept = 0, []
        for entry in sorted(whole.files.values(), key=lambda entry: entry[2]):
            size += entry[2]
            if size > MOST_BYTES:
                size -= entry[2]
                break
            kept.append(entry)
        if len(kept) < LEAST_FILES or processes.boot_id() == "unknown":
            return None
        room = disk(self._layout.root)
        if room["free"] - size < max(_ROOM_BYTES, _ROOM_SHARE * room["total"]):
            return None
        if room["files_total"] and room["files_free"] - len(kept) < _ROOM_SHARE * room["files_total"]:
            return None
        return {"v": 1, "files": sorted(kept), "links": list(whole.links.items()), "dirs": sorted(whole.folders)}

    def _make(self, manifest: str, kept: "Dict[str, Any]", temp: str, go_on: "Callable[[], None]") -> None:
        want, code = Tree(kept), os.path.join(temp, "code")
        have = self._take(manifest, want, temp)
        if have is None:
            os.mkdir(code, 0o700)
        laying.mend(self._blobs, have or laying.EMPTY, want, code, go_on)
        about = dict(kept, boot_id=processes.boot_id())
        files.replace(os.path.join(temp, "about.json"), json.dumps(about, separators=(",", ":")).encode())
        self.discard(manifest)  # one of before the last restart
        os.rename(temp, os.path.join(self._layout.spares, manifest))

    def discard(self, name: str) -> None:
        """Take a spare away; nothing where it has just been taken."""
        gone = os.path.join(self._layout.spares, ".new-gone-%s-%d" % (name, os.getpid()))
        try:
            os.rename(os.path.join(self._layout.spares, name), gone)
        except OSError:
            return
        remove_tree(gone)


class Stopped(Exception):
    """Whoever wanted a spare is gone."""


def make(root: str, manifest: str) -> None:
    """Make a spare, in a process of its own: behind everything else that the machine does, and until the parent goes."""
    parent = os.getppid()
    os.nice(19)

    def go_on() -> None:
        if os.getppid() != parent:
            raise Stopped

    layout = Layout(root)
    try:
        Spares(layout, Blobs(layout)).make(manifest, go_on)
    except (Stopped, Refused, OSError):
        pass  # it would have saved time; nothing else depends on it


class Wish(object):
    """Waits for a quiet moment in which to have a spare made. `start` is given the manifest, in a thread of its own."""

    def __init__(self, start: "Callable[[str], None]") -> None:
        self._start = start
        self._lock = threading.Lock()
        self._wanted = ""
        self._not_before = 0.0

    def busy(self, wanted: str = "") -> None:
        """The agent works, or has just done so; with `wanted` it laid out this manifest."""
        with self._lock:
            waiting = bool(self._wanted)
            self._wanted = wanted or self._wanted
            self._not_before = time.monotonic() + QUIET_SECONDS
        if wanted and not waiting:
            threading.Thread(target=self._wait, daemon=True).start()

    def _wait(self) -> None:
        while True:
            with self._lock:
                left = self._not_before - time.monotonic()
                if left <= 0:
                    wanted, self._wanted = self._wanted, ""
                    break
            time.sleep(left)
        self._start(wanted)
