"""A real studio for a module's tests, found by the client as its user's would be."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from runstead import Workspace

from tests.live import ROOT, Studio

SOURCE = ROOT / "sdk" / "src"


class Home:
    """A studio, and a folder whose programs find it as programs of this machine do: with no configuration at all."""

    def __init__(self, studio: Studio, folder: Path) -> None:
        self.studio = studio
        self.folder = folder
        kept = {k: v for k, v in os.environ.items() if not k.startswith("RUNSTEAD_")}
        self.env = {
            **kept,
            "HOME": str(folder),
            "XDG_CONFIG_HOME": studio.env["XDG_CONFIG_HOME"],
            "PYTHONPATH": str(SOURCE),
            "PYTHONWARNINGS": "error::DeprecationWarning:runstead",
        }

    def python(self, *words: str, check: bool = True, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the user's: ``python("-c", code)``."""
        return subprocess.run(
            [sys.executable, *words], cwd=self.folder, env={**self.env, **more}, capture_output=True, text=True,
            check=check, timeout=120,
        )  # fmt: skip

    def project(self, name: str, **files: str) -> Path:
        """A folder with files: ``project("digits", train="print(1)")`` has train.py."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        for stem, text in files.items():
            (folder / f"{stem}.py").write_text(text)
        return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    base = tmp_path_factory.mktemp("studio")
    studio = Studio(base / "data").start()
    folder = base / "home"
    folder.mkdir()
    yield Home(studio, folder)
    assert studio.stop() == 0, studio.output.read_text()[-3000:]


@pytest.fixture
def ws(home: Home, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The workspace, found from the folder of the user."""
    monkeypatch.delenv("RUNSTEAD_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", home.env["XDG_CONFIG_HOME"])
    monkeypatch.chdir(home.folder)
    return Workspace.from_config()
