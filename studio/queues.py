"""The doorbell: tells workers that there is something to do. It carries ids only, and may lose any of them.

``ring`` wakes whoever attends a target within a millisecond. If nobody listens it queues the job that makes an RQ worker
listen. When Redis is away nothing is lost: the rows say what is to be done, and the reconciler rings again.
"""

import logging
import time
from functools import lru_cache

from django.conf import settings
from django.db import transaction
from redis import Redis
from redis.exceptions import RedisError
from rq import Queue
from rq.serializers import JSONSerializer

log = logging.getLogger("runstead.queues")

BELL = "runstead:bell"
ATTEND = "runs.tasks.attend"
# At most one waiting `attend` per this many seconds: a hundred submits at once need one listener, not a hundred.
ATTEND_EVERY = 1
# After it did not answer, pages do not wait for it again until then; the reconciler covers meanwhile.
AWAY_SECONDS = 5.0
_away_until = 0.0


@lru_cache(maxsize=1)
def redis() -> Redis:
    """The shared connection pool. Short time-outs: a page must not wait for a queue that is away."""
    return Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2)


@lru_cache(maxsize=1)
def queue() -> Queue:
    return Queue("default", connection=redis(), serializer=JSONSerializer, default_timeout=-1)


def ring(target_id: int) -> None:
    """Wake the attendant of a target, after the current transaction."""
    transaction.on_commit(lambda: ring_now(target_id))


def ring_now(target_id: int) -> None:
    """Wake at once; say so and go on when the queue server does not answer."""
    global _away_until
    if time.monotonic() < _away_until:
        return
    try:
        if not redis().publish(BELL, str(target_id)) and redis().set("runstead:attend", "1", nx=True, ex=ATTEND_EVERY):
            queue().enqueue(ATTEND, result_ttl=0, failure_ttl=0)
    except RedisError as error:
        _away_until = time.monotonic() + AWAY_SECONDS
        log.warning("the queue is away (%s); the reconciler will ring for target %s", error, target_id)


def once(task: str, seconds: int) -> None:
    """Queue ``task`` (a dotted path), unless it was within so many seconds."""
    try:
        if redis().set(f"runstead:once:{task}", "1", nx=True, ex=seconds):
            queue().enqueue(task, result_ttl=0, failure_ttl=3600)
    except RedisError as error:
        log.warning("the queue is away (%s); %s waits for the next turn of the reconciler", error, task)
