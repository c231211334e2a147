"""A skip fails in CI, and only there."""

import os
import subprocess
import sys

import pytest

from tests.live import ROOT

TESTS = """\
import pytest
{module}
@pytest.mark.skip(reason="marked")
def test_marked(): pass
@pytest.mark.skipif(True, reason="a condition")
def test_condition(): pass
def test_inside(): pytest.skip("{reason}")
@pytest.fixture
def lacking(): pytest.skip("in a fixture")
def test_fixture(lacking): pass
@pytest.mark.xfail(reason="known")
def test_known(): assert False
def test_passes(): pass
"""


def outcome(tmp_path, ci: str, reason: str = "told", module: str = "") -> str:
    (tmp_path / "test_them.py").write_text(TESTS.format(reason=reason, module=module))
    env = {**{k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}, "CI": ci, "PYTHONPATH": str(ROOT)}
    argv = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "tests.skips",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:django",
        "-p",
        "no:playwright",
    ]
    argv += ["-c", os.devnull, "--rootdir", str(tmp_path), str(tmp_path)]
    return subprocess.run(argv, env=env, capture_output=True, text=True, check=False).stdout


def test_in_ci_every_skip_fails_with_its_reason(tmp_path):
    said = outcome(tmp_path, "1")
    assert "1 failed, 1 passed, 1 xfailed, 3 errors" in said, said
    for reason in ("marked", "a condition", "told", "in a fixture"):
        assert f"In CI a skip is a failure. Skipped: {reason}\n" in said


def test_elsewhere_a_skip_is_one(tmp_path):
    assert "1 passed, 4 skipped, 1 xfailed" in outcome(tmp_path, "")


def test_what_no_installation_brings_may_be_skipped(tmp_path):
    said = outcome(tmp_path, "1", reason="there is no Python 3.6 here")
    assert "1 passed, 1 skipped, 1 xfailed" in said, said


@pytest.mark.parametrize("ci", ["1", ""])
def test_a_file_that_is_skipped_whole_fails_too(tmp_path, ci):
    said = outcome(tmp_path, ci, module='pytest.skip("whole", allow_module_level=True)')
    assert ("In CI a skip is a failure" in said and "1 error" in said) if ci else "1 skipped" in said, said
