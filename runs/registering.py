"""Files of a run become a version of a named model."""

from collections.abc import Iterable, Mapping
from typing import Any

from django.db import transaction
from django.db.models import Count, Max, Q, QuerySet
from django.utils import timezone

from runs.artifacts import below
from runs.changing import with_properties
from runs.config import ConfigError
from runs.models import Artifact, ModelVersion, RegisteredModel, Run
from studio import audit
from studio.accounts.models import User
from studio.database import storable
from studio.workspaces.models import Workspace

MAX_NAME = 255
MAX_FILES = 10_000
MAX_TAGS = 1_000
MAX_TAG_NAME = 250
MAX_TEXT = 100_000
MAX_STAGE = 40


def register(
    workspace: Workspace,
    user: User | None,
    name: str,
    run: Run | None,
    path: str,
    *,
    description: str = "",
    tags: Mapping[str, str | None] | None = None,
    properties: Mapping[str, Any] | None = None,
    source: str = "",
) -> ModelVersion:
    """Make the next version of a model, and the model when there is none. Its files are kept as they are now.

    ``path``: an artifact of the run, or a folder of artifacts; empty: all of them. Without a run, a version has a ``source`` only.
    Raises ConfigError with a message per field.
    """
    check_model_name(name)
    files = files_of(workspace, run, path) if run is not None else []
    if run is None and not source:
        raise ConfigError({"run": "A version needs the files of a run. Name the run by its number."})
    check_tags("tags", tags or {})
    check_tags("properties", properties or {})
    checked_description(description)
    with transaction.atomic():
        model, _ = RegisteredModel.objects.get_or_create(workspace=workspace, name=name, defaults={"created_by": user})
        model = RegisteredModel.objects.select_for_update().get(pk=model.pk)
        now = timezone.now()
        number = model.last_number + 1
        RegisteredModel.objects.filter(pk=model.pk).update(last_number=number, updated_at=now, archived_at=None)
        model.last_number = number
        version = ModelVersion.objects.create(
            model=model,
            number=number,
            run=run,
            path=path.strip("/"),
            files=files,
            source=source[:MAX_TEXT],
            description=description,
            tags=dict(tags or {}),
            properties=dict(properties or {}),
            created_by=user,
            created_at=now,
            updated_at=now,
        )
        audit.note(
            user, "model.register", workspace=workspace, subject=str(version), detail=str(run) if run else source
        )
    return version


def create_model(
    workspace: Workspace,
    user: User | None,
    name: str,
    *,
    description: str = "",
    tags: Mapping[str, str | None] | None = None,
) -> tuple[RegisteredModel, bool]:
    """A model without versions yet, and whether it is new. Raises ConfigError."""
    check_model_name(name)
    check_tags("tags", tags or {})
    return RegisteredModel.objects.get_or_create(
        workspace=workspace,
        name=name,
        defaults={"created_by": user, "description": description, "tags": dict(tags or {})},
    )


def models_of(workspace: Workspace, search: str = "") -> QuerySet[RegisteredModel]:
    """Models with ``version_count`` and ``latest``, the number of the newest version."""
    rows = RegisteredModel.objects.filter(workspace=workspace).select_related("created_by")
    if search:
        rows = rows.filter(name__icontains=search)
    return rows.annotate(version_count=Count("versions"), latest=Max("versions__number"))


def change_model(
    model: RegisteredModel,
    *,
    description: str | None = None,
    tags: Mapping[str, str | None] | None = None,
    archived: bool | None = None,
) -> None:
    """Change what is given. Raises ConfigError."""
    if description is not None:
        model.description = checked_description(description)
    if tags is not None:
        check_tags("tags", tags)
        model.tags = dict(tags)
    if archived is not None:
        model.archived_at = (model.archived_at or timezone.now()) if archived else None
    model.updated_at = timezone.now()
    model.save(update_fields=["description", "tags", "archived_at", "updated_at"])


def change_version(
    version: ModelVersion,
    *,
    description: str | None = None,
    tags: Mapping[str, str | None] | None = None,
    stage: str | None = None,
    aliases: Iterable[str] | None = None,
    properties: Mapping[str, Any] | None = None,
) -> None:
    """Change what is said of a version, all or nothing. Raises ConfigError, and PropertyTaken."""
    if description is not None:
        version.description = checked_description(description)
    if tags is not None:
        check_tags("tags", tags)
        version.tags = dict(tags)
    if stage is not None:
        if len(stage) > MAX_STAGE or not stage.isprintable():
            raise ConfigError({"stage": f"It is no single line of up to {MAX_STAGE} characters. Shorten it."})
        version.stage = stage
    if properties:
        version.properties = with_properties(version.properties, properties)
    version.updated_at = timezone.now()
    wanted = None if aliases is None else set(aliases)
    with transaction.atomic():
        version.save(update_fields=["description", "tags", "stage", "properties", "updated_at"])
        if wanted is not None:
            for alias in {*version.aliases} - wanted:
                drop_alias(version.model, alias)
            for alias in wanted:
                set_alias(version, alias)


