"""What the end of a login session does to runs: on a real host with an SSH server, as systemd's logind is configured there.

The host is a network namespace without systemd: its files are the real ones, and the number of the session is what pam_systemd would set.
"""

from pathlib import Path

import pytest

from environments.doctor import Step, examine
from environments.models import ComputeTarget
from tests.faults.hosts import Hosts

pytestmark = pytest.mark.django_db
BUSCTL = """\
#!/bin/sh
[ "$1 $2 $4" = "get-property org.freedesktop.login1 org.freedesktop.login1.Manager" ] || exit 1
shift 4
for name; do case $name in
KillUserProcesses) echo "b {kill}" ;; KillOnlyUsers) echo "as 0" ;; KillExcludeUsers) echo 'as 1 "root"' ;; RemoveIPC) echo "b false" ;;
esac; done
"""


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    made = Hosts(tmp_path_factory.mktemp("session"), "rslog", "10.79.61", 1).start()
    for folder in ("/etc/systemd", "/usr/lib/systemd", "/run", "/var/lib"):
        # Of the host alone, and gone with it: what is written below them is not seen elsewhere.
        made.run(
            1,
            "sh",
            "-c",
            f"mkdir -p {folder} && mount -t tmpfs none {folder} && mkdir -p /run/sshd /var/lib/systemd/linger",
        )
    made.sshd(1, SetEnv="XDG_SESSION_ID=7")
    yield made
    made.stop()


@pytest.fixture
def told(host, workspace):
    """Write files of the host, anew each time; the doctor's step about sessions."""
    target = ComputeTarget.objects.create(workspace=workspace, name="box", transport="ssh", options=host.options(1))
    target.set_credentials(host.credentials())
    target.save()

    def ask(files: dict[str, str], *, lingers: bool = False) -> Step:
        host.run(
            1,
            "sh",
            "-c",
            "find /etc/systemd /usr/lib/systemd /run/systemd /var/lib/systemd/linger -type f -delete || true",
        )
        linger = {f"/var/lib/systemd/linger/{host.user(1)}": ""} if lingers else {}
        for path, text in {**files, **linger}.items():
            place = host.inside(1, path)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        found = {step.title: step for step in examine(target)}
        assert found["Tools"].ok, "it only informs"
        return found["Session"]

    return ask


KILLS = "[Login]\nKillUserProcesses=yes\nRemoveIPC=no\n"


@pytest.mark.parametrize(
    "files",
    [
        {"/etc/systemd/logind.conf": KILLS},
        {"/usr/lib/systemd/logind.conf": KILLS},
        {"/etc/systemd/logind.conf": "[Login]\nKillUserProcesses=no\n", "/usr/lib/systemd/logind.conf.d/kill.conf": KILLS},
        {"/run/systemd/logind.conf.d/10.conf": "[Login]\n# KillUserProcesses=no\nKillUserProcesses = true\nKillExcludeUsers=root ada\n"},
    ],
)  # fmt: skip
def test_a_session_whose_end_ends_its_runs_is_told_with_the_line_to_write(host, told, files):
    step = told(files, lingers=True)  # which saves only what is started outside of the session
    assert not step.ok and not step.needed
    assert f"ends whatever {host.user(1)} started" in step.detail
    assert f"KillExcludeUsers=root {host.user(1)}" in step.fix


@pytest.mark.parametrize(
    "text",
    [
        "KillUserProcesses=no\n", "KillUserProcesses=yes\nKillOnlyUsers=ada\n", "KillUserProcesses=yes\nKillExcludeUsers=root {user}\n",
        "KillUserProcesses=yes\nKillUserProcesses=no\n", "",
    ],
)  # fmt: skip
def test_who_is_spared_is_told_nothing(host, told, text):
    step = told({"/etc/systemd/logind.conf": "[Login]\nRemoveIPC=no\n" + text.format(user=host.user(1))})
    assert (step.ok, step.detail) == (True, "Runs outlive it")


def test_a_part_of_a_later_folder_replaces_that_of_its_name(told):
    files = {
        "/usr/lib/systemd/logind.conf.d/50.conf": KILLS,
        "/etc/systemd/logind.conf.d/50.conf": "[Login]\nRemoveIPC=no\n",
    }
    assert told(files).ok


def test_shared_memory_that_goes_with_the_last_session_is_told_unless_the_user_lingers(host, told):
    step = told({})
    assert int(host.run(1, "id", "-u", host.user(1))) > 999, "the system's own users keep their memory"
    assert not step.ok and not step.needed
    assert "shared memory" in step.detail
    assert step.fix == f"As root there: loginctl enable-linger {host.user(1)}."
    assert told({}, lingers=True).ok


@pytest.mark.parametrize("kill", ["true", "false"])
def test_what_logind_itself_says_comes_before_its_files(host, told, kill):
    other = {"true": "no", "false": "yes"}[kill]
    place = Path(host.state / "host1" / "busctl")
    place.write_text(BUSCTL.format(kill=kill))
    place.chmod(0o755)
    host.run(1, "sh", "-c", f"mount -t tmpfs none /usr/local/bin && cp {place} /usr/local/bin/busctl")
    try:
        assert told({"/etc/systemd/logind.conf": f"[Login]\nKillUserProcesses={other}\n"}).ok is (kill == "false")
    finally:
        host.run(1, "umount", "/usr/local/bin")


def test_a_connection_without_a_session_is_told_to_be_safe(host, told):
    host.sshd(1, kill_sessions=True, SetEnv="NOTHING=1")
    try:
        step = told({"/etc/systemd/logind.conf": KILLS})
    finally:
        host.sshd(1, kill_sessions=True, SetEnv="XDG_SESSION_ID=7")
    assert (step.ok, step.detail) == (True, "None that ends with the connection")
