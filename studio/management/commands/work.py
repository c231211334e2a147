import contextlib
from typing import Any

from django.core.management.base import BaseCommand
from redis.exceptions import ConnectionError as RedisConnectionError
from rq.serializers import JSONSerializer

from studio.database import AWAY
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

        from runs.tasks import sweep  # noqa: PLC0415 loaded once here, so that a forked job starts at once

        with contextlib.suppress(*AWAY):
            sweep()  # whoever starts after a fall finds work that waits, and need not wait for the reconciler's turn
        connection = Redis.from_url(settings.REDIS_URL)
        try:
            StudioWorker([queue()], connection=connection, serializer=JSONSerializer).work(logging_level="WARNING")
        except RedisConnectionError as error:
            raise SystemExit(f"the queue server went away: {error}") from error
