"""The log of a run as bytes that come while it grows. Whatever becomes of the studio meanwhile, the run goes on, and so does the
looking."""

from __future__ import annotations

import http.client
import sys
import time

from .status import FINAL, WAITING, Standing
from .transport import ApiError, Unreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Iterator, Optional, TypeVar

    from .transport import Transport

    T = TypeVar("T")

PAUSE, LONGEST_PAUSE = 0.1, 0.5
AWAY = 1.0
"""Seconds between two tries to reach a studio that is away."""
BUSY = (429, 500)
PIECE = 65536


class LogStream:
    """One log from `offset` on. `offset`, `size`, `status`: how far it was read, what the studio holds, how the run goes."""

    def __init__(self, transport: Transport, number: int, name: str = "log", offset: int = 0) -> None:
        self._transport, self._run, self._name = transport, "runs/%d" % number, name
        self._path = self._run + "/log"
        self.offset, self.size, self.status = offset, 0, ""
        self.lost = ""
        """Why a part cannot be had any more; the stream ends there."""

    def piece(self) -> bytes:
        """The next bytes, at most about 1 MB; none when there are no more yet. Raises ApiError: 410 when they are lost."""
        query = {"offset": self.offset, "name": self._name}
        answer = self._transport.request("GET", self._path, query=query)
        self.offset += len(answer.data)
        self.status = answer.headers.get("runstead-run-status", self.status)
        self.size = int(answer.headers.get("runstead-log-size", "0"))
        return answer.data

    def pieces(self, patience: Optional[float] = None) -> Iterator[bytes]:
        """Bytes as they come, until the run has ended and all is read, or the rest is `lost`. A studio that is away is waited for:
        `patience` seconds, None for ever; then Unreachable is raised."""
        standing, pause = Standing(), PAUSE
        while True:
            try:
                data = patiently(self.piece, patience)
            except ApiError as error:
                if error.status != 410:
                    raise
                self.lost = str(error)
                return
            if data:
                pause = PAUSE
                yield data
            elif self.status in FINAL and self.offset >= self.size:
                return
            elif self.offset == 0 and self.status in WAITING:
                standing.look(self.status, patiently(self._why, patience) if standing.lasts else "")
                time.sleep(pause)
                pause = min(pause * 1.2, LONGEST_PAUSE)
            else:
                # One answer that lasts: bytes are here as soon as the studio has them.
                yield from self._streamed()

    def _why(self) -> str:
        """Why the run waits, in the studio's words."""
        return str(self._transport.request("GET", self._run).json()["waiting_for"])

    def _streamed(self) -> Iterator[bytes]:
        """What one lasting answer brings. One that breaks off is no error: the next goes on from there."""
        whole = False
        try:
            answer, _ = self._transport.stream(self._path + "/follow", {"offset": self.offset, "name": self._name})
            while True:
                data = answer.read1(PIECE)
                if not data:
                    whole = True
                    return
                self.offset += len(data)
                yield data
        except (http.client.HTTPException, OSError, Unreachable):
            time.sleep(PAUSE)
        except ApiError as error:
            if error.status not in BUSY:
                raise
            time.sleep(LONGEST_PAUSE)  # as many follow as may: what has come meanwhile is asked for
        finally:
            if not whole:  # what is left of the answer is in the way of the next request
                self._transport.close()


def patiently(ask: Callable[[], T], patience: Optional[float] = None) -> T:
    """What `ask` answers, asked again for as long as the studio is away: for `patience` seconds, None for ever."""
    end = None if patience is None else time.monotonic() + patience
    away = False
    while True:
        try:
            found = ask()
        except (Unreachable, ApiError) as error:
            if isinstance(error, ApiError) and error.status not in BUSY:
                raise
            if end is not None and time.monotonic() > end:
                raise
            if not away:
                away = True
                words = str(error).partition(" Is it running?")[0]
                print("[%s Still trying; the run goes on.]" % words, file=sys.stderr, flush=True)
            time.sleep(AWAY)
            continue
        if away:
            print("[The studio answers again.]", file=sys.stderr, flush=True)
        return found
