"""A run comes into being, and is cancelled. Both are rows first; the bell rings after the commit."""

import shlex
from collections.abc import Mapping
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from environments.models import ComputeTarget, Environment, EnvironmentVersion, Pool
from environments.registry import latest
from runs import pools
from runs.config import ConfigError, ScriptRunConfig
from runs.distribution import process_count
from runs.fitting import misfit, pool_misfit
from runs.models import Experiment, Run, RunEvent, RunParameter, RunTag, Snapshot
from runs.models.run import new_uid
from runs.status import ACTIVE, EndReason, RunStatus
from studio import audit
from studio.accounts.models import User
from studio.database import storable
from studio.queues import ring
from studio.workspaces.models import Workspace, name_rule

DEFAULT_ENVIRONMENT = "python"
MAX_PRIORITY = 1_000_000


def submit(
    *,
    workspace: Workspace,
    user: User | None,
    experiment: str,
    target: ComputeTarget | Pool,
    environment: EnvironmentVersion | None,
    snapshot: Snapshot,
    config: ScriptRunConfig,
    name: str = "",
    tags: Mapping[str, str | None] | None = None,
    notes: str = "",
    copied_from: Run | None = None,
    parent: Run | None = None,
    properties: Mapping[str, Any] | None = None,
    priority: int = 0,
    request_id: str | None = None,
) -> Run:
    """Write the run (NotStarted) and ring for its target, or have its pool place it. The same ``request_id`` again returns the first
    run.

    Raises ConfigError with a message per field when something does not fit together.
    """
    if request_id:
        first = Run.objects.filter(workspace=workspace, request_id=request_id).first()
        if first is not None:
            return first
    if environment is None:
        environment = default_environment()
    check(workspace, experiment, target, environment, snapshot, config, priority)
    try:
        with transaction.atomic():
            hold(target)
            group, _ = Experiment.objects.get_or_create(
                workspace=workspace, name=experiment, defaults={"created_by": user}
            )
            now = timezone.now()
            Experiment.objects.filter(pk=group.pk).update(last_run_at=now, archived_at=None)
            number = workspace.next_number()
            run = Run.objects.create(
                workspace=workspace,
                number=number,
                uid=new_uid(experiment),
                experiment=group,
                parent=parent,
                copied_from=copied_from,
                name=name or f"{experiment}-{number}"[:255],
                notes=notes,
                created_by=user,
                created_at=now,
                target=None if isinstance(target, Pool) else target,
                pool=target if isinstance(target, Pool) else None,
                environment=environment,
                snapshot=snapshot,
                config=config.to_json(),
                gpus=config.gpus,
                priority=priority,
                properties={"ContentSnapshotId": snapshot.digest, **(properties or {})},
                request_id=request_id,
            )
            RunEvent.objects.create(run=run, at=now, new=RunStatus.NOT_STARTED)
            RunTag.objects.bulk_create(
                [RunTag(run=run, workspace=workspace, name=k, value=v) for k, v in (tags or {}).items()]
            )
            RunParameter.objects.bulk_create(
                [
                    RunParameter(run=run, workspace=workspace, name=k, value=v, head=v[:100], number=as_number(v))
                    for k, v in storable(parameters(config.arguments)).items()
                ]
            )
            if isinstance(target, Pool):
                pools.soon(target.pk)
            else:
                ring(target.pk)
    except IntegrityError:
        # The same request arrived twice at once: the other one made the run.
        first = Run.objects.filter(workspace=workspace, request_id=request_id).first() if request_id else None
        if first is None:
            raise
        return first
    if run.pool_id is not None:
        run.refresh_from_db(fields=["target", "waiting_for"])  # it may have been placed already
    return run


def hold(target: ComputeTarget | Pool) -> None:
    """Keep it from being detached or removed between this look and the run: nobody would ever attend that. Raises ConfigError."""
    if isinstance(target, Pool):
        if not Pool.objects.there().select_for_update(no_key=True).filter(pk=target.pk).exists():
            raise ConfigError({"target": f"{target.name} was removed. Choose another target."})
    elif not ComputeTarget.objects.attached().select_for_update(no_key=True).filter(pk=target.pk).exists():
        raise ConfigError({"target": f"{target.name} was detached. Choose another target."})


