"""Runs in containers of a real engine, without a studio around them."""

import json
import os
import shlex
import subprocess
import uuid
from pathlib import Path

import pytest

from environments.definition import Definition
from environments.engine import Engine
from environments.host import HostError
from environments.launchers import Start
from environments.launchers.docker import DockerLauncher, name_of
from tests.environments.agent.conftest import Runs
from tests.environments.docker_engine import IMAGE, engine_or_skip
from tests.waiting import until

pytestmark = pytest.mark.timeout(300)
STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)
print("ready", flush=True)
time.sleep(600)
"""


class Containers(Runs):
    """Runs whose supervisors an engine starts."""

    def __init__(self, root: Path, **limits: object) -> None:
        super().__init__(root)
        self.launcher = DockerLauncher(self.host, {"docker": limits})
        self.engine = self.launcher.engine
        self.image = self.engine.image(IMAGE)["Id"]

    def begin(self, argv, manifest=None, memory=None, gpus=(), image="", **changes):
        attempt = self.prepare(argv, manifest, **changes)
        self.launcher.launch([self.wish(attempt, memory_bytes=memory, gpus=gpus, image=image or self.image)])
        return attempt

    def wish(self, attempt, **fields):
        return Start(attempt=attempt, **{"image": self.image, "python": "/usr/bin/python3", **fields})

    def python(self, code, *arguments, **changes):
        return self.begin(["/usr/bin/python3", "-u", "-c", code, *arguments], **changes)

    def log(self, attempt, kind="runs"):
        return super().log(attempt, kind) if (self.folder(attempt, kind) / "log").exists() else b""

    def inspect(self, attempt):
        return self.engine.container(name_of(attempt))

    def close(self):
        for attempt in self.tokens:
            self.engine.remove(name_of(attempt))
        self.host.close()


@pytest.fixture(scope="module", autouse=True)
def docker():
    return engine_or_skip()


@pytest.fixture
def containers(tmp_path):
    found = Containers(tmp_path / "root", memory_bytes=512 << 20)
    yield found
    found.close()


def test_a_run_in_a_container_leaves_its_log_and_files_as_anywhere(containers):
    code = "import os\nprint('in', os.getcwd())\nopen('outputs/x', 'w').write('kept')\nraise SystemExit(3)"
    attempt = containers.python(code)
    record, log = containers.finish(attempt)
    assert (record["reason"], record["exit_code"], record["killed"]) == ("exit_code", 3, 0)
    assert log.decode() == f"in {containers.folder(attempt)}/code\n"
    kept = containers.folder(attempt) / "code/outputs/x"
    assert (kept.read_text(), kept.stat().st_uid, kept.stat().st_gid) == ("kept", os.getuid(), os.getgid())
    assert containers.host.inspect([attempt])[attempt]["state"]["isolation"] == "container"


def test_the_container_is_given_nothing_that_it_could_break_out_with(containers):
    code = """
import json, os
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
print(json.dumps({
    "status": {name: status[name].strip() for name in ("CapEff", "CapPrm", "CapBnd", "CapInh", "NoNewPrivs", "Seccomp")},
    "pid 1": open("/proc/1/cmdline").read().split(chr(0))[1:3],
    "socket": os.path.exists("/var/run/docker.sock"),
    "shm": os.statvfs("/dev/shm").f_blocks * os.statvfs("/dev/shm").f_frsize,
    "runs": os.listdir(os.path.dirname(os.environ["RUNSTEAD_RUN_DIR"])),
    "root": sorted(os.listdir(os.path.dirname(os.path.dirname(os.environ["RUNSTEAD_RUN_DIR"])))),
    "disks": [name for name in os.listdir("/dev") if name.startswith(("sd", "vd", "nvme", "kvm", "fuse"))],
}))
for place in ("agent", "lib"):
    try:
        open(os.path.join(os.environ["RUNSTEAD_RUN_DIR"], "../..", place, "x"), "w")
        print("written", place)
    except OSError as error:
        pass
