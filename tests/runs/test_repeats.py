"""Requests that make something, repeated while the first is still being answered. PostgreSQL: tests/faults/test_postgres.py."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from studio.api import api as description
from tests import repeats
from tests.live import Studio


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    live = Studio(tmp_path / "data").start()
    yield live
    assert live.stop() == 0, live.output.read_text()[-3000:]


def test_what_is_sent_twenty_times_at_once_is_made_once(studio: Studio, tmp_path: Path) -> None:
    """By every operation that makes something: whatever is posted either takes a key or makes nothing."""
    api = repeats.Api(studio)
    makers = repeats.makers(studio, api, tmp_path / "project")
    posts, keyed = set(), set()
    for path, item in description.get_openapi_schema()["paths"].items():
        if "post" in item:
            operation = path.partition("{slug}")[2]
            posts.add(operation)
            if any(parameter["name"] == "Idempotency-Key" for parameter in item["post"]["parameters"]):
                keyed.add(operation)
    assert {maker.operation for maker in makers} == keyed
    assert posts - keyed == repeats.MAKES_NOTHING
    for maker in makers:
        repeats.check(api, maker)
