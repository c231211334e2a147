"""Contents, layout, outputs, reading, removing, isolation: over the real stream."""

import fcntl
import gc
import hashlib
import io
import json
import os
import random
import signal
import threading
import time
import zipfile
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest

from environments.agent import isolation
from environments.host import Host, HostError, HostLost
from environments.transports.base import TransportError
from environments.transports.local import LocalTransport
from tests.environments.agent.conftest import Follower, Runs
from tests.waiting import until


def blob(data):
    return hashlib.sha256(data).hexdigest(), len(data), lambda: io.BytesIO(data)


def manifest(files, links=(), dirs=()):
    listed = sorted([path, mode, len(data), hashlib.sha256(data).hexdigest()] for path, mode, data in files)
    text = json.dumps({"v": 1, "files": listed, "links": sorted(links), "dirs": sorted(dirs)}).encode()
    return text, hashlib.sha256(text).hexdigest()


def ship(host, files, compress=False, **others):
    text, digest = manifest(files, **others)
    host.put_blobs([blob(data) for _, _, data in files] + [blob(text)], compress=compress)
    return digest


@pytest.mark.parametrize("compress", [False, True])
def test_a_snapshot_is_laid_out_identically(runs, compress):
    random.seed(1)
    files = [(f"d{n % 7}/ž {n}.bin", 0o755 if n % 3 else 0o644, random.randbytes(n * 40)) for n in range(200)]
    files += [
        ("train.py", 0o644, b"print('x')\n" * 10000),
        ("empty", 0o644, b""),
        ("big.bin", 0o644, os.urandom(9_000_000)),
    ]
    digests = [hashlib.sha256(data).hexdigest() for _, _, data in files]
    assert runs.host.missing_blobs(digests) == digests
    digest = ship(runs.host, files, compress, links=[["d1/link", "../train.py"]], dirs=["hollow/inner"])
    assert runs.host.missing_blobs(digests) == []
    attempt = runs.prepare(["/bin/true"], manifest=digest)
    code = runs.folder(attempt) / "code"
    for path, mode, data in files:
        assert (code / path).read_bytes() == data
        assert (code / path).stat().st_mode & 0o777 == mode
        assert (code / path).stat().st_nlink == 1
    assert (code / "d1" / "link").readlink() == Path("../train.py")
    assert (code / "hollow" / "inner").is_dir()
    assert (code / "outputs").is_dir()
    (code / "train.py").write_text("changed")
    again = runs.prepare(["/bin/true"], manifest=digest)
    assert (runs.folder(again) / "code" / "train.py").read_bytes() == b"print('x')\n" * 10000


def test_prepare_can_be_repeated(runs):
    spec = runs.spec(["/bin/echo", "x"])
    runs.host.prepare("runs", spec["attempt"], spec, None)
    runs.host.launch([("runs", spec["attempt"])])
    before, _ = runs.finish(spec["attempt"])
    runs.host.prepare("runs", spec["attempt"], spec, None)
    assert runs.exit(spec["attempt"]) == before


def test_missing_contents_are_named_as_such(runs):
    text, digest = manifest([("a", 0o644, b"never sent")])
    with pytest.raises(HostError) as raised:
        runs.prepare(["/bin/true"], manifest=digest)
    assert raised.value.code == "blobs_missing"
    runs.host.put_blobs([blob(text)])
    with pytest.raises(HostError) as raised:
        runs.prepare(["/bin/true"], manifest=digest)
    assert raised.value.code == "blobs_missing"
    assert runs.host.list() == {"runs": [], "builds": []}


def test_a_blob_that_lost_its_bytes_is_asked_for_again(runs):
    files = [("a", 0o644, b"content")]
    digest = ship(runs.host, files)
    name = hashlib.sha256(b"content").hexdigest()
    path = runs.root / "blobs" / name[:2] / name
    assert path.stat().st_mode & 0o777 == 0o400
    path.chmod(0o600)
    path.write_bytes(b"")
    with pytest.raises(HostError) as raised:
        runs.prepare(["/bin/true"], manifest=digest)
    assert raised.value.code == "blobs_missing"
    assert runs.host.missing_blobs([name]) == [name]