"""
    attempt = containers.python(code)
    _, log = containers.finish(attempt)
    first, _, rest = log.decode().partition("\n")
    found = json.loads(first)
    none = "0" * 16
    assert found["status"] == {
        "CapEff": none, "CapPrm": none, "CapBnd": none, "CapInh": none, "NoNewPrivs": "1", "Seccomp": "2",
    }  # fmt: skip
    assert found["pid 1"] == ["-I", "-S"]
    assert (found["socket"], found["disks"], found["shm"]) == (False, [], 2 << 30)
    assert (found["runs"], found["root"]) == ([attempt], ["agent", "lib", "runs"])
    assert rest == "", "the studio's own programs can be written to"
    host = containers.inspect(attempt)["HostConfig"]
    assert (host["Privileged"], host["CapAdd"], host["Devices"]) == (False, None, None)
    assert not any("host" in str(host[name]) for name in ("NetworkMode", "PidMode", "IpcMode", "UTSMode", "UsernsMode"))
    assert (host["Memory"], host["MemorySwap"], host["PidsLimit"]) == (512 << 20, 512 << 20, 16384)


def test_arguments_of_every_byte_and_the_variables_of_the_image_arrive(containers):
    odd = [
        "",
        "; $(id) `id`",
        "-v",
        "--privileged",
        "\n",
        "'\"\\",
        "ü🙂\u2028",
        "".join(map(chr, range(1, 256))),
        "x" * 100_000,
    ]
    code = "import os, sys, json; print(json.dumps([sys.argv[1:], os.environ['LANG'], os.environ['SEEN'], os.environ['HOME']]))"
    attempt = containers.python(code, *odd, env={"SEEN": "a b"})
    record, log = containers.finish(attempt)
    assert record["reason"] == "exited", log
    assert json.loads(log) == [odd, "C.UTF-8", "a b", f"{containers.folder(attempt)}/tmp"]


def test_secrets_are_masked_and_the_engine_never_hears_of_them(containers):
    attempt = containers.python(
        "import os, time\nprint('the word is', os.environ['WORD'], flush=True)\ntime.sleep(600)",
        secrets={"WORD": "open-sesame-17"},
    )
    until(lambda: b"***" in containers.log(attempt), 20)
    said = json.dumps(containers.inspect(attempt)) + containers.engine.said(name_of(attempt))
    assert "open-sesame-17" not in said
    assert b"open-sesame-17" not in containers.log(attempt) + (containers.folder(attempt) / "spec.json").read_bytes()
    containers.host.cancel("runs", attempt, 0)
    assert containers.exit(attempt)["reason"] == "canceled"


def test_more_memory_than_allowed_ends_the_run_and_says_so(containers):
    attempt = containers.python("x = b'x' * (300 << 20)\nprint('alive')", memory=96 << 20)
    record, log = containers.finish(attempt)
    assert (record["reason"], log) == ("out_of_memory", b"")
    attempt = containers.prepare(["/usr/bin/python3", "-c", "pass"])
    with pytest.raises(HostError, match="allows 536,870,912") as error:
        containers.launcher.launch([containers.wish(attempt, memory_bytes=1 << 40)])
    assert error.value.permanent


def test_a_cancelled_script_that_hides_its_children_leaves_none(containers):
    attempt = containers.python(STUBBORN)
    until(lambda: containers.log(attempt) == b"ready\n", 20)
    assert len(inside(attempt)) == 3
    containers.host.cancel("runs", attempt, 0.3)
    assert containers.exit(attempt)["reason"] == "canceled"
    until(lambda: not containers.inspect(attempt)["State"]["Running"], 10)
    assert containers.survivors(attempt) == []
    containers.launcher.clean(attempt)
    assert containers.inspect(attempt) is None


def test_a_second_launch_adopts_what_is_there(containers):
    code = "import time; print('once', flush=True); time.sleep(1)"
    attempt = containers.python(code)
    containers.launcher.launch([containers.wish(attempt)])
    record, log = containers.finish(attempt)
    assert (record["reason"], log) == ("exited", b"once\n")
    until(lambda: not containers.inspect(attempt)["State"]["Running"], 10)
    with pytest.raises(HostError, match="ended before") as error:
        containers.launcher.launch([containers.wish(attempt)])  # after its end it starts nothing either
    assert not error.value.permanent
    assert containers.finish(attempt) == (record, log)


def test_a_container_that_was_made_but_not_started_is_started(containers):
    attempt = containers.prepare(["/usr/bin/python3", "-c", "print('once')"])
    start = containers.wish(attempt)
    containers.engine.create(name_of(attempt), containers.launcher.config(start))  # here the connection broke
    containers.launcher.launch([start])
    assert containers.finish(attempt)[1] == b"once\n"


def test_a_container_of_our_name_that_is_not_ours_is_left_alone(containers):
    attempt = containers.prepare(["/usr/bin/python3", "-c", "pass"])
    config = containers.launcher.config(containers.wish(attempt))
    config["Labels"]["runstead.root"] = "/somewhere/else"
    containers.engine.create(name_of(attempt), config)
    with pytest.raises(HostError, match="not this run's") as error:
        containers.launcher.launch([containers.wish(attempt)])
    assert error.value.permanent


def test_refusals_of_the_engine_are_told_in_its_words(tmp_path, containers):
    attempt = containers.prepare(["/usr/bin/python3", "-c", "pass"])
    with pytest.raises(HostError, match="No such image") as error:
        containers.launcher.launch([containers.wish(attempt, image="sha256:" + "0" * 64)])
    assert (error.value.code, error.value.permanent) == ("image_missing", True)
    with pytest.raises(HostError, match="no such file or directory") as error:
        containers.launcher.launch([containers.wish(attempt, python="/not/there/python3")])
    assert error.value.permanent
    containers.engine.remove(name_of(attempt))
    with pytest.raises(HostError, match="could not select device driver"):
        containers.launcher.launch([containers.wish(attempt, gpus=["0"])])
    containers.engine.remove(name_of(attempt))
    limits = {"docker": {"mounts": [{"source": str(tmp_path / "gone"), "target": "/data", "read_only": True}]}}
    with pytest.raises(HostError, match="does not exist") as error:
        DockerLauncher(containers.host, limits).launch([containers.wish(attempt)])
    assert error.value.permanent
    assert not (tmp_path / "gone").exists()
    assert containers.host.inspect([attempt])[attempt]["claimed"] is False


def test_only_the_allowed_folders_are_mounted_and_read_only_ones_stay_so(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").write_text("rows")
    mounts = [{"source": str(tmp_path / "data"), "target": "/data", "read_only": True}]
    found = Containers(tmp_path / "root", mounts=mounts, network="none", cpus=0.5, shm_bytes=64 << 20)
    try:
        code = """
