"""Runs over HTTP: submit, look, read the log, cancel."""

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from ninja import Router

from environments.models import ComputeTarget, EnvironmentVersion
from environments.registry import NoSuchEnvironment, named
from runs import gitinfo, snapshots
from runs.config import ConfigError, ScriptRunConfig
from runs.examining import examine, ready
from runs.logs import LogLost, Reader
from runs.models import LogStream, Run, Snapshot
from runs.preflight import Check, Wanted, preflight
from runs.status import RunStatus
from runs.submission import cancel, check, default_environment, submit
from studio.rest import Body, Member, Problem, not_found, page_url, refused
from studio.workspaces.models import Role, Workspace

T = TypeVar("T")
router = Router(tags=["runs"])
PAGE = 50
MAX_PAGE = 200
LOG_PIECE = 1024 * 1024
MAX_LOG_PIECE = 16 * 1024 * 1024
TIMES = ("created_at", "prepared_at", "started_at", "finalizing_at", "ended_at", "unreachable_since")
CONFIG = (
    "script", "arguments", "command", "framework", "distribution", "spark", "variables", "secrets",
    "max_run_duration_seconds", "memory_bytes", "gpus", "grace_seconds",
)  # fmt: skip


class NewRun(Body):
    """A submit. ``target`` and ``environment`` are names; ``environment`` may end with ``:<version>``."""

    BYTES: ClassVar = frozenset({"arguments", "command", "variables"})

    experiment: str
    snapshot: str
    target: str = "local"
    environment: str | None = None
    script: str = ""
    arguments: list[str] = []
    command: list[str] = []
    framework: str = "python"
    distribution: dict[str, Any] = {}
    spark: dict[str, Any] = {}
    variables: dict[str, str] = {}
    secrets: dict[str, str] = {}
    max_run_duration_seconds: int | None = None
    memory_bytes: int | None = None
    gpus: int = 0
    grace_seconds: int = 10
    name: str = ""
    tags: dict[str, str | None] = {}
    notes: str = ""
    priority: int = 0
    git: dict[str, str] = {}

    def config(self) -> ScriptRunConfig:
        values = {name: getattr(self, name) for name in CONFIG}
        values["framework"] = self.framework.lower()
        return ScriptRunConfig.from_json(values)


@router.post("", auth=Member(Role.CONTRIBUTOR), response={200: dict[str, Any]})
def submitted(request: HttpRequest, data: NewRun) -> dict[str, Any]:
    """Submit a run. With the header ``Idempotency-Key`` a repeated request answers the run of the first."""
    workspace: Workspace = request.workspace  # type: ignore[attr-defined]
    try:
        run = submit(
            workspace=workspace,
            user=request.user,  # type: ignore[arg-type]  # signed in: Member saw to it
            experiment=data.experiment,
            target=find_target(workspace, data.target),
            environment=find_environment(workspace, data.environment) if data.environment else None,
            snapshot=(snapshot := find_snapshot(workspace, data.snapshot)),
            config=data.config().validated({entry.path for entry in snapshots.files(snapshot)}),
            name=short("name", data.name, 255),
            tags={short("tags", name, 250): value for name, value in data.tags.items()},
            notes=data.notes,
            priority=data.priority,
            properties=gitinfo.properties(data.git),
            request_id=idempotency_key(request),
        )
    except ConfigError as error:
        raise refused(error.errors) from error
    return described(request, run)


class RunCheck(NewRun):
    """A run to look at and not to start. ``anew``: ask the target although it was asked within the last minute."""

    experiment: str = ""
    anew: bool = False


@router.post("/check", auth=Member(Role.CONTRIBUTOR), response={200: dict[str, Any]})
def checked(request: HttpRequest, data: RunCheck) -> dict[str, Any]:
    """Everything that can be told before the run is queued, the target itself asked, within three seconds. Nothing is started.

    ``checks``: each with ``level`` (``ok``, ``run``: will be done, ``warn``, ``fail``: surely cannot run), ``text``, ``detail``, ``fix``.
    """
    workspace: Workspace = request.workspace  # type: ignore[attr-defined]
    wanted = Wanted(workspace, data.config())
    checks: list[Check] = []

    def attempt(find: "Callable[[], T]") -> "T | None":
        try:
            return find()
        except ConfigError as error:
            checks.extend(Check("fail", f"{field}: {message}") for field, message in error.errors.items())
            return None

    wanted.snapshot = find_snapshot(workspace, data.snapshot)
    wanted.target = attempt(lambda: find_target(workspace, data.target))
    wanted.version = attempt(
        lambda: find_environment(workspace, data.environment) if data.environment else default_environment()
    )
    wanted.config = attempt(lambda: data.config().validated(wanted.paths)) or wanted.config
    if not checks and wanted.target and wanted.version:
        target, version, snapshot = wanted.target, wanted.version, wanted.snapshot
        name = data.experiment or "check"
        attempt(lambda: check(workspace, name, target, version, snapshot, wanted.config, data.priority))
    checks += preflight(wanted)
    found = examine(wanted, anew=data.anew) if ready(wanted) else None
    checks += found.checks if found else ()
    return {
        "passed": not any(item.level == "fail" for item in checks),
        "target": data.target,
        "answered": bool(found and found.answered),
        "seconds": round(found.seconds, 3) if found else 0.0,
        "checks": [{"level": item.level, "text": item.text, "detail": item.detail, "fix": item.fix} for item in checks],
    }


