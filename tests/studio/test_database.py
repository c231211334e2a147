"""JSON with bytes that are no text, as databases hold it."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from studio.database import MARK, BytesDecoder, BytesEncoder

TEXT = st.binary(max_size=20).map(lambda data: data.decode("utf-8", "surrogateescape")) | st.text(
    st.sampled_from([MARK, "a", "0", "\udcff", "é"]), max_size=8
)
VALUES = st.recursive(
    TEXT | st.integers() | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=10,
)


@given(VALUES)
def test_it_is_text_for_the_database_and_comes_back_as_it_was(value: Any) -> None:
    held = json.dumps(value, cls=BytesEncoder)
    json.loads(held.encode(), cls=BytesDecoder)
    assert not any(0xDC80 <= ord(letter) <= 0xDCFF for letter in json.dumps(json.loads(held), ensure_ascii=False))
    assert json.loads(held, cls=BytesDecoder) == value


def test_what_was_held_before_is_read_as_it_is() -> None:
    assert json.loads('{"a": "\\udcff"}', cls=BytesDecoder) == {"a": "\udcff"}