import os
print(open("/data/a").read(), sorted(os.listdir("/sys/class/net")), os.statvfs("/dev/shm").f_blocks * 4096 >> 20)
open("/data/b", "w")
"""
        attempt = found.python(code)
        record, log = found.finish(attempt)
        assert log.decode().splitlines()[0] == "rows ['lo'] 64"
        assert record["error"]["type"] == "OSError" and "Read-only" in record["error"]["message"]
        assert found.inspect(attempt)["HostConfig"]["NanoCpus"] == 500_000_000
    finally:
        found.close()


def test_what_an_environment_asks_of_its_container_holds_there_within_the_limits_of_the_target(tmp_path):
    found = Containers(tmp_path / "root", cpus=1.5, pids=200)
    try:
        code = """
import os, resource
print(os.statvfs("/dev/shm").f_blocks * 4096 >> 20, resource.getrlimit(resource.RLIMIT_NOFILE), sorted(os.sched_getaffinity(0)))
"""
        options = [
            "--shm-size=96m",
            "--ulimit nofile=200:300",
            "--cpuset-cpus",
            "0",
            "--memory",
            "256m",
            "--cpus=0.5",
            "--init",
        ]
        asked = Definition(docker={"arguments": options}).validated().docker_arguments
        attempt = found.prepare(["/usr/bin/python3", "-c", code])
        found.launcher.launch([found.wish(attempt, asked=asked)])
        record, log = found.finish(attempt)
        assert (record["reason"], log) == ("exited", b"96 (200, 300) [0]\n")
        bounds = found.inspect(attempt)["HostConfig"]
        assert (bounds["Memory"], bounds["NanoCpus"], bounds["PidsLimit"]) == (256 << 20, 500_000_000, 200)
        for arguments, told in [
            (["--cpus=2"], "2 processors; this target allows 1.5"),
            (["--pids-limit=900"], "900 processes"),
        ]:
            greedy = Definition(docker={"arguments": arguments}).docker_arguments
            with pytest.raises(HostError, match=told) as error:
                found.launcher.config(found.wish("0" * 32, asked=greedy))
            assert error.value.permanent
    finally:
        found.close()


def test_gpus_are_asked_for_by_id_and_counted_anew_inside(containers):
    given = {"CUDA_VISIBLE_DEVICES": "2,5", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    start = containers.wish(uuid.uuid4().hex, gpus=["2", "5"], env=given)
    asked = containers.launcher.config(start)["HostConfig"]["DeviceRequests"]
    assert asked == [{"DeviceIDs": ["2", "5"], "Capabilities": [["gpu"]]}]
    from environments.launchers.docker import inside

    assert inside(start) == {"CUDA_VISIBLE_DEVICES": "0,1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    named = containers.wish("0" * 32, gpus=["GPU-1a"], env={"CUDA_VISIBLE_DEVICES": "GPU-1a"})
    assert inside(named) == {"CUDA_VISIBLE_DEVICES": "GPU-1a"}


def test_what_ended_runs_left_is_tidied_and_what_lives_is_not(containers):
    ended = containers.python("pass")
    alive = containers.python("import time; time.sleep(600)")
    gone = containers.python("pass")
    for attempt in (ended, gone):
        containers.finish(attempt)
        until(lambda: not containers.inspect(attempt)["State"]["Running"], 10)  # noqa: B023
    containers.host.remove("runs", gone)
    until(lambda: containers.host.inspect([alive])[alive]["state"], 20)
    containers.launcher.tidy()
    assert containers.inspect(ended) is None
    assert containers.inspect(gone) is None
    assert containers.inspect(alive)["State"]["Running"]
    with pytest.raises(HostError) as error:
        containers.launcher.kill(alive)  # its supervisor lives
    assert error.value.code == "supervised"
    assert containers.inspect(alive)["State"]["Running"]
    containers.host.cancel("runs", alive, 0)
    assert containers.exit(alive)["reason"] == "canceled"


def test_a_container_that_is_paused_is_alive_and_one_that_is_killed_is_seen_at_once(containers):
    attempt = containers.python("import time\nprint('here', flush=True)\ntime.sleep(600)")
    until(lambda: containers.log(attempt), 20)
    containers.engine.api.pause(name_of(attempt))
    assert containers.host.inspect([attempt])[attempt]["sup"] == "held"
    containers.engine.api.unpause(name_of(attempt))
    containers.engine.api.kill(name_of(attempt))
    until(lambda: containers.host.inspect([attempt])[attempt]["sup"] == "free", 5)
    assert containers.host.inspect([attempt])[attempt]["exit"] is None
    containers.launcher.kill(attempt)
    assert containers.inspect(attempt) is None


def test_an_engine_that_is_away_is_told_apart_from_one_that_refuses(containers, tmp_path):
    away = Engine(containers.host, {"docker": {"socket": str(tmp_path / "none.sock")}})
    with pytest.raises(HostError, match="does not answer") as error:
        away.version()
    assert (error.value.code, error.value.permanent) == ("engine_away", False)
    assert containers.engine.version()["Os"] == "linux"


def inside(attempt: str) -> list[str]:
    """Processes of an attempt, as the engine lists them."""
    argv = shlex.split(f"docker top {name_of(attempt)} -o pid")
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()[1:]
