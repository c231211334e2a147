"""Machines as they are: old interpreters, odd locales and names, disks that are full or read-only, half of /proc missing.

Each either works or says in words what is wrong and what to do.
"""

import hashlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from environments.agent import isolation
from environments.host import Host, HostError, HostLost
from environments.transports.base import TransportError
from environments.transports.local import LocalStream, LocalTransport
from environments.transports.ssh import _scan, command_line
from tests.environments.agent.conftest import Follower, Runs
from tests.environments.agent.test_operations import ship

PLAIN = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}


def interpreters() -> list[str]:
    """One of each version of Python that is here, oldest first."""
    found = {}
    for path in [*Path("~/.pyenv/versions").expanduser().glob("*/bin/python3.*"), *Path("/usr/bin").glob("python3.*")]:
        minor = path.name.partition(".")[2]
        if minor.isdigit() and int(minor) >= 6:
            found.setdefault(int(minor), str(path))
    return [found[minor] for minor in sorted(found)] or [sys.executable]


class Crafted(LocalTransport):
    """A child under other circumstances: its variables, its interpreter, and a command before it."""

    def __init__(self, env=PLAIN, python=sys.executable, before=(), umask=None):
        self.python, self.env, self.before, self.umask = python, dict(env), list(before), umask

    def open(self, argv):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        mask = {} if self.umask is None else {"umask": self.umask}
        return LocalStream(
            subprocess.Popen([*self.before, *argv], env=self.env, start_new_session=True, **pipes, **mask)
        )


class Shell(Crafted):
    """By the line that SSH would give to the account's shell."""

    def open(self, argv):
        mark = "0123456789abcdef"
        stream = super().open(["/bin/sh", "-c", command_line(self.python, argv, mark)])
        assert _scan(stream.reader, mark.encode()) is None
        return stream


def elsewhere(script: str, *arguments: str) -> list[str]:
    """A command that runs what follows it in file systems of its own, after a shell script."""
    return ["unshare", "-m", "/bin/sh", "-c", f"set -e\n{script}\nshift {len(arguments)}\nexec \"$@\"", "sh", *arguments]  # fmt: skip


as_root = pytest.mark.skipif(os.getuid() != 0 and not os.environ.get("CI"), reason="needs root")


class At(Runs):
    """Runs on a root that a crafted transport reaches."""

    def __init__(self, root, transport):
        self.root, self.tokens = Path(root), {}
        self.host = Host(transport, str(root))


@pytest.fixture
def at():
    opened = []

    def make(root, **circumstances):
        opened.append(At(root, Crafted(**circumstances)))
        return opened[-1]

    yield make
    for runs in opened:
        runs.close()


SCRIPT = """
import json, os, sys, urllib.request
data = json.dumps({'run_id': os.environ['MLFLOW_RUN_ID'], 'key': 'loss', 'value': 1.5, 'timestamp': 1, 'step': 1}).encode()
url = os.environ['MLFLOW_TRACKING_URI'] + '/api/2.0/mlflow/runs/log-metric'
headers = {'Content-Type': 'application/json', 'Authorization': 'Bearer ' + os.environ['MLFLOW_TRACKING_TOKEN']}
urllib.request.urlopen(urllib.request.Request(url, data, headers)).read()
open('outputs/result', 'w').write('done')
sys.stdout.write(os.environ['PASSWORD'] + ' ' + repr(sys.argv[1].encode('utf-8', 'surrogateescape')) + '\\n')
sys.exit(3)
"""
TRACKING = {"run_id": "r1", "experiment_id": "1", "experiment": "e", "user": "ada"}
NAMES = [("ž ö.txt", 0o644, b"content"), ("日本/🙂.py", 0o755, b"x = 1\n")]


