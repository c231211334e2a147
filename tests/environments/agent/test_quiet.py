"""An agent to which nobody speaks any more leaves by itself; what it started goes on."""

import os
import subprocess
import sys
import time

from environments.agent import protocol

SERVE = """
import sys
from environments.agent import serve
serve.QUIET_SECONDS = 1.0
serve.main(sys.argv[1], 0o077)
"""


def ask(process, number):
    process.stdin.write(protocol.encode({"id": number, "op": "hello"}))
    process.stdin.flush()
    return protocol.read_frame(process.stdout)[0]


def test_it_leaves_when_nothing_comes_although_the_stream_is_open(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        for number in range(1, 8):
            assert ask(process, number)["ok"]
            time.sleep(0.3)  # never quiet for as long as it allows
        assert process.poll() is None
        assert process.wait(timeout=10) == 0
        assert not process.stdin.closed
    finally:
        process.kill()
        process.wait()


def test_bytes_of_a_request_that_is_still_coming_are_a_sign_of_life(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert ask(process, 1)["ok"]
        frame = protocol.encode({"id": 2, "op": "hello", "more": "x" * 20})
        for place in range(0, len(frame), 8):
            os.write(process.stdin.fileno(), frame[place : place + 8])
            time.sleep(0.3)
        assert protocol.read_frame(process.stdout)[0]["id"] == 2
    finally:
        process.kill()
        process.wait()
