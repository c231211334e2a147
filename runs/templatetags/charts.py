"""The charts of a run's overview, so that the page includes ``runs/_pinned.html`` and nothing else."""

from django import template

from runs.metrics import Pin, pinned
from runs.models import Run

register = template.Library()


@register.simple_tag
def pinned_charts(run: Run) -> list[Pin]:
    return pinned(run)
