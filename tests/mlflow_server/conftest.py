"""A live studio, and the real client of MLflow against it."""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from tests.live import ROOT, Studio

os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
os.environ["GIT_PYTHON_REFRESH"] = "quiet"

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException


class Server:
    """A studio with tokens of several kinds."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.url = studio.url
        self.port = studio.port
        self.tokens = {
            "owner": studio.control("token", scope="owner"),
            "contributor": studio.control("token"),
            "reader": studio.control("token", scope="reader"),
            "foreign": studio.control("token", workspace="elsewhere", scope="owner"),
        }

    @contextmanager
    def acting(self, who: str) -> Iterator[MlflowClient]:
        """A client with another token than the usual one."""
        before = os.environ.get("MLFLOW_TRACKING_TOKEN")
        os.environ["MLFLOW_TRACKING_TOKEN"] = self.tokens[who]
        try:
            yield MlflowClient(self.url)
        finally:
            os.environ["MLFLOW_TRACKING_TOKEN"] = before or ""

    def request(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, who: str = "contributor"
    ) -> tuple[int, Any, Message]:
        """(status, JSON or bytes, headers) of a request whose path goes out as it is."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            own = {"Authorization": f"Bearer {self.tokens[who]}", "Content-Type": "application/json"}
            connection.request(method, path, data, {k: v for k, v in {**own, **(headers or {})}.items() if v})
            answer = connection.getresponse()
            content = answer.read()
            kind = answer.headers.get("Content-Type", "")
            return answer.status, json.loads(content) if "json" in kind and content else content, answer.headers
        finally:
            connection.close()

    def post(self, call: str, who: str = "contributor", **body: Any) -> tuple[int, Any]:
        return self.request("POST", f"/api/2.0/mlflow/{call}", body, who=who)[:2]

    def get(self, call: str, who: str = "contributor") -> tuple[int, Any]:
        return self.request("GET", f"/api/2.0/mlflow/{call}", who=who, headers={"Content-Type": ""})[:2]


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    studio = Studio(tmp_path_factory.mktemp("mlflow") / "data").start()
    yield Server(studio)
    studio.stop()


@pytest.fixture
def client(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[MlflowClient]:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", server.tokens["contributor"])
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(server.url)
    mlflow.set_registry_uri(server.url)
    yield MlflowClient(server.url)
    while mlflow.active_run() is not None:
        mlflow.end_run()
    mlflow.set_tracking_uri(None)
    mlflow.set_registry_uri(None)
    mlflow.tracking.fluent._active_experiment_id = None


@pytest.fixture
def experiment(client: MlflowClient) -> str:
    return client.create_experiment(f"e-{uuid.uuid4().hex[:8]}")


@pytest.fixture
def refused() -> Callable[..., str]:
    """``refused("CODE", call, …)``: the call must be refused with this code; returns the message."""

    def check(code: str, call: Callable[..., Any], *arguments: Any, **named: Any) -> str:
        with pytest.raises(MlflowException) as caught:
            call(*arguments, **named)
        assert caught.value.error_code == code, str(caught.value)
        return str(caught.value)

    return check


@pytest.fixture(scope="session")
def whole_mlflow() -> str:
    """A Python with all of MLflow, of the client's version: its server, its stores, its flavors."""
    env = {**os.environ, "INFRA_PYTHON": sys.executable}
    done = subprocess.run(
        [ROOT / "tests/infra/mlflow.sh", "start"], env=env, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or ["mlflow.sh failed"]
        pytest.skip(f"no MLflow server can be had here: {said[0]}")
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)["MLFLOW_PYTHON"].strip("'\"")
