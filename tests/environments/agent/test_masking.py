"""Secrets never leave, however the stream is cut and however they are spelled."""

import base64
import json
from urllib.parse import quote, quote_plus

from hypothesis import given, settings
from hypothesis import strategies as st

from environments.agent.masking import MASK, Masker

SECRET = 'pa$$/w+rd ž"quoted\\'
secrets = st.text(st.characters(exclude_categories=["Cs"]), min_size=8, max_size=40)


def masked(pieces, *known):
    masker = Masker(known)
    return b"".join([masker.feed(piece) for piece in pieces] + [masker.finish()])


def cut(data, places):
    borders = sorted({place % (len(data) + 1) for place in places})
    return [data[start:end] for start, end in zip([0, *borders], [*borders, len(data)], strict=True)]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.one_of(st.sampled_from(["A", "B", "prefix of A", "x", "\n", "é"]), st.text(max_size=5)), max_size=20),
    secrets,
    secrets,
    st.lists(st.integers(0, 10_000), max_size=30),
)
def test_the_result_does_not_depend_on_where_the_stream_is_cut(words, first, second, places):
    spelled = {"A": first, "B": second, "prefix of A": first[:-1]}
    data = "".join(spelled.get(word, word) for word in words).encode("utf-8", "surrogateescape")
    whole = masked([data], first, second)
    assert masked(cut(data, places), first, second) == whole
    assert masked([bytes([byte]) for byte in data], first, second) == whole
    assert first.encode() not in whole or first.encode() in MASK


@settings(max_examples=200, deadline=None)
@given(secrets, st.binary(max_size=7), st.binary(max_size=7), st.lists(st.integers(0, 1000), max_size=5))
def test_every_spelling_is_masked(secret, before, after, places):
    raw = secret.encode()
    for form in (
        raw,
        quote(secret).encode(),
        quote(secret, safe="").encode(),
        quote_plus(secret).encode(),
        json.dumps(secret)[1:-1].encode(),
        json.dumps(secret, ensure_ascii=False)[1:-1].encode(),
    ):
        assert masked(cut(b"<" + form + b">", places), secret) == b"<***>"
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        text = encode(before + raw + after)
        result = masked(cut(text, places), secret)
        assert MASK in result
        # What is left of the secret is at most a few bits at either end.
        assert len(text) - len(result) >= len(raw) * 8 // 6 - 2 - len(MASK)


def test_short_values_are_left_alone():
    assert masked([b"yes"], "yes") == b"yes"


def test_overlapping_secrets_take_the_longest():
    assert masked([b"abcdefghijkl-abcdefgh."], "abcdefgh", "abcdefghijkl") == b"***-***."


def test_nothing_is_held_back_that_cannot_become_a_secret():
    masker = Masker([SECRET])
    assert masker.feed(b"a line\n") == b"a line\n"
