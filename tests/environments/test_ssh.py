"""Every way to a target keeps the same promises; SSH signs in only where it should, and says what is wrong where it cannot."""

import contextlib
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest

from environments.host import Host, HostError, HostLost
from environments.transports import keys
from environments.transports.base import TransportError
from environments.transports.connection import Connection
from environments.transports.local import LocalTransport
from environments.transports.ssh import SshTransport
from tests.environments.agent.test_cleaning import age
from tests.environments.agent.test_operations import ship
from tests.environments.agent.test_spares import is_new, project, seen
from tests.environments.sshd import server
from tests.waiting import until

PASSWORD = "correct horse 'battery\" staple"
PYTHON = "/usr/bin/python3"
STATE = Path(f"/tmp/rs-ssh-{os.getpid()}")
ODD = [
    "",
    " ",
    "a b",
    "'",
    '"',
    "$(id)",
    "`id`",
    "; exit 3",
    "\n",
    "\t",
    "-n",
    "*",
    "!x",
    "\\",
    "日本語 🎉",
    "x" * 100_000,
]
EVERY_BYTE = bytes(range(1, 256))


@pytest.fixture(scope="module")
def box():
    extra = "PasswordAuthentication yes\nPubkeyAcceptedAlgorithms +ssh-rsa"
    with server(STATE / "box", 2341, "rsbox", extra) as made:
        subprocess.run(["chpasswd"], input=f"{made.user}:{PASSWORD}", text=True, check=True)
        yield made


@pytest.fixture(scope="module")
def gate():
    with server(STATE / "gate", 2342, "rsgate") as made:
        yield made


@pytest.fixture
def transport(box):
    made = SshTransport(box.options(), {"private_key": box.private_key})
    yield made
    made.close()


@pytest.fixture(params=["local", "ssh"])
def way(request):
    """A transport of every kind."""
    if request.param == "local":
        return LocalTransport()
    box = request.getfixturevalue("box")
    made = SshTransport(box.options(python=PYTHON), {"private_key": box.private_key})
    request.addfinalizer(made.close)
    return made


def options(box, **ssh):
    return {**box.options(), "ssh": {**box.options()["ssh"], **ssh}}


def refused(options, credentials):
    """The error that opening a stream raises; how long it took is bounded."""
    transport = SshTransport(options, credentials)
    began = time.monotonic()
    with pytest.raises(TransportError) as raised:
        transport.open(["true"])
    transport.close()
    assert time.monotonic() - began < 30
    assert raised.value.fix or not raised.value.permanent
    return raised.value


# -- what every transport promises


def test_bytes_reach_the_process_and_come_back_unchanged(way):
    stream = way.open([PYTHON, "-c", "import shutil, sys; shutil.copyfileobj(sys.stdin.buffer, sys.stdout.buffer)"])
    data = os.urandom(3_000_000)

    def write():
        for place in range(0, len(data), 1 << 20):
            stream.writer.write(data[place : place + (1 << 20)])
        stream.writer.flush()

    writer = threading.Thread(target=write)
    writer.start()
    assert (
        stream.reader.read(len(data) - 100_000) == data[:-100_000]
    )  # what is left may sit in the process's own buffer
    writer.join()
    stream.close()


def test_arguments_reach_the_process_unchanged(way):
    code = "import json, os, sys; os.write(1, json.dumps([list(os.fsencode(a)) for a in sys.argv[1:]]).encode())"
    words = [*ODD, os.fsdecode(EVERY_BYTE)]
    stream = way.open([PYTHON, "-X", "utf8", "-c", code, *words])
    assert [bytes(word) for word in json.loads(stream.reader.read())] == [os.fsencode(word) for word in words]
    stream.close()


def test_several_streams_live_side_by_side(way):
    echo = "import os\nwhile True:\n data = os.read(0, 100)\n if not data: break\n os.write(1, data)"
    streams = [way.open([PYTHON, "-c", echo]) for _ in range(8)]
    for number, stream in enumerate(streams):
        stream.writer.write(b"%d" % number)
        stream.writer.flush()
    assert [stream.reader.read(1) for stream in streams] == [b"%d" % number for number in range(8)]
    for stream in streams:
        stream.close()


