"""The log viewer's card, wherever a page wants it."""

from typing import Any

from django import template
from django.utils.safestring import SafeString

from runs.log_viewer import Log, log_of_run, viewer

register = template.Library()


@register.simple_tag(takes_context=True)
def log_viewer(context: dict[str, Any]) -> dict[str, Any]:
    """Of the page's ``log`` in full; on a page that has only a ``run``, the end of its log."""
    log: Log | None = context.get("log")
    compact = not isinstance(log, Log)
    if compact:
        log = log_of_run(context["run"])
    assert isinstance(log, Log)
    shown = viewer(log, compact=compact)
    # Written by runs.logs.render, which escapes every byte of a log.
    shown["html"] = SafeString(shown["html"])
    return shown
