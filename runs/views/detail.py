"""The page of a run: header, overview, configuration, and what can be changed about it."""

import json
from typing import Any

from django.contrib import messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe
from django_htmx.http import trigger_client_event

from runs import submission
from runs.config import ScriptRunConfig
from runs.distribution import spark_of, summary
from runs.frameworks import FRAMEWORKS
from runs.models import MetricSeries, Run, RunParameter, RunTag
from runs.queries import BadCursor
from runs.snippets import RunRequest, cli, python, yaml_text
from runs.status import RunStatus
from runs.tags import parse_tags
from runs.views.lists import Scope, address, list_context
from studio.database import storable
from studio.templatetags.studio import status_word
from studio.workspaces.access import MemberRequest, fetch, member
from studio.workspaces.models import Role, Workspace

MAX_NOTES = 100_000
SIDE_PARAMETERS = 8
SIDE_OUTPUTS = 5
TOLD = 12
GIT = ("repository_uri", "branch", "commit", "dirty")


def runs_of(workspace: Workspace) -> "QuerySet[Run]":
    """The runs of a workspace with what a run's page says about them."""
    return Run.objects.filter(workspace=workspace).select_related(
        "workspace",
        "experiment",
        "target",
        "pool",
        "environment__environment",
        "snapshot",
        "created_by",
        "canceled_by",
        "copied_from",
        "parent",
        "build__target__workspace",
        "build__version__environment",
    )


def get_run(request: MemberRequest, number: int) -> Run:
    """The run of this number in the member's workspace, or 404."""
    return fetch(runs_of(request.workspace).prefetch_related("tags"), number=number)


@require_safe
@member(Role.READER)
def overview(request: MemberRequest, number: int) -> HttpResponseBase:
    run = get_run(request, number)
    return render(request, "runs/overview.html", {"section": "runs", "run": run, **side(run), **told(run)})


@require_safe
@member(Role.READER)
def header(request: MemberRequest, number: int) -> HttpResponseBase:
    """The fragment that the page polls: head, notices, counts, and what moves on the tab that is shown."""
    run = get_run(request, number)
    tab = request.GET.get("tab", "overview")
    context: dict[str, Any] = {"run": run, "tab": tab}
    if tab == "overview":
        context |= side(run) | told(run)
    response = render(request, "runs/_header_poll.html", context)
    if tab == "outputs" and run.is_final:
        response.headers["HX-Refresh"] = "true"  # what was collected is there now
    was = request.GET.get("was", "")
    built = run.build is not None and run.build.ended_at is not None and run.build.ended_at > run.created_at
    if built and tab in {"overview", "logs"} and was == RunStatus.PREPARING != run.status:
        response.headers["HX-Refresh"] = "true"  # the log of the build gives way to the script's
    if was and was != run.status:
        trigger_client_event(response, "announce", {"value": f"Run {run.number}: {status_word(run)}"})
    return response


def side(run: Run) -> dict[str, Any]:
    """The right column of the overview."""
    artifacts = run.artifacts.exclude(digest="")
    parameters, count = changed_parameters(run)
    return {
        "meters": meters(run),
        "parameters": parameters[:SIDE_PARAMETERS],
        "parameter_count": count,
        "latest": artifacts.order_by("-modified_at", "path")[:SIDE_OUTPUTS],
        "output_count": run.artifacts.count(),
        "events": run.events.all(),
    }


def told(run: Run) -> dict[str, Any]:
    """What stands in the place of the log of a run that is not executed here: its newest values and its children."""
    if not run.is_interactive:
        return {}
    children = run.children.filter(archived_at=None)
    return {
        "series": MetricSeries.objects.filter(run=run, system=False).order_by("name")[:TOLD],
        "children": children.order_by("-number")[:TOLD],
        "child_count": children.count(),
    }


