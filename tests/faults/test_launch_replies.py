"""Launches whose replies are lost at random: whoever asks again, however often, starts nothing twice."""

import io
import json
import os
import random
import struct
import sys
import threading
import uuid
from collections import Counter

import pytest

from environments.agent import protocol
from environments.host import Host, HostLost
from environments.transports.base import TransportError
from environments.transports.local import LocalTransport
from runs.evidence import Evidence, Kind, derive
from tests.faults.test_crash_points import Crashing
from tests.waiting import until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

LAUNCHES = 1000
FATES = ["answered"] * 4 + ["withheld", "cut with the reply", "cut with the request"]


class Lossy:
    """The local transport; the reply to a launch may stay out, or the stream may end in its place."""

    python = sys.executable

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.fates: Counter[str] = Counter()

    def open(self, argv):
        return LossyStream(LocalTransport().open(argv), self)

    def close(self):
        pass


class LossyStream:
    def __init__(self, inner, transport: Lossy) -> None:
        self.inner, self.transport = inner, transport
        self.fate: dict[int, str] = {}
        source, self.sink = os.pipe()
        self.reader = io.BufferedReader(io.FileIO(source, "r"))
        self.writer = self
        self.begun = False
        threading.Thread(target=self.pump, daemon=True).start()

    def write(self, data):
        data = bytes(data)
        fate = "answered"
        if b'"op":"launch"' in data[:200_000] and self.begun:
            header = json.loads(data[8 : 8 + struct.unpack(">I", data[:4])[0]])
            fate = self.fate[header["id"]] = self.transport.chance.choice(FATES)
            self.transport.fates[fate] += 1
        self.inner.writer.write(data)
        if fate == "cut with the request":
            self.inner.writer.flush()
            self.inner.close()
        return len(data)

    def flush(self):
        self.inner.writer.flush()

    def pump(self):
        try:
            os.write(self.sink, self.inner.reader.read(1))  # the handshake's letter
            self.begun = True
            while (frame := protocol.read_frame(self.inner.reader)) is not None:
                header, body = frame
                fate = self.fate.get(header.get("id"), "answered")
                if fate == "withheld":
                    continue
                if fate == "cut with the reply":
                    self.inner.close()
                    break
                os.write(self.sink, protocol.encode(header, len(body)) + body)
        except (OSError, ValueError, EOFError, protocol.ProtocolError):
            pass
        finally:
            os.close(self.sink)

    def progress(self):
        return 0

    def close(self):
        self.inner.close()

    def stderr_tail(self):
        return self.inner.stderr_tail()


class Studio:
    """What of the studio matters here: connects anew when it must, looks, and asks again for what nobody claimed."""

    def __init__(self, root, chance: random.Random) -> None:
        self.root, self.chance = str(root), chance
        self.transport = Lossy(chance)
        self.host = Host(self.transport, self.root)

    def ask(self, call):
        """Until it is answered; a launch is never asked in this way."""
        while True:
            try:
                return call(self.host)
            except (HostLost, TransportError):
                self.host = Host(self.transport, self.root)

    def prepare(self, oracle) -> str:
        attempt = uuid.uuid4().hex
        spec = {
            "attempt": attempt, "kind": "run", "argv": ["/bin/sh", "-c", f'echo "$RUNSTEAD_RUN_DIR" >>{oracle}'], "cwd": "code", "env": {},
            "secrets": {}, "limits": {"log_bytes": 1000, "seconds": None, "memory_bytes": None}, "grace": 1, "token": uuid.uuid4().hex,
            "sample_seconds": 60, "tracking": None, "isolate": [],
        }  # fmt: skip
        self.ask(lambda host: host.prepare("runs", attempt, spec, None))
        return attempt

    def launch(self, attempts: list[str]) -> None:
        """Ask for these until each is known to be claimed."""
        while attempts:
            try:
                future = self.host.submit("launch", attempts=[["runs", attempt] for attempt in attempts], grants={})
                self.host.result(future, 0.05, "launch")
            except (HostLost, TimeoutError):
                if self.chance.random() < 0.3:
                    continue  # without a look: nothing but the claim stands between this and a second start
            found = self.ask(lambda host, attempts=attempts: host.inspect(attempts))
            attempts = [a for a in attempts if derive(Evidence.read(found[a])).kind is Kind.NOT_CLAIMED]


def test_a_thousand_launches_with_replies_lost_at_random(tmp_path, measured):
    chance = random.Random(20)
    oracle = tmp_path / "starts.txt"
    oracle.touch()
    studio = Studio(tmp_path / "root", chance)
    every: list[str] = []
    while len(every) < LAUNCHES:
        batch = [studio.prepare(oracle) for _ in range(min(chance.randint(1, 4), LAUNCHES - len(every)))]
        every += batch
        studio.launch(batch)

    def over():
        found = studio.ask(lambda host: host.inspect(every))
        return all(item["exit"] for item in found.values())

    until(over, 60, every=0.2)
    starts = Counter(line.rsplit("/", 1)[1] for line in oracle.read_text().split())
    assert starts == Counter(every), [pair for pair in starts.items() if pair[1] != 1][:5]
    lost = sum(number for fate, number in studio.transport.fates.items() if fate != "answered")
    measured[f"{len(every)} launches, {lost} replies lost: double starts"] = len(starts) - len(every)
    assert lost > 100, studio.transport.fates
    until(lambda: all(item["sup"] == "free" for item in studio.ask(lambda host: host.inspect(every)).values()), 10)
    studio.host.close()


def test_fifty_runs_of_a_studio_that_hears_of_every_second_launch(tmp_path, measured):
    crashing = Crashing(tmp_path)
    try:
        job = {**crashing.job("complete", "replies", None), "count": 50, "slots": 8}
        job["arguments"] = crashing.oracle.arguments(lines=1, every=0)
        (found,) = crashing.carry_out([job])
    finally:
        crashing.close()
    assert not found.get("failed"), crashing.output.read_text()[-3000:]
    assert [row["status"] for row in found["runs"]] == ["Completed"] * 50
    assert [crashing.oracle.count("start", row["uid"]) for row in found["runs"]] == [1] * 50
    assert found["left"] == []
    measured["50 runs of a studio: launches whose reply was lost"] = found["lost"]
    assert found["lost"] >= 8
