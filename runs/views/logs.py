"""The log of a run or of an environment build: the page, and the fragments that its viewer fetches."""

from collections.abc import Callable
from typing import Any

from django.http import Http404, HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.shortcuts import render
from django.urls import path
from django.utils.http import content_disposition_header
from django.views.decorators.http import require_safe

from environments.models import Build
from runs.log_viewer import BLOCK, Log, log_of_build, log_of_run, log_to_read, rows
from runs.logs import LogLost, Reader
from runs.logs.render import render_updates
from runs.logs.search import CAP, next_problem, search
from runs.views.detail import get_run
from studio.workspaces.access import MemberRequest, fetch, member
from studio.workspaces.models import Role

WHOLE_LINE = 256 * 1024
"""Bytes of one line that are shown at most; the rest is a download."""
MAX_QUERY = 500


def log_of(request: MemberRequest, number: int | None, pk: int | None) -> Log:
    """The log that an address names, in the member's workspace, or 404."""
    if number is not None:
        log = log_of_run(get_run(request, number), request.GET.get("stream") or "log")
    else:
        builds = Build.objects.select_related("target__workspace", "version__environment")
        log = log_of_build(fetch(builds.filter(target__workspace=request.workspace), pk=pk))
    if log is None:
        raise Http404("No such log.")
    return log


def whole(request: MemberRequest, name: str, default: int) -> int:
    """A number from the address, not below 0; what is no number counts as not given."""
    text = request.GET.get(name, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else default


@require_safe
@member(Role.READER)
def page(request: MemberRequest, number: int) -> HttpResponseBase:
    """The Logs tab."""
    run = get_run(request, number)
    log = log_of(request, number, None) if "stream" in request.GET else log_to_read(run)
    return render(request, "runs/logs.html", {"section": "runs", "run": run, "log": log})


@require_safe
@member(Role.READER)
def build_page(request: MemberRequest, pk: int) -> HttpResponseBase:
    """The log of a build, following while it goes on."""
    log = log_of(request, None, pk)
    page = {
        "section": "environments",
        "build": log.stream.build,
        "log": log,
        "may_cancel": request.may(Role.CONTRIBUTOR),
    }
    return render(request, "runs/build_log.html", page)


@require_safe
@member(Role.READER)
def lines(request: MemberRequest, number: int | None = None, pk: int | None = None) -> HttpResponseBase:
    """``?from=&count=``: a block of lines as HTML, with the totals."""
    log = log_of(request, number, pk)
    first = max(whole(request, "from", 1), 1)
    count = min(whole(request, "count", BLOCK), BLOCK)
    return answer(lambda: {**log.totals, "first": first, "html": rows(Reader(log.stream), first, count)})


@require_safe
@member(Role.READER)
def poll(request: MemberRequest, number: int | None = None, pk: int | None = None) -> HttpResponseBase:
    """``?after=&from=``: what came since the log had ``after`` bytes. 204 when nothing did.

    The lines from number ``from`` on come along (the last one seen may have grown), unless they are more than a block.
    """
    log = log_of(request, number, pk)
    if log.live and whole(request, "after", 0) == log.stream.size:
        return HttpResponse(status=204)
    first = whole(request, "from", 0)

    def news() -> dict[str, Any]:
        totals = log.totals
        if not 0 < first <= totals["lines"] < first + BLOCK:
            return totals
        return {**totals, "first": first, "html": rows(Reader(log.stream), first, BLOCK)}

    return answer(news)


@require_safe
@member(Role.READER)
def find(request: MemberRequest, number: int | None = None, pk: int | None = None) -> HttpResponseBase:
    """``?q=&after=``: numbers of the lines that hold a text, at most 10,000 of them."""
    log = log_of(request, number, pk)
    query = request.GET.get("q", "")
    if len(query) > MAX_QUERY:
        said = f"q: the search has {len(query):,} characters. Use {MAX_QUERY} or fewer."
        return JsonResponse({"error": said}, status=422)
    backwards = request.GET.get("direction") == "back"
    limit = max(1, min(whole(request, "limit", CAP), CAP))

    def found() -> dict[str, Any]:
        hits = search(Reader(log.stream), query, whole(request, "after", 0), backwards=backwards, limit=limit)
        return {"size": log.stream.size, "lines": hits.lines, "more": hits.more}

    return answer(found)


@require_safe
@member(Role.READER)
def problem(request: MemberRequest, number: int | None = None, pk: int | None = None) -> HttpResponseBase:
    """``?after=&direction=``: the next line that is an error or a warning, else null."""
    log = log_of(request, number, pk)
    backwards = request.GET.get("direction") == "back"

    def found() -> dict[str, Any]:
        hit = next_problem(Reader(log.stream), whole(request, "after", 0), backwards=backwards)
        return {"line": hit[0] if hit else None, "kind": hit[1] if hit else ""}

    return answer(found)


@require_safe
@member(Role.READER)
def line(request: MemberRequest, number: int | None = None, pk: int | None = None) -> HttpResponseBase:
    """``?n=``: one line in full, with every update of a progress bar; ``rest`` counts the bytes that only a download has."""
    log = log_of(request, number, pk)

    def found() -> dict[str, Any]:
        reader = Reader(log.stream)
        held = reader.lines(whole(request, "n", 1), 1)
        if not held:
            raise Http404("No such line.")
        data = reader.read(held[0].offset, min(held[0].size, WHOLE_LINE))
        return {"html": render_updates(data), "rest": held[0].size - len(data)}

    return answer(found)


@require_safe
@member(Role.READER)
def raw(request: MemberRequest, number: int | None = None, pk: int | None = None) -> HttpResponseBase:
    """The bytes as they were written, as a download; ``?n=`` only those of one line."""
    log = log_of(request, number, pk)
    reader = Reader(log.stream)
    owner = f"run-{number}" if number is not None else f"build-{pk}"
    name = f"{owner}-{log.stream.name.replace('/', '-')}"
    start, size = 0, reader.size
    if chosen := whole(request, "n", 0):
        held = reader.lines(chosen, 1)
        if not held:
            raise Http404("No such line.")
        start, size, name = held[0].offset, held[0].size, f"{name}-line-{chosen}"
    response = StreamingHttpResponse(reader.iter(start, size), content_type="text/plain; charset=utf-8")
    # GZip-style middleware must not touch it, and no page of the studio may be made of it.
    response["Content-Length"] = str(size)
    response["Content-Disposition"] = content_disposition_header(True, name if "." in name else f"{name}.txt")
    response["X-Content-Type-Options"] = "nosniff"
    response["Content-Security-Policy"] = "sandbox; default-src 'none'"
    return response


def answer(found: Callable[[], dict[str, Any]]) -> JsonResponse:
    """What is found out, as JSON. Bytes that are gone are said, not hidden."""
    try:
        response = JsonResponse(found())
    except LogLost as error:
        response = JsonResponse({"error": str(error)}, status=410)
    response["Cache-Control"] = "no-store"
    return response


RUN, BUILD = "runs/<int:number>/logs", "environments/builds/<int:pk>/log"
_PARTS = {"lines": lines, "poll": poll, "search": find, "problem": problem, "line": line, "raw": raw}

urlpatterns = [
    path(RUN, page, name="run-logs"),
    path(BUILD, build_page, name="build-log"),
    *(path(f"{RUN}/{name}", view, name=f"run-logs-{name}") for name, view in _PARTS.items()),
    *(path(f"{BUILD}/{name}", view, name=f"build-log-{name}") for name, view in _PARTS.items()),
]
