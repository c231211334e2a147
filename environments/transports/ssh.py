"""Another machine, over one SSH connection."""

from __future__ import annotations

import binascii
import contextlib
import io
import json
import re
import secrets
import threading
import zlib
from collections.abc import Mapping
from typing import Any, BinaryIO, cast

import paramiko

from environments.transports.base import Stream, TransportError
from environments.transports.connection import CHANNEL_SECONDS, PACKET, WINDOW, Connection

START_SECONDS = 30.0
CLOSE_SECONDS = 1.0
_STDERR_KEPT = 8192
_CHATTER_KEPT = 2048
_MOST_CHATTER = 1 << 20
_PIECE = 1 << 15

# Runs on the target before anything else. What a login script printed comes before the mark. The studio's own
# programs are run in this interpreter: starting a second one would cost as much again.
_PROLOGUE = """
import os, sys
if sys.version_info < (3, 6):
    sys.exit("Python %d.%d is too old: 3.6 or newer is needed" % sys.version_info[:2])
import json
mark, argv = json.loads(text)
os.write(1, mark.encode())
if argv[1:4] == ["-I", "-S", "-c"] and argv[0] == python:
    sys.argv = ["-c"] + argv[5:]
    exec(compile(argv[4], "<agent>", "exec"), {"__name__": "__main__"})
else:
    try:
        os.execvp(argv[0], argv)
    except OSError as error:
        sys.exit("%s could not be started: %s" % (argv[0], error.strerror))
"""


class _Reader(io.RawIOBase):
    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._channel.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _Writer(io.RawIOBase):
    """Writes all or raises OSError. Not the library's ``sendall``, which copies what is left for each packet."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel
        self.sent = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view, place = memoryview(data), 0
        while place < len(view):
            try:
                sent = self._channel.send(bytes(view[place : place + _PIECE]))
            except (paramiko.SSHException, EOFError) as error:
                raise OSError(f"the connection broke: {error}") from error
            if not sent:
                raise OSError("the stream is closed")
            place += sent
            self.sent += sent
        return len(view)


class SshStream:
    """A process on the target, in a channel of the connection."""

    def __init__(self, connection: Connection, channel: paramiko.Channel) -> None:
        self._connection = connection
        self._channel = channel
        self.reader: io.BufferedReader = io.BufferedReader(cast(Any, _Reader(channel)), 1 << 16)
        self._raw = _Writer(channel)
        self._granted = 0
        self.writer = cast(BinaryIO, self._raw)
        self._stderr = bytearray()
        self._listener = threading.Thread(target=self._listen, name="ssh-stderr", daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            while piece := self._channel.recv_stderr(4096):
                self._stderr += piece
                del self._stderr[:-_STDERR_KEPT]

    def close(self) -> None:
        """Close the channel; the process sees the end of its stdin. A link that is dead ends the connection instead."""
        last_resort = threading.Timer(CLOSE_SECONDS, self._connection.close)
        last_resort.daemon = True
        last_resort.start()
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            self._channel.close()
        last_resort.cancel()

    def progress(self) -> int:
        """Bytes that the server has ever made room for: it does so as the process reads."""
        self._granted = max(self._granted, self._raw.sent + self._channel.out_window_size)
        return self._granted

    def stderr_tail(self) -> str:
        """What the process complained about last."""
        if self._channel.closed or self._channel.eof_received:
            self._listener.join(1)
        return bytes(self._stderr).decode("utf-8", "replace").strip()

    def exit_code(self) -> int | None:
        """The process's exit code, where it has ended and said so."""
        return self._channel.exit_status if self._channel.status_event.wait(2) else None


class SshTransport:
    """``options``: those of the target, with ``ssh``; ``credentials``: password, private_key, passphrase and the same with
    ``jump_`` before. Nothing is sent before the first stream is opened."""

    def __init__(self, options: Mapping[str, Any], credentials: Mapping[str, str]) -> None:
        self.python = str(options.get("python") or "python3")
        self.connection = Connection.of(options, credentials)
        self._opening = threading.Lock()

    def open(self, argv: list[str]) -> Stream:
        """Start `argv` there, over the connection that is open or a new one. Raises TransportError."""
        mark = secrets.token_hex(16)
        command = command_line(self.python, argv, mark)
        with self._opening:
            session = self.connection.sign_in()
        try:
            with self.connection.deadline(START_SECONDS):
                channel = session.open_channel(
                    "session", window_size=WINDOW, max_packet_size=PACKET, timeout=CHANNEL_SECONDS
                )
                stream = SshStream(self.connection, channel)
                channel.exec_command(command)
                heard = _scan(stream.reader, mark.encode())
        except paramiko.ChannelException as error:
            raise TransportError(
                f"{self.connection.name} opens no further session: {error.text}.",
                code="sessions",
                fix="Raise MaxSessions in the SSH server's configuration, or end other sessions of this user.",
            ) from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise TransportError(f"The connection to {self.connection.name} broke: {error}.", code="lost") from error
        if heard is not None:
            try:
                raise self._not_started(stream, heard)
            finally:
                stream.close()
        return stream

    def _not_started(self, stream: SshStream, heard: str) -> TransportError:
        code, name = stream.exit_code(), self.connection.name
        said = "\n".join(text for text in (stream.stderr_tail(), heard) if text)[-_CHATTER_KEPT:]
        if code is None and not self.connection.alive:
            return TransportError(f"The connection to {name} broke before Python started.", code="lost")
        if re.search(r"too old|Unknown option: -I|unknown option -I", said):
            text, fix = (
                f"{self.python} on {name} is too old: {said}",
                "Install Python 3.6 or newer there, or name another one.",
            )
            return TransportError(text, permanent=True, code="python_old", fix=fix)
        if code in (126, 127) or re.search(r"not found|[Nn]o such file|Unknown command|ermission denied", said):
            return TransportError(
                f"{self.python} could not be started on {name}: {said or f'exit code {code}'}",
                permanent=True,
                code="python_missing",
                fix="Install Python 3.6 or newer there, or give the absolute path of one (option python).",
            )
        return TransportError(
            f"The account on {name} starts no program: {said or f'it ended with {code} and said nothing'}",
            permanent=True,
            code="shell",
            fix="Give the user a login shell that runs commands, and look at its start-up files.",
        )

    def close(self) -> None:
        """End the connection, and every stream over it."""
        self.connection.close()


def command_line(python: str, argv: list[str], mark: str) -> str:
    """One line for whatever shell the account has: words, single quotes, and inside them nothing that any shell looks at."""
    if re.search(r"['\\!\x00-\x1f\x7f]", python):
        raise TransportError(
            f"The path {python!r} of the interpreter cannot be passed through every shell.",
            permanent=True,
            code="python_missing",
            fix="Name an interpreter whose path has no quotes, backslashes or exclamation marks.",
        )
    text = f"text, python = {json.dumps([mark, argv])!r}, {python!r}\n{_PROLOGUE}"
    packed = binascii.b2a_base64(zlib.compress(text.encode(), 9), newline=False).decode()
    load = f'import zlib,binascii;exec(zlib.decompress(binascii.a2b_base64("{packed}")))'
    return f"'{python}' -I -S -c '{load}'"


def _scan(reader: BinaryIO, mark: bytes) -> str | None:
    """Read up to and with the mark; None when it came, else what came instead of it."""
    heard = bytearray()
    while len(heard) < _MOST_CHATTER:
        piece = reader.read(1)
        if not piece:
            break
        heard += piece
        if heard.endswith(mark):
            return None
    return bytes(heard[-_CHATTER_KEPT:]).decode("utf-8", "replace").strip()