def test_a_process_that_talks_on_stderr_does_not_stop(way):
    code = "import os\nfor _ in range(100): os.write(2, b'x' * 50000)\nos.write(2, b'the end'); os.write(1, b'k')"
    stream = way.open([PYTHON, "-c", code])
    assert stream.reader.read(1) == b"k"
    until(lambda: stream.stderr_tail().endswith("the end"))
    assert len(stream.stderr_tail()) < 20_000
    stream.close()


def test_closing_ends_the_process_and_who_waits_for_it(way, tmp_path):
    stream = way.open([PYTHON, "-c", "import os; os.write(1, b'%d\\n' % os.getpid()); os.read(0, 1)"])
    pid = int(stream.reader.readline())
    rest = []
    waiting = threading.Thread(target=lambda: rest.append(stream.reader.read(1)))
    waiting.start()
    stream.close()
    stream.close()
    waiting.join(10)
    assert rest == [b""]
    until(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split(")")[1])


def test_a_program_that_is_not_there_says_so(way):
    try:
        stream = way.open(["/no/such/program"])
    except TransportError as error:
        assert "/no/such/program" in str(error)
    else:
        assert stream.reader.read() == b""
        assert "/no/such/program" in stream.stderr_tail()
        stream.close()


def test_nothing_of_the_studio_is_in_the_variables_there(way, monkeypatch):
    monkeypatch.setenv("RUNSTEAD_SECRET_KEY", "planted")
    stream = way.open([PYTHON, "-c", "import os; os.write(1, repr(dict(os.environ)).encode())"])
    assert b"planted" not in stream.reader.read()
    stream.close()


def test_the_root_is_the_real_folder_and_has_an_identity(way, tmp_path, request):
    root = "~/.runstead-root" if isinstance(way, SshTransport) else str(tmp_path / "link")
    if isinstance(way, LocalTransport):
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to("real")
    with Host(way, root) as host:
        first = host.facts
        assert host.root.startswith("/") and "link" not in host.root
        assert (first["uid"], len(first["root_id"])) == (host.hello()["uid"], 32)
    with Host(way, root) as host:
        assert host.facts["root_id"] == first["root_id"]
        shutil.rmtree(host.root)
        assert host.hello()["root_id"] == ""
        Path(host.root).mkdir()
        if isinstance(way, SshTransport):
            shutil.chown(host.root, "rsbox1", "rsbox1")
    with Host(way, root) as host:
        assert host.facts["root_id"] not in ("", first["root_id"])


