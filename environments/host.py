"""The studio's end of the agent's stream."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from io import BufferedReader
from itertools import count
from typing import Any, BinaryIO

from environments.agent import pack, protocol
from environments.pulse import Pulse
from environments.sending import Blob, Sender, ShortContent
from environments.transports.base import Stream, Transport, TransportError

Reply = dict[str, Any]

DEFAULT_TIMEOUT = 60.0
START_SECONDS = 30.0
_MISSING_AT_ONCE = 200_000
_PIECE = 1 << 15
_READ_AT_ONCE = 1 << 18


class HostError(Exception):
    """The agent refused or could not do what it was asked. `permanent`: the same request will fail again."""

    def __init__(self, code: str, message: str, permanent: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.permanent = permanent


class HostLost(Exception):
    """The stream ended. Nothing is known about requests that were under way; runs on the target go on."""


class Host:
    """An open connection to a target's agent. Any number of threads may call at once.

    `with Host(LocalTransport(), "/path") as host:` or `close()` ends it. Raises TransportError where the
    target cannot be reached.
    """

    root: str
    """The root folder on the target: absolute, without links; what was asked for may begin with "~/"."""
    facts: Reply
    """What the agent said of itself when it started: user, uid, gid, host, boot_id, ..."""

    def __init__(self, transport: Transport, root: str) -> None:
        self.transport = transport
        self._waiting: dict[int, Future[tuple[Reply, bytes]]] = {}
        self._ids = count(1)
        self._sending = threading.Lock()
        self._state = threading.Lock()
        self._lost: str | None = None
        self._poked = threading.Event()
        digest, program = pack.packed()
        argv = [transport.python, "-I", "-S", "-c", pack.BOOTSTRAP, root, digest]
        self._stream: Stream = transport.open(argv)
        try:
            self._shake_hands(program)
        except BaseException:
            self._stream.close()
            raise
        self.pulse = Pulse(lambda: bool(self._waiting), self._stream.progress, self._ask, self._give_up)
        self._reader = threading.Thread(target=self._read, name="agent-stream", daemon=True)
        self._reader.start()
        self.pulse.start()
        threading.Thread(target=self._pass_pokes, name="agent-poke", daemon=True).start()
        try:
            self.facts = self.call("hello", timeout=START_SECONDS)[0]
        except (HostError, HostLost, TimeoutError) as error:
            self.close()
            raise TransportError(f"the agent did not answer on the target: {error}", code="agent") from error
        self.root = str(self.facts["root"])

    def _shake_hands(self, program: bytes) -> None:
        too_long = threading.Timer(START_SECONDS, self._stream.close)
        too_long.daemon = True
        too_long.start()
        try:
            answer = self._stream.reader.read(1)
            if answer == b"n":
                self._stream.writer.write(len(program).to_bytes(8, "big") + program)
                self._stream.writer.flush()
        except OSError:
            answer = b""
        finally:
            too_long.cancel()
        if answer not in (b"h", b"n"):
            said = self._stream.stderr_tail() or "it said nothing"
            if said.startswith("the root folder"):
                fix = "Name a folder that the user of the target may write to, and check that its disk is mounted."
                raise TransportError(said[:1].upper() + said[1:], code="root", fix=fix)
            raise TransportError(f"the agent could not be started on the target: {said}", code="agent")

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def lost(self) -> bool:
        """Whether the stream has ended."""
        return self._lost is not None

    def close(self) -> None:
        """End the connection; calls under way raise HostLost."""
        self._give_up("the connection was closed")

    def _give_up(self, reason: str) -> None:
        self._lose(reason)
        self._stream.close()

    def _ask(self) -> None:
        with contextlib.suppress(HostLost):
            self.submit("hello")

    # -- frames

    def _read(self) -> None:
        reason = "the agent's stream ended"
        heard = _Heard(self._stream.reader, self.pulse)
        try:
            while (frame := protocol.read_frame(heard)) is not None:
                header, body = frame
                future = self._waiting.pop(header.get("id", 0), None)
                if future is not None:
                    with contextlib.suppress(Exception):  # given up meanwhile
                        future.set_result((header, body))
        except (OSError, ValueError, EOFError, protocol.ProtocolError) as error:
            reason = f"the agent's stream broke: {error}"
        if self._lost is None and (said := self._stream.stderr_tail()):
            reason = f"{reason} ({said})"
        self._lose(reason)
        with contextlib.suppress(OSError, ValueError):
            self._stream.reader.close()  # not left to the collector: a target that comes and goes all day is opened often

    def _lose(self, reason: str) -> None:
        with self._state:
            if self._lost is None:
                self._lost = reason
            waiting = list(self._waiting.values())
            self._waiting.clear()
        self.pulse.end()
        self._poked.set()
        for future in waiting:
            with contextlib.suppress(Exception):
                future.set_exception(HostLost(self._lost))

    def silent_for(self) -> float:
        """Seconds since anything moved on the stream, either way. `pulse` tells of long silences, and ends the longest."""
        return self.pulse.silent_for()

    def submit(self, op: str, body: bytes = b"", **fields: Any) -> Future[tuple[Reply, bytes]]:
        """Send a request; the future holds (reply, body), or HostLost. An error reply is a reply: see
        `call`."""
        number = next(self._ids)
        start = protocol.encode({**fields, "id": number, "op": op}, len(body))
        future: Future[tuple[Reply, bytes]] = Future()
        with self._state:
            if self._lost is not None:
                raise HostLost(self._lost)
            self._waiting[number] = future
        try:
            with self._sending:
                if len(body) < _PIECE:
                    self._stream.writer.write(start + body)
                else:
                    self._stream.writer.write(start)
                    view = memoryview(body)
                    for place in range(0, len(body), _PIECE):
                        self._stream.writer.write(view[place : place + _PIECE])
                        self.pulse.moved()
                self._stream.writer.flush()
        except (OSError, ValueError) as error:
            self._reader.join(1)  # who reads hears why it ended: what the agent said last
            self._lose(f"the agent's stream broke: {error}")
            raise HostLost(self._lost) from error
        return future

    def call(
        self, op: str, body: bytes = b"", timeout: float | None = DEFAULT_TIMEOUT, **fields: Any
    ) -> tuple[Reply, bytes]:
        """Ask and wait for (reply, body). Raises HostError for a refusal, HostLost when the stream ends,
        TimeoutError."""
        return self.result(self.submit(op, body, **fields), timeout, op)

    @staticmethod
    def result(future: Future[tuple[Reply, bytes]], timeout: float | None, op: str = "request") -> tuple[Reply, bytes]:
        """Wait for a submitted request as `call` does."""
        try:
            reply, body = future.result(timeout)
        except FutureTimeout:
            raise TimeoutError(f"the agent did not answer {op} within {timeout} s") from None
        if not reply.get("ok"):
            error = reply.get("error") or {}
            raise HostError(
                str(error.get("code", "unknown")), str(error.get("message", "")), bool(error.get("permanent"))
            )
        return reply, body

    # -- the operations

    def hello(self, timeout: float = 20) -> Reply:
        """Who answers: version, python, boot_id, host, user, pid, root, time."""
        return self.call("hello", timeout=timeout)[0]

    def probe(self) -> Reply:
        """The machine's hardware, software and isolation tier."""
        return self.call("probe")[0]

    def write_test(self) -> Reply:
        """{"bytes", "seconds"}: how long it took to write so much below the root and flush it to the disk. HostError "disk_full"."""
        return self.call("write_test", timeout=30)[0]

    def spark(self, home: str, master: str) -> Reply:
        """{"submit", "version", "java", "said", "masters"}: what there is of Spark, and whether its master takes connections."""
        return self.call("spark", timeout=60, home=home, master=master)[0]

    def session(self) -> Reply:
        """{"user", "session", "kill", "ipc", "lingers"}: what the end of a login session does to runs there."""
        return self.call("session", timeout=40)[0]

    def preflight(self, question: Mapping[str, Any], sources: Mapping[str, bytes], seconds: float) -> Reply:
        """What a run would find there, answered within about so many seconds; see the contract. ``sources``: path → Python."""
        listed = [[path, len(source)] for path, source in sources.items()]
        body = b"".join(sources.values())
        fields = {**question, "sources": listed, "seconds": seconds}
        return self.call("preflight", body, timeout=seconds + 0.4, **fields)[0]

    def missing_blobs(self, digests: Sequence[str]) -> list[str]:
        """Of these SHA-256 (hex) those whose contents the target lacks, in the same order."""
        missing: list[str] = []
        for start in range(0, len(digests), _MISSING_AT_ONCE):
            asked = b"".join(bytes.fromhex(digest) for digest in digests[start : start + _MISSING_AT_ONCE])
            _, body = self.call("blobs.missing", asked, timeout=120)
            missing += [body[place : place + 32].hex() for place in range(0, len(body), 32)]
        return missing

    def put_blobs(
        self, blobs: Iterable[Blob], compress: bool = False, progress: Callable[[int], None] | None = None
    ) -> int:
        """Send contents, each (digest hex, size, function that opens it); how many. `progress` gets bytes
        as they are stored.

        Small ones travel together; large ones in pieces, going on where an earlier try broke off. `compress`: what shrinks,
        where that is faster.
        """
        try:
            return Sender(self, compress, progress).send(blobs)
        except ShortContent as error:
            raise HostError("short_content", str(error)) from error

    def lib(self, digest: str, archive: Callable[[], bytes]) -> None:
        """Have the in-run package (a zip whose SHA-256 is `digest`) on the target, sending it only where it
        is missing."""
        if not self.call("lib.has", digest=digest)[0]["has"]:
            self.call("lib.put", archive(), digest=digest)

    def tool(self, name: str, digest: str, size: int, opener: Callable[[], BinaryIO]) -> str:
        """Have a program on the target, at ``tools/<name>/``, sending it only where it is missing; its path there. HostError "unfit"
        when it does not start there."""
        for last in (False, True):
            try:
                return str(self.call("tool", timeout=120, name=name, digest=digest)[0]["path"])
            except HostError as error:
                if error.code != "blobs_missing" or last:
                    raise
            self.put_blobs([(digest, size, opener)], compress=True)
        raise AssertionError

    def prepare(self, kind: str, attempt: str, spec: Mapping[str, Any], manifest: str | None) -> None:
        """Lay out an attempt's directory; repeating it changes nothing. HostError "blobs_missing" when
        contents lack."""
        self.call("prepare", timeout=600, dir=kind, attempt=attempt, spec=dict(spec), manifest=manifest)

    def launch(
        self, attempts: Sequence[tuple[str, str]], grants: Mapping[str, Mapping[str, str]] | None = None
    ) -> list[str]:
        """Fork a supervisor for each (kind, attempt). Whether a script starts is the claim's to say.

        `grants`: by attempt, the variables of what it was given for its start: CUDA_VISIBLE_DEVICES, say.
        """
        fields = {attempt: dict(env) for attempt, env in (grants or {}).items()}
        return list(self.call("launch", attempts=[list(pair) for pair in attempts], grants=fields)[0]["launched"])

    def grant(self, kind: str, attempt: str, env: Mapping[str, str]) -> None:
        """Leave an attempt the variables of what it was given, for a supervisor that somebody else starts."""
        self.call("grant", dir=kind, attempt=attempt, env=dict(env))

    def inspect(self, attempts: Sequence[str]) -> dict[str, Reply]:
        """Evidence of each attempt, by id."""
        return dict(self.call("inspect", attempts=list(attempts))[0]["runs"])

    def watch(
        self,
        runs: Sequence[Mapping[str, Any]],
        timeout: float = 25,
        limit: int = 1 << 20,
        woken: Callable[[], bool] = lambda: False,
    ) -> tuple[list[Reply], bool]:
        """Wait until anything differs from the cursors in `runs`: (changed runs, whether poked).

        Each changed run has attempt, evidence, rev and parts: a list of (name, offset, bytes). `woken` is asked
        once the request is on its way: who sets it before that need not know whether a poke would have met a
        waiting watch.
        """
        fields: dict[str, Any] = {"runs": [dict(run) for run in runs], "timeout": timeout, "limit": limit}
        future = self.submit("watch", **fields)
        if woken():
            self.submit("poke")
        reply, body = self.result(future, timeout + 30, "watch")
        return list(_with_bytes(reply["runs"], body)), bool(reply["poked"])

    def poke(self) -> None:
        """End every waiting `watch` at once. Never waits: who rings for many targets must not be held up by a link that is dead."""
        self._poked.set()

    def _pass_pokes(self) -> None:
        while self._poked.wait() and not self.lost:
            self._poked.clear()
            with contextlib.suppress(HostLost):
                self.submit("poke")

    def cancel(self, kind: str, attempt: str, grace: float) -> None:
        """Ask the supervisor to end the run: TERM, then KILL after `grace` seconds."""
        self.call("cancel", dir=kind, attempt=attempt, grace=grace)

    def kill(self, kind: str, attempt: str) -> int:
        """End every process of a run whose supervisor is gone; how many there were."""
        return int(self.call("kill", dir=kind, attempt=attempt)[0]["killed"])

    def void(self, kind: str, attempt: str, message: str = "") -> bool:
        """Take the claim of an attempt that nobody has started, so that nobody can; False when somebody was
        first. `message`: why it is given up, for its record."""
        return bool(self.call("void", dir=kind, attempt=attempt, message=message)[0]["voided"])

    def engine(
        self, socket: str, method: str, path: str, body: bytes = b"", timeout: float = DEFAULT_TIMEOUT
    ) -> tuple[int, bytes]:
        """Pass a request on to the container engine there: (status, body) of its answer. HostError "engine_away" when it does
        not answer, "engine_denied" when the user may not ask it."""
        fields = {"socket": socket, "method": method, "path": path, "seconds": timeout}
        reply, data = self.call("engine", body, timeout=timeout + 30, **fields)
        return int(reply["status"]), data

    def outputs(self, attempt: str, known: Mapping[str, tuple[int, float, str]] | None = None) -> Reply:
        """{"files", "skipped"}; what is in `known` (path → size, mtime, sha256) with the same size and time
        is not hashed again."""
        fields = {path: list(values) for path, values in (known or {}).items()}
        return self.call("outputs", timeout=3600, attempt=attempt, known=fields)[0]

    def read(self, attempt: str, path: str, offset: int = 0, length: int = 1 << 20) -> bytes:
        """Up to `length` bytes (at most 16 MiB) of an output, or of `log`."""
        return self.call("read", attempt=attempt, path=path, offset=offset, length=length)[1]

    def envs(self) -> list[Reply]:
        """Finished environments: key, size, used_at."""
        return list(self.call("envs", timeout=600)[0]["envs"])

    def remove(self, kind: str, attempt: str) -> None:
        """Delete an attempt's directory; HostError "in_use" while it lives."""
        self.call("remove", timeout=600, dir=kind, attempt=attempt)

    def usage(self, kinds: Sequence[str], seconds: float = 10) -> Reply:
        """{"disk", "kinds"}: what takes space below the root, seen by a walk of about so many seconds."""
        return self.call("usage", timeout=seconds + 120, kinds=list(kinds), seconds=seconds)[0]

    def clean(self, wish: Mapping[str, Any]) -> Reply:
        """Remove what is old and not needed: {"removed", "freed", "failed", "live", "foreign", "disk"}; see the contract."""
        return self.call("clean", timeout=6 * 3600, **wish)[0]

    def list(self) -> dict[str, list[str]]:
        """Ids of the attempts on the target: {"runs", "builds"}."""
        reply, _ = self.call("list")
        return {kind: [str(attempt) for attempt in reply[kind]] for kind in ("runs", "builds")}


class _Heard:
    """The stream's reader, every arrival of bytes noted."""

    def __init__(self, reader: BufferedReader, pulse: Pulse) -> None:
        self._reader = reader
        self._pulse = pulse

    def read(self, size: int) -> bytes:
        """Some bytes, at most `size`; none at the end."""
        data = self._reader.read1(min(size, _READ_AT_ONCE))
        self._pulse.moved()
        return data


def _with_bytes(runs: Iterable[Reply], body: bytes) -> Iterator[Reply]:
    place = 0
    for run in runs:
        parts = []
        for name, offset, length in run["parts"]:
            parts.append((name, offset, body[place : place + length]))
            place += length
        yield {**run, "parts": parts}
