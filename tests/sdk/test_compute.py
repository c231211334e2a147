"""Compute targets from Python and from the shell, against a live studio and a real SSH server."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from runstead import (
    ComputeTarget,
    ComputeTargetException,
    DockerCompute,
    HDInsightCompute,
    LocalCompute,
    RemoteCompute,
    UserError,
    Workspace,
    cli,
)

from environments.transports import keys
from environments.transports.connection import fingerprint
from tests.environments.sshd import server
from tests.live import ROOT, Studio
from tests.waiting import until

SDK = ROOT / "sdk" / "src"


@pytest.fixture(scope="module")
def sshd():
    with server(Path("/tmp/runstead-sdk-compute"), 2267, "sdkhost") as found:
        yield found


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    live = Studio(tmp_path_factory.mktemp("studio") / "data").start()
    yield live
    assert live.stop() == 0, live.output.read_text()[-3000:]


@pytest.fixture
def ws(studio, monkeypatch):
    for name in ("RUNSTEAD_URL", "RUNSTEAD_TOKEN", "RUNSTEAD_WORKSPACE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RUNSTEAD_DATA_DIR", str(studio.data_dir))  # where the studio on this machine leaves its address
    workspace = Workspace.from_config()
    yield workspace
    for target in ComputeTarget.list(workspace):
        if target.name != "local":
            target.detach("cancel")


@pytest.fixture
def key(sshd, tmp_path):
    """The private key's file, as a person has it."""
    path = tmp_path / "id_ed25519"
    path.write_text(sshd.private_key)
    path.chmod(0o600)
    return str(path)


@pytest.fixture
def remote(sshd, key):
    """Arguments of RemoteCompute.attach_configuration that name the server and its key."""
    return {
        "username": sshd.user, "address": sshd.host, "ssh_port": sshd.port, "private_key_file": key,
        "host_key_fingerprint": fingerprint(sshd.host_key).split()[-1],
    }  # fmt: skip


def without(given, *names):
    return {name: value for name, value in given.items() if name not in names}


# -- from Python


def test_the_usual_way_of_notebooks_find_or_attach(ws, remote, capsys):
    try:
        target = ComputeTarget(ws, "gpu-box")
    except ComputeTargetException as error:
        assert "There are: local" in error.message
        target = ComputeTarget.attach(ws, "gpu-box", RemoteCompute.attach_configuration(**remote))
    target.wait_for_completion(show_output=True)
    shown = capsys.readouterr().out
    assert "ok    Sign-in" in shown and shown.rstrip().endswith("Succeeded")
    assert isinstance(target, RemoteCompute) and target.type == "VirtualMachine"
    assert (target.provisioning_state, target.provisioning_errors) == ("Succeeded", [])
    assert target.name in ws.compute_targets and target.slots >= 1 and target.get_status() == "Online"
    again = ComputeTarget.attach(ws, "gpu-box", RemoteCompute.attach_configuration(**remote))
    assert again.serialize()["steps"] == ComputeTarget(ws, "gpu-box").steps


def test_a_run_goes_to_a_target_that_python_attached_and_its_detaching_cancels_what_is_left(ws, remote, tmp_path):
    from runstead import Experiment, ScriptRunConfig

    target = ComputeTarget.attach(ws, "gpu-box", RemoteCompute.attach_configuration(slots=1, **remote))
    project = tmp_path / "project"
    project.mkdir()
    (project / "train.py").write_text(
        "import getpass, sys, time; print(getpass.getuser()); time.sleep(float(sys.argv[1]))\n"
    )
    experiment = Experiment(ws, "remote")
    first = experiment.submit(ScriptRunConfig(project, "train.py", ["0"], compute_target=target, environment="python"))
    first.wait_for_completion()
    assert remote["username"] in first.read_log(0).decode()
    second = experiment.submit(
        ScriptRunConfig(project, "train.py", ["600"], compute_target=target, environment="python")
    )
    until(lambda: second.get_status() == "Running", 60)
    with pytest.raises(ComputeTargetException, match="execute there: 1"):
        target.detach()
    target.detach("cancel", timeout=60)
    assert second.get_status() == "Canceled"
    with pytest.raises(ComputeTargetException, match="no compute target 'gpu-box'"):
        ComputeTarget(ws, "gpu-box")


def test_without_a_fingerprint_the_error_names_the_one_found_and_how_to_pass_it(ws, remote):
    shown = remote["host_key_fingerprint"]
    with pytest.raises(ComputeTargetException) as caught:
        ComputeTarget.attach(ws, "box", RemoteCompute.attach_configuration(**without(remote, "host_key_fingerprint")))
    assert caught.value.fingerprint == shown
    assert f"host_key_fingerprint='{shown}'" in caught.value.message and "ssh-keygen -lf" in caught.value.message
    with pytest.raises(ComputeTargetException, match="You expect SHA256:AAAA"):
        wrong = {**remote, "host_key_fingerprint": "SHA256:AAAA"}
        ComputeTarget.attach(ws, "box", RemoteCompute.attach_configuration(**wrong))
    assert list(ws.compute_targets) == ["local"]


