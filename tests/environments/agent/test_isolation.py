"""Landlock where a folder has two names."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from environments.agent import isolation

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.skipif(isolation._abi() < 1, reason="the kernel offers no Landlock")
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_second_mount_of_a_folder_on_the_way_does_not_open_the_hidden(tmp_path):
    (tmp_path / "home/hidden").mkdir(parents=True)
    (tmp_path / "home/hidden/file").write_text("content")
    (tmp_path / "home/beside").write_text("content")
    (tmp_path / "again").mkdir()
    code = f"""
from environments.agent import isolation
isolation.confine([{str(tmp_path / "home/hidden")!r}], [], [])
for name in ("home/hidden/file", "again/hidden/file", "home/beside", "again/beside"):
    try:
        print(open({str(tmp_path)!r} + "/" + name).read())
    except OSError as error:
        print(type(error).__name__)
"""
    mount = 'mount --bind "$1/home" "$1/again" && shift && exec "$@"'
    line = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        mount,
        "sh",
        str(tmp_path),
        sys.executable,
        "-c",
        code,
    ]
    said = subprocess.run(line, check=False, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert said.stdout.split() == ["PermissionError", "PermissionError", "content", "content"], said.stderr
