"""Machines of a test's own, reached over SSH: network namespaces with a cable that can be cut, a power that can fail."""

import contextlib
import os
import shlex
import subprocess
from pathlib import Path

import psutil
import pytest

INFRA = Path(__file__).resolve().parent.parent / "infra"


class Hosts:
    """``name``: at most six letters; ``net``: the first three numbers of their addresses. Both one's own."""

    def __init__(self, state: Path, name: str, net: str, count: int) -> None:
        self.env = {
            **os.environ, "INFRA_STATE": str(state), "NETNS_NAME": name, "NETNS_NET": net, "NETNS_USER": f"{name}node",
        }  # fmt: skip
        self.state, self.count = state / "netns", count

    def start(self) -> "Hosts":
        found = subprocess.run(
            [INFRA / "netns.sh", "start", str(self.count)], env=self.env, capture_output=True, text=True, check=False
        )
        if found.returncode:
            (pytest.fail if os.environ.get("CI") else pytest.skip)(found.stderr)
        self.facts = dict(word.split("=", 1) for word in shlex.split(found.stdout))
        return self

    def stop(self) -> None:
        self.script("stop")

    def script(self, *words: object) -> str:
        argv = [str(INFRA / "netns.sh"), *map(str, words)]
        return subprocess.run(argv, env=self.env, check=True, capture_output=True, text=True).stdout

    def run(self, number: int, *argv: object) -> str:
        """As root inside a host."""
        return self.script("exec", number, *argv)

    # What a target needs.

    def options(self, number: int, **more: object) -> dict:
        """Options of a target."""
        key = (self.folder(number) / "host_key.pub").read_text().split()[:2]
        ssh = {
            "host": self.address(number),
            "port": 22,
            "user": self.user(number),
            "host_key": " ".join(key),
            "jump": None,
        }
        return {"root": "~/.runstead", "ssh": ssh, **more}

    def credentials(self) -> dict:
        return {"private_key": (self.state / "client_key").read_text()}

    def address(self, number: int) -> str:
        return self.facts[f"NETNS_{number}_HOST"]

    def user(self, number: int) -> str:
        return self.facts[f"NETNS_{number}_USER"]

    def home(self, number: int) -> Path:
        return Path(self.facts[f"NETNS_{number}_HOME"])

    def folder(self, number: int) -> Path:
        """Seen under the same name from within the host; its ``tmp`` is the host's ``/tmp``."""
        return self.state / f"host{number}"

    # Faults.

    def heal(self) -> None:
        for number in range(1, self.count + 1):
            self.fault("heal", number)

    def fault(self, what: str, number: int, *words: object) -> None:
        """One of ``faults.sh``: cut, mute, refuse, reset, slow, heal."""
        argv = [str(INFRA / "faults.sh"), what, self.address(number), "22", *map(str, words)]
        subprocess.run(argv, env=self.env, check=True, capture_output=True)

    def sshd(self, number: int, *, kill_sessions: bool = False, **settings: object) -> None:
        """Start the SSH server anew, with settings of ``sshd_config`` changed."""
        config = self.folder(number) / "sshd_config"
        lines = [line for line in config.read_text().splitlines() if line.split(" ")[0] not in settings]
        config.write_text("\n".join([*lines, *(f"{name} {value}" for name, value in settings.items()), ""]))
        for process in self.processes(number, "sshd"):
            with contextlib.suppress(psutil.Error):
                if "-D" in process.cmdline() or kill_sessions:
                    process.kill()
                    process.wait(5)
        self.run(number, "bash", "-c", f"setsid /usr/sbin/sshd -E {config}.log -f {config}")

    def crash(self, number: int) -> None:
        self.script("crash", number)

    # What is there.

    def first(self, number: int) -> int:
        """The first process of a host."""
        return psutil.Process(int((self.state / f"host{number}.pid").read_text().split()[0])).children()[0].pid

    def processes(self, number: int, word: str = "") -> list[psutil.Process]:
        """Living processes of the host whose name or arguments hold ``word``."""
        try:
            space = (Path("/proc") / str(self.first(number)) / "ns/pid").stat().st_ino
        except (psutil.Error, OSError, IndexError):
            return []
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                inside = (Path("/proc") / str(process.pid) / "ns/pid").stat().st_ino == space
                if (
                    inside
                    and process.status() != psutil.STATUS_ZOMBIE
                    and word in " ".join([process.name(), *process.cmdline()])
                ):
                    found.append(process)
        return found

    def of_user(self, number: int) -> list[psutil.Process]:
        """What runs there as the user: supervisors, scripts, the agent; not the SSH server's own."""
        found = []
        for process in self.processes(number):
            with contextlib.suppress(psutil.Error):
                if (
                    process.username() == self.user(number)
                    and process.name() != "sshd"
                    and "sshd" not in process.cmdline()[:1]
                ):
                    found.append(process)
        return found

    def of_runs(self, number: int) -> list[psutil.Process]:
        """Supervisors and what they started, also where the run's directory is gone; agents are not among them."""
        found = []
        for process in self.of_user(number):
            place = Path("/proc") / str(process.pid)
            with contextlib.suppress(OSError):
                held = [str(link.readlink()) for link in (place / "cwd", *(place / "fd").iterdir())]
                if any("/runs/" in name for name in held):
                    found.append(process)
        return found

    def inside(self, number: int, path: str) -> Path:
        """A path of the host, as this machine sees it; also below what is mounted only there."""
        return Path("/proc") / str(self.first(number)) / "root" / path.lstrip("/")
