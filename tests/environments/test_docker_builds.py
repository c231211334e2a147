"""Images made from environments on a real engine: through a real agent, by a real supervisor, with real uv and pip."""

import ipaddress
import json
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from environments import builds, programs
from environments.definition import Definition, DefinitionError
from environments.doctor import examine
from environments.engine import Engine
from environments.host import Host
from environments.launchers.docker import DockerLauncher
from environments.models import Build, BuildStatus, ComputeTarget
from environments.target import open_target
from tests.environments.building import ended, make, only_wheels, version_of
from tests.environments.docker_engine import IMAGE, engine_or_skip
from tests.waiting import until

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module", autouse=True)
def docker():
    return engine_or_skip()


@pytest.fixture
def target(workspace, tmp_path, monkeypatch):
    """A target on this machine's engine; packages come from a folder of wheels alone."""
    only_wheels(tmp_path / "wheels", monkeypatch)
    options = {"root": str(tmp_path / "root"), "docker": {"base_image": IMAGE}}
    row = ComputeTarget.objects.create(workspace=workspace, name="docker", launcher="docker", options=options)
    yield row
    label = f"label=runstead.root={tmp_path / 'root'}"
    assert said("ps", "-aq", "--filter", label) == "", "a build left a container"
    for image in set(said("images", "-q", "--filter", "label=runstead.environment").split()):
        subprocess.run(["docker", "rmi", "-f", image], check=False, capture_output=True)
    for volume in said("volume", "ls", "-q", "--filter", label).split():
        said("volume", "rm", volume)


def said(*words: str) -> str:
    found = subprocess.run(["docker", *words], check=False, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    return found.stdout.strip()


@pytest.mark.parametrize("installer", ["uv", "pip"])
def test_packages_become_one_layer_above_the_base_image(target, workspace, monkeypatch, installer):
    if installer == "pip":
        monkeypatch.setattr(programs, "own_uv", lambda: "")
    build = builds.ensure(target, version_of(workspace, "Tiny.Tool>=1"))
    with open_target(target) as host:
        log = make(build, host)
        assert (build.status, build.error) == (BuildStatus.READY, ""), log
        assert f"+ Install 1 package with {installer}" in log
        assert "tiny-tool==1.0\n" in build.lock
        assert build.python == "/usr/bin/python3"
        assert 0 < build.size < 20e6
        assert said("run", "--rm", "--pull", "never", build.image, "tiny-tool") == "tiny"
        found, base = Engine(host, target.options).image(build.image), Engine(host, target.options).image(IMAGE)
        assert len(found["RootFS"]["Layers"]) == len(base["RootFS"]["Layers"]) + 1
        assert (found["Config"]["Cmd"], found["Config"]["Env"]) == (base["Config"]["Cmd"], base["Config"]["Env"])
        assert builds.verify(target, DockerLauncher(host, target.options).environments()) == 0


def test_a_second_build_of_the_same_finds_the_image_and_a_third_that_it_is_gone(target, workspace):
    version = version_of(workspace, "tiny-tool")
    other = ComputeTarget.objects.create(workspace=workspace, name="other", launcher="docker", options=target.options)
    first, second = builds.ensure(target, version), builds.ensure(other, version)
    with open_target(target) as host:
        make(first, host)
        assert "Already here" in make(second, host)
        assert (second.image, second.lock) == (first.image, first.lock)
        said("rmi", first.image)
        launcher = DockerLauncher(host, target.options)
        assert not launcher.holds(first.image)
        assert builds.verify(target, launcher.environments()) == 1
        first.refresh_from_db()
        assert (first.status, first.image, first.ended_at) == (BuildStatus.FAILED, "", None)
        assert builds.vanished(second) is True
        assert second.status == BuildStatus.WAITING
        log = make(second, host)
        assert "Already here" not in log
        assert second.status == BuildStatus.READY


def test_without_packages_the_base_image_is_used_as_it_is(target, workspace):
    with open_target(target) as host:
        base = Engine(host, target.options).image(IMAGE)["Id"]
        for fields in ({"user_managed": True}, {}, {"user_managed": True, "interpreter_path": "/usr/bin/python3.11"}):
            build = builds.ensure(target, version_of(workspace, name=f"env{len(fields)}", **fields))
            make(build, host)
            assert (build.status, build.image, build.size) == (BuildStatus.READY, base, 0), build.error
            assert build.python == fields.get("interpreter_path", "/usr/bin/python3")
            assert "pip==" in build.lock


@pytest.mark.parametrize(
    ("packages", "fields", "message"),
    [
        (("no-such-package==9",), {}, "no-such-package"),
        (
            (),
            {"base_image": "nowhere/none:1"},
            "nowhere/none:1 was not pulled. Name an image that is on the engine",
        ),
        ((), {"python_version": "3.8"}, f"the image {IMAGE} has Python 3.11.2, not 3.8. Name a base image with it."),
        (
            (),
            {"user_managed": True, "interpreter_path": "/opt/none"},
            f"the image {IMAGE} has no /opt/none that answers",
        ),
    ],
)
def test_a_build_that_cannot_be_made_says_why_in_one_line(target, workspace, packages, fields, message):
    build = builds.ensure(target, version_of(workspace, *packages, **fields))
    with open_target(target) as host:
        log = make(build, host)
    assert build.status == BuildStatus.FAILED
    assert message in build.error, log
    assert "\n" not in build.error


def test_an_address_with_a_password_reaches_the_installer_and_no_image(target, workspace, monkeypatch, tmp_path):
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "http://ada:open-sesame-17@127.0.0.1:9/simple")
    build = builds.ensure(target, version_of(workspace, "tiny-tool"))
    with open_target(target) as host:
        log = make(build, host)
        assert build.status == BuildStatus.READY, log
    everything = said("inspect", build.image) + said("history", "--no-trunc", build.image) + log
    assert "open-sesame" not in everything
    assert "open-sesame" not in (tmp_path / "root" / "builds" / build.attempt / "spec.json").read_text()


