"""One start, byte-exact logs, right endings: with real processes."""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from environments.agent import processes
from tests.environments.agent.conftest import Follower
from tests.waiting import until

ROOT = Path(__file__).parents[3]


def test_a_script_runs_with_its_arguments_byte_for_byte(runs):
    arguments = ["", " ", "; $(x) `y`", "new\nline", "'\"", "žluťoučký 🐎", "-n"]
    attempt = runs.python("import sys, json; print(json.dumps(sys.argv[1:]))", *arguments)
    record, log = runs.finish(attempt)
    assert record["reason"] == "exited"
    assert record["exit_code"] == 0
    assert record["signal"] is None
    assert json.loads(log) == arguments
    assert record["started_at"] <= record["ended_at"]


def test_the_environment_is_only_what_the_contract_names(runs, monkeypatch):
    monkeypatch.setenv("RUNSTEAD_SECRET_KEY", "must not be seen")
    attempt = runs.python(
        "import os, json; print(json.dumps(dict(os.environ)))", env={"MINE": "1"}, secrets={"S": "short"}
    )
    _, log = runs.finish(attempt)
    seen = json.loads(log)
    allowed = {
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "LANG",
        "LC_ALL",
        "TZ",
        "SHELL",
        "MINE",
        "S",
        "RUNSTEAD_RUN_DIR",
        "RUNSTEAD_TOKEN",
        "TMPDIR",
        "PYTHONUNBUFFERED",
        "LC_CTYPE",  # Python itself may set the last
    }
    assert set(seen) <= allowed
    assert seen["MINE"] == "1"
    assert seen["S"] == "short"
    assert seen["RUNSTEAD_RUN_DIR"] == str(runs.folder(attempt))
    assert seen["TMPDIR"] == str(runs.folder(attempt) / "tmp")


@pytest.mark.parametrize("own", [{}, {"PATH": "/mine:/usr/bin:/bin"}])
def test_the_environments_programs_come_first_on_the_path_unless_a_path_is_given(runs, own):
    _, log = runs.finish(runs.python("import os; print(os.environ['PATH'])", env=own, path=["/envs/é/bin"]))
    seen = log.decode().strip()
    assert seen == own["PATH"] if own else seen.startswith("/envs/é/bin:") and "/bin" in seen.split(":")[1:]


def test_the_script_gets_no_foreign_descriptors_and_default_signals(runs):
    code = (
        "import os, signal\n"
        "print(sorted(os.readlink('/proc/self/fd/%s' % fd).rpartition('/')[2] for fd in os.listdir('/proc/self/fd')"
        " if int(fd) > 2 and os.path.exists('/proc/self/fd/' + fd)))\n"
        "status = dict(line.split(':', 1) for line in open('/proc/%d/status' % os.getppid()))\n"
        "mine = dict(line.split(':', 1) for line in open('/proc/self/status'))\n"
        "print(int(mine['SigBlk'], 16), int(mine['SigIgn'], 16) & 0x7fffffff & ~(1 << 12 | 1 << 24))\n"
        "print(os.getpgrp() == os.getsid(0) == os.getpid(), os.readlink('/proc/self/fd/0'))\n"
    )
    _, log = runs.finish(runs.python(code))
    assert log.decode().splitlines() == ["['job.lock']", "0 0", "True /dev/null"]


def test_thirty_racing_launches_start_one_script(runs, tmp_path):
    oracle = tmp_path / "starts"
    code = "import os, sys; os.write(os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT), b'x')"
    attempt = runs.prepare([sys.executable, "-c", code, str(oracle)])
    runs.host.launch([("runs", attempt)] * 30)
    record, _ = runs.finish(attempt)
    assert record["reason"] == "exited"
    runs.host.launch([("runs", attempt)] * 5)
    until(lambda: runs.host.inspect([attempt])[attempt]["sup"] == "free")
    assert oracle.read_bytes() == b"x"


