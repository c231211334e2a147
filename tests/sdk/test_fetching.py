"""Files that are fetched over a connection that is cut, stalls or tells another content, and onto a disk that takes no more."""

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runstead import Experiment, RunsteadError, Workspace, fetching

from tests.environments.agent.test_foreign import interpreters
from tests.sdk.conftest import Home
from tests.sdk.shell import Shell, access, proxied

CONTENT = hashlib.shake_256(b"weights").digest(3_000_000)
FULL = ["sh", "-c", 'ulimit -f 1000; exec "$@"', "sh"]
"""Starts a program whose files take no more than 500 kB, as on a disk that is full."""


@pytest.fixture(scope="module")
def number(home: Home) -> int:
    """A run with a file."""
    (home.folder / "w.bin").write_bytes(CONTENT)
    code = "from runstead import *\nrun = Experiment(Workspace.from_config(), 'x').start_logging(snapshot_directory=None)\n"
    code += "run.upload_file('outputs/w.bin', 'w.bin')\nrun.complete()\nprint(run.number)"
    return int(home.python("-c", code).stdout)


@pytest.fixture
def shell(home: Home, tmp_path: Path) -> Shell:
    return Shell(home.studio, tmp_path / "shell")


@pytest.fixture
def reached(home: Home, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Workspace]:
    """The workspace by way of another address."""
    monkeypatch.chdir(home.folder)

    def at(url: str) -> Workspace:
        for name, value in {**access(home.studio), "RUNSTEAD_URL": url}.items():
            monkeypatch.setenv(name, value)
        return Workspace.from_config()

    return at


def run_of(ws: Workspace, number: int) -> Any:
    return next(run for run in Experiment(ws, "x").get_runs() if run.number == number)


def test_a_download_goes_on_where_it_was_cut(home: Home, number: int, reached: Any, tmp_path: Path) -> None:
    asked: list[str] = []

    def cut(path: str) -> int | None:
        if "/content" not in path:
            return None
        asked.append(path)
        return 1_000_000 if len(asked) < 3 else None

    with proxied(home.studio.port, cut=cut) as url:
        run_of(reached(url), number).download_file("outputs/w.bin", str(tmp_path / "w.bin"))
    assert (tmp_path / "w.bin").read_bytes() == CONTENT and len(asked) == 3


def test_a_connection_that_stays_cut_is_named_as_such(
    home: Home, number: int, reached: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "PAUSES", (0.0, 0.0))
    with proxied(home.studio.port, cut=lambda path: 0 if "/content" in path else None) as url:
        run = run_of(reached(url), number)
        with pytest.raises(
            RunsteadError, match=r"outputs/w\.bin: the connection to the studio was cut again and again"
        ):
            run.download_file("outputs/w.bin", str(tmp_path / "w.bin"))
    assert list(tmp_path.iterdir()) == []


def test_what_arrives_is_compared_with_the_tag(home: Home, number: int, reached: Any, tmp_path: Path) -> None:
    with proxied(home.studio.port, headers={"ETag": f'"{1:064x}"'}) as url:
        run = run_of(reached(url), number)
        with pytest.raises(RunsteadError, match=r"outputs/w\.bin: what arrived has another SHA-256"):
            run.download_file("outputs/w.bin", str(tmp_path / "w.bin"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("version", ["3.8", "3.9", "3.13"])
def test_a_connection_that_stalls_is_left_for_another(home: Home, number: int, version: str, tmp_path: Path) -> None:
    python = next((path for path in interpreters() if Path(path).name == f"python{version}"), None)
    if python is None:
        pytest.skip(f"there is no Python {version} here")
    code = (
        "import sys\nfrom runstead import transport, Experiment, Workspace\ntransport.TIMEOUT = 3\n"
        "run = next(run for run in Experiment(Workspace.from_config(), 'x').get_runs() if run.number == int(sys.argv[1]))\n"
        "run.download_file('outputs/w.bin', sys.argv[2])"
    )
    asked: list[str] = []
    over = threading.Event()

    def cut(path: str) -> int | None:
        if "/content" not in path:
            return None
        asked.append(path)
        return 1_000_000 if len(asked) == 1 else None

    def hook(when: str, _: int, path: str) -> None:
        if when == "cut":
            over.wait(60)

    with proxied(home.studio.port, hook, cut=cut) as url:
        env = {**home.env, **access(home.studio), "RUNSTEAD_URL": url}
        words = [python, "-c", code, str(number), str(tmp_path / "w.bin")]
        done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=False)
        over.set()
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "w.bin").read_bytes() == CONTENT and len(asked) >= 2


@pytest.mark.skipif(os.name != "posix", reason="a limit for the size of files is POSIX's")
def test_a_full_disk_is_named_at_once(home: Home, number: int, shell: Shell, tmp_path: Path) -> None:
    asked: list[str] = []

    def hook(when: str, _: int, path: str) -> None:
        if when == "before" and "/content" in path:
            asked.append(path)

    with proxied(home.studio.port, hook) as url:
        env = {**shell.env, **access(home.studio), "RUNSTEAD_URL": url}
        words = [*FULL, *shell.argv("download", str(number), "-o", str(tmp_path / "here"))]
        done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=False)
        told = f"runstead: The file {tmp_path}/here/outputs/w.bin was not written: File too large.\n"
        assert (done.returncode, done.stderr) == (1, told)
        code = (
            "import sys\nfrom runstead import Experiment, Workspace\n"
            "run = next(run for run in Experiment(Workspace.from_config(), 'x').get_runs() if run.number == int(sys.argv[1]))\n"
            "run.download_file('outputs/w.bin', 'w.bin')"
        )
        words = [*FULL, sys.executable, "-c", code, str(number)]
        done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=False)
        assert "RunsteadError: The file w.bin was not written: File too large." in done.stderr
    assert len(asked) == 2
    # Once there is room, the command goes on behind what it has.
    with proxied(home.studio.port, hook) as url:
        shell.ok("download", str(number), "-o", str(tmp_path / "here"), **{**access(home.studio), "RUNSTEAD_URL": url})
    assert (tmp_path / "here/outputs/w.bin").read_bytes() == CONTENT
    assert not list(tmp_path.rglob("*.runstead-part")) and not list(tmp_path.glob(".runstead-*"))


def test_a_part_that_is_no_beginning_of_the_file_is_given_up(number: int, shell: Shell, tmp_path: Path) -> None:
    part = tmp_path / "outputs/w.bin.runstead-part"
    file = part.with_suffix("")
    part.parent.mkdir()
    for wrong in (b"longer" * 1_000_000, b"x" * len(CONTENT)):
        part.write_bytes(wrong)
        file.unlink(missing_ok=True)
        shell.ok("download", str(number), "-o", str(tmp_path))
        assert file.read_bytes() == CONTENT and not part.exists()
    part.write_bytes(b"other")
    file.unlink()
    assert "has another SHA-256" in shell.refused("download", str(number), "-o", str(tmp_path))
    shell.ok("download", str(number), "-o", str(tmp_path))
    assert file.read_bytes() == CONTENT