def meters(run: Run) -> list[dict[str, Any]]:
    """The newest resource samples, each as text and as a share of what the target has."""
    facts = run.target.facts if run.target else {}
    last = {s.name: s for s in MetricSeries.objects.filter(run=run, system=True) if s.last is not None}
    found: list[dict[str, Any]] = []
    for name in sorted(last):
        series = last[name]
        kind, value = name.removeprefix("system/"), series.last or 0.0
        if kind == "cpu":
            cores = facts.get("cpus") or 0
            share = value / cores if cores else None
            found.append(
                {"label": "CPU", "share": share, "text": f"{value:,.0f} %", "of": f"{cores} cores" if cores else ""}
            )
        elif kind in {"rss", "memory"}:
            total = facts.get("memory") or 0
            found.append(
                {
                    "label": "Memory",
                    "share": 100 * value / total if total else None,
                    "bytes": value,
                    "peak": series.high,
                }
            )
        elif kind.startswith("gpu") and kind.endswith("util"):
            found.append(
                {"label": "GPU " + "".join(filter(str.isdigit, kind)), "share": value, "text": f"{value:.0f} %"}
            )
    return found


def changed_parameters(run: Run) -> tuple[list[dict[str, Any]], int]:
    """The parameters, those that differ from the run it was copied from first, and how many there are."""
    rows = list(RunParameter.objects.filter(run=run).order_by("name"))
    before: dict[str, str] | None = None
    if run.copied_from is not None:
        before = {p.name: p.value for p in run.copied_from.parameters.all()}
    found = []
    for row in rows:
        changed = before is not None and before.get(row.name) != row.value
        was = before.get(row.name) if before is not None else None
        found.append({"name": row.name, "value": row.value, "changed": changed, "was": was})
    if before is not None:
        gone = sorted(before.keys() - {row.name for row in rows})
        found += [{"name": name, "value": None, "changed": True, "was": before[name]} for name in gone]
    found.sort(key=lambda item: not item["changed"])
    return found, len(found)


@require_safe
@member(Role.READER)
def children(request: MemberRequest, number: int) -> HttpResponseBase:
    """The runs that have this one as their parent, as a run list."""
    run = get_run(request, number)
    try:
        context = list_context(request, Scope(parent=run))
    except BadCursor:
        return redirect(address(request))
    return render(request, "runs/children.html", {**context, "run": run})


@require_POST
@member(Role.CONTRIBUTOR)
def cancel(request: MemberRequest, number: int) -> HttpResponseBase:
    run = get_run(request, number)
    if not submission.cancel(run, request.user):
        messages.info(request, f"Run #{number} has ended already. Nothing was canceled.")
    return redirect(back(request, run))


@require_POST
@member(Role.CONTRIBUTOR)
def edit(request: MemberRequest, number: int) -> HttpResponseBase:
    """Change the name, the tags or the notes: whichever the form sends."""
    run = get_run(request, number)
    fields: list[str] = []
    if "name" in request.POST:
        name = " ".join(request.POST["name"].split())
        if not name or len(name) > 255 or "\0" in name:
            messages.error(request, "Name: use 1 to 255 characters. The name was not changed.")
            return redirect(back(request, run))
        run.name = name
        fields.append("name")
    if "notes" in request.POST:
        notes = request.POST["notes"].replace("\r\n", "\n")
        if len(notes) > MAX_NOTES or "\0" in notes:
            messages.error(request, f"Notes: use at most {MAX_NOTES:,} characters. The notes were not changed.")
            return redirect(back(request, run))
        run.notes = notes
        fields.append("notes")
    if fields:
        run.save(update_fields=fields)
    if "tags" in request.POST:
        try:
            tags = parse_tags(request.POST["tags"])
        except ValueError as error:
            messages.error(request, f"Tags: {error} The tags were not changed.")
            return redirect(back(request, run))
        with transaction.atomic():
            RunTag.objects.filter(run=run).delete()
            RunTag.objects.bulk_create(
                [RunTag(run=run, workspace=run.workspace, name=k, value=v) for k, v in tags.items()]
            )
    return redirect(back(request, run))


@require_POST
@member(Role.CONTRIBUTOR)
def archive(request: MemberRequest, number: int) -> HttpResponseBase:
    run = get_run(request, number)
    archived = request.POST.get("archived") == "1"
    run.archived_at = timezone.now() if archived else None
    run.save(update_fields=["archived_at"])
    messages.success(request, f"Run #{number} is {'archived' if archived else 'restored'}.")
    return redirect(back(request, run))


