"""The connection test, against real servers: what it times, where it stops, and what it says to do."""

import socket
import threading
from pathlib import Path

import pytest

from environments.doctor import Step, examine, examining, isolation
from environments.models import ComputeTarget
from environments.target import health
from environments.transports import keys
from environments.transports.base import TransportError
from tests.environments.sshd import server

pytestmark = pytest.mark.django_db
LINK = "/tmp/runstead-doctor"


@pytest.fixture(scope="module")
def sshd():
    with server(Path(LINK), 2261, "doctorhost") as found:
        yield found


@pytest.fixture
def remote(workspace, sshd):
    target = ComputeTarget.objects.create(workspace=workspace, name="box", transport="ssh", options=sshd.options())
    target.set_credentials({"private_key": sshd.private_key})
    target.save()
    return target


def change(target, **ssh):
    target.options = {**target.options, "ssh": {**target.options["ssh"], **ssh}}
    target.save()


def last(target) -> Step:
    steps = examine(target)
    assert all(step.ok or not step.needed for step in steps[:-1])
    return steps[-1]


def test_every_step_of_a_healthy_machine_is_timed_and_kept(remote):
    steps = examine(remote)
    assert [step.title for step in steps] == [
        "Settings", "Name", "Connection", "Host key", "Sign-in", "Python", "Agent", "Root folder", "Clock", "Processors and memory", "GPU",
        "Disk", "Isolation", "Session", "Tools",
    ]  # fmt: skip
    assert all(step.ok for step in steps)
    assert all(step.detail and step.milliseconds >= 0 for step in steps)
    remote.refresh_from_db()
    assert [step["title"] for step in remote.steps] == [step.title for step in steps]
    assert remote.checked_at
    assert remote.facts["cpus"] >= 1
    assert health(remote).words == "Online"


def test_each_step_is_announced_before_it_is_done(remote):
    heard = list(examining(remote))
    assert heard[0::2] == [step.title for step in heard[1::2]]


def test_a_test_that_keeps_nothing_leaves_the_row_alone(remote):
    change(remote, user="nobody-of-that-name")
    examine(remote, keep=False)
    remote.refresh_from_db()
    assert (remote.steps, remote.checked_at, remote.unreachable_since) == ([], None, None)


def test_a_name_that_nobody_knows(remote):
    change(remote, host="no-such-host.invalid")
    step = last(remote)
    assert (step.title, step.ok) == ("Name", False)
    assert "no-such-host.invalid" in step.detail
    assert "typing errors" in step.fix
    remote.refresh_from_db()
    assert remote.unreachable_since
    assert remote.last_error == step.detail


def test_a_port_where_nobody_listens(remote):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        change(remote, port=free.getsockname()[1])
        step = last(remote)
    assert (step.title, step.ok) == ("Connection", False)
    assert "SSH server" in step.fix


def test_a_server_that_is_not_ssh(remote):
    with socket.create_server(("127.0.0.1", 0)) as other:
        change(remote, port=other.getsockname()[1])

        def greet():
            peer, _ = other.accept()
            peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            peer.close()

        thread = threading.Thread(target=greet)
        thread.start()
        step = last(remote)
        thread.join()
    assert (step.title, step.ok) == ("Host key", False)


def test_a_host_key_that_nobody_has_confirmed_is_shown(remote, sshd):
    change(remote, host_key="")
    step = last(remote)
    assert (step.title, step.ok) == ("Host key", False)
    assert step.data["key"] == sshd.host_key
    assert step.data["shown"].startswith("ssh-ed25519 SHA256:")
    assert step.data["code"] == "host_key_unknown"


def test_a_host_key_that_has_changed_stops_everything(remote, sshd):
    _, other = keys.make_key()
    change(remote, host_key=" ".join(other.split()[:2]))
    before = sshd.log().count("Accepted")
    step = last(remote)
    assert (step.title, step.ok) == ("Host key", False)
    assert step.data["code"] == "host_key_changed"
    assert "has changed" in step.detail
    assert sshd.log().count("Accepted") == before


def test_a_key_that_is_not_let_in_names_the_line_to_add(remote):
    private, line = keys.make_key()
    remote.set_credentials({"private_key": private})
    step = last(remote)
    assert (step.title, step.ok) == ("Sign-in", False)
    assert line.split()[1] in step.fix


def test_a_machine_without_that_python(remote):
    remote.options["python"] = "/opt/none/python3"
    step = last(remote)
    assert (step.title, step.ok) == ("Python", False)
    assert "3.6" in step.fix


def test_a_root_that_cannot_be_written(remote):
    remote.options["root"] = "/srv-of-somebody-else"
    step = last(remote)
    assert (step.title, step.ok) == ("Agent", False)
    assert "/srv-of-somebody-else" in step.detail
    assert step.fix


def test_behind_a_jump_host_each_of_its_steps_is_timed_too(remote, sshd):
    change(remote, jump={name: remote.options["ssh"][name] for name in ("host", "port", "user", "host_key")})
    steps = examine(remote)
    assert [step.title for step in steps][1:8] == [
        "Name of the jump host", "Connection of the jump host", "Host key of the jump host", "Sign-in of the jump host",
        "Connection", "Host key", "Sign-in",
    ]  # fmt: skip
    assert all(step.ok for step in steps)


def test_a_spark_that_is_not_there(remote):
    remote.options["spark"] = {"master": "spark://127.0.0.1:1", "home": "/opt/no-spark"}
    step = last(remote)
    assert (step.title, step.ok) == ("Spark", False)
    assert "/opt/no-spark/bin" in step.detail


def test_a_master_that_does_not_answer(workspace, tmp_path):
    submit = tmp_path / "bin" / "spark-submit"
    submit.parent.mkdir()
    submit.write_text("#!/bin/sh\necho 'Welcome to Spark version 3.5.1' >&2\n")
    submit.chmod(0o755)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        options = {"spark": {"master": f"spark://127.0.0.1:{free.getsockname()[1]}", "home": str(tmp_path)}}
        target = ComputeTarget.objects.create(workspace=workspace, name="spark", options=options)
        step = last(target)
    assert (step.title, step.ok) == ("Spark master", False)
    assert "No master answers" in step.detail
    assert target.steps[-2]["detail"].startswith("3.5.1")


def test_settings_that_cannot_be_are_refused_before_anything_is_sent(remote):
    change(remote, host="-oProxyCommand=x")
    (step,) = examine(remote)
    assert step.title == "Settings"
    assert "ssh.host" in step.detail


def test_a_sandbox_that_is_asked_for_and_cannot_be_had_is_said():
    target = ComputeTarget(transport="ssh", launcher="process", options={"sandbox": True})
    none = {"isolation": {"tier": "process", "detail": "the kernel offers no Landlock"}}
    with pytest.raises(TransportError, match=r"no Landlock\. Runs start without it") as caught:
        isolation(target, none)
    assert caught.value.fix
    target.options = {}
    assert isolation(target, none)[1].startswith("Process only")
