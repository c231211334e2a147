"""The engine that tests of containers use."""

import os
import subprocess
from pathlib import Path

import pytest

IMAGE = "studio/python:3.11-slim"
SCRIPT = Path(__file__).resolve().parent.parent / "infra" / "docker.sh"


def engine_or_skip() -> None:
    """See that an engine answers and has the image; it stays, as it costs seconds to start. Without one the test is skipped, or
    fails in CI."""
    found = subprocess.run([SCRIPT, "start"], capture_output=True, text=True, check=False)
    if found.returncode:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no Docker engine: {found.stderr.strip()}")
