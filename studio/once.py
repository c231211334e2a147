"""A request that is sent again does nothing again: it is answered as the first one was.

For what has no key of its own that would tell the second from the first. The answer is written in the transaction of what it tells
of, so that one is there if and only if the other is.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone

from studio.models import Answer
from studio.rest import Problem, idempotency_key, workspace_of

KEPT = timedelta(days=7)


def once(
    request: HttpRequest,
    asked: Any,
    make: Callable[[], dict[str, Any]],
    *,
    keep: Callable[[dict[str, Any]], dict[str, Any]] = lambda body: body,
) -> dict[str, Any]:
    """What ``make`` answers, or answered when a request with the same ``Idempotency-Key`` came first.

    ``asked``: what was sent, as bytes or JSON. ``keep``: what of the answer may be kept; not a secret. Raises Problem when the key
    was used for something else.
    """
    key = idempotency_key(request)
    if key is None:
        return make()
    with transaction.atomic():
        row, new = answer_of(request, key, asked)
        if not new:
            return dict(row.body or {})
        body = make()
        row.body = keep(body)
        row.save(update_fields=["body"])
        Answer.objects.filter(at__lt=timezone.now() - KEPT).delete()
    return body


@contextmanager
def claimed(request: HttpRequest, asked: Any, of: str = "") -> Iterator[None]:
    """For what answers a repeated request as the first by itself, or takes too long for one transaction: the request's key is for this
    request alone from now on, unless it is refused. ``of``: what is asked for, where several addresses name the same. Raises Problem
    when the key was used for something else."""
    key = idempotency_key(request)
    if key is None:
        yield
        return
    row, new = answer_of(request, key, asked, of)
    try:
        yield
    except BaseException:
        if new:
            row.delete()
        raise
    if new:
        Answer.objects.filter(at__lt=timezone.now() - KEPT).delete()


def answer_of(request: HttpRequest, key: str, asked: Any, of: str = "") -> tuple[Answer, bool]:
    """The row of a key, and whether it is new. Raises Problem when it is of another request."""
    data = asked if isinstance(asked, bytes) else json.dumps(asked, sort_keys=True, default=str).encode()
    first = {
        "operation": (of or f"{request.method} {request.path}")[:300],
        "digest": hashlib.sha256(str(request.user.pk).encode() + b" " + data).hexdigest(),
    }
    row, new = Answer.objects.get_or_create(workspace=workspace_of(request), key=key, defaults=first)
    if (row.operation, row.digest) != (first["operation"], first["digest"]):
        rule = "The key was sent before, with another request."
        raise Problem.of(422, "Idempotency-Key", rule, "Use a new key for a new request.")
    return row, new
