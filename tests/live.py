"""A real studio, started as its user starts it, with handles to kill its parts."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import psutil

from tests.waiting import until

ROOT = Path(__file__).resolve().parent.parent
FINAL = {"Completed", "Failed", "Canceled"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Control:
    """The other end of tests.control."""

    def __init__(self, env):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.control"],
            cwd=ROOT,
            env=env,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.lock = threading.Lock()
        assert json.loads(self.process.stdout.readline())["ready"]

    def __call__(self, op, **fields):
        with self.lock:
            self.process.stdin.write(json.dumps({"op": op, **fields}) + "\n")
            self.process.stdin.flush()
            answer = json.loads(self.process.stdout.readline())
        if "error" in answer:
            raise AssertionError(answer["error"])
        return answer["result"]

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=20)


class Studio:
    def __init__(self, data_dir: Path, **env: str) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        kept = {k: v for k, v in os.environ.items() if not k.startswith("RUNSTEAD_")}
        self.env = {
            **kept, "RUNSTEAD_DATA_DIR": str(data_dir), "RUNSTEAD_PORT": str(self.port), "XDG_CONFIG_HOME": str(data_dir / "config"),
            # Tests of faults kill the runs of one machine one after the other.
            "PYTHONUNBUFFERED": "1", "RUNSTEAD_QUARANTINE_AFTER": "0", **env,
        }  # fmt: skip
        self.output = data_dir / "up.out"
        self.up: subprocess.Popen | None = None
        self.control: Control | None = None

    def start(self) -> "Studio":
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.up = subprocess.Popen(
            [sys.executable, "manage.py", "up", "--no-example"],
            cwd=ROOT, env=self.env, stdin=subprocess.DEVNULL, stdout=self.output.open("ab"), stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        until(lambda: self.up.poll() is not None or self.answers(), 90)
        assert self.up.poll() is None, self.output.read_text()
        # The address with the sign-in link is printed after the pages answer.
        until(lambda: "Ctrl-C stops" in self.output.read_text(), 30)
        if self.control is None:
            self.control = Control(self.env)
        return self

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.url + "/healthz", timeout=1) as answer:
                return answer.status == 200
        except OSError:
            return False

    def stop(self) -> int:
        if self.control is not None:
            self.control.close()
            self.control = None
        if self.up is None or self.up.poll() is not None:
            return self.up.returncode if self.up else 0
        self.up.send_signal(signal.SIGINT)
        try:
            return self.up.wait(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(self.up.pid, signal.SIGKILL)
            raise

    def link(self) -> str:
        """The one-time address that the terminal showed."""
        return next(word for word in self.output.read_text().split() if "/sign-in/link/" in word)

    def processes(self, kind: str) -> list[psutil.Process]:
        """Live processes of one kind: worker (with its job), house, reconcile, web, queue."""
        marks = {
            "worker": "manage.py work",
            "reconcile": "manage.py reconcile",
            "web": "granian",
            "queue": "unixsocket",
        }
        if kind == "house":
            found = []
            for worker in self._children(marks["worker"]):
                with contextlib.suppress(psutil.Error):  # it has just been killed
                    found += worker.children()
            return found
        return self._children(marks[kind])

    def _children(self, mark: str) -> list[psutil.Process]:
        found = []
        for process in psutil.Process(self.up.pid).children():
            try:
                if mark in " ".join(process.cmdline()) or (mark == "unixsocket" and "valkey" in process.name()):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def kill(self, kind: str, number: int = signal.SIGKILL) -> int:
        victims = self.processes(kind)
        for process in victims:
            try:
                process.send_signal(number)
            except psutil.NoSuchProcess:
                continue
        return len(victims)

    def kill_workers(self) -> None:
        self.kill("house")
        self.kill("worker")

    # What the tests ask of runs.

    def submit(self, folder: Path, *arguments: str, script: str = "train.py", count: int = 1, **more) -> list[int]:
        return self.control("submit", folder=str(folder), script=script, arguments=list(arguments), count=count, **more)

    def run(self, pk: int) -> dict:
        return self.control("runs", ids=[pk])[0]

    def status(self, pk: int) -> str:
        return self.run(pk)["status"]

    def wait_for(self, ids: list[int], statuses=FINAL, seconds: float = 60) -> list[dict]:
        def reached():
            rows = self.control("runs", ids=ids)
            return rows if all(row["status"] in statuses for row in rows) else None

        try:
            return until(reached, seconds)
        except AssertionError:
            rows = self.control("runs", ids=ids)
            tail = self.output.read_text()[-3000:]
            raise AssertionError(
                f"{[(r['id'], r['status'], r['error']) for r in rows]} after {seconds} s\n{tail}"
            ) from None

    def runs_dir(self) -> Path:
        return self.data_dir / "local" / "runs"
