"""A tracking server as the supervisor runs it, and the real `mlflow` client against it."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from environments.agent import tracking

RUN_ID = "digits_1795470000_1a2b3c4d"
TOKEN = "0123456789abcdef0123456789abcdef"


@dataclass
class Context:
    run_dir: str
    token: str = TOKEN
    started_at: float = 1795470000.0
    tracking: dict[str, str] = field(
        default_factory=lambda: {
            "run_id": RUN_ID,
            "experiment_id": "7",
            "experiment": "digits",
            "user": "ada",
        }
    )


@dataclass
class Server:
    run_dir: Path
    port: int

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.run_dir / "records.jsonl").read_bytes().splitlines()]

    def environment(self) -> dict[str, str]:
        """What the supervisor gives the script."""
        return {
            "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{self.port}",
            "MLFLOW_TRACKING_TOKEN": TOKEN,
            "MLFLOW_RUN_ID": RUN_ID,
            "MLFLOW_EXPERIMENT_ID": "7",
            "MLFLOW_EXPERIMENT_NAME": "digits",
            "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        }

    def request(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, Any]]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            own = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
            connection.request(method, path, data, {**own, **(headers or {})})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def post(self, call: str, **body: Any) -> tuple[int, dict[str, Any]]:
        return self.request("POST", f"/api/2.0/mlflow/{call}", {"run_id": RUN_ID, **body})


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    sock = socket.create_server(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    threading.Thread(target=tracking.serve, args=(sock, Context(str(run_dir))), daemon=True).start()
    yield Server(run_dir, port)
    sock.shutdown(socket.SHUT_RDWR)
    sock.close()


@pytest.fixture
def script(server: Server, tmp_path: Path) -> Callable[..., Any]:
    """Run Python text as a run's script would run; what it prints is JSON."""

    def run(text: str, printed: bool = True) -> Any:
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **server.environment()}
        done = subprocess.run(
            [sys.executable, "-c", text],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if printed else None

    return run
