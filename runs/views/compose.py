"""Start a run: the page, its dry checks and snippets while one types, and the submit."""

import uuid
from collections.abc import Mapping
from typing import Any

from django.http import HttpResponse, HttpResponseBase, QueryDict
from django.shortcuts import redirect, render
from django.urls import path
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from environments.models import ComputeTarget, Pool
from environments.pools import nodes
from runs import snapshots
from runs.config import ConfigError
from runs.examining import Examined, key_of, known, ready
from runs.examining import examine as ask_target
from runs.forms import RunForm, guess_script, offered_environments, targets_of, values_from, values_of
from runs.models import Experiment, Run, Snapshot
from runs.preflight import Busy, Check, PoolBusy, Wanted, busy, preflight
from runs.snippets import YamlError, cli, from_yaml, python, yaml_text
from runs.submission import submit
from studio.blobs import BlobMissing
from studio.workspaces.access import MemberRequest, fetch, member
from studio.workspaces.models import Role, Workspace

SNAPSHOTS = 20
OFFERED_FILES = 2000
OFFERED_EXPERIMENTS = 200
LABELS = {
    "snapshot": "Code", "script": "Script", "experiment": "Experiment", "arguments": "Arguments", "command": "Command",
    "framework": "Framework", "process_count": "Processes", "backend": "Backend", "worker_count": "Workers",
    "parameter_server_count": "Parameter servers", "spark_conf": "Spark settings", "spark_packages": "Spark packages",
    "spark_repositories": "Spark repositories", "deploy_mode": "Deploy mode", "target": "Compute", "environment": "Environment", "time_limit": "Time limit",
    "memory": "Memory limit", "gpus": "GPUs", "grace": "Grace", "priority": "Priority", "variables": "Environment variables",
    "name": "Run name", "tags": "Tags", "notes": "Notes",
}  # fmt: skip


@require_http_methods(["GET", "HEAD", "POST"])
@member(Role.CONTRIBUTOR)
def new(request: MemberRequest) -> HttpResponseBase:
    if request.method == "POST":
        return fill(request) if "fill" in request.POST else start(request)
    source = source_of(request)
    initial = values_of(source) if source else defaults(request.workspace)
    # What the page that led here is about, over what was last used.
    initial |= {name: given for name in ("environment", "target") if (given := request.GET.get(name))}
    form = RunForm(request.workspace, initial={**initial, "request_id": uuid.uuid4().hex})
    return page(request, form, source=source)


def source_of(request: MemberRequest) -> Run | None:
    """The run that the form is filled from: the one asked for, else the last one of the experiment or of this person."""
    runs = Run.objects.filter(workspace=request.workspace, parent=None).select_related(
        "workspace", "experiment", "target", "pool", "environment__environment", "snapshot"
    )
    number = request.GET.get("from", "")
    if number:
        valid = number.isascii() and number.isdigit() and len(number) < 18
        return fetch(runs, number=int(number) if valid else -1)
    if "empty" in request.GET:
        return None
    newest = runs.order_by("-number")
    if name := request.GET.get("experiment"):
        return newest.filter(experiment__name=name).first()
    return newest.filter(created_by=request.user).first()


def defaults(workspace: Workspace) -> dict[str, Any]:
    """An empty form still names the only target and the only environment. Where several people share the workspace, runs on
    this machine go into containers, unless somebody chooses otherwise."""
    targets = list(targets_of(workspace).filter(enabled=True))
    contained = [target for target in targets if target.transport == "local" and target.launcher == "docker"]
    if contained and len(targets) > 1 and workspace.memberships.count() > 1:
        targets = contained[:1]
    offered = [value for _, rows in offered_environments(workspace, "") for value, _ in rows]
    return values_from(
        {
            "target": targets[0].name if len(targets) == 1 else "",
            "environment": offered[0] if len(offered) == 1 else "",
        }
    )


