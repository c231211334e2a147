"""Rows and cards of the run list. Fifty rows of a dozen cells are put together here in a tenth of a template's time.

Every text goes through ``escape``; only what this module or the shared tags wrote is markup.
"""

from django import template
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

from runs.listing import Cell, Listing, Row
from studio.templatetags.studio import ago, avatar, duration, metric, status, status_word

register = template.Library()
NONE = '<span class="faint" aria-label="no value">–</span>'
SWAP = ' hx-swap-oob="morph"'


@register.simple_tag
def run_rows(shown: Listing, base: str, may_act: bool, swap: bool = False) -> SafeString:
    """Table rows."""
    best = f" · best of the {len(shown.rows)} shown"
    return mark_safe("\n".join(_row(row, shown, base, may_act, best, SWAP if swap else "") for row in shown.rows))  # noqa: S308 see above


@register.simple_tag
def run_cards(shown: Listing, base: str, swap: bool = False) -> SafeString:
    """What a phone shows instead of the table."""
    return mark_safe("\n".join(_card(row, shown, base, SWAP if swap else "") for row in shown.rows))  # noqa: S308 see above


def _row(row: Row, shown: Listing, base: str, may_act: bool, best: str, swap: str) -> str:
    run = row.run
    name = escape(run.name)
    box = ""
    if may_act:
        box = f'<input class="cb" type="checkbox" name="run" value="{run.number}" aria-label="Select {name}" autocomplete="off">'
    tags = "".join(f'<span class="tag" title="{escape(tag)}">{escape(_short(str(tag), 24))}</span>' for tag in row.tags)
    if row.more_tags:
        tags += f'<span class="tag">+{row.more_tags}</span>'
    metrics = "".join(_figure(cell, best) for cell in row.metrics)
    parameters = "".join(_text(cell) for cell in row.parameters)
    trend = ""
    if shown.trend:
        line = (
            f'<svg class="spark" viewBox="0 0 92 20" aria-hidden="true"><path d="{escape(row.trend)}"/></svg>'
            if row.trend
            else ""
        )
        trend = f"<td>{line}</td>"
    took: str = escape(duration(row.took))
    if row.progress:
        took = f'<span class="prog">{took}{_bar(row)}</span>'
    if run.started_at:
        started = str(ago(run.started_at))
    elif run.waiting_for:
        started = f'<span class="wait trunc" title="{escape(run.waiting_for)}">{escape(run.waiting_for)}</span>'
    else:
        started = "–"
    return (
        f'<tr id="row-{run.number}"{" data-active" if row.active else ""}{swap}><td>{box}</td><td>{status(run)}</td>'
        f'<td><span class="name"><a href="{base}/{run.number}" title="{name}">{name}</a>'
        f'<span class="id">#{run.number}</span>{_family(row, base)}{tags}</span></td>{metrics}{trend}{parameters}'
        f'<td class="muted">{escape(run.place) or "–"}</td><td class="tnum">{took}</td>'
        f'<td class="muted">{started}</td><td>{avatar(run.created_by)}</td></tr>'
    )


def _family(row: Row, base: str) -> str:
    found = ""
    if row.parent is not None:
        found = f'<a class="tag" href="{base}/{row.parent}" title="Child of run {row.parent}">of #{row.parent}</a>'
    if row.children:
        words = "1 child" if row.children == 1 else f"{row.children:,} children"
        found += f'<a class="tag" href="{base}/{row.run.number}/children">{words}</a>'
    return found


def _figure(cell: Cell, best: str) -> str:
    if cell.text is None:
        return f'<td class="num">{NONE}</td>'
    marked, note = (" best", best) if cell.best else ("", "")
    return f'<td class="num{marked}" title="{escape(cell.full)}{note}">{escape(metric(cell.text))}</td>'


def _text(cell: Cell) -> str:
    if cell.text is None:
        return f'<td class="num">{NONE}</td>'
    return f'<td class="num{"" if cell.number else " mono"}" title="{escape(cell.full)}">{escape(_short(str(cell.text), 24))}</td>'


def _bar(row: Row) -> str:
    progress = row.progress
    assert progress is not None
    text = escape(progress.text)
    return (
        f'<span class="bar" role="progressbar" aria-valuemin="0" aria-valuemax="100" aria-valuenow="{progress.percent}" '
        f'aria-label="{text}" title="{text}"><i style="width:{progress.percent}%"></i></span>'
    )


def _card(row: Row, shown: Listing, base: str, swap: str) -> str:
    run = row.run
    first = row.metrics[0] if row.metrics and row.metrics[0].text is not None else None
    value, label = (escape(metric(first.text)), escape(_short(shown.metrics[0].name, 20))) if first else ("", "")
    when = escape(duration(row.took)) if row.active else str(ago(run.started_at or run.created_at))
    family = f"of #{row.parent}" if row.parent is not None else ""
    facts = " · ".join(part for part in (escape(status_word(run)), family, escape(run.place), when) if part)
    return (
        f'<a class="rc" id="card-{run.number}" href="{base}/{run.number}"{swap}>{status(run, "only")}'
        f'<span class="n trunc">{escape(run.name)}</span><span class="v">{value}</span><span class="s2 trunc">{facts}</span>'
        f'<span class="v2">{label}</span>{_bar(row) if row.progress else ""}</a>'
    )


def _short(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
