from typing import Any

from django.core.management.base import BaseCommand
from redis.exceptions import ConnectionError as RedisConnectionError
from rq.serializers import JSONSerializer

from studio.hardening import hide_from_neighbours
from studio.queues import queue
from studio.workers import StudioWorker


class Command(BaseCommand):
    help = "Run one worker: it attends compute targets and does the studio's background work."
    requires_system_checks = []  # `up` has run them; loading every page would cost a second

    def handle(self, *args: Any, **options: Any) -> None:
        hide_from_neighbours()
        # A worker blocks on the queue longer than a page may wait for it: a connection of its own.
        from django.conf import settings  # noqa: PLC0415
        from redis import Redis  # noqa: PLC0415

        import runs.tasks  # noqa: F401, PLC0415 loaded once here, so that a forked job starts at once

        connection = Redis.from_url(settings.REDIS_URL)
        try:
            StudioWorker([queue()], connection=connection, serializer=JSONSerializer).work(logging_level="WARNING")
        except RedisConnectionError as error:
            raise SystemExit(f"the queue server went away: {error}") from error
