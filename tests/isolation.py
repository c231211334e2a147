"""Loaded before any settings (see ``addopts``): tests never touch the data directory of a real studio."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

for _name in [name for name in os.environ if name.startswith("RUNSTEAD_") and not name.startswith("RUNSTEAD_TEST_")]:
    del os.environ[_name]
DATA_DIR = tempfile.mkdtemp(prefix="runstead-test-")
os.environ["RUNSTEAD_DATA_DIR"] = DATA_DIR
# Playwright keeps an event loop in the thread of a browser test; its fixtures write rows between its steps.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
Path(DATA_DIR, "static").mkdir()
atexit.register(shutil.rmtree, DATA_DIR, ignore_errors=True)
