"""Filters and tags that every template may use."""

import math
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from django import template
from django.templatetags.static import static
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()

MINUTE, HOUR, DAY = 60, 3600, 86400


@lru_cache(maxsize=256)
def _icon(name: str, more: str, address: str) -> SafeString:
    return format_html(
        '<svg class="i{}" aria-hidden="true"><use href="{}#i-{}"/></svg>', f" {more}" if more else "", address, name
    )


@register.simple_tag
def icon(name: str, more: str = "") -> SafeString:
    """One symbol of the sprite; ``more`` are further classes, as ``sm`` or ``spin``."""
    return _icon(name, more, static("studio/sprite.svg"))


# Status → icon, tone, word. The same shape, hue and word everywhere.
STATES = {
    "NotStarted": ("clock", "idle", "Queued"),
    "Queued": ("clock", "idle", "Queued"),
    "Preparing": ("prep", "run", "Preparing"),
    "Running": ("run", "run", "Running"),
    "Finalizing": ("run", "run", "Finalizing"),
    "CancelRequested": ("run", "idle", "Canceling"),
    "Completed": ("ok", "ok", "Completed"),
    "Failed": ("fail", "fail", "Failed"),
    "Canceled": ("slash", "idle", "Canceled"),
    "No heartbeat": ("warn", "warn", "No heartbeat"),
}


def state_of(run: Any) -> tuple[str, str, str]:
    """Icon, tone and word of a run (or of a status given as text)."""
    if getattr(run, "unreachable_since", None) and not getattr(run, "is_final", False):
        return STATES["No heartbeat"]
    return STATES[str(getattr(run, "status", run))]


@register.filter
def status_word(run: Any) -> str:
    return state_of(run)[2]


@register.simple_tag
def status(run: Any, more: str = "") -> SafeString:
    """Icon and word of a run's state. ``more``: ``pill`` in a page's head; ``only`` shows the icon alone."""
    name, tone, word = state_of(run)
    classes = [tone, *(part for part in more.split() if part != "only")]
    return format_html(
        '<span class="st {}"{}>{}{}</span>',
        " ".join(classes),
        format_html(' title="{}"', word) if "only" in more else "",
        icon(name, "spin" if name == "run" else ""),
        format_html('<span class="sr">{}</span>', word) if "only" in more else word,
    )


@register.simple_tag
def avatar(user: Any) -> SafeString:
    if user is None:
        return format_html('<span class="ava" title="{}">?</span>', "A person who was removed")
    return format_html('<span class="ava" title="{}">{}</span>', str(user), user.initials)


def relative(seconds: float) -> str:
    """``just now``, ``4 s ago``, ``2 h ago``, ``yesterday``, ``3 days ago``; ``in 4 h`` for what lies ahead."""
    if seconds < 0:
        return "in " + duration(-seconds)
    if seconds < 2:
        return "just now"
    for limit, unit, letter in ((MINUTE, 1, "s"), (HOUR, MINUTE, "m"), (DAY, HOUR, "h")):
        if seconds < limit:
            return f"{int(seconds // unit)} {letter} ago"
    days = int(seconds // DAY)
    return "yesterday" if days == 1 else f"{days} days ago"


@register.filter
def ago(moment: "datetime | None") -> "SafeString | str":
    """A ``<time>`` element: relative under seven days, then the date; the full time with its zone in the tooltip."""
    if moment is None:
        return "–"
    seconds = (timezone.now() - moment).total_seconds()
    near = abs(seconds) < 7 * DAY
    local = timezone.localtime(moment)
    shown = relative(seconds) if near else f"{local.day} {local:%b %Y}"
    return format_html(
        '<time datetime="{}" title="{}"{}>{}</time>',
        moment.astimezone(timezone.get_default_timezone()).isoformat(timespec="seconds"),
        f"{local:%Y-%m-%d %H:%M:%S} {local:%Z}",
        SafeString(" data-ago") if near else "",
        shown,
    )


@register.filter
def ago_text(moment: datetime) -> str:
    """The words of ``ago`` without the element, for an attribute."""
    return relative((timezone.now() - moment).total_seconds())


@register.filter
def duration(value: "timedelta | float | None") -> str:
    """Two units: ``4 s``, ``1 m 13 s``, ``1 h 12 m``, ``2 d 3 h``. Under ten seconds one decimal. None is ``–``."""
    if value is None or value == "":
        return "–"
    seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if seconds < 0:
        seconds = 0.0
    if seconds < 9.95:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    whole = round(seconds)
    for unit, letter, under, small in ((DAY, "d", HOUR, "h"), (HOUR, "h", MINUTE, "m"), (MINUTE, "m", 1, "s")):
        if whole >= unit:
            rest = whole % unit // under
            return f"{whole // unit} {letter} {rest} {small}" if rest else f"{whole // unit} {letter}"
    return f"{whole} s"


@register.filter
def filesize(value: "float | str | None") -> str:
    """Bytes in powers of 1,000: ``412 B``, ``14 KB``, ``195.6 MB``, ``1.2 GB``. None is ``–``."""
    if value is None or value == "":
        return "–"
    size = float(value)
    if size < 1000:
        return f"{int(size)} B"
    for unit in ("KB", "MB", "GB", "TB"):
        size /= 1000
        if size < 999.95 or unit == "TB":
            break
    return f"{size:,.1f} {unit}".replace(".0 ", " ")


@register.filter
def number(value: "float | str | None") -> str:
    """A count with thousands separated: ``104,218``. None is ``–``."""
    return "–" if value is None or value == "" else f"{value:,}"


@register.filter
def metric(value: "float | str | None") -> str:
    """Four significant digits: ``0.7731``, ``2,748``, ``4.000e-05``, ``NaN``. None is ``–``."""
    if value is None or value == "":
        return "–"
    try:
        figure = float(value)
    except ValueError:
        return str(value)
    if not math.isfinite(figure):
        return "NaN" if math.isnan(figure) else ("∞" if figure > 0 else "−∞")
    size = abs(figure)
    if size == 0:
        return "0"
    if not 1e-4 <= size < 1e7:
        return f"{figure:.3e}"
    if size >= 1000:
        return f"{figure:,.0f}"
    if figure.is_integer():
        return str(int(figure))
    return f"{figure:.{3 - math.floor(math.log10(size))}f}"
