"""Slots and GPUs as scripts meet them: never more at once than there are, none given twice, whoever dies meanwhile."""

import os
import re
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.conftest import Invariants, survivors
from tests.faults.oracle import Oracle
from tests.faults.remote import Remote
from tests.live import Studio
from tests.waiting import until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]

NVIDIA_SMI = """#!/bin/sh
case "$*" in
*query-gpu=name*) printf 'NVIDIA A10, 23028\\nNVIDIA T4, 15360\\n' ;;
*) printf '0, 3, 100, 23028\\n1, 5, 200, 15360\\n' ;;
esac
"""
"""Of a machine with two GPUs; the second question is the one for samples."""
HOLDING = """
import os, sys, time

oracle, seconds = sys.argv[1], float(sys.argv[2])
run, seen = os.environ["AZUREML_RUN_ID"], os.environ.get("CUDA_VISIBLE_DEVICES")
gpus = [word for word in (seen or "").split(",") if word]


def note(*words):
    with open(oracle, "a") as file:
        file.write(" ".join(map(str, words)) + "\\n")


note("start", run, os.getpid())
for gpu in gpus:
    try:  # whoever has the GPU has its file
        os.close(os.open(oracle + ".gpu" + gpu, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        note("taken", run, gpu)
print(seen, os.environ.get("CUDA_DEVICE_ORDER"), flush=True)
time.sleep(seconds)
for gpu in gpus:
    os.unlink(oracle + ".gpu" + gpu)
note("end", run, os.getpid())
"""


def driver(folder: Path) -> Path:
    """A folder with an nvidia-smi that lists them."""
    folder.mkdir()
    folder.chmod(0o755)
    program = folder / "nvidia-smi"
    program.write_text(NVIDIA_SMI)
    program.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    path = driver(tmp_path_factory.mktemp("driver") / "bin")
    live = Studio(tmp_path_factory.mktemp("studio") / "data", PATH=f"{path}:{os.environ['PATH']}").start()
    live.control("slots", count=4)
    yield live
    assert live.stop() == 0, live.output.read_text()[-3000:]
    until(lambda: not survivors(live.data_dir), 10, what="processes of this studio outlive it")


class Crowd:
    """More runs than there is room for: of one GPU, of two, of none."""

    def __init__(self, studio: Studio, target: str, oracle: Oracle) -> None:
        self.studio, self.target, self.oracle = studio, target, oracle
        (oracle.folder / "train.py").write_text(HOLDING)
        studio.wait_for(self.submit(1, 0))  # from here on somebody attends
        until(lambda: studio.control("facts", name=target).get("gpus"), 20, what="the GPUs to be found")
        self.asked: dict[int, int] = {}
        for count, gpus, seconds in ((6, 1, 0.8), (2, 2, 0.5), (4, 0, 0.5)):
            self.asked |= dict.fromkeys(self.submit(count, seconds, gpus=gpus), gpus)

    def submit(self, count: int, seconds: float, **more: int) -> list[int]:
        words = (str(self.oracle.path), str(seconds))
        return self.studio.submit(self.oracle.folder, *words, count=count, target=self.target, **more)

    def under_way(self) -> bool:
        """Whether some have ended, and some have not begun."""
        rows = Counter(row["status"] for row in self.studio.control("runs", ids=list(self.asked)))
        return rows["Completed"] > 0 and rows["Queued"] > 0

    def check(self) -> None:
        rows = self.studio.wait_for(list(self.asked), seconds=120)
        assert {(row["status"], row["reason"]) for row in rows} == {("Completed", "exited")}
        words = self.oracle.path.read_text()
        assert "taken" not in words, words
        for pk, gpus in self.asked.items():
            uid = self.studio.control("uid", id=pk)
            assert self.oracle.count("start", uid) == 1
            wanted = {0: "", 1: "[01]", 2: "0,1"}[gpus]
            said = self.studio.control("text", id=pk)
            assert re.fullmatch(f"{wanted} PCI_BUS_ID\\n", said), f"a run of {gpus} GPUs sees {said!r}"
        Invariants(self.studio, self.oracle).check(list(self.asked), whole=False)
        [room] = self.studio.control("room", ids=list(self.asked))
        assert self.oracle.most_at_once(room["uids"]) >= 2, "nothing ran beside anything: nothing was tested"


def test_workers_killed_again_and_again_while_gpus_are_given_out(studio, oracle):
    crowd = Crowd(studio, "local", oracle)
    until(crowd.under_way, 30, every=0.01)
    for _ in range(4):
        studio.kill_workers()
        time.sleep(1)  # some moment or other of those who come next
    crowd.check()


def test_a_link_cut_and_workers_killed_while_gpus_are_given_out_on_another_machine(studio, hosts):
    usual = "/usr/local/bin:/usr/bin:/bin"
    hosts.sshd(3, kill_sessions=True, SetEnv=f"PATH={driver(hosts.folder(3) / 'bin')}:{usual}")
    try:
        remote = Remote(studio, hosts, 3, "gpus", "~/.gpus")
        remote.oracle.path.parent.chmod(0o777)  # its scripts leave a file for each GPU
        crowd = Crowd(studio, remote.name, remote.oracle)
        until(crowd.under_way, 30, every=0.01)
        hosts.fault("cut", 3, 6)
        time.sleep(2)  # scripts end meanwhile, and nobody knows
        studio.kill_workers()
        crowd.check()
        remote.empty()
    finally:
        hosts.sshd(3, SetEnv=f"PATH={usual}")