@router.get("", auth=Member(Role.READER))
def listed(
    request: HttpRequest,
    *,
    before: int | None = None,
    limit: int = PAGE,
    experiment: str | None = None,
    status: RunStatus | None = None,
) -> dict[str, Any]:
    """The newest first; ``next`` is the ``before`` of the page that follows."""
    limit = max(1, min(limit, MAX_PAGE))
    rows = runs_of(request).filter(archived_at=None).order_by("-number")
    if before is not None:
        rows = rows.filter(number__lt=before)
    if experiment is not None:
        rows = rows.filter(experiment__name=experiment)
    if status is not None:
        rows = rows.filter(status=status)
    page = list(rows.prefetch_related("tags")[: limit + 1])
    return {
        "runs": [described(request, run) for run in page[:limit]],
        "next": page[limit - 1].number if len(page) > limit else None,
    }


@router.get("/{int:number}", auth=Member(Role.READER))
def shown(request: HttpRequest, number: int) -> dict[str, Any]:
    return described(request, find_run(request, number))


@router.get("/{int:number}/log", auth=Member(Role.READER))
def log(
    request: HttpRequest, number: int, *, offset: int = 0, limit: int = LOG_PIECE, name: str = "log"
) -> HttpResponse:
    """Bytes of a log as the script wrote them. ``Runstead-Log-Size`` is what is held now,
    ``Runstead-Run-Status`` the status."""
    if offset < 0 or limit < 1:
        raise Problem.of(422, "offset", "offset must be 0 or more, limit 1 or more.", "Send whole numbers.")
    run = find_run(request, number)
    stream = LogStream.objects.filter(run=run, name=name).first()
    if stream is None and name != "log":
        raise not_found("log")
    try:
        data = Reader(stream).read(offset, min(limit, MAX_LOG_PIECE)) if stream is not None else b""
    except LogLost as error:
        raise Problem.of(410, "log", f"A part of the log is lost ({error}).", "Read on behind it.") from error
    return HttpResponse(
        data,
        content_type="application/octet-stream",
        headers={
            "Content-Disposition": f'attachment; filename="run-{number}.log"',
            "Content-Security-Policy": "default-src 'none'; sandbox",
            "Runstead-Log-Size": str(stream.size if stream is not None else 0),
            "Runstead-Run-Status": run.status,
            "Cache-Control": "no-store",
        },
    )


@router.post("/{int:number}/cancel", auth=Member(Role.CONTRIBUTOR))
def canceled(request: HttpRequest, number: int) -> dict[str, Any]:
    """Ask for the end of a run. A run that has ended is answered as it is, with ``canceling`` false."""
    run = find_run(request, number)
    canceling = cancel(run, request.user)  # type: ignore[arg-type]
    return {**described(request, run), "canceling": canceling}


def runs_of(request: HttpRequest) -> QuerySet[Run]:
    rows = Run.objects.filter(workspace=request.workspace)  # type: ignore[attr-defined]
    return rows.select_related("experiment", "target", "environment__environment", "snapshot", "created_by")


def find_run(request: HttpRequest, number: int) -> Run:
    run = runs_of(request).filter(number=number).first()
    if run is None:
        raise not_found("run")
    return run


def find_target(workspace: Workspace, name: str) -> ComputeTarget:
    target = ComputeTarget.objects.attached().filter(workspace=workspace, name=name).first()
    if target is None:
        raise ConfigError({"target": f"There is no compute target named {name}. Compute lists them."})
    return target


def find_environment(workspace: Workspace, text: str) -> EnvironmentVersion:
    """The version that ``name`` (its latest), ``name:version`` or ``name@label`` means."""
    try:
        return named(workspace, text)
    except NoSuchEnvironment as error:
        raise ConfigError({"environment": str(error)}) from None


def find_snapshot(workspace: Workspace, digest: str) -> Snapshot:
    row = Snapshot.objects.filter(workspace=workspace, digest=digest).first()
    if row is None:
        raise ConfigError({"snapshot": f"There is no snapshot {digest[:12]}. Send the folder first."})
    return row


def short(field: str, text: str, limit: int) -> str:
    if len(text) > limit or not text.isprintable():
        raise ConfigError({field: f"It is no single line of up to {limit} characters. Shorten it."})
    return text


def idempotency_key(request: HttpRequest) -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not 1 <= len(key) <= 64 or not key.isprintable():
        raise ConfigError({"Idempotency-Key": "The key is not printable text of up to 64 characters. Use a UUID."})
    return key


def described(request: HttpRequest, run: Run) -> dict[str, Any]:
    """A run as the API shows it. Secrets appear by the names they have in the workspace, never by value."""
    return {
        "id": run.uid,
        "number": run.number,
        "name": run.name,
        "experiment": run.experiment.name,
        "status": run.status,
        "reason": run.reason,
        "error": run.error,
        "exit_code": run.exit_code,
        "waiting_for": run.waiting_for,
        "target": run.target.name if run.target else None,
        "environment": str(run.environment) if run.environment else None,
        "snapshot": run.snapshot.digest if run.snapshot else None,
        "config": run.config,
        "tags": {tag.name: tag.value for tag in run.tags.all()},
        "properties": run.properties,
        "notes": run.notes,
        "priority": run.priority,
        "created_by": str(run.created_by) if run.created_by else None,
        **{name: getattr(run, name) for name in TIMES},
        "url": page_url(request, f"runs/{run.number}"),  # type: ignore[arg-type]
    }