def start(request: MemberRequest) -> HttpResponseBase:
    form = RunForm(request.workspace, request.POST)
    if form.is_valid():
        assert form.place is not None and form.snapshot_row is not None
        data = form.cleaned_data
        try:
            run = submit(
                workspace=request.workspace,
                user=request.user,
                experiment=data["experiment"],
                target=form.place,
                environment=form.version,
                snapshot=form.snapshot_row,
                config=form.config,
                name=data["name"],
                tags=form.tag_values,
                notes=data["notes"],
                copied_from=form.copied,
                properties=form.properties,
                priority=form.priority_value,
                request_id=data["request_id"],
            )
        except ConfigError as error:
            form.reject(error)
        else:
            return redirect("runs:run", slug=request.workspace.slug, number=run.number)
    return page(request, form, status=422)


def fill(request: MemberRequest) -> HttpResponseBase:
    """Put pasted YAML into the form. Code that is chosen already stays; wrong YAML changes nothing."""
    text = request.POST.get("yaml", "")
    try:
        given = from_yaml(text)
    except YamlError as error:
        return page(request, RunForm(request.workspace, request.POST), yaml=text, yaml_error=str(error), status=422)
    kept = {name: request.POST.get(name, "") for name in ("snapshot", "git", "copied_from", "request_id")}
    form = RunForm(request.workspace, initial={**values_from(given), **kept})
    return page(request, form, filled=True)


def page(request: MemberRequest, form: RunForm, *, status: int = 200, **extra: Any) -> HttpResponse:
    workspace = request.workspace
    if form.is_bound:
        form.is_valid()
    if extra.get("yaml_error"):
        form.errors.clear()  # nothing was submitted: only the YAML was wrong
    context: dict[str, Any] = {
        "section": "runs",
        "form": form,
        "errors": [(name, LABELS.get(name, ""), messages[0]) for name, messages in form.errors.items()],
        "targets": busy(list(targets_of(workspace))),
        "pools": [PoolBusy(pool, nodes(pool)) for pool in Pool.objects.there().filter(workspace=workspace)],
        "environments": offered_environments(workspace, form.text("environment")),
        "chosen_target": form.text("target"),
        "secrets": list(workspace.secrets.values_list("name", flat=True)),
        "experiments": experiment_names(workspace),
        "snapshots": list(Snapshot.objects.filter(workspace=workspace)[:SNAPSHOTS]),
        "snapshot": chosen_snapshot(workspace, form.text("snapshot")),
        "source": None,
        **extra,
    }
    context |= review(checked(form))
    return render(request, "runs/new.html", context, status=status)


def checked(form: RunForm) -> RunForm:
    """The same form as if it had been sent, so that a fresh page shows its checks and snippets at once."""
    if form.is_bound:
        return form
    data = QueryDict(mutable=True)
    for name in form.fields:
        data[name] = form.text(name)
    for row in form.rows:
        for part, value in row.items():
            data.appendlist(f"var_{part}", value)
    bound = RunForm(form.workspace, data)
    bound.is_valid()
    return bound


def review(form: RunForm) -> dict[str, Any]:
    """The right column: checks, snippets, and what blocks."""
    wanted = Wanted.of(form)
    checks = preflight(wanted)
    blocking = blocking_errors(form)
    found = blocking + checks
    asked = form.as_request()
    snippets: list[tuple[str, str]] = []
    if form.config.script or form.config.command:
        snippets = [("CLI", cli(asked)), ("Python", python(asked)), ("YAML", yaml_text(asked))]
    paths = form.paths or set()
    return {
        "checks": found,
        "blocked": len(blocking),
        "warnings": sum(check.level == "warn" for check in found),
        "state": state_of(form.place),
        "snippets": snippets,
        "offered": sorted(paths, key=lambda name: (not name.endswith(".py"), name.count("/"), name))[:OFFERED_FILES],
        "guess": guess_script(paths),
        "field_errors": {name: messages[0] for name, messages in form.errors.items()},
        "last_of_experiment": last_of(form),
        **examined(wanted, known(wanted)),
    }