def everything_works(runs: Runs) -> None:
    """A snapshot with names of every kind, a script with arguments, secrets, tracking and outputs; cancel; cleaning."""
    digest = ship(runs.host, NAMES)
    attempt = runs.start(
        [runs.host.transport.python, "-c", SCRIPT, "é 🙂"], manifest=digest, tracking=TRACKING,
        secrets={"PASSWORD": "correct-horse"}, isolate=[str(runs.root)],
    )  # fmt: skip
    record, log = runs.finish(attempt)
    assert (record["reason"], record["exit_code"]) == ("exit_code", 3), log
    assert log == b"*** " + repr("é 🙂".encode()).encode() + b"\n"
    for path, mode, data in NAMES:
        file = runs.folder(attempt) / "code" / path
        assert (file.read_bytes(), file.stat().st_mode & 0o777) == (data, mode)
    assert b'"loss"' in (runs.folder(attempt) / "records.jsonl").read_bytes()
    listed = runs.host.outputs(attempt)
    assert [item["path"] for item in listed["files"]] == ["outputs/result"]
    assert runs.host.read(attempt, "outputs/result") == b"done"
    hanging = runs.start([runs.host.transport.python, "-c", "import time; print('here', flush=True); time.sleep(99)"])
    runs.wait_for_log(hanging, b"here")
    runs.host.cancel("runs", hanging, 0.2)
    assert runs.finish(hanging)[0]["reason"] == "canceled"
    assert not runs.survivors(hanging)
    assert runs.host.probe()["disk"]["total"] > 0
    wish = {"run_days": 0, "build_days": 0, "environment_days": 0, "cache_bytes": 0}
    assert runs.host.clean(wish)["failed"] == []
    assert runs.host.usage(["runs", "blobs"])["kinds"]["runs"]["count"] >= 2


@pytest.mark.parametrize("python", interpreters(), ids=os.path.basename)
def test_every_python_from_3_6_on_does_everything(at, tmp_path, python):
    runs = at(tmp_path / "root", python=python)
    assert f"python{'.'.join(runs.host.hello()['python'].split('.')[:2])}" == Path(python).name
    everything_works(runs)


@pytest.mark.parametrize("python", [interpreters()[0], sys.executable], ids=["oldest", "own"])
@pytest.mark.parametrize("locale", [{}, {"LC_ALL": "C"}, {"LC_ALL": "POSIX", "LANG": "nowhere"}, {"LC_ALL": "de_DE"}])
def test_any_locale_and_a_root_with_blanks_quotes_and_letters_of_all_kinds(at, tmp_path, python, locale):
    env = {name: value for name, value in PLAIN.items() if name != "LANG"}
    runs = at(tmp_path / 'it\'s a "root" $HOME `x` ž日🙂', python=python, env={**env, **locale})
    assert runs.host.hello()["root"] == str(runs.root)
    everything_works(runs)
    shown = runs.start(["/usr/bin/env"])
    _, log = runs.finish(shown)
    seen = dict(line.split("=", 1) for line in log.decode().splitlines() if "=" in line)
    assert {name: seen.get(name) for name in ("LC_ALL", "LANG")} == {
        name: locale.get(name) for name in ("LC_ALL", "LANG")
    }, "scripts get the account's own locale"


@pytest.mark.parametrize("python", [interpreters()[0], sys.executable], ids=["oldest", "own"])
def test_a_login_shell_without_a_locale_that_gets_names_as_text(tmp_path, python):
    """Over SSH the root comes as text, not as the bytes of an argument."""
    env = {name: value for name, value in PLAIN.items() if name != "LANG"}
    root = tmp_path / "ž 日🙂"
    runs = At(root, Shell(env=env, python=python))
    try:
        assert runs.host.hello()["root"] == str(root)
        everything_works(runs)
    finally:
        runs.close()


def test_without_a_home_or_any_variable(at, tmp_path):
    everything_works(at(tmp_path / "root", env={}))


def test_a_root_below_a_home_that_is_not_there_yet(at, tmp_path):
    runs = at("~/deep/.runstead", env={**PLAIN, "HOME": str(tmp_path / "home")})
    runs.root = tmp_path / "home" / "deep" / ".runstead"
    assert runs.host.hello()["root"] == str(runs.root)
    everything_works(runs)