def default_environment() -> EnvironmentVersion:
    """What a run gets that names none: the Python that is on the target."""
    curated = Environment.objects.filter(workspace=None, name=DEFAULT_ENVIRONMENT).first()
    version = latest(curated) if curated is not None else None
    if version is None:
        raise ConfigError({"environment": f"Name one: the default environment {DEFAULT_ENVIRONMENT} was removed."})
    return version


def check(
    workspace: Workspace,
    experiment: str,
    target: ComputeTarget | Pool,
    environment: EnvironmentVersion,
    snapshot: Snapshot,
    config: ScriptRunConfig,
    priority: int = 0,
) -> None:
    errors: dict[str, str] = {}
    try:
        name_rule(experiment)
    except Exception as error:
        errors["experiment"] = f"{experiment!r} is not a name. {getattr(error, 'message', error)}"
    for label, owner in (("target", target.workspace_id), ("snapshot", snapshot.workspace_id)):
        if owner != workspace.pk:
            errors[label] = f"There is no such {label} in this workspace."
    if environment.environment.workspace_id not in {None, workspace.pk}:
        errors["environment"] = "There is no such environment in this workspace."
    asked: dict[str, Any] = {"gpus": config.gpus, "framework": config.framework, "spark": config.spark}
    fit = (
        pool_misfit(target, environment, **asked) if isinstance(target, Pool) else misfit(target, environment, **asked)
    )
    errors = {**fit, **errors}
    if abs(priority) > MAX_PRIORITY:
        errors["priority"] = f"It is out of range. Use -{MAX_PRIORITY:,} to {MAX_PRIORITY:,}; 0 is usual."
    known = set(workspace.secrets.filter(name__in=config.secrets.values()).values_list("name", flat=True))
    for variable, secret in config.secrets.items():
        if secret not in known:
            errors["variables"] = f"{variable}: there is no secret named {secret}. Add it in Settings, Secrets."
    if errors:
        raise ConfigError(errors)


def parameters(arguments: tuple[str, ...]) -> dict[str, str]:
    """The parameters that arguments spell out: ``--lr 0.1``, ``--lr=0.1``, ``--flag`` (its value is
    ``true``)."""
    found: dict[str, str] = {}
    pending: str | None = None
    for argument in arguments:
        is_option = argument.startswith("--") and len(argument) > 2
        if pending is not None:
            found[pending] = "true" if is_option else argument
            pending = None
            if not is_option:
                continue
        if is_option:
            name, equals, value = argument[2:].partition("=")
            if not 0 < len(name) <= 250:
                continue
            if equals:
                found[name] = value
            else:
                pending = name
    if pending is not None:
        found[pending] = "true"
    return found


def as_number(text: str) -> float | None:
    """The number that a text spells, if it is a finite one."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if number - number == 0 else None


def cancel(run: Run, user: User | None) -> bool:
    """Ask for the end of a run. Returns False when it has ended already or its script has."""
    while run.status in ACTIVE - {RunStatus.FINALIZING, RunStatus.CANCEL_REQUESTED}:
        with transaction.atomic():
            if run.move_to(RunStatus.CANCEL_REQUESTED, canceled_by=user):
                if user is not None and run.created_by_id != user.pk:
                    of = f"of {run.created_by}" if run.created_by else ""
                    audit.note(user, "run.cancel", workspace=run.workspace, subject=str(run), detail=of)
                # Its row is ours now: one that had no target when it was read may have been placed until then, or taken back.
                run.refresh_from_db(fields=["target"])
                if run.target_id is None:
                    # Nothing of the studio executes it, so there is nothing to wait for.
                    run.move_to(RunStatus.CANCELED, reason=EndReason.CANCELED)
                else:
                    ring(run.target_id)
                return True
        run.refresh_from_db()  # somebody moved it meanwhile: look again
    return run.status == RunStatus.CANCEL_REQUESTED


def command_text(config: ScriptRunConfig) -> str:
    """The command line as a person would type it."""
    count = str(process_count(config.distribution, config.gpus))
    programs = {
        "pyspark": ["spark-submit"],
        "pytorch": ["torchrun", "--nproc_per_node", count],
        "mpi": ["mpirun", "-np", count, "python"],
    }
    if config.shell_line:
        return config.shell_line
    line = config.command or (*programs.get(config.framework, ["python"]), config.script, *config.arguments)
    return shlex.join(line)
