"""The machine on which the studio itself runs."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import threading
from typing import BinaryIO, cast

from environments.transports.base import Stream, TransportError

_PASSED = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "SHELL")
_STDERR_KEPT = 8192


class LocalStream:
    """Pipes to a child process."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.reader = cast(io.BufferedReader, process.stdout)
        self.writer = cast(BinaryIO, process.stdin)
        self._stderr = bytearray()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        source = self.process.stderr
        if source is None:
            return
        with contextlib.suppress(OSError, ValueError), source:
            while piece := os.read(source.fileno(), 4096):
                self._stderr += piece
                del self._stderr[:-_STDERR_KEPT]

    def close(self) -> None:
        """Close the agent's stdin; it leaves at once, or is ended after a second."""
        # Closing waits for a write that is under way, and that for an agent that may be frozen.
        last_resort = threading.Timer(1, self.process.kill)
        last_resort.daemon = True
        last_resort.start()
        with contextlib.suppress(OSError, ValueError):
            self.writer.close()
        self.process.wait()
        last_resort.cancel()

    def progress(self) -> int:
        """A pipe holds little, and says nothing of it."""
        return 0

    def stderr_tail(self) -> str:
        """What the agent complained about last."""
        if self.process.poll() is not None:
            self._listener.join(1)
        return bytes(self._stderr).decode("utf-8", "replace").strip()


class LocalTransport:
    """Starts the process as a child: in a session of its own, so that Ctrl-C in the studio's terminal does
    not reach it, and with
    only the variables a run may see, so that the studio's own settings never get near a script."""

    python = sys.executable

    def open(self, argv: list[str]) -> Stream:
        """Start `argv` here. Raises TransportError."""
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=-1,
                start_new_session=True,
                env={name: os.environ[name] for name in _PASSED if name in os.environ},
            )
        except OSError as error:
            text = f"{argv[0]} could not be started: {error.strerror}"
            raise TransportError(text, permanent=True) from error
        return LocalStream(process)

    def close(self) -> None:
        """Streams share nothing here."""
