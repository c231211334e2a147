"""Files that come, go and shrink under the studio's hands. One run's oddity must not stop it, nor another's run."""

import shutil
import time

import psutil
import pytest

from tests.faults.test_rude_scripts import ended
from tests.waiting import until

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("rude"), pytest.mark.timeout(400)]


def text(studio, row, name="log") -> str:
    return (
        studio.control("text", id=row["id"], name=name)
        if studio.control("log", id=row["id"], name=name)["size"]
        else ""
    )


def started(studio, tmp_path, script: str, **config) -> dict:
    folder = tmp_path / "strange"
    folder.mkdir()
    (folder / "train.py").write_text("import os, sys, time\n" + script)
    (row,) = studio.wait_for(studio.submit(folder, **config), {"Running"})
    return row


@pytest.mark.parametrize("cancel", [False, True])
def test_a_run_whose_directory_is_deleted_ends_with_its_processes_and_stops_nobody_else(capped, tmp_path, cancel):
    row = started(capped, tmp_path, "print(os.getpid(), flush=True)\ntime.sleep(600)\n")
    script = int(until(lambda: text(capped, row), 10))
    shutil.rmtree(capped.runs_dir() / row["attempt"])
    if cancel:
        capped.control("cancel", id=row["id"])
    (row,) = capped.wait_for([row["id"]], seconds=30)
    assert (row["status"], row["reason"]) == ("Failed", "supervisor_lost"), row
    assert "deleted" in row["error"]["message"], row
    until(lambda: not psutil.pid_exists(script) or psutil.Process(script).status() == psutil.STATUS_ZOMBIE, 10)
    (tmp_path / "next").mkdir()
    assert ended(capped, tmp_path / "next", "print('fine')\n", seconds=20)["status"] == "Completed"


def test_a_followed_file_that_becomes_shorter_is_read_anew_and_asked_for_no_more_than_it_grows(capped, tmp_path):
    script = (
        "open('logs/progress.txt', 'w').write('x' * 1000)\nprint('one', flush=True)\ntime.sleep(3)\n"
        "open('logs/progress.txt', 'w').write('short\\n')\nprint('two', flush=True)\ntime.sleep(600)\n"
    )
    row = started(capped, tmp_path, script)
    until(lambda: "two" in text(capped, row), 20)
    until(lambda: text(capped, row, "logs/progress.txt") == "short\n", 10)
    (house,) = capped.processes("house")
    before = house.cpu_times()
    time.sleep(3)  # what is used meanwhile is what is tested
    after = house.cpu_times()
    assert after.user + after.system - before.user - before.system < 1, "the attendant spins"
    capped.control("cancel", id=row["id"])
    capped.wait_for([row["id"]])


def test_names_and_times_that_no_database_takes_do_not_fail_a_run(capped, tmp_path):
    script = (
        "open(b'logs/\\xff.txt', 'w').write('x')\nopen('logs/fine.txt', 'w').write('fine')\n"
        "os.makedirs('outputs/' + '/'.join(['d' * 200] * 6))\n"
        "open('outputs/' + '/'.join(['d' * 200] * 6) + '/deep', 'w').write('x')\n"
        "open('outputs/old.txt', 'w').write('x')\nos.utime('outputs/old.txt', (10**12, 10**12))\n"
        "print('done', flush=True)\ntime.sleep(1)\n"
    )
    row = ended(capped, tmp_path, script, seconds=30)
    assert (row["status"], row["log_complete"]) == ("Completed", True), row
    assert text(capped, row, "logs/fine.txt") == "fine"
    found = {path: (digest, why) for path, _, digest, why in capped.control("artifacts", id=row["id"])}
    assert found["outputs/old.txt"][0], found
    assert any("udcff" in path and why for path, (_, why) in found.items()), found
    assert any("longer than" in why for _, why in found.values()), found
