import json
import os
from pathlib import Path

import psutil
import pytest

from tests.faults.hosts import Hosts
from tests.faults.oracle import Oracle
from tests.live import Studio
from tests.waiting import until


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    live = Studio(tmp_path_factory.mktemp("studio") / "data").start()
    live.control("slots", count=4)
    yield live
    assert live.stop() == 0, live.output.read_text()[-3000:]
    until(lambda: not survivors(live.data_dir), 10, what="processes of this studio outlive it")


@pytest.fixture(scope="session")
def hosts(tmp_path_factory):
    """Three machines reached over SSH, for all files that one process of the tests runs."""
    number = "".join(filter(str.isdigit, os.environ.get("PYTEST_XDIST_WORKER", ""))) or "9"
    made = Hosts(tmp_path_factory.mktemp("hosts"), f"rsf{number}", f"10.78.{number}", 3).start()
    yield made
    made.heal()
    made.stop()


@pytest.fixture(scope="session")
def far_studio(tmp_path_factory, hosts):
    """A studio whose targets are those machines, shared likewise."""
    live = Studio(tmp_path_factory.mktemp("far") / "data").start()
    yield live
    assert live.stop() == 0, live.output.read_text()[-3000:]
    until(lambda: not survivors(live.data_dir), 10, what="processes of this studio outlive it")


@pytest.fixture(scope="module")
def capped(tmp_path_factory):
    """A studio that keeps at most 64 MB of a log."""
    live = Studio(tmp_path_factory.mktemp("capped") / "data", RUNSTEAD_LOG_MAX_BYTES="64000000").start()
    yield live
    assert live.stop() == 0, live.output.read_text()[-3000:]


@pytest.fixture(scope="module")
def measured(request):
    """What a module's tests measured, by name: printed at the end, and added to the file that RUNSTEAD_TEST_REPORT names."""
    found: dict[str, object] = {}
    yield found
    print(f"\n{request.module.__name__}")
    for name, value in found.items():
        print(f"  {name:<60} {value}")
    if path := os.environ.get("RUNSTEAD_TEST_REPORT"):
        with Path(path).open("a") as file:
            file.write(json.dumps({request.module.__name__: found}) + "\n")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder that containers see under its own name: there scripts note their starts."""
    folder = tmp_path_factory.mktemp("seen")
    folder.chmod(0o777)
    return folder


@pytest.fixture
def oracle(tmp_path):
    return Oracle(tmp_path)


def survivors(data_dir: Path) -> list[str]:
    """Command lines of processes that belong to runs or services of this data directory."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            words = [*process.cmdline(), process.cwd(), process.environ().get("RUNSTEAD_RUN_DIR", "")]
        except psutil.Error:
            continue
        if any(str(data_dir) in word for word in words):
            found.append(" ".join(process.cmdline()))
    return found


class Invariants:
    """What holds after any fault: one start, never more at once than slots, the right end, byte-exact log, the artifact."""

    def __init__(self, studio: Studio, oracle: Oracle) -> None:
        self.studio, self.oracle = studio, oracle

    def check(self, ids, *, lines=20, status="Completed", reason="exited", starts=1, whole=True, large=0) -> None:
        for row in self.studio.control("runs", ids=ids):
            pk, uid = row["id"], self.studio.control("uid", id=row["id"])
            assert (row["status"], row["reason"]) == (status, reason), row
            assert self.oracle.count("start", uid) == starts, (
                f"run {pk} was started {self.oracle.count('start', uid)} times"
            )
            events = [new for _, new, _, _ in self.studio.control("events", id=pk) if new]
            assert len(events) == len(set(events)), f"a state was entered twice: {events}"
            assert sum(new in {"Completed", "Failed", "Canceled"} for new in events) == 1, events
            if whole:
                kept = self.studio.control("log", id=pk)
                assert (kept["size"], kept["sha256"]) == Oracle.log(uid, lines), f"run {pk}: the log differs"
                assert row["log_complete"] is True
                assert self.studio.control("metrics", id=pk)["number"] == [lines, lines - 1]
                found = {path: (size, digest) for path, size, digest, _ in self.studio.control("artifacts", id=pk)}
                assert found == Oracle.artifacts(uid, large), f"run {pk}: {found}"
        for room in self.studio.control("room", ids=ids):
            most = self.oracle.most_at_once(room["uids"])
            assert most <= room["slots"], f"{most} scripts at once on {room['target']}, which has {room['slots']} slots"
            assert room["twice"] == []


@pytest.fixture
def invariants(studio, oracle):
    return Invariants(studio, oracle)
