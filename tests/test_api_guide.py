"""The shell lines of docs/api.md, typed as they stand there."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live import ROOT, Studio
from tests.sdk.shell import access

TEXT = (ROOT / "docs/api.md").read_text()


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    running = Studio(tmp_path_factory.mktemp("studio") / "data").start()
    yield running
    running.stop()


def lines_with(words: str) -> str:
    (found,) = [block for block in re.findall(r"^```sh\n(.*?)^```$", TEXT, re.S | re.M) if words in block]
    return found


def typed(lines: str, studio: Studio, folder: Path) -> str:
    known = {**os.environ, **access(studio)}
    lines = lines.replace("http://127.0.0.1:8000", studio.url)
    done = subprocess.run(["sh", "-e", "-c", lines], cwd=folder, env=known, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout, done.stderr)
    return done.stdout


def test_who_asks(studio: Studio, tmp_path: Path) -> None:
    assert '"workspace"' in typed(lines_with("/me"), studio, tmp_path)


def test_a_folder_is_submitted_by_curl_alone(studio: Studio, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("print('sent by curl')\n")
    answers = typed(lines_with("snapshots/missing"), studio, tmp_path)
    assert '"missing": [[0, 1]]' in answers or '"missing":[[0,1]]' in answers
    (row,) = studio.control("runs")
    assert studio.wait_for([row["id"]])[0]["status"] == "Completed"
    assert "sent by curl" in studio.control("text", id=row["id"])