@pytest.mark.parametrize(("umask", "mode"), [(0o077, 0o600), (0o022, 0o644), (0o000, 0o666)])
def test_scripts_get_the_accounts_umask_and_the_roots_folders_stay_private(at, tmp_path, umask, mode):
    runs = at(tmp_path / "root", umask=umask)
    attempt = runs.start(["/bin/sh", "-c", "echo x > outputs/a"])
    runs.finish(attempt)
    assert (runs.folder(attempt) / "code" / "outputs" / "a").stat().st_mode & 0o777 == mode
    for place in (runs.root, runs.root / "runs", runs.folder(attempt), runs.root / "blobs"):
        assert place.stat().st_mode & 0o077 == 0
    assert (runs.folder(attempt) / "spec.json").stat().st_mode & 0o777 == 0o600


@as_root
def test_a_root_of_another_user_is_refused_with_what_to_do(tmp_path):
    root = tmp_path / "root"
    root.mkdir(mode=0o700)
    for place in (tmp_path, *tmp_path.parents):
        if place.owner() == "root" and place.stat().st_mode & 0o005 != 0o005 and place != Path("/"):
            place.chmod(place.stat().st_mode | 0o055)
    transport = Crafted(
        before=["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"], python="/usr/bin/python3"
    )
    with pytest.raises(TransportError, match=r"cannot be used: Permission denied\. Let the account write there"):
        Host(transport, str(root / "deeper"))


@as_root
def test_a_read_only_root_is_refused_with_what_to_do(tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    before = elsewhere('mount --bind "$1" "$1"\nmount -o remount,ro,bind "$1"', str(place))
    with pytest.raises(
        TransportError, match=r"Read-only file system\. Choose a root folder on a disk that can be written"
    ):
        Host(Crafted(before=before), str(place / "root"))


def test_a_file_in_the_roots_place_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "root").write_text("")
    with pytest.raises(TransportError, match="A file stands in the way"):
        Host(Crafted(), str(tmp_path / "root"))


@as_root
@pytest.mark.parametrize("limit", ["size=64k", "nr_inodes=4"])
def test_a_disk_that_is_full_at_the_first_sight_says_so(tmp_path, limit):
    place = tmp_path / "disk"
    place.mkdir()
    before = elsewhere(f'mount -t tmpfs -o {limit} none "$1"', str(place))
    with (
        pytest.raises((HostLost, TransportError), match=r"No space left on device\. Free some space or some files"),
        Host(Crafted(before=before), str(place / "root")) as host,
    ):
        host.hello()


