"""Has replies to launches lost under an attendant that knows nothing of it: between its transport and its end of the stream.

What is lost is what a network can lose: the request and all after it, the reply and all after it, with the end of the connection
or without a word.
"""

import io
import json
import os
import random
import struct
import threading
from collections.abc import Callable
from typing import Any

from environments import pulse
from environments.agent import protocol
from environments.transports.base import Stream
from environments.transports.local import LocalTransport
from environments.transports.ssh import SshTransport
from runs import attending, session

CUT_WITH_REQUEST, CUT_WITH_REPLY, MUTE = "cut with the request", "cut with the reply", "mute from the reply on"
FATES = ["answered"] * 4 + [CUT_WITH_REQUEST, CUT_WITH_REPLY, MUTE]


def lose_replies(note: Callable[[str, int], None], chance: random.Random) -> None:
    """Put it under every stream that this process opens. ``note`` is told the fate of each request to launch, and of how many runs.

    All waiting is shortened: what is asked for again after seconds is asked for again at once, and as often as it takes, so
    that nothing but the claim stands between a lost reply and a second start.
    """
    session.RELAUNCH_SECONDS, session.MAX_LAUNCHES = 0.1, 10_000
    attending.FIRST_DELAY = 0.02
    pulse.ASK_SECONDS, pulse.TELL_SECONDS, pulse.LOSE_SECONDS, pulse._LOOK_SECONDS = 0.3, 0.6, 1.2, 0.1
    for transport in (LocalTransport, SshTransport):
        transport.open = _lossy(transport.open, note, chance)


def _lossy(opened: Any, note: Callable[[str, int], None], chance: random.Random) -> Any:
    def open(self: Any, argv: list[str]) -> "LossyStream":
        return LossyStream(opened(self, argv), note, chance)

    return open


class LossyStream:
    """Passes everything on but for what follows a launch whose fate it is."""

    def __init__(self, inner: Stream, note: Callable[[str, int], None], chance: random.Random) -> None:
        self.inner, self.note, self.chance = inner, note, chance
        self.fates: dict[int, str] = {}
        source, self.sink = os.pipe()
        self.reader = io.BufferedReader(io.FileIO(source, "r"))
        self.writer = self
        self.begun = False
        threading.Thread(target=self.pump, daemon=True).start()

    def write(self, data: bytes | memoryview) -> int:
        data = bytes(data)
        header = self.launch(data) if self.begun else None
        if header is not None:
            fate = self.fates[header["id"]] = self.chance.choice(FATES)
            self.note(fate, len(header["attempts"]))
        self.inner.writer.write(data)
        if header is not None and fate == CUT_WITH_REQUEST:
            self.inner.writer.flush()
            self.inner.close()
        return len(data)

    @staticmethod
    def launch(data: bytes) -> dict | None:
        """The header of a request to launch runs; None for all others, and for what is no request."""
        if b'"op":"launch"' not in data[:200_000]:
            return None
        header = json.loads(data[8 : 8 + struct.unpack(">I", data[:4])[0]])
        return header if all(kind == "runs" for kind, _ in header["attempts"]) else None

    def flush(self) -> None:
        self.inner.writer.flush()

    def pump(self) -> None:
        mute = False
        try:
            os.write(self.sink, self.inner.reader.read(1))  # the handshake's letter
            self.begun = True
            while (frame := protocol.read_frame(self.inner.reader)) is not None:
                header, body = frame
                fate = self.fates.get(header.get("id"), "answered")
                if fate == CUT_WITH_REPLY:
                    self.inner.close()
                    break
                mute = mute or fate == MUTE
                if not mute:
                    os.write(self.sink, protocol.encode(header, len(body)) + body)
        except (OSError, ValueError, EOFError, protocol.ProtocolError):
            pass
        finally:
            os.close(self.sink)

    def progress(self) -> int:
        return 0

    def close(self) -> None:
        self.inner.close()

    def stderr_tail(self) -> str:
        return self.inner.stderr_tail()