def slow(target, monkeypatch) -> None:
    """Packages come from a server that takes connections and never answers."""
    import socket

    server = socket.create_server(("0.0.0.0", 0))  # the container reaches it over the bridge
    monkeypatch.delenv("PIP_NO_INDEX")
    (network,) = json.loads(said("network", "inspect", "bridge"))[0]["IPAM"]["Config"]
    gateway = network.get("Gateway") or next(ipaddress.ip_network(network["Subnet"]).hosts())
    monkeypatch.setenv("PIP_INDEX_URL", f"http://{gateway}:{server.getsockname()[1]}/simple")
    target.server = server  # closed with it


def installing(host: Host, build: Build) -> None:
    """Wait until the installer is at work; the log is live."""

    def look():
        return (
            b"+ Resolve 1 package" in host.read(build.attempt, "log")
            if host.inspect([build.attempt])[build.attempt]["state"]
            else False
        )

    until(look, 60)


def test_a_killed_builder_is_taken_over_and_its_container_removed(target, workspace, monkeypatch, tmp_path):
    slow(target, monkeypatch)
    build = builds.ensure(target, version_of(workspace, "tiny-tool"))
    label = f"label=runstead.root={tmp_path / 'root'}"
    with open_target(target) as host:
        builds.new_attempt(build)
        builds.begin(build, host, target)
        installing(host, build)
        assert host.inspect([build.attempt])[build.attempt]["exit"] is None
        for process in psutil.process_iter():
            if supervises(process, host, build.attempt):
                process.send_signal(signal.SIGKILL)
        until(lambda: host.inspect([build.attempt])[build.attempt]["sup"] == "free", 10)
        host.kill("builds", build.attempt)
        assert builds.finish(build, None) == BuildStatus.WAITING
        assert said("ps", "-q", "--filter", label) != ""
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        log = make(build, host)
        assert build.status == BuildStatus.READY, log
        assert build.attempts == 2


def supervises(process: psutil.Process, host: Host, attempt: str) -> bool:
    """Whether a process holds the supervisor's lock of an attempt."""
    try:
        lock = Path(f"{host.root}/builds/{attempt}/sup.lock")
        return any(fd.samefile(lock) for fd in Path(f"/proc/{process.pid}/fd").iterdir() if fd.exists())
    except OSError:
        return False


def test_a_cancelled_build_leaves_no_container(target, workspace, monkeypatch):
    slow(target, monkeypatch)
    build = builds.ensure(target, version_of(workspace, "elsewhere"))
    with open_target(target) as host:
        builds.new_attempt(build)
        builds.begin(build, host, target)
        installing(host, build)
        assert builds.cancel(build, None)
        assert builds.stop(build, host)
        record = ended(host, build)["exit"]
        assert record["reason"] == "canceled"
        assert builds.finish(build, record) == BuildStatus.FAILED


@pytest.mark.parametrize(
    "image",
    [
        "-v /:/host",
        "python --privileged",
        "python:3 x",
        "u:p@host/python",
        "python:3;id",
        "$(id)",
        "../x",
        "Python/Up:1",
        "a\nb",
    ],
)
def test_names_of_images_with_options_in_them_are_refused(image):
    with pytest.raises(DefinitionError) as error:
        Definition(base_image=image).validated()
    assert list(error.value.errors) == ["base_image"]


def test_the_base_image_is_part_of_the_key_and_of_nothing_that_was_stored_before():
    plain, based = Definition(packages=("six",)), Definition(packages=("six",), base_image="python:3.12-slim")
    assert plain.key() != based.key()
    assert "base_image" not in plain.to_json()
    assert Definition.from_json(based.to_json()).validated() == based


def test_the_doctor_looks_at_the_engine_and_the_base_image(target, tmp_path):
    steps = {step.title: step for step in examine(target)}
    assert steps["Docker engine"].ok and "API" in steps["Docker engine"].detail
    assert steps["Base image"].ok and IMAGE in steps["Base image"].detail
    target.options["docker"] = {"socket": str(tmp_path / "none.sock")}
    step = {step.title: step for step in examine(target)}["Docker engine"]
    assert not step.ok and "does not answer" in step.detail and "Start it" in step.detail
    assert "group docker" in step.fix
