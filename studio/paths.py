"""Where the studio keeps its private files, and how they are made."""

import contextlib
import hashlib
import os
import secrets
import tempfile
from pathlib import Path


def private_dir(path: Path) -> Path:
    """Make a directory that only its owner can enter, and return it."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path


def generated(path: Path, *, nbytes: int = 48) -> str:
    """Return the text in ``path``; on first use fill it with a random token, 0600, exactly once.

    Two processes that start together read the same token: the file appears complete, by a link that fails when it exists.
    """
    if not path.exists():
        private_dir(path.parent)
        draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(nbytes))
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    return path.read_text().strip()


def socket_path(data_dir: Path) -> Path:
    """Where the embedded queue server listens. The kernel takes at most 107 bytes for the address of a unix socket, so for
    a data directory with a long path it lies in a private folder of the temporary directory."""
    path = data_dir / "doorbell" / "valkey.sock"
    if len(os.fsencode(path)) <= 107:
        return path
    short = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"runstead-{os.getuid()}-{short}" / "valkey.sock"