def checked_description(text: str) -> str:
    if len(text) > MAX_TEXT:
        raise ConfigError({"description": f"It has {len(text):,} characters. Use {MAX_TEXT:,} at most."})
    return text


def files_of(workspace: Workspace, run: Run, path: str) -> list[tuple[str, int, str]]:
    """(path below the model, bytes, digest) of what is registered. A single file keeps its own name."""
    if run.workspace_id != workspace.pk:
        raise ConfigError({"run": "There is no such run in this workspace. Name one by its number."})
    path = path.strip("/")
    found = list(rows_of(run, path)[: MAX_FILES + 1])
    if not found:
        raise ConfigError({"path": missing(run, path)})
    if len(found) > MAX_FILES:
        raise ConfigError({"path": f"It has more than {MAX_FILES:,} files. Name a folder inside it."})
    for row in found:
        if not row.digest:
            raise ConfigError({"path": f"{row.path} was not collected ({row.skipped}). Name another artifact."})
    start = path.rpartition("/")[0] if found[0].path == path else path
    return [(row.path[len(start) :].lstrip("/"), row.size, row.digest) for row in found]


def rows_of(run: Run, path: str) -> QuerySet[Artifact]:
    rows = Artifact.objects.filter(run=run)
    return rows.filter(Q(path=path) | below(path)) if path else rows


def has_files(run: Run, path: str) -> bool:
    return rows_of(run, path.strip("/")).exists()


def missing(run: Run, path: str) -> str:
    names = list(Artifact.objects.filter(run=run).values_list("path", flat=True)[:3])
    have = f"It has {', '.join(names)}{' …' if len(names) == 3 else ''}." if names else "It has none yet."
    return f"{path[:80]!r} is no artifact of run {run.number}. {have}"


def check_model_name(name: str) -> None:
    """As MLflow has it: any text without '/' and ':', which its addresses of models use. Raises ConfigError."""
    plain = 0 < len(name) <= MAX_NAME and name.isprintable() and name == name.strip()
    if not plain or set(name) & {"/", ":"} or name in {".", ".."}:
        rule = f"{name[:60]!r} is not a name. Use 1 to {MAX_NAME} printable characters without '/' and ':'."
        raise ConfigError({"name": rule})


def check_tags(field: str, tags: Mapping[str, Any]) -> None:
    if len(tags) > MAX_TAGS:
        raise ConfigError({field: f"There are {len(tags):,} of them. Give {MAX_TAGS:,} at most."})
    for name, value in tags.items():
        if not 0 < len(name) <= MAX_TAG_NAME or storable(name) != name:
            raise ConfigError({field: f"{name[:40]!r} is no name. Use 1 to {MAX_TAG_NAME} characters."})
        if isinstance(value, str) and len(value) > MAX_TEXT:
            raise ConfigError({field: f"The value of {name[:40]!r} is too long. Use {MAX_TEXT:,} characters at most."})


def set_alias(version: ModelVersion, alias: str) -> None:
    """Let a version have an alias; another version of the model that had it loses it. Raises ConfigError."""
    plain = 0 < len(alias) <= MAX_TAG_NAME and alias.isprintable() and not alias.isdigit() and alias != "latest"
    if not plain or set(alias) & {"/", ":", "@"}:
        rule = f"{alias[:60]!r} is not an alias. Use printable characters without '/', ':' and '@'; not a number, not 'latest'."
        raise ConfigError({"aliases": rule})
    with transaction.atomic():
        held = RegisteredModel.objects.select_for_update().get(pk=version.model_id)
        for other in held.versions.all():
            has, wants = alias in other.aliases, other.pk == version.pk
            if has != wants:
                other.aliases = sorted({*other.aliases, alias} if wants else {*other.aliases} - {alias})
                other.save(update_fields=["aliases"])
    version.refresh_from_db(fields=["aliases"])


def drop_alias(model: RegisteredModel, alias: str) -> None:
    with transaction.atomic():
        held = RegisteredModel.objects.select_for_update().get(pk=model.pk)
        for other in held.versions.all():
            if alias in other.aliases:
                other.aliases = [name for name in other.aliases if name != alias]
                other.save(update_fields=["aliases"])


def find_version(model: RegisteredModel, text: str) -> ModelVersion | None:
    """The version that a number, an alias, or ``latest`` means."""
    rows = model.versions.select_related("model", "run__experiment", "created_by")
    if text == "latest":
        return rows.first()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return rows.filter(number=int(text)).first()
    return next((version for version in rows if text in version.aliases), None)


def remove_model(model: RegisteredModel, user: User | None) -> None:
    """Take a model away with all its versions. Their files stay with their runs."""
    with transaction.atomic():
        audit.note(user, "model.remove", workspace=model.workspace, subject=model.name)
        model.delete()


def remove(rows: Iterable[ModelVersion], user: User | None) -> None:
    """Take versions away. Their files stay with their run."""
    with transaction.atomic():
        for row in rows:
            audit.note(user, "model.remove", workspace=row.model.workspace, subject=str(row))
            row.delete()
