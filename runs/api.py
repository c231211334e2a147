"""Runs over HTTP: submit, and what can be told before. The other operations about runs are in the modules named ``…_api``."""

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from django.http import HttpRequest
from ninja import Schema

from environments.models import ComputeTarget, EnvironmentVersion, Pool
from environments.pools import find_place
from environments.registry import NoSuchEnvironment, named
from runs import artifact_api, gitinfo, log_api, record_api, run_api, shell_lines, shellwords, snapshots
from runs.config import ConfigError, ScriptRunConfig
from runs.examining import examine, ready
from runs.log_api import LOG_PIECE, MAX_LOG_PIECE
from runs.models import Snapshot
from runs.preflight import Check, Wanted, preflight
from runs.rest import RunShown, checked_tags, described, find_parent, router, short
from runs.submission import check, default_environment, submit
from studio.once import claimed
from studio.rest import REFUSED, Body, Member, Refusal, idempotency_key, person, workspace_of
from studio.workspaces.models import Role, Workspace

# Their operations are of the same router.
__all__ = ["LOG_PIECE", "MAX_LOG_PIECE", "artifact_api", "log_api", "record_api", "router", "run_api"]

T = TypeVar("T")
CONFIG = (
    "script", "arguments", "command", "framework", "distribution", "spark", "variables", "secrets",
    "max_run_duration_seconds", "memory_bytes", "gpus", "grace_seconds",
)  # fmt: skip


class NewRun(Body):
    """A submit. ``target`` names a compute target or a pool; ``environment`` may end with ``:<version>``; ``parent`` is a run's number.

    ``command``: the words to start, or a text: one with operators, substitutions or patterns outside quotes is run by bash on the target,
    or sh. A list of one item, with an item that is nothing but an operator, or that begins with a whole line is joined and read as a text."""

    BYTES: ClassVar = frozenset({"arguments", "command", "variables"})

    experiment: str
    snapshot: str
    target: str = "local"
    environment: str | None = None
    script: str = ""
    arguments: list[str] = []
    command: list[str] | str = []
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
    parent: int | None = None

    def config(self) -> ScriptRunConfig:
        values = {name: getattr(self, name) for name in CONFIG}
        values["framework"] = self.framework.lower()
        try:
            values["command"] = shell_lines.command(self.command)
        except shellwords.QuoteError as error:
            raise ConfigError({"command": str(error)}) from None
        return ScriptRunConfig.from_json(values)


@router.post("", auth=Member(Role.CONTRIBUTOR), response={200: RunShown, REFUSED: Refusal})
def submitted(request: HttpRequest, data: NewRun) -> dict[str, Any]:
    """Submit a run. With the header ``Idempotency-Key`` a repeated request answers the run of the first."""
    workspace = workspace_of(request)
    with claimed(request, data.model_dump()):
        snapshot = find_snapshot(workspace, data.snapshot)
        run = submit(
            workspace=workspace,
            user=person(request),
            experiment=data.experiment,
            target=find_target(workspace, data.target),
            environment=find_environment(workspace, data.environment) if data.environment else None,
            snapshot=snapshot,
            config=data.config().validated({entry.path for entry in snapshots.files(snapshot)}),
            name=short("name", data.name, 255),
            tags=checked_tags(data.tags),
            notes=data.notes,
            priority=data.priority,
            parent=find_parent(request, data.parent),
            properties=gitinfo.properties(data.git),
            request_id=idempotency_key(request),
        )
    return described(request, run)


class Told(Schema):
    """One check. ``level``: ``ok``, ``run`` (will be done), ``warn``, or ``fail`` (surely cannot run)."""

    level: str
    text: str
    detail: str
    fix: str


class Checks(Schema):
    """``answered``: whether the target did, of a pool the one that the run would go to now; ``seconds``: how long it took."""

    passed: bool
    target: str
    answered: bool
    seconds: float
    checks: list[Told]


class RunCheck(NewRun):
    """A run to look at and not to start. ``anew``: ask the target although it was asked within the last minute."""

    experiment: str = ""
    anew: bool = False


@router.post("/check", auth=Member(Role.CONTRIBUTOR), response={200: Checks, REFUSED: Refusal})
def checked(request: HttpRequest, data: RunCheck) -> dict[str, Any]:
    """Everything that can be told before the run is queued, the target itself asked, within three seconds. Nothing is started."""
    workspace = workspace_of(request)
    wanted = Wanted(workspace, ScriptRunConfig())
    checks: list[Check] = []

    def attempt(find: "Callable[[], T]") -> "T | None":
        try:
            return find()
        except ConfigError as error:
            checks.extend(Check("fail", f"{field}: {message}") for field, message in error.errors.items())
            return None

    wanted.config = attempt(data.config) or wanted.config
    wanted.snapshot = attempt(lambda: find_snapshot(workspace, data.snapshot))
    place = attempt(lambda: find_target(workspace, data.target))
    wanted.version = attempt(
        lambda: find_environment(workspace, data.environment) if data.environment else default_environment()
    )
    wanted.config = attempt(lambda: wanted.config.validated(wanted.paths)) or wanted.config
    wanted.send_to(place)
    if not checks and place and wanted.version and wanted.snapshot:
        target, version, snapshot = place, wanted.version, wanted.snapshot
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


def find_target(workspace: Workspace, name: str) -> ComputeTarget | Pool:
    target = find_place(workspace, name)
    if target is None:
        raise ConfigError({"target": f"There is no compute target named {name}, and no pool. Compute lists both."})
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
