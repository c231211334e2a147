"""An SSH server of a test file's own, whose user's keys the tests may change."""

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

INFRA = Path(__file__).resolve().parent.parent / "infra"


@dataclass(frozen=True)
class Server:
    host: str
    port: int
    user: str
    home: Path
    host_key: str
    """``type base64``, as it is pinned."""
    private_key: str
    """What its user lets in from the beginning."""
    state: Path

    @property
    def authorized(self) -> Path:
        return self.home / ".ssh" / "authorized_keys"

    def options(self, **more: object) -> dict:
        ssh = {"host": self.host, "port": self.port, "user": self.user, "host_key": self.host_key, "jump": None, **more}
        return {"root": "~/.runstead", "ssh": ssh}

    def run(self, command: str) -> str:
        """Type a command as its user does in a terminal there."""
        argv = ["su", "-s", "/bin/sh", self.user, "-c", command]
        return subprocess.run(argv, check=True, capture_output=True, text=True, cwd=self.home).stdout

    def log(self) -> str:
        return (self.state / "sshd-1.log").read_text()


@contextmanager
def server(state: Path, port: int, user: str, extra: str = "") -> Iterator[Server]:
    """One that listens on a port, with a user, of the test file's own; stopped at the end. ``extra``: lines of its configuration."""
    env = {**os.environ, "INFRA_STATE": str(state), "SSH_PORT": str(port), "SSH_USER": user, "SSH_EXTRA": extra}
    script = str(INFRA / "sshd.sh")
    state.mkdir(parents=True, exist_ok=True)
    state.chmod(0o755)
    found = subprocess.run([script, "start", "1"], env=env, capture_output=True, text=True, check=False)
    if found.returncode:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(found.stderr)
    facts = dict(word.split("=", 1) for word in shlex.split(found.stdout))
    try:
        yield Server(
            facts["SSH_1_HOST"],
            int(facts["SSH_1_PORT"]),
            facts["SSH_1_USER"],
            Path(facts["SSH_1_HOME"]),
            facts["SSH_1_KNOWN_HOSTS_LINE"].split(" ", 1)[1],
            Path(facts["SSH_KEY"]).read_text(),
            state / "sshd",
        )
    finally:
        subprocess.run([script, "stop"], env=env, check=False, capture_output=True)
        shutil.rmtree(state, ignore_errors=True)