@as_root
def test_a_disk_that_is_full_later_is_an_error_of_its_own_and_a_cancel_still_gets_through(tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    filler = 'mount -t tmpfs -o size=8m none "$1"'
    with Host(Crafted(before=elsewhere(filler, str(place))), str(place / "root")) as host:
        host.hello()
        runs = Runs.__new__(Runs)
        spec = runs.spec([sys.executable, "-c", "open('outputs/a', 'wb').write(bytes(9 << 20))"])
        host.prepare("runs", spec["attempt"], spec, None)
        host.launch([("runs", spec["attempt"])])
        assert Follower(host, spec["attempt"]).to_the_end()["reason"] == "disk_full"
        with pytest.raises(HostError) as raised:
            for _ in range(30):
                data = os.urandom(300_000)
                host.put_blobs([_blob(data)])
        assert raised.value.code == "disk_full"
        assert host.usage([])["disk"]["free"] < 1 << 20


def _blob(data: bytes):
    import io

    return hashlib.sha256(data).hexdigest(), len(data), lambda: io.BytesIO(data)


@as_root
@pytest.mark.parametrize(
    "script",
    [
        "mount -t tmpfs -o noexec,mode=1777 none /var/tmp",
        "mount -t tmpfs none /dev/shm -o mode=0",
        "umount -l /dev/shm || true",
    ],
    ids=["noexec", "closed /dev/shm", "no /dev/shm"],
)
def test_a_tmp_without_exec_and_no_shared_memory(at, tmp_path, script):
    everything_works(at(tmp_path / "root", before=elsewhere(script)))


@as_root
def test_a_root_on_a_disk_that_allows_no_programs(at, tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    before = elsewhere('mount --bind "$1" "$1"\nmount -o remount,noexec,bind "$1"', str(place))
    runs = at(place / "root", before=before)
    digest = ship(runs.host, [("run.sh", 0o755, b"#!/bin/sh\necho x\n")])
    attempt = runs.start(["./run.sh"], manifest=digest)
    record, _ = runs.finish(attempt)
    assert (record["reason"], "Permission denied" in record["error"]["message"]) == ("launch_rejected", True)
    everything_works(runs)


@as_root
def test_without_proc_runs_still_start_and_end(at, tmp_path):
    runs = at(tmp_path / "root", before=elsewhere("mount -t tmpfs none /proc"))
    attempt = runs.start([sys.executable, "-c", "print('x')"])
    record, log = runs.finish(attempt)
    assert (record["reason"], log) == ("exited", b"x\n")
    hanging = runs.start([sys.executable, "-c", "import time; print('here', flush=True); time.sleep(99)"])
    runs.wait_for_log(hanging, b"here")
    runs.host.cancel("runs", hanging, 0.2)
    assert runs.finish(hanging)[0]["reason"] == "canceled"
    assert not runs.survivors(hanging)
    leaving = runs.start(["/bin/sh", "-c", "sleep 99 & echo x"])
    assert runs.finish(leaving)[0]["reason"] == "exited"
    assert not runs.survivors(leaving)


def test_without_landlock_runs_go_unconfined_and_say_so(at, tmp_path):
    (tmp_path / "root" / "agent").mkdir(parents=True)
    known = {
        "boot_id": isolation.processes.boot_id(), "uid": os.getuid(), "version": isolation._VERSION,
        "tier": "process", "detail": "none here",
    }  # fmt: skip
    (tmp_path / "root" / "agent" / "isolation.json").write_text(json.dumps(known))
    runs = at(tmp_path / "root")
    assert runs.host.probe()["isolation"] == {"tier": "process", "detail": "none here"}
    attempt = runs.start(["/bin/true"], isolate=[str(runs.root)])
    runs.finish(attempt)
    assert runs.state(attempt)["isolation"] == "process"


def test_two_studios_on_one_root_send_lay_out_launch_and_clean_at_once_and_nothing_is_lost(at, tmp_path):
    """Nobody should; and yet no harm is done."""
    ours, theirs = at(tmp_path / "root"), at(tmp_path / "root")
    results = {}

    def studio(name, runs):
        files = [(f"f{n}", 0o644, bytes([n]) * 2000) for n in range(100)]
        digest = ship(runs.host, files)
        attempts = []
        for _ in range(15):
            attempts.append(runs.prepare(["/bin/sh", "-c", "cat f7 | wc -c"], manifest=digest, studio=name))
            runs.host.launch([("runs", attempts[-1])])
            wish = {"run_days": 0, "build_days": 0, "environment_days": 0, "cache_bytes": 0}
            try:
                runs.host.clean({**wish, "studio": name, "keep_runs": attempts})
            except HostError as error:
                assert error.code == "in_use"
        results[name] = [runs.finish(attempt) for attempt in attempts]

    threads = [threading.Thread(target=studio, args=pair) for pair in (("one", ours), ("two", theirs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in ("one", "two"):
        assert [(record["reason"], int(log)) for record, log in results[name]] == [("exited", 2000)] * 15


def test_two_roots_of_one_account_know_nothing_of_each_other(at, tmp_path):
    ours, theirs = at(tmp_path / "ours"), at(tmp_path / "theirs")
    attempt = ours.start([sys.executable, "-c", "import time; print('here', flush=True); time.sleep(99)"])
    ours.wait_for_log(attempt, b"here")
    assert theirs.host.list() == {"runs": [], "builds": []}
    assert theirs.host.kill("runs", attempt) == 0
    with pytest.raises(HostError, match="no directory on this target"):
        theirs.host.cancel("runs", attempt, 0)
    assert ours.survivors(attempt)
    ours.host.cancel("runs", attempt, 0)
    ours.finish(attempt)
