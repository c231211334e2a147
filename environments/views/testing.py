"""How the connection test is answered: step by step to the page's script, whole to a form."""

import json
from collections.abc import Callable, Generator, Iterator
from typing import Any

from django.http import HttpRequest, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string

from environments.doctor import Step


def answer_test(
    request: HttpRequest,
    steps: Generator[str | Step, None, None],
    page: Callable[[], dict[str, Any]],
    whole: str,
    fragment: str,
) -> HttpResponseBase:
    """Do the test while answering. ``X-Live``: lines of JSON, ``{"begun": title}``, ``{"step": html}`` and at last ``{"done": html}``;
    otherwise the page, after the test."""
    if request.headers.get("X-Live") != "1":
        for _ in steps:
            pass
        return (
            render(request, whole, page())
            if not request.headers.get("HX-Request")
            else render(request, fragment, page())
        )
    answer = StreamingHttpResponse(_lines(request, steps, page, fragment), content_type="application/x-ndjson")
    answer["X-Accel-Buffering"] = "no"
    answer["Cache-Control"] = "no-store"
    return answer


def _lines(
    request: HttpRequest, steps: Generator[str | Step, None, None], page: Callable[[], dict[str, Any]], fragment: str
) -> Iterator[bytes]:
    try:
        for found in steps:
            if isinstance(found, str):
                yield _line({"begun": found})
            else:
                yield _line({"step": render_to_string("environments/_test_step.html", {"step": found})})
        yield _line({"done": render_to_string(fragment, page(), request)})
    finally:
        steps.close()  # whoever leaves the page ends the test


def _line(data: dict[str, str]) -> bytes:
    return json.dumps(data).encode() + b"\n"