def test_a_frozen_agent_is_told_of_and_then_given_up(way, tmp_path, monkeypatch):
    monkeypatch.setattr("environments.pulse.ASK_SECONDS", 0.5)
    monkeypatch.setattr("environments.pulse.TELL_SECONDS", 1.0)
    monkeypatch.setattr("environments.pulse.LOSE_SECONDS", 6.0)
    monkeypatch.setattr("environments.pulse._LOOK_SECONDS", 0.1)
    host = Host(way, "~/.runstead-frozen" if isinstance(way, SshTransport) else str(tmp_path))
    told = []
    host.pulse.on_silence = lambda seconds: told.append("silent")
    host.pulse.on_heard = lambda: told.append("heard")
    os.kill(host.facts["pid"], signal.SIGSTOP)
    waiting = host.submit("probe")
    until(lambda: told == ["silent"])
    os.kill(host.facts["pid"], signal.SIGCONT)
    assert waiting.result(10)
    until(lambda: told == ["silent", "heard"])
    os.kill(host.facts["pid"], signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(HostLost):
        host.call("probe")
    assert 5 < time.monotonic() - began < 12
    host.close()
    until(lambda: _gone_or_kill(host.facts["pid"]))


def _gone_or_kill(pid):
    try:
        os.kill(pid, signal.SIGCONT)  # over SSH nobody else can; it then sees the end of its stream
        return "Z" in Path(f"/proc/{pid}/stat").read_text().split(")")[1]
    except (ProcessLookupError, FileNotFoundError):
        return True


# -- signing in


def test_the_stages_answer_one_by_one(box):
    connection = Connection.of(box.options(), {"private_key": box.private_key})
    assert connection.resolve() == ["127.0.0.1"]
    assert connection.connect() == "127.0.0.1"
    shown = connection.host_key()
    listed = subprocess.run(
        ["ssh-keygen", "-lf", str(box.state / "host_key_1.pub")], capture_output=True, text=True, check=True
    ).stdout
    assert shown.fingerprint == listed.split()[1]
    assert (shown.type, shown.line) == ("ssh-ed25519", box.host_key)
    assert connection.sign_in().is_authenticated()
    connection.close()
    assert connection.sign_in().is_authenticated()
    connection.close()


@pytest.mark.parametrize("phrase", ["", "a pass phrase"])
@pytest.mark.parametrize(
    ("kind", "form"),
    [("ed25519", "RFC4716"), *((kind, form) for kind in ("ecdsa", "rsa") for form in ("RFC4716", "PEM", "PKCS8"))],
)
def test_keys_of_every_kind_sign_in(box, tmp_path, kind, form, phrase):
    path = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-m", form, "-N", phrase, "-f", str(path)], check=True)
    line = path.with_suffix(".pub").read_text().split()[:2]
    assert keys.public_line(path.read_text(), phrase).split()[:2] == line
    with box.authorized.open("a") as file:
        file.write(" ".join(line) + "\n")
    transport = SshTransport(box.options(), {"private_key": path.read_text(), "passphrase": phrase})
    assert transport.open(["echo", "in"]).reader.read() == b"in\n"
    transport.close()


def test_a_key_that_the_studio_makes_signs_in(box):
    private, line = keys.make_key()
    assert (line.split()[0], line.split()[2], keys.public_line(private)) == ("ssh-ed25519", "runstead", line)
    with box.authorized.open("a") as file:
        file.write(line + "\n")
    transport = SshTransport(box.options(), {"private_key": private})
    assert transport.open(["echo", "in"]).reader.read() == b"in\n"
    transport.close()


def test_a_password_signs_in(box):
    transport = SshTransport(box.options(), {"password": PASSWORD})
    assert transport.open(["echo", "in"]).reader.read() == b"in\n"
    transport.close()


def test_a_strange_key_and_a_password_that_fits_sign_in(box):
    transport = SshTransport(box.options(), {"private_key": keys.make_key()[0], "password": PASSWORD})
    assert transport.open(["echo", "in"]).reader.read() == b"in\n"
    transport.close()


@pytest.mark.parametrize(
    ("credentials", "words"),
    [
        ({"password": "wrong"}, "password"),
        ({"private_key": keys.make_key()[0]}, "key"),
        ({}, "nothing to sign in with"),
    ],
)
def test_who_is_not_let_in_is_told_what_was_tried(box, credentials, words):
    error = refused(box.options(), credentials)
    assert (error.code, error.permanent) == ("auth", True)
    assert words in str(error)
    assert box.user in error.fix or not credentials


def test_a_user_that_is_not_there_is_not_let_in(box):
    assert refused(options(box, user="nobody-here"), {"private_key": box.private_key}).code == "auth"


def test_a_password_where_only_keys_count_names_what_does(gate):
    error = refused(gate.options(), {"password": PASSWORD})
    assert error.code == "auth"
    assert "publickey" in str(error)


def test_neither_an_agent_nor_keys_of_the_studios_user_are_tried(box, tmp_path, monkeypatch):
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "id_ed25519").write_text(box.private_key)
    (home / ".ssh" / "id_ed25519").chmod(0o600)
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(tmp_path / "agent")], stdout=subprocess.DEVNULL)
    try:
        until((tmp_path / "agent").exists)
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
        subprocess.run(["ssh-add", "-q", str(home / ".ssh" / "id_ed25519")], check=True)
        assert refused(box.options(), {"password": "wrong"}).code == "auth"
    finally:
        agent.terminate()
        agent.wait()


def bad_keys():
    private, line = keys.make_key()
    return {
        "empty": "",
        "no key": "not a key",
        "public": line,
        "cut": private[:200],
        "PuTTY": "PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n",
    }


