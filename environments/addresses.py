"""Addresses that packages come from: indexes, channels, repositories. Never with credentials in them: everybody who sees an
environment reads them, and so does the build's log."""

import re
from collections.abc import Collection
from urllib.parse import urlsplit

MAX_ADDRESS = 1_000
CREDENTIALS_FIX = (
    "Remove them, put user:password into a secret of the workspace (Settings, Secrets), and name it in index_secret."
)
# Spaces, control characters, and what a shell or a configuration file would take for something else.
_UNSAFE = re.compile(
    r"[\s\"'`\\<>{}|^$\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\u200b\ud800-\udfff]"
)
_TOKEN = re.compile(r"/t/[^/]{6,}(/|\Z)")


def check_address(text: str, like: str, schemes: Collection[str] = ("https", "http", "file")) -> None:
    """Raise ValueError with the rule and the fix unless ``text`` is an address of one of the schemes, without credentials.

    ``like``: an example of what is wanted.
    """
    if len(text) > MAX_ADDRESS:
        raise ValueError(f"the address is longer than {MAX_ADDRESS:,} characters. Write one like {like}.")
    if text.startswith("-"):
        raise ValueError(
            f"{text[:60]!r} begins with '-', which programs take for an option. Write an address like {like}."
        )
    if _UNSAFE.search(text):
        raise ValueError(
            f"{text[:60]!r} holds a space, a quote, '$' or a character that cannot be seen. Write one like {like}."
        )
    try:
        parts = urlsplit(text)
        _ = parts.port  # raises for what is no port
    except ValueError:
        raise ValueError(f"the address is not valid. Write one like {like}.") from None
    if "@" in parts.netloc:
        raise ValueError(
            f"the address holds credentials, which everybody who sees the environment could read. {CREDENTIALS_FIX}"
        )
    if parts.scheme.lower() not in schemes:
        wanted = " or ".join(f"{scheme}://" for scheme in schemes)
        raise ValueError(f"{text[:60]!r} does not begin with {wanted}. Write one like {like}.")
    if parts.scheme.lower() == "file":
        if parts.netloc or not parts.path.startswith("/") or ".." in parts.path.split("/"):
            raise ValueError(
                f"{text[:60]!r} is no absolute path on the target. Write file:///srv/packages, without '..'."
            )
    elif not parts.hostname:
        raise ValueError(f"{text[:60]!r} names no host. Write an address like {like}.")
    if parts.query or parts.fragment:
        raise ValueError(
            f"the address holds '?' or '#', behind which tokens are kept. Write one like {like}, without them."
        )
    if _TOKEN.search(parts.path):
        raise ValueError(
            "the address holds a token (/t/…/), which everybody who sees the environment could read. "
            "Use one that needs none, or a mirror on the target."
        )