HOSTILE = {
    "NULs and half UTF-8": "w(bytes(range(256)) * 1000 + b'\\xf0\\x9f\\x98')",
    "a million carriage returns": "w(b'\\r' * 1000000)",
    "a million small writes": "[w(b'%d\\n' % n) for n in range(100000)]",
    "no newline at all": "w(b'a' * 5000000)",
}


@pytest.mark.parametrize("code", HOSTILE.values(), ids=HOSTILE.keys())
def test_the_log_is_byte_exact(runs, code):
    prelude = (
        "import os, hashlib, sys\nh = hashlib.sha256()\ndef w(b):\n  h.update(b)\n  while b: b = b[os.write(1, b):]\n"
    )
    tail = "\nopen('outputs/sha', 'w').write(h.hexdigest())"
    attempt = runs.python(prelude + code + tail)
    record, log = runs.finish(attempt)
    said = (runs.folder(attempt) / "code" / "outputs" / "sha").read_text()
    assert hashlib.sha256(log).hexdigest() == said
    assert record["log"]["lost"] == 0
    assert record["log"]["total"] == len(log)


def test_one_line_of_200_mb_is_cut_at_the_cap_and_counted_with_flat_memory(runs):
    code = "import os\nb = b'x' * (1 << 20)\nfor _ in range(200):\n  m = memoryview(b)\n  while m: m = m[os.write(1, m):]\n"
    attempt = runs.python(code + "import time; time.sleep(0.5)", limits={"log_bytes": 5_000_000})
    pid = runs.owner(attempt)
    peak = 0

    def ended():
        nonlocal peak
        try:
            status = Path(f"/proc/{pid}/status").read_text()
            peak = max([peak] + [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")])
        except OSError:
            pass
        return (runs.folder(attempt) / "exit.json").exists()

    until(ended, 60)
    record, log = runs.finish(attempt)
    assert len(log) == 5_000_000
    assert record["log"]["total"] == 200 << 20
    assert record["log"]["lost"] == 0
    assert 0 < peak < 80_000  # KiB


def test_a_script_that_closes_its_stdout_goes_on_until_it_exits(runs):
    code = "import os, time\nos.write(1, b'before')\nos.close(1); os.close(2)\ntime.sleep(0.5)\nopen('outputs/after', 'w').write('x')\nos._exit(7)"
    attempt = runs.python(code)
    record, log = runs.finish(attempt)
    assert log == b"before"
    assert record["reason"] == "exit_code"
    assert record["exit_code"] == 7
    assert (runs.folder(attempt) / "code" / "outputs" / "after").exists()


DAEMON = """
import os, sys, time, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 100)
        open(sys.argv[1], 'w').write(str(os.getpid()))
        time.sleep(1000)
    os._exit(0)
os.wait()
while not os.path.exists(sys.argv[1]): time.sleep(0.01)
"""


def test_a_double_forked_process_that_ignores_term_is_ended_and_counted(runs, tmp_path):
    attempt = runs.python(DAEMON, str(tmp_path / "pid"))
    record, _ = runs.finish(attempt)
    assert record["reason"] == "exited"
    assert record["killed"] == 1
    assert runs.survivors(attempt) == []


def test_a_process_that_holds_the_pipe_does_not_hold_up_the_end(runs):
    attempt = runs.python("import subprocess; subprocess.Popen(['sleep', '1000']); print('done')")
    record, log = runs.finish(attempt, seconds=10)
    assert log == b"done\n"
    assert record["killed"] == 1
    assert runs.survivors(attempt) == []


@pytest.mark.parametrize(
    "number", [signal.SIGHUP, signal.SIGINT, signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM, signal.SIGUSR1]
)
def test_each_signal_is_told(runs, number):
    attempt = runs.python(
        f"import os, signal; signal.signal({int(number)}, 0) if {int(number)} != 9 else 0; os.kill(os.getpid(), {int(number)})"
    )
    record, _ = runs.finish(attempt)
    assert record["reason"] == "signal"
    assert record["signal"] == number
    assert record["exit_code"] is None


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        (["no-such-program"], "no program named 'no-such-program'"),
        (["/no/such/program"], "No such file"),
        (["/etc/passwd"], "Permission denied"),
        (["/bin/sh", "\0"], "NUL"),
        (["/bin/echo", "x" * 3_000_000], "larger than this machine allows"),
    ],
)
def test_a_program_that_cannot_be_started_is_rejected_with_the_reason(runs, argv, part):
    record, _ = runs.finish(runs.start(argv))
    assert record["reason"] == "launch_rejected"
    assert part in record["error"]["message"]
    assert record["started_at"] is None