@pytest.mark.parametrize("text", bad_keys().values(), ids=bad_keys().keys())
def test_a_file_that_is_no_private_key_is_refused_with_its_fix(text, code="key_unreadable"):
    with pytest.raises(keys.KeyProblem) as raised:
        keys.check_key(text)
    assert (raised.value.code, raised.value.permanent) == (code, True)
    assert raised.value.fix


@pytest.mark.parametrize("form", ["RFC4716", "PEM", "PKCS8"])
def test_an_encrypted_key_asks_for_its_passphrase(tmp_path, form):
    path = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-m", form, "-N", "right one", "-f", str(path)], check=True)
    for phrase, code in (("", "key_encrypted"), ("wrong one", "key_passphrase")):
        with pytest.raises(keys.KeyProblem) as raised:
            keys.check_key(path.read_text(), phrase)
        assert raised.value.code == code
    keys.check_key(path.read_text().replace("\n", "\r\n"), "right one")


# -- host keys


def test_an_unknown_host_key_is_refused_and_shown(box):
    error = refused(options(box, host_key=""), {"private_key": box.private_key})
    assert (error.code, error.permanent) == ("host_key_unknown", True)
    assert Connection.of(box.options(), {}).host_key().fingerprint in str(error)


def test_a_changed_host_key_stops_everything_and_shows_both(box, gate):
    before = box.log().count("Accepted")
    error = refused(options(box, host_key=gate.host_key), {"private_key": box.private_key})
    assert (error.code, error.permanent) == ("host_key_changed", True)
    for server_ in (box, gate):
        assert Connection.of(server_.options(), {}).host_key().fingerprint in str(error)
    assert box.log().count("Accepted") == before  # nobody signed in


def test_known_hosts_of_the_studios_user_count_for_nothing(box, tmp_path, monkeypatch):
    (tmp_path / ".ssh").mkdir()
    shutil.copy(box.state / "known_hosts", tmp_path / ".ssh" / "known_hosts")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert refused(options(box, host_key=""), {"private_key": box.private_key}).code == "host_key_unknown"


# -- a jump host


def jumping(box, gate, **changes):
    hop = {"host": gate.host, "port": gate.port, "user": gate.user, "host_key": gate.host_key, **changes}
    return options(box, jump=hop)


def test_a_jump_host_leads_to_the_target(box, gate):
    credentials = {"private_key": box.private_key, "jump_private_key": gate.private_key}
    transport = SshTransport(jumping(box, gate), credentials)
    with Host(transport, "~/.runstead-jump") as host:
        assert host.facts["user"] == box.user
        data = os.urandom(5_000_000)
        digest = hashlib.sha256(data).hexdigest()
        host.put_blobs([(digest, len(data), lambda: io.BytesIO(data))], compress=True)
        assert host.missing_blobs([digest]) == []
    transport.close()


def test_faults_of_the_jump_host_are_told_from_the_targets(box, gate):
    credentials = {"private_key": box.private_key, "jump_private_key": gate.private_key}
    for changes, code in (({"host_key": box.host_key}, "host_key_changed"), ({"host_key": ""}, "host_key_unknown")):
        error = refused(jumping(box, gate, **changes), credentials)
        assert error.code == code
        assert "jump host" in str(error)
    error = refused(jumping(box, gate), {**credentials, "jump_private_key": keys.make_key()[0]})
    assert error.code == "auth" and "jump host" in str(error)
    closed = jumping(box, gate)
    closed["ssh"]["port"] = 1
    assert refused(closed, credentials).code == "refused"
    changed = jumping(box, gate)
    changed["ssh"]["host_key"] = gate.host_key
    error = refused(changed, credentials)
    assert error.code == "host_key_changed" and "jump host" not in str(error)


# -- what cannot be reached


def test_who_cannot_be_reached_is_told_apart(box, tmp_path):
    error = refused(options(box, host="no-such-host.invalid"), {"private_key": box.private_key})
    assert (error.code, error.permanent) == ("resolve", False)
    assert refused(options(box, port=1), {"private_key": box.private_key}).code == "refused"


