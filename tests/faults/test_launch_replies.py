"""Launches whose replies are lost at random: whoever asks again, however often, starts nothing twice."""

import os
from collections import Counter

import pytest

from tests.faults.hosts import Hosts
from tests.faults.test_crash_points import Crashing
from tests.waiting import until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

LONG = bool(os.environ.get("RUNSTEAD_TEST_LONG"))
HERE, THERE = (1000, 1000) if LONG else (300, 100)
SCRIPT = 'echo "start $AZUREML_RUN_ID" >>"$0"; sleep 0.01; echo "end $AZUREML_RUN_ID" >>"$0"'
"""Nothing but the two lines: the launches are what is tested."""
SLOTS = 12


def launched(crashing: Crashing, count: int, measured: dict, what: str, hosts: Hosts | None = None) -> None:
    """So many runs by an attendant that hears nothing of three launches in seven."""
    folder = crashing.folder / "empty"
    folder.mkdir()
    command = ["/bin/sh", "-c", SCRIPT, str(crashing.oracle.path)]
    job = {
        **crashing.job("complete", "replies", None, hosts), "count": count, "slots": SLOTS, "seconds": 600, "folder": str(folder),
        "arguments": [], "config": {"script": "", "framework": "command", "command": command},
    }  # fmt: skip
    (found,) = crashing.carry_out([job])
    assert not found.get("failed"), crashing.output.read_text()[-3000:]
    assert Counter(row["status"] for row in found["runs"]) == {"Completed": count}
    uids = [row["uid"] for row in found["runs"]]
    starts = Counter(
        line.split()[1] for line in crashing.oracle.path.read_text().splitlines() if line.startswith("start ")
    )
    assert starts == Counter(uids), [pair for pair in starts.items() if pair[1] != 1][:5]
    assert crashing.oracle.most_at_once(uids) <= SLOTS
    assert found["left"] == []
    fates: Counter[str] = Counter()
    for runs, fate in found["fates"]:
        fates[fate] += int(runs)
    measured[f"{count} runs {what}: launches asked for, by what became of the reply"] = dict(fates)
    lost = fates.total() - fates["answered"]
    assert lost >= count / 5, fates
    assert len(fates) == 4, fates


def test_runs_here(tmp_path, measured):
    crashing = Crashing(tmp_path)
    try:
        launched(crashing, HERE, measured, "here")
    finally:
        crashing.close()


def test_runs_on_another_machine(tmp_path, tmp_path_factory, measured):
    hosts = Hosts(tmp_path_factory.mktemp("hosts"), "rsrpl", "10.79.6", 1).start()
    crashing = Crashing(tmp_path, hosts.folder(1) / "oracle")
    try:
        launched(crashing, THERE, measured, "over SSH", hosts)
        until(lambda: not hosts.of_user(1), 15, what="processes stay on the machine")
    finally:
        crashing.close()
        hosts.stop()
