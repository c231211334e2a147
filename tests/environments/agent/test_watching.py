"""What a watch tells, when it returns, and what it never does."""

import os
import threading
import time

import pytest

from environments.agent.layout import Layout
from environments.agent.watching import Watcher
from tests.environments.agent.conftest import Follower


def test_log_records_samples_and_files_arrive_whole_under_a_small_limit(runs):
    code = (
        "import os, time\n"
        "r = os.open(os.environ['RUNSTEAD_RUN_DIR'] + '/records.jsonl', os.O_WRONLY | os.O_APPEND)\n"
        "for n in range(2000):\n"
        '  os.write(r, b\'{"k":"loss","v":%d,"s":%d}\\n\' % (n, n)); os.write(1, b\'%d\\n\' % n)\n'
        "  open('logs/a.txt', 'a').write('%d\\n' % n) if n % 20 == 0 else 0\n"
        "os.makedirs('logs/deep'); open('logs/deep/b.txt', 'w').write('b')\n"
        "time.sleep(1)\n"
    )
    attempt = runs.python(code, sample_seconds=0.2)
    follower = Follower(runs.host, attempt)
    record = follower.to_the_end(limit=5000)
    assert record["reason"] == "exited"
    assert follower.data["log"] == b"".join(b"%d\n" % n for n in range(2000))
    assert follower.data["records"].count(b"\n") == 2000
    assert follower.data["records"].endswith(b'{"k":"loss","v":1999,"s":1999}\n')
    assert follower.data["samples"].startswith(b'{"t":')
    assert follower.data["logs/a.txt"].count(b"\n") == 100
    assert follower.data["logs/deep/b.txt"] == b"b"
    assert len(follower.data["times"]) % 16 == 0


def test_records_come_in_whole_lines(runs):
    code = (
        "import os, time\n"
        "r = os.open(os.environ['RUNSTEAD_RUN_DIR'] + '/records.jsonl', os.O_WRONLY | os.O_APPEND)\n"
        'os.write(r, b\'{"k":"whole"}\\n{"k":"ha\'); print(\'written\'); time.sleep(1)\n'
    )
    attempt = runs.python(code)
    follower = Follower(runs.host, attempt)
    while b"written" not in follower.data.get("log", b""):
        follower.step()
    follower.step(0.3)
    assert follower.data["records"] == b'{"k":"whole"}\n'
    follower.to_the_end()
    assert follower.data["records"] == b'{"k":"whole"}\n{"k":"ha'


def test_an_answer_says_whether_an_ended_run_has_more_however_small_it_is(runs):
    """With hundreds of runs the share of one is small: a table behind a short record must not be taken for the end."""
    code = (
        "import os\n"
        "r = os.open(os.environ['RUNSTEAD_RUN_DIR'] + '/records.jsonl', os.O_WRONLY | os.O_APPEND)\n"
        'os.write(r, b\'{"k":"loss","v":1}\\n{"op":"value","k":"table","v":"\' + b"x" * 30000 + b\'"}\\n\'); print("done")\n'
    )
    attempt = runs.python(code, sample_seconds=1000)
    runs.exit(attempt)
    follower, answers = Follower(runs.host, attempt), []
    while found := follower.step(0.3, limit=4096)[0]:
        answers.append((follower.data["records"].count(b"\n"), found[0]["more"]))
    assert follower.data["log"] == b"done\n" and answers[0] == (1, True) and answers[-1] == (2, False), answers


def test_an_endless_line_of_records_comes_in_pieces(runs):
    code = "import os\nf = open(os.environ['RUNSTEAD_RUN_DIR'] + '/records.jsonl', 'ab', 0)\nf.write(b'x' * 3500000)"
    attempt = runs.python(code)
    follower = Follower(runs.host, attempt)
    follower.to_the_end()
    assert follower.data["records"] == b"x" * 3500000


def test_nothing_new_returns_empty_at_the_time_out(runs):
    attempt = runs.python("import time; time.sleep(1000)", sample_seconds=1000)
    follower = Follower(runs.host, attempt)
    while follower.step(0.5)[0]:
        pass
    begin = time.monotonic()
    assert follower.step(0.7) == ([], False)
    assert time.monotonic() - begin >= 0.65


