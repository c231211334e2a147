"""A real agent over real pipes, and runs that are real processes."""

import contextlib
import hashlib
import json
import os
import signal
import sys
import time
import uuid

import pytest

from environments.agent import processes
from environments.host import Host
from environments.transports.local import LocalTransport
from tests.waiting import until


class Runs:
    """Prepares, launches and follows runs on one root, and checks at the end that none left a process."""

    def __init__(self, root):
        self.root = root
        self.host = Host(LocalTransport(), str(root))
        self.tokens = {}

    def folder(self, attempt, kind="runs"):
        return self.root / kind / attempt

    def spec(self, argv, **changes):
        limits = {"log_bytes": 1 << 30, "seconds": None, "memory_bytes": None, **changes.pop("limits", {})}
        return {
            "attempt": uuid.uuid4().hex,
            "kind": "run",
            "argv": argv,
            "cwd": "code",
            "env": {},
            "secrets": {},
            "limits": limits,
            "grace": 0.5,
            "token": uuid.uuid4().hex,
            "sample_seconds": 2,
            "tracking": None,
            "isolate": [],
            **changes,
        }

    def prepare(self, argv, manifest=None, **changes):
        spec = self.spec(argv, **changes)
        kind = "builds" if spec["kind"] == "build" else "runs"
        self.host.prepare(kind, spec["attempt"], spec, manifest)
        self.tokens[spec["attempt"]] = spec["token"]
        return spec["attempt"]

    def start(self, argv, kind="runs", **changes):
        attempt = self.prepare(argv, **changes)
        self.host.launch([(kind, attempt)])
        return attempt

    def python(self, code, *arguments, **changes):
        return self.start([sys.executable, "-u", "-c", code, *arguments], **changes)

    def exit(self, attempt, kind="runs", seconds=30):
        path = self.folder(attempt, kind) / "exit.json"
        until(path.exists, seconds)
        return json.loads(path.read_bytes())

    def log(self, attempt, kind="runs"):
        return (self.folder(attempt, kind) / "log").read_bytes()

    def finish(self, attempt, kind="runs", seconds=30):
        """Exit record and log, the log checked against the record."""
        record = self.exit(attempt, kind, seconds)
        log = self.log(attempt, kind)
        assert record["log"]["bytes"] == len(log)
        assert record["log"]["sha256"] == hashlib.sha256(log).hexdigest()
        return record, log

    def survivors(self, attempt):
        needle = b"RUNSTEAD_TOKEN=" + self.tokens[attempt].encode()
        found = []
        for pid in processes._pids():
            fields = processes.stat_fields(pid)
            if fields and fields[0] != b"Z" and processes._carries(pid, needle):
                found.append(pid)
        return found

    def state(self, attempt, kind="runs"):
        path = self.folder(attempt, kind) / "state.json"
        until(path.exists)
        return json.loads(path.read_bytes())

    def wait_for_log(self, attempt, text, seconds=20):
        path = self.folder(attempt) / "log"
        until(lambda: path.exists() and text in path.read_bytes(), seconds)

    def owner(self, attempt):
        path = self.folder(attempt) / "claim" / "owner.json"
        until(path.exists)
        return json.loads(path.read_bytes())["pid"]

    def close(self):
        for attempt in self.tokens:
            if (self.folder(attempt) / "claim").exists() and not (self.folder(attempt) / "exit.json").exists():
                with contextlib.suppress(OSError, AssertionError):
                    os.kill(self.owner(attempt), signal.SIGKILL)
            processes.send(self.survivors(attempt), signal.SIGKILL)
        self.host.close()


@pytest.fixture
def runs(tmp_path):
    found = Runs(tmp_path / "root")
    yield found
    found.close()


class Follower:
    """What the attendant does: keeps cursors, and asks for what is new."""

    def __init__(self, host, attempt, kind="runs"):
        self.host = host
        self.cursor = {
            "dir": kind,
            "attempt": attempt,
            "log": 0,
            "records": 0,
            "samples": 0,
            "times": 0,
            "seen": 0,
            "files": {},
        }
        self.data = {}
        self.evidence = None

    def step(self, timeout=5, limit=1 << 20):
        changed, poked = self.host.watch([self.cursor], timeout, limit)
        for run in changed:
            self.evidence = run["evidence"]
            self.cursor["seen"] = run["rev"]
            for name, offset, data in run["parts"]:
                assert offset == len(self.data.get(name, b""))
                self.data[name] = self.data.get(name, b"") + data
                target = self.cursor if name in self.cursor else self.cursor["files"]
                target[name] = offset + len(data)
        return changed, poked

    def to_the_end(self, seconds=30, limit=1 << 20):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            changed, _ = self.step(0.5, limit)
            if not changed and self.evidence and self.evidence["exit"] and self.evidence["sup"] == "free":
                return self.evidence["exit"]
        raise AssertionError(f"the run did not end: {self.evidence} {self.cursor}")