def test_the_studios_own_key_is_told_installed_and_used(ws, remote, sshd):
    config = RemoteCompute.attach_configuration(**without(remote, "private_key_file"))
    with pytest.raises(ComputeTargetException) as caught:
        ComputeTarget.attach(ws, "box", config)
    line, before = caught.value.public_key, sshd.authorized.read_text()
    assert line in caught.value.message and caught.value.steps[-1]["title"] == "Sign-in"
    try:
        with sshd.authorized.open("a") as file:
            file.write(line + "\n")
        target = ComputeTarget.attach(ws, "box", config)
        assert target.public_key == line
        newer = target.new_key()
        sshd.authorized.write_text(before + newer + "\n")
        target.use_new_key()
        assert target.public_key == newer and all(step["ok"] for step in target.test() if step["needed"])
    finally:
        sshd.authorized.write_text(before)


def test_a_changed_host_key_is_trusted_only_by_its_fingerprint(ws, remote):
    target = ComputeTarget.attach(ws, "box", RemoteCompute.attach_configuration(**remote))
    target.update(options={"ssh": {"host_key": keys.make_key()[1].rsplit(" ", 1)[0]}})
    assert target.test()[-1]["title"] == "Host key" and target.provisioning_state == "Failed"
    with pytest.raises(ComputeTargetException, match="Host key"):
        target.wait_for_completion()
    with pytest.raises(ComputeTargetException, match="You expect"):
        target.test(host_key_fingerprint="SHA256:other")
    target.test(host_key_fingerprint=remote["host_key_fingerprint"])
    assert target.provisioning_state == "Succeeded"


def test_an_encrypted_key_needs_its_passphrase(ws, remote, tmp_path, key):
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "open sesame", "-P", "", "-f", key], check=True)
    with pytest.raises(ComputeTargetException, match="passphrase"):
        ComputeTarget.attach(ws, "box", RemoteCompute.attach_configuration(**remote))
    config = RemoteCompute.attach_configuration(private_key_passphrase="open sesame", **remote)
    assert "sesame" not in repr(config) and "PRIVATE" not in repr(config)
    assert ComputeTarget.attach(ws, "box", config).serialize()["credentials"] == ["passphrase", "private_key"]


def test_drain_resume_and_changes(ws, tmp_path):
    target = ComputeTarget.attach(
        ws, "scratch", LocalCompute.attach_configuration(root=str(tmp_path / "root"), slots=2)
    )
    assert isinstance(target, LocalCompute) and target.slots == 2
    target.drain()
    assert not ComputeTarget(ws, "scratch").enabled
    target.resume()
    target.update(slots=5)
    assert (target.enabled, target.slots, target.quarantine) == (True, 5, "")


def test_wrong_arguments_are_refused_here_before_anything_is_sent(tmp_path):
    attach = RemoteCompute.attach_configuration
    (tmp_path / "id.pub").write_text("ssh-ed25519 AAAA me\n")
    for wrong, text in (
        ({}, "address:"),
        ({"address": "h"}, "username:"),
        ({"address": "h", "username": "u", "ssh_port": "x"}, "ssh_port: 'x' is not a port"),
        ({"address": "h", "username": "u", "private_key_file": "/nowhere/id"}, "private_key_file: cannot read"),
        ({"address": "h", "username": "u", "private_key_file": str(tmp_path / "id.pub")}, "public half"),
        ({"resource_id": "/subscriptions/1", "address": None, "username": "u"}, "resource_id:"),
    ):
        with pytest.raises(UserError, match=text):
            attach(**wrong)
    with pytest.raises(UserError, match="memory: '4 apples' is no size"):
        DockerCompute.attach_configuration(memory="4 apples")
    with pytest.raises(UserError, match="mounts: '/data' needs the form"):
        DockerCompute.attach_configuration(mounts=["/data"])


def test_configurations_say_what_the_kinds_need():
    ssh = {"address": "head", "username": "ada", "password": "pw"}
    docker = DockerCompute.attach_configuration(memory="2GB", mounts=["/data:/data", "/out:/out:rw"], **ssh).body
    assert (docker["transport"], docker["launcher"], docker["credentials"]) == ("ssh", "docker", {"password": "pw"})
    assert docker["options"]["docker"] == {
        "memory_bytes": 2 * 1024**3,
        "mounts": [
            {"source": "/data", "target": "/data", "read_only": True},
            {"source": "/out", "target": "/out", "read_only": False},
        ],
    }
    here = DockerCompute.attach_configuration().body
    assert (here["transport"], here["options"]) == ("local", {"docker": {}})
    spark = HDInsightCompute.attach_configuration(ssh_port="2222", conf={"spark.executor.memory": "2g"}, **ssh).body
    assert spark["options"]["ssh"]["port"] == 2222
    assert spark["options"]["spark"] == {"master": "yarn", "conf": {"spark.executor.memory": "2g"}}
    jump = RemoteCompute.attach_configuration(jump_address="gate", **ssh).body
    assert jump["options"]["ssh"]["jump"] == {"host": "gate", "port": 22, "user": "ada"}


