"""The RQ worker of the studio."""

import contextlib
import os
import signal
from typing import Any

from rq import Worker
from rq.job import Job
from rq.queue import Queue

from studio.hardening import end_with


class StudioWorker(Worker):
    """A worker that passes a stop on to the job it runs: attending takes as long as there are runs."""

    def request_stop(self, signum: Any, frame: Any) -> None:
        horse = self.horse_pid
        if horse:
            with contextlib.suppress(ProcessLookupError):
                os.kill(horse, signal.SIGTERM)
        super().request_stop(signum, frame)  # type: ignore[no-untyped-call]

    def fork_work_horse(self, job: Job, queue: Queue) -> None:
        """Fork as usual; the child must not hold the parent's connection to the database."""
        from django.db import connections  # noqa: PLC0415 settings are ready by now

        connections.close_all()
        self.forked_by = os.getpid()
        super().fork_work_horse(job, queue)

    def main_work_horse(self, job: Job, queue: Queue) -> None:
        """A worker that is killed takes its job along, also when that has only just been forked."""
        end_with(self.forked_by)
        super().main_work_horse(job, queue)
