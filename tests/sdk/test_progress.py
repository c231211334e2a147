"""The bar of what takes long: on a terminal, and only when it does take long."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from runstead import Experiment, ScriptRunConfig, Workspace
from runstead.folder import BLOCK, MANY, Folder

from tests.live import ROOT
from tests.sdk.conftest import Home

COLUMNS = {"TERM": "xterm", "COLUMNS": "100", "PYTHONPATH": str(ROOT / "sdk" / "src"), "PATH": os.environ["PATH"]}
BARS = """
import sys, time
from runstead import progress
progress.SOON = float(sys.argv[1])
with progress.Bar() as bar:
    for stage, total in (("reading", 40_000_000), ("sending", 8_000_000)):
        for part in range(4):
            bar.told(stage, total * part // 4, total)
            time.sleep(0.15)
print("rich" in sys.modules)
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def on_a_terminal(*words: str) -> str:
    """What a program writes on a terminal of its own."""
    ours, theirs = pty.openpty()
    with subprocess.Popen([sys.executable, *words], stdin=theirs, stdout=theirs, stderr=theirs, env=COLUMNS) as process:
        os.close(theirs)
        parts = []
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:  # Linux says so when the last one has closed it
                break
            if not data:
                break
            parts.append(data)
    os.close(ours)
    assert process.returncode == 0, b"".join(parts)
    return b"".join(parts).decode()


def test_a_bar_shows_each_stage_and_goes_away() -> None:
    shown = on_a_terminal("-c", BARS, "0")
    assert "reading" in shown and "/40.0 MB" in shown
    assert "sending" in shown and "/8.0 MB" in shown
    assert shown.index("reading") < shown.index("sending")
    assert shown.rstrip().endswith("True")
    assert "sending" not in shown[shown.rindex("\x1b[2K") :]  # the last line was cleared


def test_what_is_quick_shows_nothing_and_imports_nothing() -> None:
    assert on_a_terminal("-c", BARS, "60").strip() == "False"


def test_without_a_terminal_nothing_is_shown() -> None:
    done = subprocess.run([sys.executable, "-c", BARS, "0"], env=COLUMNS, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("False\n", "")


@pytest.mark.parametrize(
    "sizes", [[10], [5 * BLOCK + 1, 3 * BLOCK], [100] * (MANY + 1)], ids=["small", "large", "many"]
)
def test_all_bytes_of_a_folder_are_told(tmp_path: Path, sizes: list[int]) -> None:
    project = tmp_path / "project"
    project.mkdir()
    for number, size in enumerate(sizes):
        (project / f"{number}.bin").write_bytes(b"x" * size)
    told: list[tuple[str, int, int]] = []
    Folder(str(project), told=lambda *row: told.append(row))
    assert {(stage, total) for stage, _, total in told} == {("reading", sum(sizes))}
    assert max(done for _, done, _ in told) == sum(sizes)


def test_a_submit_tells_what_it_reads_and_sends(home: Home, ws: Workspace) -> None:
    project = home.project("told", train="print(1)")
    (project / "data.bin").write_bytes(os.urandom(20_000_000))
    told: list[tuple[str, int, int]] = []
    Experiment(ws, "told").submit(ScriptRunConfig(str(project), "train.py"), progress=lambda *row: told.append(row))
    ends = {stage: (done, total) for stage, done, total in sorted(told)}
    size = 20_000_000 + len("print(1)")
    assert ends == {"reading": (size, size), "sending": (size, size)}