# -- from the shell


def shell(ws, *words, stdin="", code=0):
    env = {**os.environ, "PYTHONPATH": str(SDK)}
    done = subprocess.run(
        [sys.executable, "-m", "runstead", *words], env=env, input=stdin, capture_output=True, text=True, timeout=120, check=False
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout, done.stderr


def test_attach_doctor_list_key_drain_detach_from_a_shell(ws, remote, sshd):
    words = ["attach", "box", "--host", sshd.host, "--port", str(sshd.port), "--user", sshd.user, "--slots", "3"]
    words += ["--key", remote["private_key_file"]]
    _, said = shell(ws, *words, code=1)
    assert f"pass --fingerprint {remote['host_key_fingerprint']}" in said and "Traceback" not in said
    out, _ = shell(ws, *words, "--fingerprint", remote["host_key_fingerprint"])
    assert "ok    Sign-in" in out and "box is attached: Remote machine, 3 slots" in out
    out, _ = shell(ws, "targets")
    assert [line.split()[0] for line in out.splitlines()] == ["NAME", "box", "local"]
    out, _ = shell(ws, "targets", "--json")
    assert [row["name"] for row in json.loads(out)] == ["box", "local"] and "PRIVATE" not in out
    out, _ = shell(ws, "doctor", "box", "--json")
    assert all(step["ok"] for step in json.loads(out) if step["needed"])
    assert "nothing new starts" in shell(ws, "drain", "box")[0]
    assert "start there again" in shell(ws, "resume", "box")[0]
    assert "key or password of your own" in shell(ws, "key", "box", code=1)[1]
    assert shell(ws, "key", "box", "--new")[0].startswith("ssh-ed25519 ")
    assert "is detached" in shell(ws, "detach", "box")[0]
    assert "no compute target 'box'" in shell(ws, "doctor", "box", code=1)[1]


def test_a_failed_test_exits_with_one_and_prints_the_steps_with_the_fix(ws, remote, sshd):
    words = ["attach", "box", "--host", sshd.host, "--port", str(sshd.port), "--user", sshd.user, "--password"]
    _, said = shell(ws, *words, "--fingerprint", remote["host_key_fingerprint"], stdin="wrong\n", code=1)
    assert "FAIL  Sign-in" in said and "ok    Host key" in said and "wrong" not in said


def test_options_of_another_kind_are_refused(ws):
    assert "--user: it is for machines reached by SSH" in shell(ws, "attach", "x", "--user", "u", code=1)[1]
    assert "--memory: it is for Docker" in shell(ws, "attach", "x", "--memory", "1GB", code=1)[1]
    assert "not both" in shell(ws, "attach", "x", "--docker", "--spark", "yarn", code=1)[1]
    shell(ws, "attach", code=2)


def test_on_a_terminal_the_fingerprint_is_asked_for_and_only_yes_attaches(ws, remote, sshd):
    """As ssh asks: a pseudo-terminal stands for the person's."""
    program = textwrap.dedent(
        """
        import pty, os, sys
        answer = sys.argv[1]
        pid, fd = pty.fork()
        if pid == 0:
            os.execv(sys.executable, [sys.executable, "-m", "runstead", *sys.argv[2:]])
        seen = b""
        while True:
            try:
                data = os.read(fd, 4096)
            except OSError:
                break
            if not data:
                break
            seen += data
            if b"(yes/no)?" in data:
                os.write(fd, answer.encode() + b"\\n")
        sys.stdout.write(seen.decode(errors="replace"))
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        """
    )
    words = ["attach", "box", "--host", sshd.host, "--port", str(sshd.port), "--user", sshd.user]
    words += ["--key", remote["private_key_file"]]
    env = {**os.environ, "PYTHONPATH": str(SDK)}
    for answer, code in (("no", 1), ("yes", 0)):
        done = subprocess.run(
            [sys.executable, "-c", program, answer, *words], env=env, capture_output=True, text=True, timeout=120, check=False
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        assert remote["host_key_fingerprint"] in done.stdout
    assert "box" in ws.compute_targets


def test_the_client_runs_on_python_3_8():
    """Syntax and names of newer Pythons would break where the client is used."""
    found = subprocess.run(
        [str(Path(sys.executable).with_name("vermin")), "-q", "--no-tips", "-t=3.8-", "--violations", str(SDK / "runstead")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stdout


def test_help_lists_the_commands(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    shown = capsys.readouterr().out
    assert all(f"    {name} " in shown for name in ("targets", "attach", "doctor", "drain", "resume", "key", "detach"))
