"""The command `runstead` as its users call it: a process with a home of its own, and a proxy on its way to the studio."""

import http.client
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.live import ROOT, Studio

SOURCE = ROOT / "sdk" / "src"


class Shell:
    """Starts the command. The studio is found by its data directory unless `env` says another place."""

    def __init__(self, studio: Studio | None, home: Path, **env: str) -> None:
        self.home = home
        home.mkdir(exist_ok=True)
        kept = {
            k: v
            for k, v in os.environ.items()
            if not k.startswith(("RUNSTEAD_", "XDG_", "GIT_", "AZUREML_")) and k != "CI"
        }
        self.env = {
            **kept, "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "XDG_CONFIG_HOME": str(home / "config"),
            "PYTHONPATH": str(SOURCE), **({"RUNSTEAD_DATA_DIR": str(studio.data_dir)} if studio else {}), **env,
        }  # fmt: skip

    def argv(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "runstead", *words]

    def __call__(
        self, *words: str, cwd: Path | None = None, data: bytes = b"", **env: str
    ) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(
            self.argv(*words), cwd=cwd or self.home, env={**self.env, **env}, input=data, capture_output=True, timeout=120, check=False
        )  # fmt: skip

    def start(self, *words: str, cwd: Path | None = None, **env: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            self.argv(*words), cwd=cwd or self.home, env={**self.env, **env}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    def ok(self, *words: str, **more: Any) -> str:
        done = self(*words, **more)
        assert done.returncode == 0, (words, done.returncode, done.stdout, done.stderr)
        return done.stdout.decode()

    def json(self, *words: str, **more: Any) -> Any:
        return json.loads(self.ok(words[0], "--json", *words[1:], **more))

    def refused(self, *words: str, code: int = 1, **more: Any) -> str:
        done = self(*words, **more)
        assert (done.returncode, done.stdout) == (code, b""), (words, done.returncode, done.stdout, done.stderr)
        assert b"Traceback" not in done.stderr, done.stderr.decode()
        return done.stderr.decode()


def access(studio: Studio) -> dict[str, str]:
    """Address, workspace and token of a studio, as the variables that name them."""
    known = json.loads((studio.data_dir / "local-client.json").read_text())
    return {"RUNSTEAD_URL": studio.url, "RUNSTEAD_WORKSPACE": known["workspace"], "RUNSTEAD_TOKEN": known["token"]}


Hook = Callable[[str, int, str], None]


@contextmanager
def proxied(
    port: int,
    hook: Hook | None = None,
    headers: dict[str, str] | None = None,
    cut: Callable[[str], int | None] | None = None,
) -> Iterator[str]:
    """A server that passes requests on, `hook(when, number, path)` told before and after each; `headers` are put over the answer's.
    `cut(path)`: after how many bytes of the body the connection ends (None: it does not), the hook told `cut` right before.
    """
    lock, count = threading.Lock(), [0]

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            with lock:
                count[0] += 1
                number = count[0]
            if hook:
                hook("before", number, self.path)
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            sent = {name: value for name, value in self.headers.items() if name.lower() != "host"}
            connection.request(self.command, self.path, data or None, {**sent, "Host": f"127.0.0.1:{port}"})
            answer = connection.getresponse()
            body = answer.read()
            if hook:
                hook("after", number, self.path)
            self.send_response_only(answer.status)
            over = headers or {}
            for name, value in answer.getheaders():
                if name.lower() not in {"transfer-encoding", "content-length", "connection", *map(str.lower, over)}:
                    self.send_header(name, value)
            for name, value in over.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            connection.close()
            end = cut(self.path) if cut else None
            self.wfile.write(body[:end])
            if end is not None:
                if hook:
                    hook("cut", number, self.path)
                self.close_connection = True

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

        def log_message(self, *_: Any) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            pass  # the client was killed, which is what some tests do

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
