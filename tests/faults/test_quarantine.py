"""A machine that fails whatever is run on it is left alone by a studio that lives, before it has burnt the queue."""

import json
import time

import pytest

from tests.bench.runs import Api
from tests.faults.conftest import survivors
from tests.live import Studio
from tests.waiting import until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

AFTER, SLOTS, BURNABLE = 5, 3, 20
SCRIPT = """
import os, sys, time
with open(sys.argv[1] + "/oracle.txt", "a") as file:
    file.write("start %s %d\\n" % (os.environ["AZUREML_RUN_ID"], os.getpid()))
if not os.path.exists(sys.argv[1] + "/driver"):
    raise RuntimeError("CUDA driver version is insufficient")
print("trained")
"""
LASTING = """
import os, sys, time
while not os.path.exists(sys.argv[1] + "/driver"):
    time.sleep(0.05)
print("went on")
"""


@pytest.fixture
def studio(tmp_path):
    live = Studio(tmp_path / "data", RUNSTEAD_QUARANTINE_AFTER=str(AFTER)).start()
    live.control("slots", count=SLOTS)
    yield live
    assert live.stop() == 0, live.output.read_text()[-3000:]
    until(lambda: not survivors(live.data_dir), 10, what="processes of this studio outlive it")


def test_a_broken_machine_burns_five_runs_and_those_under_way_and_the_others_run_when_it_is_mended(studio, tmp_path):
    machine, folder = tmp_path / "machine", tmp_path / "project"
    machine.mkdir()
    folder.mkdir()
    for name, text in (("first.py", SCRIPT), ("second.py", SCRIPT), ("lasting.py", LASTING)):
        (folder / name).write_text(text)
    [lasting] = studio.submit(folder, str(machine), script="lasting.py")
    studio.wait_for([lasting], {"Running"})
    ids = [
        pk for script in ("first.py", "second.py") * (BURNABLE // 2) for pk in studio.submit(folder, str(machine), script=script)
    ]  # fmt: skip
    studio.kill_workers()  # those who come next count on
    until(lambda: studio.control("health", name="local")["quarantined_at"], 60)
    time.sleep(2)  # nothing may start in this time
    rows = studio.control("runs", ids=ids)
    burnt = [row for row in rows if row["status"] == "Failed"]
    waiting = [row for row in rows if row["status"] in {"NotStarted", "Preparing", "Queued"}]
    # Those that held a slot when the fifth ended could not be called back.
    assert AFTER <= len(burnt) <= AFTER + SLOTS, [row["status"] for row in rows]
    assert len(waiting) == BURNABLE - len(burnt)
    assert {row["reason"] for row in burnt} == {"exit_code"}
    said = studio.control("health", name="local")["quarantine_reason"]
    assert said.startswith("5 runs failed there one after the other (#"), said
    assert said.endswith("CUDA driver version is insufficient."), said
    ask = Api(studio)
    shown = json.loads(ask("GET", "/targets/local")[1])
    assert shown["quarantine_reason"] == said
    assert studio.status(lasting) == "Running", "what runs goes on"
    (machine / "driver").touch()
    studio.wait_for([lasting], {"Completed"})
    assert ask("POST", "/targets/local/resume")[0] == 200
    ended = studio.wait_for([row["id"] for row in waiting])
    assert {(row["status"], row["reason"]) for row in ended} == {("Completed", "exited")}
    starts = [line.split()[1] for line in (machine / "oracle.txt").read_text().splitlines()]
    assert sorted(starts) == sorted(studio.control("uid", id=pk) for pk in ids), "each was started once"
