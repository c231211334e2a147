import logging
import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand
from django.db import connection

from studio.database import AWAY
from studio.hardening import hide_from_neighbours

log = logging.getLogger("runstead.reconcile")


class Command(BaseCommand):
    help = "Ring again for work that nobody attends. Any number may run; with one, a lost message costs two seconds."
    requires_system_checks = []  # `up` has run them; loading every page would cost a second

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("--every", type=float, default=2.0, help="seconds between two turns")

    def handle(self, *args: Any, **options: Any) -> None:
        hide_from_neighbours()
        from runs.tasks import sweep  # noqa: PLC0415 the site is above the studio's own modules

        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        while not stop.wait(options["every"]):
            try:
                sweep()
            except AWAY as error:
                log.warning("the database is away: %s", error)
                connection.close()
