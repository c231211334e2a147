"""Patterns of LIKE that are matched here and not by a database."""

import re

from hypothesis import given
from hypothesis import strategies as st

from runs.mlflow.search import like

FEW = st.text("ab.\nA", max_size=8)


@given(st.text("ab._%\nA", max_size=7), FEW)
def test_a_pattern_fits_what_it_means(pattern: str, text: str) -> None:
    meant = "".join({"%": ".*", "_": "."}.get(letter, re.escape(letter)) for letter in pattern)
    assert like(pattern, ignore_case=False)(text) == bool(re.fullmatch(meant, text, re.DOTALL))
    assert like(pattern, ignore_case=True)(text) == bool(re.fullmatch(meant, text, re.DOTALL | re.IGNORECASE))


def test_a_pattern_of_many_wildcards_ends() -> None:
    assert not like("%" * 60 + "~", ignore_case=False)("digits2" * 50)
    assert not like("%a" * 60 + "%~", ignore_case=True)("a" * 5000)
    assert like("%a" * 60 + "%", ignore_case=False)("ab" * 60)
