"""Conda's package specifications and files."""

import re


def normal(spec: str) -> str:
    """The same text for all spellings of one specification: what the build key is made of."""
    return re.sub(r"\s+", " ", spec.strip().lower())
