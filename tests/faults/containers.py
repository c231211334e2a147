"""What an engine has, asked by its own command line; and an engine that takes its time."""

import contextlib
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path


def docker(*words: str, host: str = "") -> str:
    argv = ["docker", *(["-H", host] if host else []), *words]
    found = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    return found.stdout.strip()


def containers(host: str = "") -> list[str]:
    """Names of all, running or not."""
    return docker("ps", "-a", "--format", "{{.Names}}", host=host).split()


def container_of(studio, pk: int) -> str:
    return f"runstead-{studio.run(pk)['attempt']}"


class SlowEngine:
    """A socket before the engine's own. Once it is ``slow``, the next container is made when the engine was asked to remove that
    one, and before who asked first hears that there is none. Others who ask before that have a second to be answered."""

    def __init__(self, path: Path, behind: str = "/var/run/docker.sock") -> None:
        self.path, self.behind = path, behind
        self.slow, self.asked, self.told, self.made = (threading.Event() for _ in range(4))
        self.first, self.name = threading.Lock(), b""
        self.door = socket.socket(socket.AF_UNIX)

    def __enter__(self) -> "SlowEngine":
        self.door.bind(str(self.path))
        self.door.listen(50)
        threading.Thread(target=self.serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.told.set()
        self.door.close()

    def serve(self) -> None:
        with contextlib.suppress(OSError):  # the door is closed at the end
            while True:
                asking, _ = self.door.accept()
                threading.Thread(target=self.pass_on, args=(asking,), daemon=True).start()

    def pass_on(self, asking: socket.socket) -> None:
        with asking, socket.socket(socket.AF_UNIX) as engine, contextlib.suppress(OSError):
            request = asking.recv(65536)
            method, path, _ = request.split(b" ", 2)
            makes = self.slow.is_set() and method == b"POST" and b"/containers/create" in path
            if makes:
                self.name = path.partition(b"name=")[2]
                self.asked.set()
                self.told.wait()
            engine.connect(self.behind)
            engine.sendall(request)
            unwanted = method == b"DELETE" and self.asked.is_set() and self.name in path
            if unwanted and self.first.acquire(blocking=False):
                answer = engine.recv(65536)
                time.sleep(1)
                self.told.set()
                self.made.wait()
                asking.sendall(answer)
            threading.Thread(target=self.copy, args=(asking, engine), daemon=True).start()
            self.copy(engine, asking)
            if makes:
                self.made.set()

    @staticmethod
    def copy(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError), source.makefile("rb", 0) as read, target.makefile("wb", 0) as write:
            shutil.copyfileobj(read, write)
            target.shutdown(socket.SHUT_WR)
