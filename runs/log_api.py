"""Logs of runs over HTTP: which there are, bytes from an offset on, and bytes as they come."""

from datetime import datetime
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from ninja import Query, Schema

from runs.following import PLACES, follow
from runs.logs import LogLost, Reader
from runs.models import LogStream, Run
from runs.rest import MAX_NUMBER, Closing, find_run, guarded, router
from studio.rest import REFUSED, Member, Position, Problem, Refusal, not_found, page_of, sends
from studio.workspaces.models import Role

LOG_PIECE = 1024 * 1024
MAX_LOG_PIECE = 16 * 1024 * 1024
FOLLOW_SECONDS = 55
MAX_FOLLOW_SECONDS = 300
BYTES = sends("application/octet-stream")


class Log(Schema):
    """``log`` is what the script wrote to the screen; others are files below ``logs/``. ``total``: bytes that were written, known at
    the end; more than ``size`` when the limit cut it."""

    name: str
    size: int
    lines: int
    total: int | None
    updated_at: datetime


class Logs(Schema):
    logs: list[Log]
    next: str | None


@router.get("/{int:number}/logs", auth=Member(Role.READER), response={200: Logs, REFUSED: Refusal})
def logs(request: HttpRequest, number: int, position: Query[Position]) -> dict[str, Any]:
    """The logs of a run, by name."""
    page, following = page_of(LogStream.objects.filter(run=find_run(request, number), build=None), "name", position)
    return {"logs": page, "next": following}


@router.get(
    "/{int:number}/log", auth=Member(Role.READER), openapi_extra=BYTES, response={frozenset({*REFUSED, 410}): Refusal}
)
def log(
    request: HttpRequest, number: int, *, offset: int = 0, limit: int = LOG_PIECE, name: str = "log"
) -> HttpResponseBase:
    """Bytes of a log as the script wrote them. ``Runstead-Log-Size`` is what is held now, ``Runstead-Run-Status`` the status."""
    if not 0 <= offset <= MAX_NUMBER or limit < 1:
        raise Problem.of(422, "offset", "offset must be 0 or more, limit 1 or more.", "Send whole numbers.")
    run = find_run(request, number)
    stream = stream_of(run, name)
    try:
        data = Reader(stream).read(offset, min(limit, MAX_LOG_PIECE)) if stream is not None else b""
    except LogLost as error:
        raise Problem.of(410, "log", f"A part of the log is lost ({error}).", "Read on behind it.") from error
    response = HttpResponse(data, content_type="application/octet-stream")
    return headed(response, run, name, stream.size if stream is not None else 0)


@router.get("/{int:number}/log/follow", auth=Member(Role.READER), openapi_extra=BYTES, response={REFUSED: Refusal})
def followed(
    request: HttpRequest, number: int, *, offset: int = 0, seconds: int = FOLLOW_SECONDS, name: str = "log"
) -> HttpResponseBase:
    """Bytes of a log from ``offset`` on as they come, until the run has ended or ``seconds`` are over (at most 300). Then ask again
    from where it stopped; a run that has ended says so in its ``status``.

    429 when too many follow already: read ``log`` by its offset meanwhile.
    """
    if not 0 <= offset <= MAX_NUMBER or not 1 <= seconds <= MAX_FOLLOW_SECONDS:
        rule = f"offset must be 0 or more, seconds 1 to {MAX_FOLLOW_SECONDS}."
        raise Problem.of(422, "offset", rule, "Send whole numbers.")
    run = find_run(request, number)
    stream = stream_of(run, name)
    give_back = PLACES.take(settings.MAX_FOLLOWERS, seconds)
    if give_back is None:
        rule = f"{settings.MAX_FOLLOWERS} programs follow a log here already."
        fix = f"Read runs/{number}/log?offset={offset} every second instead, or have RUNSTEAD_MAX_FOLLOWERS or RUNSTEAD_WEB_WORKERS raised."
        problem = Problem.of(429, "", rule, fix)
        problem.headers = {"Retry-After": "2"}
        raise problem
    pieces = Closing(follow(run, name, offset, seconds), give_back)
    response = StreamingHttpResponse(pieces, content_type="application/octet-stream")
    response.headers["X-Accel-Buffering"] = "no"  # a proxy that would hold bytes back
    return headed(response, run, name, stream.size if stream is not None else 0)


def stream_of(run: Run, name: str) -> LogStream | None:
    """The log of a name; the run's own is there from the start, if only in name."""
    stream = LogStream.objects.filter(run=run, build=None, name=name).first()
    if stream is None and name != "log":
        raise not_found("log")
    return stream


def headed(response: HttpResponseBase, run: Run, name: str, size: int) -> HttpResponseBase:
    response.headers["Runstead-Log-Size"] = str(size)
    response.headers["Runstead-Run-Status"] = run.status
    response.headers["Cache-Control"] = "no-store"
    return guarded(response, f"run-{run.number}.log" if name == "log" else name.rpartition("/")[2])
