"""Two versions of an environment beside each other."""

from django.http import HttpResponseBase
from django.shortcuts import render
from django.views.decorators.http import require_GET

from environments.comparing import compare
from environments.models import EnvironmentVersion
from environments.views.software import the_environment
from studio.workspaces.access import MemberRequest, member
from studio.workspaces.models import Role


@require_GET
@member(Role.READER)
def page(request: MemberRequest, name: str) -> HttpResponseBase:
    """``?from=3&to=5``; without them the newest and the one before."""
    row = the_environment(request, name)
    versions = list(row.versions.select_related("environment").order_by("-number").prefetch_related("labels"))
    to = chosen(versions, request.GET.get("to", "")) or (versions[0] if versions else None)
    older = [other for other in versions if to is not None and other.number < to.number]
    since = chosen(versions, request.GET.get("from", "")) or (older[0] if older else to)
    found = (
        compare(since, to, request.workspace) if since is not None and to is not None and since.pk != to.pk else None
    )
    shown = {
        "section": "environments",
        "environment": row,
        "versions": versions,
        "since": since,
        "to": to,
        "found": found,
        "missing": [
            text
            for text in (request.GET.get("from", ""), request.GET.get("to", ""))
            if text and not chosen(versions, text)
        ],
    }
    return render(request, "environments/compare.html", shown)


def chosen(versions: list[EnvironmentVersion], text: str) -> EnvironmentVersion | None:
    """By number, or by a label: ``stable``, ``@stable``."""
    for version in versions:
        if text == str(version.number) or text.removeprefix("@") in {label.name for label in version.labels.all()}:
            return version
    return None
