"""Tags as a person types them: ``baseline, stage=final, "a, b"``."""

import csv
import io
from collections.abc import Mapping

MAX_NAME = 250
MAX_VALUE = 8000
MAX_TAGS = 100


def parse_tags(text: str) -> dict[str, str | None]:
    """Read tags separated by commas or lines; ``name=value`` or a bare name; double quotes protect commas.

    Raises ValueError with the rule and the fix.
    """
    tags: dict[str, str | None] = {}
    if "\0" in text:
        raise ValueError("A tag holds a NUL. Remove it.")
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True))
    except csv.Error:
        raise ValueError('A double quote is not closed. Close it, or write it twice: "".') from None
    for item in (item.strip() for row in rows for item in row):
        if not item:
            continue
        name, equals, value = item.partition("=")
        name, value = name.strip(), value.strip()
        if not name:
            raise ValueError(f"{item!r} has no name before '='. Write name=value, or the name alone.")
        if len(name) > MAX_NAME:
            raise ValueError(f"The tag {name[:40]}… has {len(name)} characters; the limit is {MAX_NAME}. Shorten it.")
        if len(value) > MAX_VALUE:
            raise ValueError(f"The value of {name[:40]} has {len(value):,} characters; the limit is {MAX_VALUE:,}.")
        tags[name] = value if equals else None
    if len(tags) > MAX_TAGS:
        raise ValueError(f"{len(tags)} tags are given; the limit is {MAX_TAGS}. Remove some.")
    return tags


def format_tags(tags: Mapping[str, str | None]) -> str:
    """The text that ``parse_tags`` reads back."""
    return ", ".join(_quoted(name if value is None else f"{name}={value}") for name, value in tags.items())


def _quoted(item: str) -> str:
    if any(c in item for c in ',"\r\n'):
        return '"' + item.replace('"', '""') + '"'
    return item