def test_wrong_bytes_are_refused(runs):
    digest = hashlib.sha256(b"right").hexdigest()
    with pytest.raises(HostError) as raised:
        runs.host.put_blobs([(digest, 5, lambda: io.BytesIO(b"wrong"))])
    assert raised.value.code == "digest_mismatch"
    assert runs.host.missing_blobs([digest]) == [digest]


def test_a_large_content_goes_on_where_it_broke_off(runs):
    data = os.urandom(10_000_000)
    digest, size, opener = blob(data)
    runs.host.call("blobs.part", data[:3_000_000], digest=digest, offset=0, size=size)
    seen = []
    with Host(LocalTransport(), str(runs.root)) as other:
        other.put_blobs([(digest, size, opener)], progress=seen.append)
    assert seen[0] == 3_000_000
    assert sum(seen) == size
    path = runs.root / "blobs" / digest[:2] / digest
    assert path.read_bytes() == data
    assert not path.with_name(digest + ".part").exists()


def test_a_piece_out_of_order_is_not_written(runs):
    digest, size, _ = blob(b"0123456789")
    reply, _ = runs.host.call("blobs.part", b"56789", digest=digest, offset=5, size=size)
    assert reply["have"] == 0


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x", "", "a//b", "a\0b"])
def test_a_manifest_cannot_lead_out(runs, path):
    digest = ship(runs.host, [(path, 0o644, b"x")])
    with pytest.raises(HostError) as raised:
        runs.prepare(["/bin/true"], manifest=digest)
    assert raised.value.code == "bad_request"


@pytest.mark.parametrize("target", ["/etc/passwd", "../../x", "../x"])
def test_a_link_cannot_lead_out(runs, target):
    digest = ship(runs.host, [("a", 0o644, b"x")], links=[["link", target]])
    with pytest.raises(HostError, match="leads out"):
        runs.prepare(["/bin/true"], manifest=digest)


def test_the_library_is_sent_once(runs):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("runstead/__init__.py", "X = 1\n")
    data = buffer.getvalue()
    digest = hashlib.sha256(data).hexdigest()
    runs.host.lib(digest, lambda: data)
    runs.host.lib(digest, lambda: b"never sent again: it would be refused")
    folder = str(runs.root / "lib" / digest)
    _, log = runs.finish(runs.python("import runstead; print(runstead.X)", env={"PYTHONPATH": folder}))
    assert log == b"1\n"


OUTPUTS = """
import os, socket
os.makedirs('outputs/model'); open('outputs/model/w', 'w').write('weights')
open('logs/own.txt', 'w').write('log')
open(os.environ['RUNSTEAD_RUN_DIR'] + '/artifacts/confusion.png', 'w').write('png')
os.symlink('/etc/passwd', 'outputs/link'); os.symlink('/etc', 'outputs/etc'); os.mkfifo('outputs/fifo')
s = socket.socket(socket.AF_UNIX); os.chdir('outputs'); s.bind('sock')
open(b'bad\\xff', 'w'); open('new\\nline', 'w')
"""


def test_outputs_are_listed_without_following_anything(runs):
    attempt = runs.python(OUTPUTS)
    assert runs.finish(attempt)[0]["exit_code"] == 0
    listed = runs.host.outputs(attempt)
    found = {entry["path"]: entry for entry in listed["files"]}
    assert set(found) == {"outputs/model/w", "logs/own.txt", "confusion.png"}
    assert found["outputs/model/w"]["sha256"] == hashlib.sha256(b"weights").hexdigest()
    assert found["outputs/model/w"]["size"] == 7
    why = {entry["path"]: entry["why"] for entry in listed["skipped"]}
    assert why["outputs/link"] == why["outputs/etc"] == "a link"
    assert why["outputs/fifo"] == "a fifo"
    assert why["outputs/sock"] == "a socket"
    assert len(why) == 6
    assert runs.host.read(attempt, "outputs/model/w", 2, 3) == b"igh"
    assert runs.host.read(attempt, "confusion.png") == b"png"


