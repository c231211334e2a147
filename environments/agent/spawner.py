"""The spawner: a small process without threads, forked before the agent starts any, that forks supervisors.

A launch therefore pays no interpreter start and no import. The spawner dies with the agent (its socket
ends); supervisors do not.
"""

import gc
import json
import os
import signal
import socket
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, List, Tuple

SPARES = "spares"
"""As the kind of what is launched: no supervisor, but a process that makes a spare of the manifest given and ends with us."""


class Spawner(object):
    """The agent's end: `launch` has supervisors forked. Not safe for several threads at once; the caller
    locks."""

    def __init__(self, root: str, umask: int) -> None:
        self._root = root
        self._umask = umask
        ours, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                ours.close()
                _serve(theirs, root, umask)
                code = 0
            finally:
                os._exit(code)
        theirs.close()
        self._take(ours)

    def _take(self, connection: socket.socket) -> None:
        self._socket = connection
        self._reader = connection.makefile("rb")

    def launch(self, attempts: "List[Tuple[str, str]]") -> "List[str]":
        """Fork a supervisor for each (kind, attempt), or what SPARES says; the attempts for which one was forked."""
        request = json.dumps(attempts).encode() + b"\n"
        try:
            return self._ask(request)
        except OSError:
            # It was killed. Whether it forked before that does not matter: the claim makes the start unique.
            self._restart()
            return self._ask(request)

    def _ask(self, request: bytes) -> "List[str]":
        self._socket.sendall(request)
        answer = self._reader.readline()
        if not answer.endswith(b"\n"):
            raise OSError("the spawner is gone")
        launched = json.loads(answer.decode())
        return [str(attempt) for attempt in launched]

    def _restart(self) -> None:
        # The agent has threads by now, so a plain fork is no longer safe: start a fresh interpreter.
        import subprocess

        self._socket.close()
        ours, theirs = socket.socketpair()
        home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        code = "import sys; sys.path.insert(0, sys.argv[1]); from %s import serve_on; serve_on(*sys.argv[2:])"
        subprocess.Popen(
            [
                sys.executable,
                "-I",
                "-S",
                "-X",
                "utf8",
                "-c",
                code % __name__,
                _import_root(home),
                str(theirs.fileno()),
                self._root,
                str(self._umask),
            ],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        theirs.close()
        self._take(ours)


def _import_root(home: str) -> str:
    """The folder or packed file from which this package is imported, however deep it lies in it."""
    for _ in range(__name__.count(".") - 1):
        home = os.path.dirname(home)
    return home


def serve_on(fd: str, root: str, umask: str) -> None:
    """Run as a process of its own on an inherited socket."""
    _serve(socket.socket(fileno=int(fd)), root, int(umask))


def _serve(connection: socket.socket, root: str, umask: int) -> None:
    from . import processes, supervise

    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    _close_all_but(connection.fileno())
    processes.harden()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    supervise.preload(root)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # reaps what we fork
    gc.collect()
    freeze = getattr(gc, "freeze", None)  # Python 3.7
    if freeze is not None:
        freeze()  # keeps the pages shared with the supervisors
    reader = connection.makefile("rb")
    while True:
        line = reader.readline()
        if not line:
            return
        launched = []
        for kind, attempt in json.loads(line.decode()):
            try:
                pid = os.fork()
            except OSError as error:
                sys.stderr.write("no supervisor for %s: %s\n" % (attempt, error))
                continue
            if pid == 0 and kind == SPARES:
                _make_spare(connection, reader, root, attempt)
            if pid == 0:
                _detach(connection, reader, root, kind, attempt, umask)
            launched.append(attempt)
        connection.sendall(json.dumps(launched).encode() + b"\n")


def _close_all_but(kept: int) -> None:
    try:
        highest = max(int(name) for name in os.listdir("/proc/self/fd")) + 1
    except (OSError, ValueError):
        highest = min(os.sysconf("SC_OPEN_MAX"), 65536)
    os.closerange(3, kept)
    os.closerange(kept + 1, max(highest, kept + 1))


def _make_spare(connection: socket.socket, reader: "Any", root: str, manifest: str) -> None:
    """In the fork: make a spare, holding nothing of the agent's."""
    code = 1
    try:
        from . import spares

        reader.close()
        connection.close()
        os.dup2(0, 2)
        spares.make(root, manifest)
        code = 0
    finally:
        os._exit(code)


def _detach(connection: socket.socket, reader: "Any", root: str, kind: str, attempt: str, umask: int) -> None:
    """In the fork: become a process that nothing of the agent's end can reach, then supervise."""
    from . import supervise

    code = 1
    try:
        os.setsid()
        if os.fork():
            os._exit(0)  # so that the supervisor is nobody's child and can never take a terminal
        reader.close()
        connection.close()
        os.dup2(0, 2)  # the agent's stderr is its stream's: holding it would keep the connection open
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        code = supervise.run(root, kind, attempt, umask)
    finally:
        os._exit(code)