def test_a_poke_ends_a_watch_at_once(runs):
    attempt = runs.prepare(["/bin/true"])
    follower = Follower(runs.host, attempt)
    follower.step(1)
    begin = time.monotonic()
    threading.Timer(0.2, runs.host.poke).start()
    assert follower.step(30) == ([], True)
    assert time.monotonic() - begin < 5
    waiting = runs.host.submit("watch", runs=[follower.cursor], timeout=30, limit=1)
    runs.host.submit("poke")  # right behind it in the stream
    assert runs.host.result(waiting, 5)[0]["poked"]


@pytest.mark.parametrize(
    "make", ["os.mkfifo(p)", "os.symlink('/etc/passwd', p)", "os.symlink('/dev/zero', p)", "os.mkdir(p)"]
)
@pytest.mark.parametrize("name", ["records.jsonl", "code/logs/x", "state.json", "heartbeat", "samples.jsonl"])
def test_a_hostile_file_neither_blocks_nor_leaks(runs, make, name):
    code = (
        "import os, sys, shutil\np = os.environ['RUNSTEAD_RUN_DIR'] + '/' + sys.argv[1]\n"
        f"os.path.lexists(p) and os.unlink(p)\n{make}\nprint('done')"
    )
    attempt = runs.python(code, name, sample_seconds=1000)
    follower = Follower(runs.host, attempt)
    follower.to_the_end(seconds=15)
    assert follower.data["log"] == b"done\n"
    assert not any(b"root:" in data or b"\0" * 100 in data for data in follower.data.values())


def test_a_printed_line_arrives_within_milliseconds(runs):
    code = "import time\nfor n in range(30):\n  time.sleep(0.03)\n  print(time.time(), flush=True)"
    attempt = runs.python(code)
    follower = Follower(runs.host, attempt)
    delays, seen = [], 0
    while len(delays) < 30:
        follower.step()
        now = time.time()
        lines = follower.data.get("log", b"").splitlines()
        delays += [now - float(line) for line in lines[seen:]]
        seen = len(lines)
    assert sorted(delays)[15] < 0.05, sorted(delays)


def test_without_inotify_it_looks_for_itself(runs, monkeypatch):
    from environments.agent import notify

    def none():
        raise OSError("none")

    monkeypatch.setattr(notify, "Inotify", none)
    watcher = Watcher(Layout(str(runs.root)))
    attempt = runs.python("import time; print('one'); time.sleep(0.5); print('two')")
    cursor = {
        "dir": "runs",
        "attempt": attempt,
        "log": 0,
        "records": 0,
        "samples": 0,
        "times": 0,
        "seen": 0,
        "files": {},
    }
    log, end = b"", time.monotonic() + 10
    while b"two" not in log and time.monotonic() < end:
        reply, body = watcher.watch(dict(cursor, timeout=1, runs=[dict(cursor)]), watcher.pokes)
        for run in reply["runs"]:
            cursor["seen"] = run["rev"]
            for (name, offset, length), data in zip(run["parts"], body, strict=True):
                cursor[name] = offset + length
                log += data if name == "log" else b""
    assert log == b"one\ntwo\n"


def test_a_killed_supervisor_is_noticed_without_any_file_changing(runs):
    import signal

    attempt = runs.python("import time; time.sleep(1000)", sample_seconds=1000)
    runs.state(attempt)
    follower = Follower(runs.host, attempt)
    while follower.step(0.5)[0]:
        pass
    os.kill(runs.owner(attempt), signal.SIGKILL)
    begin = time.monotonic()
    while follower.evidence["sup"] != "free":
        follower.step(5)
    assert time.monotonic() - begin < 2.5


def test_two_agents_watch_one_run(runs):
    from environments.host import Host
    from environments.transports.local import LocalTransport

    with Host(LocalTransport(), str(runs.root)) as other:
        attempt = runs.python("import time\nfor n in range(20): print(n); time.sleep(0.02)")
        followers = [Follower(runs.host, attempt), Follower(other, attempt)]
        threads = [threading.Thread(target=follower.to_the_end) for follower in followers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert followers[0].data["log"] == followers[1].data["log"] == b"".join(b"%d\n" % n for n in range(20))