def test_known_outputs_are_not_hashed_again(runs):
    attempt = runs.python("open('outputs/a', 'w').write('x')")
    runs.finish(attempt)
    (entry,) = runs.host.outputs(attempt)["files"]
    known = {"outputs/a": (entry["size"], entry["mtime"], "f" * 64)}
    assert runs.host.outputs(attempt, known)["files"][0]["sha256"] == "f" * 64
    (runs.folder(attempt) / "code" / "outputs" / "a").write_text("yy")
    assert runs.host.outputs(attempt, known)["files"][0]["sha256"] == hashlib.sha256(b"yy").hexdigest()


@pytest.mark.parametrize(
    "path",
    [
        "outputs/link",
        "outputs/etc/passwd",
        "outputs/fifo",
        "../spec.json",
        "outputs/../../spec.json",
        "/etc/passwd",
        "",
    ],
)
def test_reading_refuses_what_is_no_regular_file_inside(runs, path):
    attempt = runs.python(OUTPUTS)
    runs.finish(attempt)
    with pytest.raises(HostError):
        runs.host.read(attempt, path)


def test_a_living_run_is_not_removed_and_an_ended_one_is_with_all_its_rights_taken(runs):
    attempt = runs.python("import os, time\nos.makedirs('a/b'); os.chmod('a', 0)\nprint('up'); time.sleep(1000)")
    runs.wait_for_log(attempt, b"up")
    with pytest.raises(HostError) as raised:
        runs.host.remove("runs", attempt)
    assert raised.value.code == "in_use"
    runs.host.cancel("runs", attempt, 0)
    runs.exit(attempt)
    until(lambda: runs.host.inspect([attempt])[attempt]["sup"] == "free")
    runs.host.remove("runs", attempt)
    assert runs.host.list()["runs"] == []
    assert list((runs.root / "runs").iterdir()) == []
    runs.host.remove("runs", attempt)


@pytest.mark.parametrize("attempt", ["../../etc", "", "A" * 32, None, 5])
def test_an_id_that_is_none_is_refused(runs, attempt):
    with pytest.raises(HostError) as raised:
        runs.host.call("inspect", attempts=[attempt])
    assert raised.value.code == "bad_request"
    assert "attempt" in str(raised.value)


def test_a_voided_attempt_never_starts_and_a_started_one_is_not_voided(runs, tmp_path):
    attempt = runs.prepare(["/bin/touch", str(tmp_path / "started")])
    assert runs.host.void("runs", attempt)
    assert not runs.host.void("runs", attempt)
    runs.host.launch([("runs", attempt)])
    assert runs.exit(attempt)["reason"] == "launch_rejected"
    running = runs.start(["/bin/sleep", "100"])
    runs.state(running)
    assert not runs.host.void("runs", running)
    assert not (tmp_path / "started").exists()