def state_of(place: ComputeTarget | Pool | None) -> Busy | PoolBusy | None:
    if isinstance(place, Pool):
        return PoolBusy(place, nodes(place))
    return busy([place])[0] if place is not None else None


def examined(wanted: Wanted, found: Examined | None) -> dict[str, Any]:
    """What the target said, or that it is to be asked: the page does so when the typing pauses."""
    return {"examined": found, "examinable": ready(wanted), "examined_key": key_of(wanted), "asked": wanted.target}


def blocking_errors(form: RunForm) -> list[Check]:
    """Errors in fields that hold something; an empty field is still being filled in."""
    return [
        Check("fail", f"{LABELS.get(name, 'Form')}: {messages[0]}")
        for name, messages in form.errors.items()
        if (form.rows if name == "variables" else name in form.fields and form.text(name).strip())
    ]


def last_of(form: RunForm) -> Run | None:
    """The newest run of the experiment that is named, unless the form was filled from it."""
    name = form.cleaned_data.get("experiment", "")
    if not name:
        return None
    last = Run.objects.filter(workspace=form.workspace, experiment__name=name).order_by("-number").first()
    return (
        None if last is None or (form.copied is not None and form.copied.experiment_id == last.experiment_id) else last
    )


@require_POST
@member(Role.CONTRIBUTOR)
def check(request: MemberRequest) -> HttpResponseBase:
    """The fragment that follows the typing: checks, snippets, offered files. Nothing is written."""
    form = RunForm(request.workspace, request.POST)
    form.is_valid()
    return render(request, "runs/_review.html", {**review(form), "swap": True})


@require_POST
@member(Role.CONTRIBUTOR)
def examine(request: MemberRequest) -> HttpResponseBase:
    """What the target itself says of the run, within three seconds. Nothing is written there or here."""
    form = RunForm(request.workspace, request.POST)
    form.is_valid()
    wanted = Wanted.of(form)
    found = ask_target(wanted, anew="anew" in request.GET) if ready(wanted) else None
    return render(request, "runs/_examined.html", examined(wanted, found))


@require_safe
@member(Role.CONTRIBUTOR)
def snapshot_files(request: MemberRequest, digest: str) -> HttpResponseBase:
    """The card of an earlier snapshot that is chosen: its files, so that the page needs no upload."""
    row = fetch(Snapshot.objects.filter(workspace=request.workspace), digest=digest)
    return render(request, "runs/_snapshot_card.html", {"snapshot": described(row)})


def chosen_snapshot(workspace: Workspace, digest: str) -> Mapping[str, Any] | None:
    row = Snapshot.objects.filter(workspace=workspace, digest=digest).first() if digest else None
    return described(row) if row else None


def described(row: Snapshot) -> Mapping[str, Any]:
    """A snapshot with the first level of its tree: (name, is a folder, files, bytes)."""
    try:
        entries = snapshots.files(row)
    except BlobMissing:
        entries = ()
    folders: dict[str, list[int]] = {}
    files: list[tuple[str, int]] = []
    for entry in entries:
        head, slash, _ = entry.path.partition("/")
        if slash:
            counts = folders.setdefault(head, [0, 0])
            counts[0] += 1
            counts[1] += entry.size
        else:
            files.append((entry.path, entry.size))
    top = [(name, True, counts[0], counts[1]) for name, counts in sorted(folders.items())]
    top += [(name, False, 1, size) for name, size in sorted(files)]
    return {"row": row, "top": top[:50], "more": max(0, len(top) - 50)}


def experiment_names(workspace: Workspace) -> list[str]:
    rows = Experiment.objects.filter(workspace=workspace, archived_at=None).order_by("-last_run_at", "name")
    return list(rows.values_list("name", flat=True)[:OFFERED_EXPERIMENTS])


urlpatterns = [
    path("runs/new", new, name="new"),
    path("runs/new/check", check, name="new-check"),
    path("runs/new/examine", examine, name="new-examine"),
    path("runs/new/snapshots/<str:digest>", snapshot_files, name="new-snapshot"),
]
