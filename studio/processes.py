"""A group of processes in the foreground: started, restarted with back-off, and stopped in order."""

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import IO

from studio.hardening import die_with_parent

STOP_SECONDS = 15.0
MAX_DELAY = 5.0
STEADY_SECONDS = 3.0
"""After this long a process counts as well again, and its next restart is immediate."""

Printer = Callable[[str, str], None]


class StartFailed(Exception):
    """A service did not come up; the message says which and what it printed last."""


@dataclass
class Service:
    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    process: "subprocess.Popen[bytes] | None" = None
    started_at: float = 0.0
    restart_at: float = 0.0
    delay: float = 0.0
    last_line: str = ""

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None


class ProcessGroup:
    def __init__(self, printer: Printer) -> None:
        self.services: list[Service] = []
        self.print = printer
        self.selector = selectors.DefaultSelector()
        self.stopping = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._stop)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.stopping = True

    def start(self, service: Service) -> Service:
        if service not in self.services:
            self.services.append(service)
        # Each in a session of its own: Ctrl-C in the terminal reaches us only, and we stop them in order.
        service.process = subprocess.Popen(
            list(service.argv),
            env={**os.environ, **service.env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 we have no threads
        )
        service.started_at = time.monotonic()
        assert service.process.stdout is not None
        os.set_blocking(service.process.stdout.fileno(), False)
        self.selector.register(service.process.stdout, selectors.EVENT_READ, service)
        return service

    def wait_until(self, ready: Callable[[], bool], service: Service, seconds: float) -> None:
        """Wait for a service to answer. Raises StartFailed when it dies or the time is over."""
        deadline = time.monotonic() + seconds
        while not self.stopping:
            if ready():
                return
            self.pump(0.05)
            if not service.alive:
                raise StartFailed(f"{service.name} ended while starting. {service.last_line}")
            if time.monotonic() > deadline:
                raise StartFailed(f"{service.name} did not answer within {seconds:.0f} s. {service.last_line}")

    def pump(self, seconds: float) -> None:
        """Pass on what the processes print, for at most this long."""
        for key, _ in self.selector.select(seconds):
            self._forward(key.data, key.fileobj)  # type: ignore[arg-type]

    def _forward(self, service: Service, stream: IO[bytes]) -> None:
        try:
            data = os.read(stream.fileno(), 65536)
        except BlockingIOError:
            return
        if not data:
            self.selector.unregister(stream)
            stream.close()
            return
        for line in data.decode("utf-8", "replace").splitlines():
            if line.strip():
                service.last_line = line
                self.print(service.name, line)

    def tend(self) -> None:
        """One turn of supervision: forward output, restart what has ended."""
        self.pump(0.25)
        now = time.monotonic()
        for service in self.services:
            if service.alive or self.stopping:
                continue
            if service.restart_at == 0.0:
                self._end_group(service)
                code = service.process.returncode if service.process else None
                if now - service.started_at > STEADY_SECONDS:
                    service.delay = 0.0
                service.restart_at = now + service.delay
                service.delay = min(max(0.5, service.delay * 2), MAX_DELAY)
                self.print(service.name, f"ended (exit code {code}); starting it again")
            if now >= service.restart_at:
                service.restart_at = 0.0
                self.start(service)

    def stop(self) -> None:
        """End all, newest first. What does not go by itself in time is killed."""
        self.stopping = True
        for service in reversed(self.services):
            if not service.alive:
                continue
            assert service.process is not None
            service.process.terminate()
            deadline = time.monotonic() + STOP_SECONDS
            while service.alive and time.monotonic() < deadline:
                self.pump(0.05)
            self._end_group(service)
            service.process.wait()

    @staticmethod
    def _end_group(service: Service) -> None:
        """End what is left of a service: its own workers may have outlived it, and would go on to hold its port."""
        if service.process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(service.process.pid, signal.SIGKILL)
