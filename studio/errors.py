"""Pages for requests that are refused or fail. Each has an id that a person can copy and an administrator finds in the log."""

import logging
import secrets
import sys
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render

from studio.rest import Problem

log = logging.getLogger("runstead.errors")


def page(request: HttpRequest, status: int, title: str, what: str, next_step: str) -> HttpResponse:
    """One look for all of them; a fragment gets only the banner, a program only the words."""
    incident = secrets.token_hex(5)
    level = logging.ERROR if status >= 500 else logging.INFO
    log.log(
        level, "%s %s, incident %s", status, title, incident, exc_info=sys.exc_info()[0] is not None and status >= 500
    )
    words: dict[str, Any] = {
        "status": status,
        "title": title,
        "what": what,
        "next_step": next_step,
        "incident": incident,
    }
    if request.headers.get("HX-Request"):
        return render(request, "studio/_refused.html", words, status=status)
    if request.path.startswith("/api/v1/"):
        # As the API itself refuses; here it was refused before an operation was found.
        problem = Problem.of(status, "", what, next_step or "Check what was sent.", id=incident)
        return problem.response()
    if request.path.startswith("/api/"):
        return JsonResponse({"error": {"message": f"{what} {next_step}".strip(), "id": incident}}, status=status)
    return render(request, "studio/refused.html", words, status=status)


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return page(
        request,
        400,
        "The request was not understood",
        "The address or what was sent with it is not what this studio expects.",
        "Open the studio by one of the host names that RUNSTEAD_ALLOWED_HOSTS lists, and try again.",
    )


def unstorable(request: HttpRequest) -> HttpResponse:
    return page(
        request,
        400,
        "This cannot be stored",
        "What was sent holds a character that no text can have (NUL), or is longer or larger than its field takes.",
        "Go back, shorten it or remove the character, and send it again.",
    )


def forbidden(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    reason = str(exception or "").strip()
    return page(
        request,
        403,
        "This is not yours to do",
        reason or "Your role in this workspace does not allow it.",
        "An owner of the workspace can change your role under Settings, Members.",
    )


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return page(
        request,
        404,
        "Not found",
        "There is no such page, or it belongs to a workspace that you are not a member of.",
        "Check the address, or go Home and search there.",
    )


def server_error(request: HttpRequest) -> HttpResponse:
    return page(
        request,
        500,
        "The studio made an error",
        "Nothing that you typed caused this, and your runs go on.",
        "Try again. If it stays, give the id below to whoever runs this studio: it leads to the cause in the log.",
    )


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    return page(
        request,
        403,
        "This page is too old to be sent",
        "The security token of the page did not fit. That happens after signing in or out in another tab.",
        "Go back, reload the page and send it again.",
    )


def locked_out(request: HttpRequest, response: HttpResponse | None = None, credentials: object = None) -> HttpResponse:
    return page(
        request,
        429,
        "Too many tries",
        "This email was tried with a wrong password too often from here.",
        "Wait 15 minutes, then try again.",
    )
