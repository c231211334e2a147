"""What ``runs/_run.html`` needs beyond the run itself, so that a tab's view passes ``run`` and nothing else."""

from typing import Any

from django import template
from django.utils.safestring import SafeString

from runs.header import Header, header
from runs.models import Artifact, LogStream, MetricSeries, MetricValue, Run
from runs.tags import format_tags
from runs.text import markdown
from studio.workspaces.models import Role

register = template.Library()

TABS = (
    ("overview", "Overview", ""),
    ("logs", "Logs", "/logs"),
    ("metrics", "Metrics", "/metrics"),
    ("outputs", "Outputs", "/outputs"),
    ("children", "Child runs", "/children"),
    ("snapshot", "Snapshot", "/snapshot"),
    ("configuration", "Configuration", "/configuration"),
)


@register.simple_tag
def run_head(run: Run) -> Header:
    """The head of this run, computed once per request (the title needs it before the page does)."""
    found: Header = run.__dict__.get("_head") or header(run)
    run.__dict__["_head"] = found
    return found


@register.simple_tag
def run_tabs(run: Run) -> list[dict[str, Any]]:
    """The tabs with their addresses and counts, without those that could hold nothing."""
    base = f"/{run.workspace.slug}/runs/{run.number}"
    metrics = MetricSeries.objects.filter(run=run, system=False).count()
    metrics += MetricValue.objects.filter(run=run).values("name").distinct().count()
    counts = {
        "metrics": metrics,
        "outputs": Artifact.objects.filter(run=run).count(),
        "children": run.children.filter(archived_at=None).count(),
    }
    left_out = {"children"} if not counts["children"] else set()
    if run.is_interactive:
        left_out |= {"snapshot"} if run.snapshot_id is None else set()
        left_out |= {"logs"} if not LogStream.objects.filter(run=run).exists() else set()
    return [
        {"id": tab, "label": label, "address": base + path, "count": counts.get(tab, 0)}
        for tab, label, path in TABS
        if tab not in left_out
    ]


@register.simple_tag(takes_context=True)
def current_tab(context: dict[str, Any]) -> str:
    """The tab that the address names: the part after the run's number."""
    parts = context["request"].path.strip("/").split("/")
    return parts[3] if len(parts) > 3 else "overview"


@register.simple_tag(takes_context=True)
def may_edit(context: dict[str, Any]) -> bool:
    request = context["request"]
    return bool(getattr(request, "may", lambda role: False)(Role.CONTRIBUTOR))


@register.filter
def tags_text(run: Run) -> str:
    """The run's tags as its form takes them."""
    return format_tags({tag.name: tag.value for tag in run.tags.all()})


@register.filter(name="markdown")
def markdown_filter(text: str) -> SafeString:
    return markdown(text)
