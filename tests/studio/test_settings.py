"""A setting that is wrong is one line that names it, the rule and never a password."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def said(folder: Path, **settings: str) -> tuple[int, str]:
    """What the command line says with these settings."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RUNSTEAD_")}
    done = subprocess.run(
        [sys.executable, ROOT / "manage.py", "up", "--no-example"],
        env={**clean, "RUNSTEAD_DATA_DIR": str(folder / "data"), **settings},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("PORT", "abc", "a whole number"),
        ("DEBUG", "maybe", "true or false"),
        ("LOG_LEVEL", "LOUD", "WARNING"),
        ("PUBLIC_URL", "studio.example", "https://"),
        ("DATABASE_URL", "nonsense", "postgres://"),
        ("DATABASE_URL", "mysql://me:hidden-word@db/x", "postgres://"),
        ("REDIS_URL", "nonsense:hidden-word", "redis://"),
        ("STORAGE_URL", "file://relative", "file:///absolute"),
        ("SECRET_KEY_FILE", "/no/such/file", "cannot read"),
        ("DATA_DIR", "/proc/no-such-place", "cannot make"),
        ("HOST", "999.1.1.1", "127.0.0.1"),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(tmp_path: Path, name: str, value: str, rule: str) -> None:
    code, text = said(tmp_path, **{f"RUNSTEAD_{name}": value})
    assert code == 1
    assert f"RUNSTEAD_{name}" in text and rule in text
    assert "Traceback" not in text and "hidden-word" not in text
    assert len(text.strip().splitlines()) == 1
