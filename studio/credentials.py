"""Encryption of stored credentials, under a key of its own.

The key is not Django's ``SECRET_KEY``: that one may be changed at any time to end all sessions, and must not take the
credentials with it. The file holds one key a line, newest first; older ones still decrypt.
"""

import base64
import contextlib
import hashlib
import os
import secrets
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from studio.paths import private_dir


@lru_cache(maxsize=1)
def _box() -> MultiFernet:
    path = settings.CREDENTIALS_KEY_FILE
    if not path.exists():
        private_dir(path.parent)
        draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(base64.urlsafe_b64encode(os.urandom(32)))
        with contextlib.suppress(FileExistsError):  # another process was first: its key counts
            os.link(draft, path)
        draft.unlink()
    return MultiFernet([Fernet(line) for line in path.read_bytes().split()])


def identity() -> str:
    """16 hex digits that tell this studio from every other: on a target they say whose work it is. They are of the oldest key,
    so a new one changes nothing, and a restored studio finds what is its own."""
    _box()
    oldest = settings.CREDENTIALS_KEY_FILE.read_bytes().split()[-1]
    return hashlib.sha256(b"identity of a studio\0" + oldest).hexdigest()[:16]


def encrypt(text: str) -> bytes:
    return _box().encrypt(text.encode())


def decrypt(token: bytes) -> str:
    """Raise ImproperlyConfigured when the key file does not fit the stored value."""
    try:
        return _box().decrypt(token).decode()
    except InvalidToken:
        raise ImproperlyConfigured(
            f"{settings.CREDENTIALS_KEY_FILE} does not open a stored credential. Restore the key file from the backup "
            "that belongs to this database, or enter the credential again."
        ) from None
