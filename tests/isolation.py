"""Loaded before any settings (see ``addopts``): tests never touch the data directory of a real studio."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

for _name in [name for name in os.environ if name.startswith("RUNSTEAD_") and not name.startswith("RUNSTEAD_TEST_")]:
    del os.environ[_name]
# The tests' rows lie in SQLite, or in a database that tests make and drop on this PostgreSQL server. A studio that a test
# starts does not see this setting: tests.live gives it its own.
if _url := os.environ.get("RUNSTEAD_TEST_DATABASE_URL"):
    os.environ["RUNSTEAD_DATABASE_URL"] = _url
DATA_DIR = tempfile.mkdtemp(prefix="runstead-test-")
os.environ["RUNSTEAD_DATA_DIR"] = DATA_DIR
# Playwright keeps an event loop in the thread of a browser test; its fixtures write rows between its steps.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
Path(DATA_DIR, "static").mkdir()
atexit.register(shutil.rmtree, DATA_DIR, ignore_errors=True)