def test_a_voided_attempt_that_was_cancelled_says_so_and_a_supervisor_that_is_about_to_claim_is_left_alone(runs):
    attempt = runs.prepare(["/bin/true"])
    with (runs.folder(attempt) / "sup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert not runs.host.void("runs", attempt)
    assert not (runs.folder(attempt) / "claim").exists()
    runs.host.cancel("runs", attempt, 1)
    assert runs.host.void("runs", attempt)
    assert (runs.exit(attempt)["reason"], runs.exit(attempt)["error"]) == ("canceled", None)


def test_a_void_that_could_not_write_its_record_leaves_a_run_that_is_seen_to_be_nobodys(runs):
    attempt = runs.prepare(["/bin/true"])
    (runs.folder(attempt) / "exit.json").mkdir()  # no rename gets over it
    with pytest.raises(HostError):
        runs.host.void("runs", attempt)
    evidence = runs.host.inspect([attempt])[attempt]
    assert (evidence["claimed"], evidence["sup"], evidence["exit"]) == (True, "free", None)


def test_closing_does_not_wait_for_a_frozen_agent(runs):
    os.kill(runs.host.hello()["pid"], signal.SIGSTOP)

    def write():
        with pytest.raises(HostLost):
            runs.host.call("blobs.missing", b"x" * 3_200_000)

    writer = threading.Thread(target=write)
    writer.start()
    until(runs.host._sending.locked, 5)
    begin = time.monotonic()
    runs.host.poke()  # nor does a bell
    assert time.monotonic() - begin < 0.5
    runs.host.close()
    writer.join(10)
    assert not writer.is_alive()
    assert time.monotonic() - begin < 5


def test_unknown_operations_and_broken_fields_answer_clearly(runs):
    with pytest.raises(HostError) as raised:
        runs.host.call("no.such")
    assert raised.value.code == "unknown_op"
    with pytest.raises(HostError) as raised:
        runs.host.call("launch")
    assert raised.value.code == "bad_request"
    with pytest.raises(HostError) as raised:
        runs.host.launch([("runs", "0" * 32)])
    assert raised.value.code == "not_prepared"


def test_the_probe_knows_the_machine(runs):
    found = runs.host.probe()
    assert found["cpus"] >= 1
    assert found["memory"] > 1 << 28
    assert found["disk"]["free"] <= found["disk"]["total"]
    assert found["isolation"]["tier"] in ("landlock", "process")
    assert found["isolation"]["detail"]


def test_the_program_is_sent_once_and_a_damaged_copy_is_replaced(tmp_path):
    root = tmp_path / "root"
    with Host(LocalTransport(), str(root)) as host:
        assert host.hello()["root"] == str(root)
    (program,) = (root / "agent").glob("agent-*.pyz")
    before = program.stat().st_ino
    with Host(LocalTransport(), str(root)) as host:
        host.hello()
    assert program.stat().st_ino == before
    program.write_bytes(b"damaged")
    with Host(LocalTransport(), str(root)) as host:
        host.hello()
    assert program.stat().st_ino != before
    assert root.stat().st_mode & 0o777 == 0o700


def test_a_target_that_cannot_run_the_agent_says_why(tmp_path):
    transport = LocalTransport()
    transport.python = "/no/such/python"
    with pytest.raises(TransportError, match="could not be started"):
        Host(transport, str(tmp_path))
    transport.python = "/bin/false"
    with pytest.raises(TransportError):
        Host(transport, str(tmp_path))
    (tmp_path / "file").write_text("")
    with pytest.raises(TransportError, match=r"NotADirectory|Not a directory|File exists|FileExists"):
        Host(LocalTransport(), str(tmp_path / "file"))


def test_calls_after_the_end_raise_host_lost(runs):
    runs.host.close()
    with pytest.raises(HostLost):
        runs.host.hello()
    assert runs.host.lost


def test_neither_agent_nor_supervisor_shows_its_memory_or_environment(runs):
    attempt = runs.python("import time; time.sleep(1000)")
    until((runs.folder(attempt) / "state.json").exists)
    for pid in (runs.host.hello()["pid"], runs.owner(attempt)):
        # A process that is not dumpable has its files owned by root, and its descriptors closed to its own user.
        assert Path(f"/proc/{pid}/environ").stat().st_uid == 0
        names = {part.split(b"=")[0] for part in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")}
        assert not any(name.startswith((b"RUNSTEAD", b"DJANGO", b"PYTEST")) for name in names)


landlock = pytest.mark.skipif(isolation._abi() < 1, reason="the kernel offers no Landlock")


@landlock
def test_an_isolated_script_sees_its_own_files_and_not_the_hidden(runs, tmp_path):
    hidden, beside = tmp_path / "keys", tmp_path / "data"
    for place in (hidden, beside):
        place.mkdir()
        (place / "file").write_text("content")
    files = [("own.py", 0o644, b"VALUE = 42\n")]
    digest = ship(runs.host, files)
    other = runs.prepare(["/bin/true"])
    code = """
import os, sys, json, signal, subprocess
def attempt(action):
    try:
        action()
        return True
    except OSError:
        return False
run = os.environ['RUNSTEAD_RUN_DIR']
import own, sqlite3, tempfile
with tempfile.NamedTemporaryFile() as f: f.write(b'x')
os.makedirs('outputs/m'); os.rename('outputs/m', 'outputs/n')
print(json.dumps({
  'hidden read': attempt(lambda: open(sys.argv[1] + '/file').read()),
  'hidden write': attempt(lambda: open(sys.argv[1] + '/new', 'w')),
  'beside read': attempt(lambda: open(sys.argv[2] + '/file').read()),
  'beside write': attempt(lambda: open(sys.argv[2] + '/new', 'w')),
  'other run': attempt(lambda: open(sys.argv[3] + '/spec.json').read()),
  'own record': attempt(lambda: open(run + '/exit.json', 'w')),
  'own log': attempt(lambda: os.unlink(run + '/log')),
  'own records': attempt(lambda: open(run + '/records.jsonl', 'a').write('{}\\n')),
  'artifacts': attempt(lambda: open(run + '/artifacts/a', 'w').write('a')),
  'supervisor environ': attempt(lambda: open('/proc/%d/environ' % os.getppid()).read()),
  'signal supervisor': attempt(lambda: os.kill(os.getppid(), signal.SIGCONT)),
  'signal child': attempt(lambda: subprocess.Popen(['sleep', '9']).kill()),
  'subprocess': subprocess.run(['/bin/sh', '-c', 'echo x > /dev/null; ls / > /dev/null']).returncode == 0,
}))
"""
    attempt = runs.python(
        "import sys; sys.path.insert(0, '.')\n" + code,
        str(hidden),
        str(beside),
        str(runs.folder(other)),
        manifest=digest,
        isolate=[str(hidden)],
    )
    _, log = runs.finish(attempt)
    seen = json.loads(log)
    allowed = {name for name, worked in seen.items() if worked}
    expected = {"beside read", "beside write", "own records", "artifacts", "signal child", "subprocess"}
    if isolation._abi() < 6:
        expected.add("signal supervisor")
    assert allowed == expected
    assert runs.state(attempt)["isolation"] == "landlock"


@landlock
def test_a_run_below_a_home_reaches_its_own_files_and_nothing_of_other_runs(tmp_path, monkeypatch):
    """As on a remote machine: the root is in the user's home, and only the root is named to be hidden."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "notes").write_text("the user's own")
    monkeypatch.setenv("HOME", str(home))
    runs = Runs(home / ".runstead")
    try:
        files = [("own.py", 0o644, b"VALUE = 42\n")]
        digest = ship(runs.host, files)
        blob_path = next(path for path in (runs.root / "blobs").rglob("*") if path.is_file())
        other = runs.prepare(["/bin/true"])
        build = runs.spec([], kind="build", steps=[{"title": "x", "argv": ["/bin/true"], "env": {}, "cwd": "."}])
        runs.host.prepare("builds", build["attempt"], build, None)
        for place in ("lib", "envs", "cache"):
            (runs.root / place / "x").mkdir()
            (runs.root / place / "x" / "file").write_text("content")
        code = """
import os, sys, json, glob
root, blob, other, build = sys.argv[1:]
run = os.environ['RUNSTEAD_RUN_DIR']
def can(action):
    try:
        action()
        return True
    except OSError:
        return False
def reads(path): return can(lambda: open(path, 'rb').read())
def writes(path): return can(lambda: open(path, 'w').write('x'))
cache = os.path.expanduser('~/.cache/mine')
print(json.dumps({
  'own code': reads('own.py'), 'own outputs': writes('outputs/a'), 'own records': can(lambda: open(run + '/records.jsonl', 'a')),
  'lib': reads(root + '/lib/x/file'), 'env': reads(root + '/envs/x/file'), 'cache of the user': can(lambda: os.makedirs(cache)),
  'notes of the user': reads(os.path.expanduser('~/notes')),
  'env written': writes(root + '/envs/x/new'), 'lib written': writes(root + '/lib/x/new'),
  'own spec written': writes(run + '/spec.json'), 'own ending written': writes(run + '/exit.json'),
  'blob': reads(blob), 'other run': reads(other + '/spec.json'), 'other run written': writes(other + '/cancel'),
  'other run removed': can(lambda: os.rename(other, other + 'x')), 'build': reads(build + '/spec.json'),
  'agent': any(reads(path) for path in glob.glob(root + '/agent/*')), 'agent written': writes(root + '/agent/new.pyz'),
  'package cache': reads(root + '/cache/x/file'), 'new in root': writes(root + '/new'),
}))
"""
        places = [str(blob_path), str(runs.folder(other)), str(runs.folder(build["attempt"], "builds"))]
        attempt = runs.python(code, str(runs.root), *places, manifest=digest, isolate=[str(runs.root)])
        _, log = runs.finish(attempt)
        allowed = {name for name, worked in json.loads(log).items() if worked}
        assert allowed == {
            "own code", "own outputs", "own records", "lib", "env", "cache of the user", "notes of the user"
        }  # fmt: skip
        assert runs.state(attempt)["isolation"] == "landlock"
    finally:
        runs.close()


@landlock
def test_the_self_test_holds_here(tmp_path):
    (tmp_path / "agent").mkdir()
    assert isolation._self_test(str(tmp_path / "agent")) == ""
    assert list((tmp_path / "agent").iterdir()) == []


def test_resource_samples_count_the_whole_tree(runs):
    burn = "import time\nx = bytearray(80 << 20)\nwhile time.process_time() < 1: pass\nprint('burnt', flush=True)\ntime.sleep(99)"
    attempt = runs.python(
        "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])", burn, sample_seconds=0.2
    )
    runs.wait_for_log(attempt, b"burnt")
    follower = Follower(runs.host, attempt)
    lines = runs.folder(attempt) / "samples.jsonl"
    seen = len(lines.read_bytes())
    until(lambda: len(lines.read_bytes()) > seen + 200)
    runs.host.cancel("runs", attempt, 0)
    follower.to_the_end()
    samples = [json.loads(line) for line in follower.data["samples"].splitlines()]
    assert max(sample["procs"] for sample in samples) == 2
    assert max(sample["rss"] for sample in samples) > 80 << 20
    times = [runs.exit(attempt)["started_at"]] + [sample["t"] for sample in samples]
    used = sum(sample["cpu"] / 100 * (sample["t"] - before) for before, sample in zip(times, samples, strict=False))
    assert 0.8 < used < 2  # the second that was burnt, and two interpreters' starts
    assert all(set(sample) >= {"t", "cpu", "rss", "procs", "read", "write"} for sample in samples)


def test_a_quiet_script_is_sampled_less_often_until_it_works(runs):
    code = "import os, time\nwhile not os.path.exists('go'): time.sleep(0.5)\nwhile time.process_time() < 3: pass"
    attempt = runs.python(code, sample_seconds=0.2)

    def samples():
        lines = (runs.folder(attempt) / "samples.jsonl").read_bytes().splitlines()
        return [json.loads(line) for line in lines]

    def gaps(found):
        return [later["t"] - before["t"] for before, later in pairwise(found)]

    until(lambda: (runs.folder(attempt) / "samples.jsonl").exists() and len(samples()) >= 12, 30)
    quiet = gaps(samples())
    (runs.folder(attempt) / "code/go").touch()
    runs.exit(attempt)
    busy = gaps(sample for sample in samples() if sample["cpu"] > 25)
    assert median(busy) < 0.45 < median(quiet[-4:])


def test_a_connection_that_was_closed_leaves_no_descriptor_and_no_thread(tmp_path):
    def held():
        return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()

    Host(LocalTransport(), str(tmp_path / "root")).close()
    gc.collect()
    gc.disable()  # cycles wait for the collector, descriptors must not
    try:
        before = held()
        for _ in range(5):
            Host(LocalTransport(), str(tmp_path / "root")).close()
        until(lambda: held() <= before, 5)
    finally:
        gc.enable()