def back(request: HttpRequest, run: Run) -> str:
    """To the tab that the form was on; never to another site."""
    base = f"/{run.workspace.slug}/runs/{run.number}"
    tab = request.POST.get("tab", "")
    return f"{base}/{tab}" if tab in {"logs", "metrics", "outputs", "snapshot", "configuration"} else base


@require_safe
@member(Role.READER)
def configuration(request: MemberRequest, number: int) -> HttpResponseBase:
    run = get_run(request, number)
    config = ScriptRunConfig.from_json(run.config or {})
    again = request_of(run, config)
    framework = FRAMEWORKS.get(config.framework)
    properties: dict[str, Any] = run.properties or {}
    context = {
        "section": "runs",
        "run": run,
        "config": config,
        "framework": framework.title if framework else config.framework,
        "processes": summary(config.framework, config.distribution, config.gpus),
        "spark": spark_told(run, config),
        "command": "" if run.is_interactive else submission.command_text(config),
        "git": [(name, properties[f"azureml.git.{name}"]) for name in GIT if f"azureml.git.{name}" in properties],
        "parameters": changed_parameters(run)[0],
        "snippets": [("CLI", cli(again)), ("Python", python(again)), ("YAML", yaml_text(again))],
        "raw": json.dumps(raw(run), indent=2, ensure_ascii=False),
        "log": run.streams.filter(name="log").first(),
    }
    # An argument may be bytes that are no text, which no page can hold.
    return HttpResponse(storable(render_to_string("runs/configuration.html", context, request)))


def spark_told(run: Run, config: ScriptRunConfig) -> dict[str, Any] | None:
    """What Spark is told, the run's own settings over those of its target."""
    if config.framework != "pyspark":
        return None
    options = run.target.options if run.target else {}
    software = run.environment.definition.get("spark") if run.environment else None
    told = spark_of(options.get("spark") or {}, config.spark, software)
    return {"master": "local[*]", "deploy_mode": "client", **told}


def request_of(run: Run, config: ScriptRunConfig) -> RunRequest:
    """What was submitted, as the form, the command line and YAML write it."""
    return RunRequest(
        experiment=run.experiment.name,
        target=run.asked,
        environment=str(run.environment) if run.environment else "",
        config=config,
        name=run.name,
        tags={tag.name: tag.value for tag in run.tags.all()},
        notes=run.notes,
        priority=run.priority,
        folder=run.snapshot.name if run.snapshot else "",
    )


def raw(run: Run) -> dict[str, Any]:
    """Everything that is known of a run, without the values of secrets (those are not in it)."""
    moments = ("created_at", "prepared_at", "started_at", "finalizing_at", "ended_at", "cancel_requested_at")
    return {
        "id": run.uid,
        "number": run.number,
        "name": run.name,
        "experiment": run.experiment.name,
        "status": run.status,
        "reason": run.reason,
        "target": run.target.name if run.target else None,
        "pool": run.pool.name if run.pool else None,
        "environment": str(run.environment) if run.environment else None,
        "snapshot": run.snapshot.digest if run.snapshot else None,
        "config": run.config,
        "properties": run.properties,
        "tags": {tag.name: tag.value for tag in run.tags.all()},
        "priority": run.priority,
        "attempt": run.attempt,
        "exit_code": run.exit_code,
        "signal": run.signal,
        "error": run.error,
        "log_complete": run.log_complete,
        "final": run.final,
        **{name: value.isoformat() if (value := getattr(run, name)) else None for name in moments},
    }


def same_code(run: Run) -> Run | None:
    """The newest earlier run with the same snapshot."""
    earlier = Run.objects.filter(workspace=run.workspace, snapshot=run.snapshot, number__lt=run.number)
    return earlier.order_by("-number").first()


urlpatterns = [
    path("runs/<int:number>", overview, name="run"),
    path("runs/<int:number>/children", children, name="run-children"),
    path("runs/<int:number>/header", header, name="run-header"),
    path("runs/<int:number>/cancel", cancel, name="run-cancel"),
    path("runs/<int:number>/edit", edit, name="run-edit"),
    path("runs/<int:number>/archive", archive, name="run-archive"),
    path("runs/<int:number>/configuration", configuration, name="run-configuration"),
]