def test_a_port_where_nobody_speaks_ssh_is_given_up_in_time(box, monkeypatch):
    import socket

    monkeypatch.setattr("environments.transports.connection.HANDSHAKE_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        error = refused(options(box, port=mute.getsockname()[1]), {"private_key": box.private_key})
    assert (error.code, error.permanent) == ("handshake", False)


# -- accounts


@pytest.fixture
def account(box):
    """Change the box's user for a test."""
    made = []

    def write(name, text):
        path = box.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        shutil.chown(path, box.user, box.user)
        made.append(path)

    def shell(path):
        subprocess.run(["usermod", "-s", path, box.user], check=True)

    write.shell = shell
    yield write
    for path in made:
        path.unlink()
    shell("/bin/bash")


def test_what_login_scripts_print_does_not_get_into_the_stream(box, account, transport):
    account(".bashrc", "echo Welcome to the box; printf 'hnhnhn'; echo noise >&2\n")
    with Host(transport, "~/.runstead-chatty") as host:
        assert host.facts["user"] == box.user


@pytest.mark.parametrize("shell", ["sh", "dash", "bash", "zsh", "fish", "csh", "tcsh", "ksh"])
def test_any_login_shell_will_do(box, account, transport, shell):
    path = shutil.which(shell)
    if path is None:
        subprocess.run(["apt-get", "install", "-qq", "-y", shell], check=False, capture_output=True)
        path = shutil.which(shell)
    if path is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{shell} is not installed: apt-get install {shell}")
    account.shell(path)
    with Host(transport, "~/.runstead-shells") as host:
        assert host.facts["user"] == box.user
    stream = transport.open(["/bin/echo", *ODD])
    assert stream.reader.read().decode() == " ".join(ODD) + "\n"
    stream.close()


def test_an_account_without_a_shell_says_so(box, account, transport):
    account.shell("/usr/sbin/nologin")
    with pytest.raises(TransportError) as raised:
        transport.open(["true"])
    assert (raised.value.code, raised.value.permanent) == ("shell", True)
    assert "not available" in str(raised.value)


@pytest.mark.parametrize("shell", ["/bin/bash", "/bin/sh"])
def test_a_target_without_python_says_what_to_do(box, account, shell):
    account.shell(shell)
    for python in ("python9", "/opt/no such/python3"):
        error = refused(box.options() | {"python": python}, {"private_key": box.private_key})
        assert (error.code, error.permanent) == ("python_missing", True)
        assert python in str(error)


def test_an_old_python_is_named(box, account):
    account("old-python", "#!/bin/sh\necho 'Unknown option: -I' >&2\nexit 2\n")
    (box.home / "old-python").chmod(0o755)
    error = refused(box.options() | {"python": str(box.home / "old-python")}, {"private_key": box.private_key})
    assert error.code == "python_old"


# -- agents


def test_the_program_is_sent_once(box, transport, tmp_path):
    shutil.rmtree(box.home / ".runstead-once", ignore_errors=True)
    for _ in range(2):
        with Host(transport, "~/.runstead-once") as host:
            programs = list(Path(host.root, "agent").glob("*.pyz"))
            seen = programs[0].stat().st_mtime_ns, programs[0].stat().st_ino
    assert (programs[0].stat().st_mtime_ns, programs[0].stat().st_ino) == seen
    assert len(programs) == 1


def test_a_root_that_cannot_be_written_says_so(transport):
    with pytest.raises(TransportError) as raised:
        Host(transport, "/proc/runstead")
    assert raised.value.code == "root"
    assert "/proc/runstead" in str(raised.value)


def test_arguments_of_a_run_reach_it_unchanged(box, transport):
    with Host(transport, "~/.runstead-argv") as host:
        attempt = uuid.uuid4().hex
        code = "import os, sys; print([os.fsencode(a) for a in sys.argv[1:]])"
        words = [*ODD, os.fsdecode(EVERY_BYTE)]
        spec = {
            "attempt": attempt, "kind": "run", "argv": [PYTHON, "-X", "utf8", "-c", code, *words], "cwd": "code", "env": {},
            "secrets": {}, "limits": {"log_bytes": 1 << 30, "seconds": None, "memory_bytes": None}, "grace": 1,
            "token": uuid.uuid4().hex, "sample_seconds": 2, "tracking": None, "isolate": [],
        }  # fmt: skip
        host.prepare("runs", attempt, spec, None)
        host.launch([("runs", attempt)])
        record = until(lambda: host.inspect([attempt])[attempt]["exit"], 20)
        assert record["reason"] == "exited", host.read(attempt, "log")
        log = host.read(attempt, "log", length=1 << 24)
        assert eval(log) == [os.fsencode(word) for word in words]


def test_a_transfer_that_was_cut_goes_on(box):
    data = os.urandom(40_000_000)
    digest = hashlib.sha256(data).hexdigest()
    transport = SshTransport(box.options(), {"private_key": box.private_key})
    host = Host(transport, f"~/.runstead-cut-{uuid.uuid4().hex}")
    sent = []

    def cut(size):
        sent.append(size)
        if sum(sent) > 10_000_000:
            transport.close()

    with pytest.raises(HostLost):
        host.put_blobs([(digest, len(data), lambda: io.BytesIO(data))], compress=True, progress=cut)
    host.close()
    again = []
    other = SshTransport(box.options(), {"private_key": box.private_key})
    with Host(other, host.root) as second:
        second.put_blobs([(digest, len(data), lambda: io.BytesIO(data))], compress=True, progress=again.append)
        assert again[0] > 8_000_000  # what was there already
        assert sum(again) == len(data)
        assert second.missing_blobs([digest]) == []
        shutil.rmtree(second.root)
    other.close()


def test_ten_thousand_contents_are_few_requests(box, transport, monkeypatch):
    blobs = [b"%d" % number * 50 for number in range(10_000)]
    listed = [(hashlib.sha256(data).hexdigest(), len(data), lambda data=data: io.BytesIO(data)) for data in blobs]
    with Host(transport, f"~/.runstead-many-{uuid.uuid4().hex}") as host:
        asked = []
        submit = host.submit
        monkeypatch.setattr(host, "submit", lambda op, *a, **f: (asked.append(op), submit(op, *a, **f))[1])
        names = [digest for digest, *_ in listed]
        assert len(host.missing_blobs(names)) == 10_000
        host.put_blobs(listed, compress=True)
        assert host.missing_blobs(names) == []
        assert len(asked) <= 4, asked
        shutil.rmtree(host.root)


def test_a_project_laid_out_ahead_is_taken_over_another_connection_and_its_making_ends_with_the_first(box):
    files = project(6000)

    def prepare(host, digest):
        spec = {
            "attempt": uuid.uuid4().hex, "kind": "run", "argv": ["/bin/sh", "-c", "find . -type f | wc -l"], "cwd": "code", "env": {},
            "secrets": {}, "limits": {}, "grace": 1, "token": "t", "sample_seconds": 2, "tracking": None, "isolate": [],
        }  # fmt: skip
        host.prepare("runs", spec["attempt"], spec, digest)
        return Path(host.root) / "runs" / spec["attempt"]

    def connected():
        transport = SshTransport(box.options(python=PYTHON), {"private_key": box.private_key})
        return contextlib.closing(transport), Host(transport, root)

    root = f"~/.runstead-ahead-{uuid.uuid4().hex}"
    closing, host = connected()
    with closing, host:
        digest = ship(host, files, compress=True)
        place = Path(host.root) / "spares"
        first = prepare(host, digest)
        until(lambda: list(place.glob(".new-*/code")))
    until(lambda: [path.name for path in place.iterdir()] == [".lock"])  # cut short, and swept by itself
    closing, host = connected()
    with closing, host:
        prepare(host, digest)
        until((place / digest).is_dir, 60)
    age(place / digest / "code", 1)
    closing, host = connected()
    with closing, host:
        changed = ship(host, [*files, ("one more.py", 0o644, b"x")], compress=True)
        third = prepare(host, changed)
        host.launch([("runs", third.name)])
        until((third / "exit.json").exists)
        assert int(host.read(third.name, "log")) == len(files) + 1
        (third / "code" / "one more.py").unlink()
        assert not is_new(third / "code")
        assert seen(third / "code") == seen(first / "code")
        assert (third / "code" / "p0" / "f0.py").owner() == box.user
    shutil.rmtree(host.root)


def test_a_wrong_content_over_a_busy_line_is_refused_and_the_line_stays_usable(transport):
    with Host(transport, "~/.runstead-wrong") as host:
        good = [os.urandom(600_000) for _ in range(20)]
        listed = [(hashlib.sha256(data).hexdigest(), len(data), lambda data=data: io.BytesIO(data)) for data in good]
        wrong = hashlib.sha256(b"right").hexdigest()
        with pytest.raises(HostError) as raised:
            host.put_blobs([*listed[:10], (wrong, 5, lambda: io.BytesIO(b"wrong")), *listed[10:]])
        assert raised.value.code == "digest_mismatch"
        assert host.missing_blobs([wrong]) == [wrong]
        host.put_blobs(listed)
        assert host.missing_blobs([digest for digest, *_ in listed]) == []


def test_a_dead_link_is_noticed_and_closing_does_not_hang(box, monkeypatch):
    monkeypatch.setattr("environments.pulse.ASK_SECONDS", 0.5)
    monkeypatch.setattr("environments.pulse.TELL_SECONDS", 1.0)
    monkeypatch.setattr("environments.pulse.LOSE_SECONDS", 3.0)
    monkeypatch.setattr("environments.pulse._LOOK_SECONDS", 0.1)
    faults = [str(Path(__file__).parents[1] / "infra" / "faults.sh")]
    env = {**os.environ, "INFRA_STATE": str(STATE / "faults")}
    transport = SshTransport(box.options(), {"private_key": box.private_key})
    host = Host(transport, "~/.runstead-dead")
    told = []
    host.pulse.on_silence = told.append
    big = os.urandom(50_000_000)
    digest = hashlib.sha256(big).hexdigest()
    subprocess.run([*faults, "cut", box.host, str(box.port)], check=True, env=env, capture_output=True)
    try:
        began = time.monotonic()
        with pytest.raises(HostLost):
            host.put_blobs([(digest, len(big), lambda: io.BytesIO(big))])
        assert time.monotonic() - began < 10
        assert told
        began = time.monotonic()
        host.close()
        transport.close()
        assert time.monotonic() - began < 3
    finally:
        subprocess.run([*faults, "heal", box.host, str(box.port)], check=True, env=env, capture_output=True)
    assert host.lost


def test_sign_ins_that_a_busy_server_drops_are_no_permanent_fault():
    with server(STATE / "busy", 2343, "rsbusy", "MaxStartups 2") as busy:
        outcomes = []

        def attempt():
            transport = SshTransport(busy.options(), {"private_key": busy.private_key})
            try:
                outcomes.append(transport.open(["echo", "in"]).reader.read() == b"in\n")
            except TransportError as error:
                outcomes.append((error.code, error.permanent))
            transport.close()

        threads = [threading.Thread(target=attempt) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(outcomes) == 12
    assert set(outcomes) <= {True, ("handshake", False), ("lost", False)}
    assert True in outcomes


def test_too_many_sessions_say_which_setting(box):
    with server(STATE / "few", 2344, "rsfew", "MaxSessions 2") as few:
        transport = SshTransport(few.options(), {"private_key": few.private_key})
        streams = [transport.open(["cat"]) for _ in range(2)]
        with pytest.raises(TransportError) as raised:
            transport.open(["cat"])
        assert (raised.value.code, raised.value.permanent) == ("sessions", False)
        assert "MaxSessions" in raised.value.fix
        streams[0].writer.write(b"alive")
        assert streams[0].reader.read(5) == b"alive"
        transport.close()


def test_nothing_secret_is_in_the_command_line(box, transport):
    stream = transport.open([PYTHON, "-c", "open('/proc/self/cmdline'); import sys; sys.stdin.read()"])
    listed = subprocess.run(["ps", "-u", box.user, "-o", "args"], capture_output=True, text=True, check=True).stdout
    assert PASSWORD not in listed and "PRIVATE" not in listed
    stream.close()


def test_the_modules_need_no_django():
    code = "import sys, environments.transports.ssh, environments.host; sys.exit(any(m.startswith('django') for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[2]).returncode == 0
