"""The log of an environment's build over HTTP. Here and not beside the builds, because logs are kept with runs."""

from django.http import HttpRequest, HttpResponse
from ninja import Path, Router

from environments.api_schemas import REFUSED, EnvironmentRefusal
from environments.build_api import find_build
from runs.api import LOG_PIECE, MAX_LOG_PIECE
from runs.log_viewer import log_of_build
from runs.logs import LogLost, Reader
from runs.models import LogStream
from studio.rest import Member, Problem, sends
from studio.workspaces.models import Role

router = Router(tags=["environments"])


@router.get(
    "",
    auth=Member(Role.READER),
    response={frozenset({*REFUSED, 410}): EnvironmentRefusal},
    openapi_extra=sends("application/octet-stream"),
)
def build_log(
    request: HttpRequest, reference: Path[str], target: Path[str], offset: int = 0, limit: int = LOG_PIECE
) -> HttpResponse:
    """Bytes of the log. ``Runstead-Log-Size`` is what is held now, ``Runstead-Build-Status`` the status. The log begins anew with each
    attempt, whose number is ``Runstead-Build-Attempt``; 0: asked for and not begun yet, so that there is none."""
    build, _ = find_build(request, reference, target)
    if offset < 0 or limit < 1:
        raise Problem.of(422, "offset", "offset must be 0 or more, limit 1 or more.", "Send whole numbers.")
    # The status was read before the bytes: of a build that has ended all of them are seen. What is held of one that was not begun
    # again is the log of a try before.
    stream = log_of_build(build).stream if build.attempts else LogStream(build=build)
    try:
        data = Reader(stream).read(offset, min(limit, MAX_LOG_PIECE))
    except LogLost as error:
        raise Problem.of(410, "log", f"A part of the log is lost ({error}).", "Read on behind it.") from error
    return HttpResponse(
        data,
        content_type="application/octet-stream",
        headers={
            "Content-Disposition": 'attachment; filename="build.log"',
            "Content-Security-Policy": "default-src 'none'; sandbox",
            "Runstead-Log-Size": str(stream.size),
            "Runstead-Build-Status": build.status,
            "Runstead-Build-Attempt": str(build.attempts),
            "Cache-Control": "no-store",
        },
    )