def test_a_script_with_an_interpreter_that_is_missing_says_so(runs, tmp_path):
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    record, _ = runs.finish(runs.start([str(script)]))
    assert "interpreter named in its first line" in record["error"]["message"]


def test_a_missing_working_directory_is_named(runs):
    record, _ = runs.finish(runs.start(["/bin/true"], cwd="code/nowhere"))
    assert record["reason"] == "launch_rejected"
    assert "working directory" in record["error"]["message"]


def test_the_last_traceback_is_found_with_its_line(runs):
    code = "print('one\\n' * 5)\ntry:\n  1/0\nexcept ZeroDivisionError:\n  raise ValueError('bad: thing')"
    record, log = runs.finish(runs.python(code))
    assert record["error"]["type"] == "ValueError"
    assert record["error"]["message"] == "bad: thing"
    assert log.splitlines()[record["error"]["line"] - 1] == b"ValueError: bad: thing"


def test_the_innermost_frame_in_the_project_is_named_and_not_the_librarys(runs):
    attempt = runs.prepare([sys.executable, "pkg/train.py"])
    (runs.folder(attempt) / "code" / "pkg").mkdir()
    script = "import json\n\ndef load():\n    return json.loads('{')\n\nload()\n"
    (runs.folder(attempt) / "code" / "pkg" / "train.py").write_text(script)
    runs.host.launch([("runs", attempt)])
    record, _ = runs.finish(attempt)
    assert (record["error"]["file"], record["error"]["file_line"]) == ("pkg/train.py", 4)
    assert "file" not in runs.finish(runs.python("raise ValueError"))[0]["error"], "typed at the prompt: no file"


def test_a_final_memory_error_and_a_full_disk_are_named(runs):
    assert runs.finish(runs.python("raise MemoryError"))[0]["reason"] == "out_of_memory"
    assert runs.finish(runs.python("raise OSError(28, 'No space left on device')"))[0]["reason"] == "disk_full"


def test_the_memory_limit_holds(runs):
    attempt = runs.python("x = bytearray(1 << 30)", limits={"memory_bytes": 512 << 20})
    assert runs.finish(attempt)[0]["reason"] == "out_of_memory"


def test_a_time_limit_ends_the_run(runs):
    attempt = runs.python("import time; print('on'); time.sleep(1000)", limits={"seconds": 0.5})
    record, log = runs.finish(attempt)
    assert record["reason"] == "timed_out"
    assert 0.4 < record["ended_at"] - record["started_at"] < 5
    assert log == b"on\n"


STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, '-c', 'import signal, time; signal.signal(15, signal.SIG_IGN); print("child", flush=True); time.sleep(1000)'], start_new_session=True)
print('up', flush=True)
time.sleep(1000)
"""


def test_cancel_ends_a_tree_that_ignores_term_after_the_grace(runs):
    attempt = runs.python(STUBBORN)
    runs.wait_for_log(attempt, b"child")
    runs.host.cancel("runs", attempt, 0.5)
    record, _ = runs.finish(attempt, seconds=5)
    assert record["reason"] == "canceled"
    assert record["signal"] == signal.SIGKILL
    assert runs.survivors(attempt) == []


def test_a_script_that_obeys_a_cancel_with_code_0_is_still_canceled(runs):
    code = "import signal, sys, time\nsignal.signal(15, lambda *a: (print('bye'), sys.exit(0)))\nprint('up')\ntime.sleep(1000)"
    attempt = runs.python(code)
    runs.wait_for_log(attempt, b"up")
    runs.host.cancel("runs", attempt, 10)
    record, log = runs.finish(attempt, seconds=5)
    assert record["reason"] == "canceled"
    assert record["exit_code"] == 0
    assert log == b"up\nbye\n"


def test_a_cancel_before_the_launch_starts_nothing(runs, tmp_path):
    attempt = runs.prepare(["/bin/touch", str(tmp_path / "started")])
    runs.host.cancel("runs", attempt, 1)
    runs.host.launch([("runs", attempt)])
    record, _ = runs.finish(attempt)
    assert record["reason"] == "canceled"
    assert record["started_at"] is None
    assert not (tmp_path / "started").exists()


def test_a_cancel_of_a_stopped_script_works(runs):
    attempt = runs.python("import os; print('up'); os.kill(os.getpid(), 19)")
    runs.wait_for_log(attempt, b"up")
    runs.host.cancel("runs", attempt, 1)
    assert runs.finish(attempt, seconds=5)[0]["reason"] == "canceled"


def test_a_cancel_after_the_end_changes_nothing(runs):
    attempt = runs.start(["/bin/true"])
    before, _ = runs.finish(attempt)
    runs.host.cancel("runs", attempt, 1)
    assert runs.exit(attempt) == before


def test_a_killed_supervisor_is_seen_and_its_script_can_be_ended(runs):
    attempt = runs.python("import time\nprint('up')\nwhile True: time.sleep(1)")
    runs.wait_for_log(attempt, b"up")
    os.kill(runs.owner(attempt), signal.SIGKILL)
    until(lambda: runs.host.inspect([attempt])[attempt]["sup"] == "free")
    evidence = runs.host.inspect([attempt])[attempt]
    assert evidence["job"] == "held"
    assert evidence["exit"] is None
    assert runs.host.kill("runs", attempt) == 1
    assert runs.survivors(attempt) == []
    until(lambda: runs.host.inspect([attempt])[attempt]["job"] == "free")
    runs.host.launch([("runs", attempt)])  # the claim stands: nothing starts again
    assert runs.host.inspect([attempt])[attempt]["exit"] is None


def test_a_killed_agent_leaves_the_run_alone_and_another_one_takes_over_byte_exactly(runs):
    from environments.host import Host, HostLost
    from environments.transports.local import LocalTransport

    code = "import time\nfor n in range(60):\n  print('line', n, flush=True)\n  time.sleep(0.02)"
    attempt = runs.python(code)
    follower = Follower(runs.host, attempt)
    while len(follower.data.get("log", b"")) < 30:
        follower.step()
    os.kill(runs.host.hello()["pid"], signal.SIGKILL)
    with pytest.raises(HostLost):
        while True:
            runs.host.hello()
    runs.host.close()
    runs.host = follower.host = Host(LocalTransport(), str(runs.root))
    record = follower.to_the_end()
    assert record["reason"] == "exited"
    assert follower.data["log"] == b"".join(b"line %d\n" % n for n in range(60))
    assert hashlib.sha256(follower.data["log"]).hexdigest() == record["log"]["sha256"]
    assert runs.host.list()["runs"] == [attempt]


def test_the_agent_leaves_with_its_stream_and_takes_its_spawner_along(runs):
    pid = runs.host.hello()["pid"]
    until(lambda: len(processes.descendants(pid)) == 1)  # it starts with a self-test in a child
    spawners = processes.descendants(pid)
    runs.host.close()
    until(lambda: processes.stat_fields(pid) is None)
    until(lambda: all(processes.stat_fields(spawner) is None for spawner in spawners))


def test_a_killed_spawner_is_replaced(runs):
    pid = runs.host.hello()["pid"]
    until(lambda: len(processes.descendants(pid)) == 1)
    (spawner,) = processes.descendants(pid)
    os.kill(spawner, signal.SIGKILL)
    record, log = runs.finish(runs.start(["/bin/echo", "hello"]))
    assert log == b"hello\n"
    assert record["reason"] == "exited"


def test_a_build_runs_its_steps_in_order_and_its_environment_is_listed(runs):
    key = "ab" * 32
    target = runs.root / "envs" / key
    mark = json.dumps({"python": sys.executable})
    steps = [
        {"title": "Make it", "argv": ["/bin/mkdir", str(target)], "env": {}, "cwd": None},
        {
            "title": "Say so",
            "argv": ["/bin/sh", "-c", 'echo "$MARK" > "$1"', "-", str(target / ".runstead.json")],
            "env": {"MARK": mark},
        },
    ]
    spec = runs.spec(None, kind="build", steps=steps)
    del spec["argv"]
    attempt = spec["attempt"]
    runs.host.prepare("builds", attempt, spec, None)
    runs.host.launch([("builds", attempt)])
    record, log = runs.finish(attempt, "builds")
    assert record["reason"] == "exited"
    assert log == b"+ Make it\n+ Say so\n"
    (listed,) = runs.host.envs()
    assert listed["key"] == key
    assert listed["size"] > 0


def test_a_frozen_supervisor_loses_nothing(runs):
    attempt = runs.python("import time\nfor n in range(20): print(n, flush=True); time.sleep(0.02)")
    runs.wait_for_log(attempt, b"3\n")
    owner = runs.owner(attempt)
    os.kill(owner, signal.SIGSTOP)
    until(lambda: processes.stat_fields(owner)[0] == b"T")
    assert runs.host.inspect([attempt])[attempt]["sup"] == "held"
    until(lambda: not processes.descendants(owner))  # the script has ended, unseen
    os.kill(owner, signal.SIGCONT)
    record, log = runs.finish(attempt)
    assert log == b"".join(b"%d\n" % n for n in range(20))
    assert record["reason"] == "exited"


def test_a_build_ends_with_its_first_failing_step(runs):
    steps = [{"title": "No", "argv": ["/bin/sh", "-c", "exit 4"]}, {"title": "Never", "argv": ["/bin/true"]}]
    spec = runs.spec(None, kind="build", steps=steps)
    del spec["argv"]
    runs.host.prepare("builds", spec["attempt"], spec, None)
    runs.host.launch([("builds", spec["attempt"])])
    record, log = runs.finish(spec["attempt"], "builds")
    assert record["exit_code"] == 4
    assert log == b"+ No\n"


def test_secrets_are_masked_before_they_reach_the_disk_and_leave_the_specification(runs):
    secret = "s3cr3t/with+signs&more"
    code = (
        "import os, sys, base64, json, urllib.parse, time\ns = os.environ['KEY']\n"
        "for c in s: os.write(1, c.encode())\n"
        "print(); print(base64.b64encode(b'x' + s.encode()).decode(), urllib.parse.quote(s, safe=''), json.dumps(s))\n"
        "os.write(1, s[:5].encode())"
    )
    attempt = runs.python(code, secrets={"KEY": secret})
    _, log = runs.finish(attempt)
    assert log.startswith(b"***\n")
    assert log.endswith(secret[:5].encode())
    for path in runs.folder(attempt).rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes()
    assert json.loads((runs.folder(attempt) / "spec.json").read_bytes())["secrets"] == {}


def test_a_replaced_log_is_not_followed_and_told(runs, tmp_path):
    other = tmp_path / "other"
    other.write_bytes(b"not a log")
    code = "import os, sys, time\nd = os.environ['RUNSTEAD_RUN_DIR']\nprint('one')\nos.unlink(d + '/log'); os.symlink(sys.argv[1], d + '/log')\nprint('two')"
    attempt = runs.python(code, str(other))
    record = runs.exit(attempt)
    assert record["log"]["replaced"] is True
    assert other.read_bytes() == b"not a log"
    follower = Follower(runs.host, attempt)
    follower.to_the_end()
    assert follower.evidence["log_replaced"] is True
    assert "log" not in follower.data


@pytest.mark.skipif(os.getuid() != 0, reason="mounting a small file system takes root")
def test_a_full_disk_ends_as_such_and_still_has_its_record(tmp_path):
    from tests.environments.agent.conftest import Runs

    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], check=False)
    if mounted.returncode:
        pytest.skip("this machine does not let us mount")
    try:
        full = Runs(place / "root")
        try:
            code = "import os\ntry:\n  open('outputs/big', 'wb').write(b'x' * 4000000)\nexcept OSError: pass\nos.write(1, b'y' * 500000)\nos._exit(1)"
            attempt = full.python(code)
            record = full.exit(attempt)
            assert record["reason"] == "disk_full"
            assert record["log"]["lost"] > 0
            assert record["log"]["bytes"] + record["log"]["lost"] == 500000
        finally:
            full.close()
    finally:
        until(lambda: subprocess.run(["umount", str(place)], check=False, stderr=subprocess.DEVNULL).returncode == 0)


def test_somebody_who_looks_at_the_job_lock_at_the_wrong_moment_does_not_stop_the_start(runs):
    import fcntl

    attempt = runs.prepare([sys.executable, "-c", "print('up')"])
    with (runs.folder(attempt) / "job.lock").open("w") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        runs.host.launch([("runs", attempt)])
        until((runs.folder(attempt) / "heartbeat").exists)
        assert not (runs.folder(attempt) / "exit.json").exists()
    record, log = runs.finish(attempt)
    assert (record["reason"], log) == ("exited", b"up\n")


def test_a_run_without_its_directory_is_ended_by_where_that_was(runs):
    attempt = runs.python("import time\nprint('up')\nwhile True: time.sleep(1)")
    runs.wait_for_log(attempt, b"up")
    shutil.rmtree(runs.folder(attempt))
    assert runs.host.kill("runs", attempt) == 1
    assert runs.survivors(attempt) == []


@pytest.mark.skipif(os.getuid() != 0, reason="mounting a small file system takes root")
def test_on_a_full_disk_secrets_leave_the_specification_and_a_cancel_is_heard(tmp_path):
    from tests.environments.agent.conftest import Runs

    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], check=False)
    if mounted.returncode:
        pytest.skip("this machine does not let us mount")
    try:
        full = Runs(place / "root")
        try:
            attempt = full.prepare(
                [sys.executable, "-c", "import time\nwhile True: time.sleep(1)"],
                secrets={"KEY": "planted-secret" * 400},
            )
            (full.folder(attempt) / "exit.reserve").write_bytes(b"0" * 65536)
            with contextlib.suppress(OSError), (place / "ballast").open("wb", buffering=0) as ballast:
                while ballast.write(b"x" * 4096):
                    pass
            # Room for the owner, the heartbeat and the state, a page each, and for no new specification.
            os.truncate(place / "ballast", (place / "ballast").stat().st_size - 3 * 4096)
            full.host.launch([("runs", attempt)])
            spec = full.folder(attempt) / "spec.json"
            until(lambda: b"planted-secret" not in spec.read_bytes())
            assert json.loads(spec.read_bytes())["secrets"] == {}
            assert full.survivors(attempt) != []
            full.host.cancel("runs", attempt, 0.2)
            assert full.exit(attempt)["reason"] == "canceled"
            assert full.survivors(attempt) == []
        finally:
            full.close()
    finally:
        until(lambda: subprocess.run(["umount", str(place)], check=False, stderr=subprocess.DEVNULL).returncode == 0)


def test_the_program_is_packed_the_same_each_time():
    code = "from environments.agent.pack import packed; print(packed()[0])"
    digests = {
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert len(digests) == 1
