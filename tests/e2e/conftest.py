import os

import pytest

from tests.e2e.screens import ARGUMENTS, browser_path
from tests.live import Studio


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args):
    path = browser_path()
    if path is None:
        text = "These tests need Chromium (Debian: apt-get install chromium), or its path in RUNSTEAD_TEST_BROWSER."
        pytest.fail(text) if os.environ.get("CI") else pytest.skip(text)
    return {**browser_type_launch_args, "executable_path": path, "args": ARGUMENTS}


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    live = Studio(tmp_path_factory.mktemp("studio") / "data").start()
    yield live
    assert live.stop() == 0, live.output.read_text()[-3000:]
