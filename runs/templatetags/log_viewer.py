"""The log viewer's card, wherever a page wants it."""

from typing import Any

from django import template
from django.utils.safestring import SafeString

from runs.log_viewer import Log, log_to_read, viewer

register = template.Library()


@register.simple_tag(takes_context=True)
def log_viewer(context: dict[str, Any]) -> dict[str, Any]:
    """Of the page's ``log`` in full; on a page that has only a ``run``, the end of its log."""
    log = context.get("log")
    compact = not isinstance(log, Log)
    if not isinstance(log, Log):
        log = log_to_read(context["run"])
    shown = viewer(log, compact=compact)
    # Written by runs.logs.render, which escapes every byte of a log.
    shown["html"] = SafeString(shown["html"])
    return shown
