"""In continuous integration a test that is skipped has failed: what nobody runs proves nothing. Imported by conftest.py."""

import os
from collections.abc import Generator
from typing import Any

import pytest

# What no installation brings: such a test may be skipped in CI as well.
MAY_SKIP = (
    "there is no Python 3.6 here",  # older than what Debian and uv still have
    "there is no Python 3.8 here",
    "there is no Python 3.9 here",
    "there is no Python 3.12 here",
    "there is no Python 3.13 here",
    "PostgreSQL plans by what the tables hold",  # what it is about is SQLite's
)


def strict(report: Any) -> Any:
    """The same report, failed where it is a skip that may not be."""
    if not os.environ.get("CI") or not report.skipped or hasattr(report, "wasxfail"):
        return report
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if not any(words in reason for words in MAY_SKIP):
        report.outcome = "failed"
        report.longrepr = f"In CI a skip is a failure. {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    return strict((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, Any, Any]:
    return strict((yield))
