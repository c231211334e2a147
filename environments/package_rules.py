"""The rules for where packages come from, of environments and of targets. Each returns the value to keep, or raises ValueError with
the rule and the fix."""

import re
from collections.abc import Callable, Sequence
from typing import Any

from environments import conda
from environments.addresses import check_address
from environments.option_rules import check_path, shown

MAX_ADDRESSES = 20
_SECRET = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}\Z")


def check_index(value: Any) -> str:
    """The address of a package index."""
    text = _text(value)
    check_address(text, "https://mirror.example.org/simple", ("https", "http"))
    return text


def check_channel(value: Any) -> str:
    """A conda channel: a name, an address, or file:///folder."""
    text = _text(value)
    conda.check_channel(text)
    return text


def check_wheels(value: Any) -> str:
    """A folder of wheels on the target, or a page that lists some."""
    text = _text(value)
    if "://" in text:
        check_address(text, "https://mirror.example.org/wheels", ("https", "http"))
        return text
    return check_path(text)


def check_secret_name(value: Any) -> str:
    """The name of a secret of the workspace, never its value."""
    text = _text(value)
    if not _SECRET.match(text):
        raise ValueError(
            "That is not the name of a secret. Keep user:password as a secret of the workspace (Settings, Secrets), and give its name here."
        )
    return text


def check_offline(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{shown(value)} is neither true nor false. Use true to ask nothing but what is named here.")
    return value


def check_texts(value: Any, rule: Callable[[Any], str]) -> list[str]:
    """A list, each by the rule."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ValueError("A list of texts is needed.")
    if len(value) > MAX_ADDRESSES:
        raise ValueError(f"{len(value)} of them; the limit is {MAX_ADDRESSES}. Remove what is not needed.")
    return [rule(text) for text in value]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is no text.")
    return value
