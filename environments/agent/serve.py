"""The agent's request loop: frames in, frames out, a thread each."""

import os
import sys
import threading
import time
import zlib

from . import protocol
from .layout import Layout, Refused
from .spawner import Spawner

QUIET_SECONDS = 180.0
"""After so long without a request nobody is there any more: a studio asks every half a minute at least. Where the link died
before it could be closed, the SSH server notices that after hours, if ever."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List


def main(root: str, umask: int) -> None:
    """Serve the stream on stdin and stdout until it ends. Never returns; running supervisors go on."""
    layout = Layout(os.path.realpath(root))
    layout.make()
    spawner = Spawner(layout.root, umask)  # before any thread: a fork takes only the one that forks
    from . import processes

    processes.harden()
    out = os.dup(1)
    os.dup2(2, 1)  # a stray print must not become a frame
    null = os.open(os.devnull, os.O_RDONLY)
    source = os.fdopen(os.dup(0), "rb", 1 << 16)
    os.dup2(null, 0)
    try:
        Server(layout, spawner, source, out).serve()
    except (protocol.ProtocolError, EOFError) as error:
        sys.stderr.write("the stream broke: %s\n" % error)
    finally:
        os._exit(0)


class Server(object):
    """One connection."""

    def __init__(self, layout: Layout, spawner: Spawner, source: "Any", out: int) -> None:
        from .operations import Operations

        self._source = source
        self._out = out
        self._sending = threading.Lock()
        self._operations = Operations(layout, spawner)
        self._heard = time.monotonic()

    def serve(self) -> None:
        """Read requests until the stream ends."""
        threading.Thread(target=self._leave_when_quiet, daemon=True).start()
        while True:
            frame = protocol.read_frame(self)
            if frame is None:
                return
            header, body = frame
            # Taken here, in the order of the stream: a poke right behind a watch must reach it.
            arrival = self._operations.arrival(header)
            threading.Thread(target=self._answer, args=(header, body, arrival), daemon=True).start()

    def read(self, size: int) -> bytes:
        """Some bytes of the stream, at most `size`; none at its end."""
        data: bytes = self._source.read1(min(size, 1 << 20))
        self._heard = time.monotonic()
        return data

    def _leave_when_quiet(self) -> None:
        while time.monotonic() - self._heard < QUIET_SECONDS:
            time.sleep(min(QUIET_SECONDS / 4, 30.0))
        os._exit(0)

    def _answer(self, header: "Dict[str, Any]", body: bytes, arrival: int) -> None:
        try:
            reply, pieces = self._operations.carry_out(header, body, arrival)
            reply = dict(reply, ok=True)
        except Refused as error:
            reply, pieces = _failure(error.code, str(error), error.permanent), []
        except OSError as error:
            code = "disk_full" if error.errno in (28, 122) else "not_found" if error.errno == 2 else "os_error"
            reply, pieces = _failure(code, str(error), False), []
        except (KeyError, TypeError, ValueError, zlib.error) as error:
            reply, pieces = _failure("bad_request", "%s: %s" % (type(error).__name__, error), True), []
        except Exception as error:
            reply, pieces = _failure("agent_error", "%s: %s" % (type(error).__name__, error), True), []
        reply["id"] = header.get("id")
        self._send(reply, pieces)

    def _send(self, reply: "Dict[str, Any]", pieces: "List[bytes]") -> None:
        from .files import write_all

        try:
            start = protocol.encode(reply, sum(len(piece) for piece in pieces))
        except protocol.ProtocolError as error:
            start, pieces = protocol.encode(dict(_failure("too_large", str(error), True), id=reply["id"])), []
        if pieces and len(pieces[0]) < 65536:
            start, pieces = start + pieces[0], pieces[1:]
        try:
            with self._sending:
                write_all(self._out, start)
                for piece in pieces:
                    write_all(self._out, piece)
        except OSError:
            os._exit(0)  # nobody listens


def _failure(code: str, message: str, permanent: bool) -> "Dict[str, Any]":
    return {"ok": False, "error": {"code": code, "message": message, "permanent": permanent}}
