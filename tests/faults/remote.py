"""A target on a machine of the test's own: what is submitted there, and what must be true of it."""

import contextlib
import json
import time
from pathlib import Path

import psutil

from tests.faults.conftest import Invariants
from tests.faults.hosts import Hosts
from tests.faults.oracle import Oracle
from tests.live import Studio
from tests.waiting import until


class Remote:
    """``root``: below the user's home, unless it is absolute."""

    def __init__(self, studio: Studio, hosts: Hosts, number: int, name: str = "", root: str = "~/.runstead") -> None:
        self.studio, self.hosts, self.number = studio, hosts, number
        self.name, self.root = name or f"host{number}", root
        studio.control(
            "ssh_target", name=self.name, slots=4, credentials=hosts.credentials(), **hosts.options(number, root=root)
        )  # fmt: skip
        made = hosts.folder(number) / "oracle" / self.name
        made.mkdir(parents=True)
        self.oracle = Oracle(made, 0o666)
        self.invariants = Invariants(studio, self.oracle)

    def submit(self, count: int = 1, grace_seconds: float = 1, **arguments) -> list[int]:
        words = self.oracle.arguments(**arguments)
        return self.studio.submit(
            self.oracle.folder, *words, count=count, target=self.name, grace_seconds=grace_seconds
        )

    def launching(self, ids: list[int]) -> None:
        """Wait until the first of these is about to be started, or has just been."""
        found = {"Queued", "Running"}
        until(lambda: found & {row["status"] for row in self.studio.control("runs", ids=ids)}, 20, every=0.005)

    def running(self, ids: list[int]) -> list[int]:
        """Wait until each of these has printed something that the studio has."""
        self.studio.wait_for(ids, {"Running"})
        until(lambda: all(self.studio.control("size", id=pk) for pk in ids), 30)
        return ids

    def health(self) -> dict:
        return self.studio.control("health", name=self.name)

    def unreachable(self, seconds: float = 15) -> float:
        """Seconds until it is shown that the target does not answer: people are promised 15."""
        began = time.monotonic()
        until(lambda: self.health()["unreachable_since"], seconds)
        return round(time.monotonic() - began, 1)

    def reachable(self, seconds: float = 40) -> float:
        began = time.monotonic()
        until(lambda: not self.health()["unreachable_since"], seconds)
        return round(time.monotonic() - began, 1)

    def attempts(self) -> list[str]:
        """Directories of runs that are on the host."""
        place = self.runs()
        return sorted(path.name for path in place.iterdir()) if place.is_dir() else []

    def runs(self) -> Path:
        """The directory of runs, as this machine sees it."""
        if self.root.startswith("~/"):
            return self.hosts.home(self.number) / self.root[2:] / "runs"
        return self.hosts.inside(self.number, self.root) / "runs"

    def empty(self) -> None:
        """Nothing is left on the host: no process of a run, no directory but of runs that were lost and
        so did not come home whole."""

        def left() -> list[dict]:
            lost = {"supervisor_lost", "target_rebooted", "disk_full"}
            there = self.attempts()
            return [row for row in self.studio.control("runs") if row["attempt"] in there and row["reason"] not in lost]

        try:
            until(lambda: not left(), 15)
        except AssertionError:
            raise AssertionError(f"directories of runs stay: {left()}") from None
        until(lambda: not self.hosts.of_runs(self.number), 15, what="processes of runs stay")

    def claim(self, pk: int) -> psutil.Process:
        """The supervisor of a run, as a process of this machine."""
        place = self.runs() / self.studio.run(pk)["attempt"]
        pid = json.loads((place / "claim/owner.json").read_text())["pid"]
        return next(p for p in self.hosts.of_user(self.number) if inner(p.pid) == pid)


def inner(pid: int) -> int:
    """The number of a process in the namespace it is in."""
    with contextlib.suppress(OSError), Path(f"/proc/{pid}/status").open() as file:
        return next(int(line.split()[-1]) for line in file if line.startswith("NSpid:"))
    return 0
