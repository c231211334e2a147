"""Environments by name: found without regard to case, registered as numbered versions, which labels point to."""

import difflib
import fnmatch
import hashlib
import re
import secrets
from collections.abc import Callable

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from environments.definition import Definition
from environments.models import Environment, EnvironmentVersion, Label
from studio import audit
from studio.accounts.models import User
from studio.workspaces.models import Workspace, name_rule

LATEST = "latest"
MAX_LABEL = 64
_NUMBER = re.compile(r"[1-9][0-9]{0,8}\Z", re.ASCII)


class NoSuchEnvironment(ValueError):
    """No environment, version or label of that name. The text says what there is instead."""


class Refused(ValueError):
    """It cannot be done. ``errors`` maps field → what is wrong and how to mend it."""

    def __init__(self, **errors: str) -> None:
        self.errors = errors
        super().__init__(" ".join(errors.values()))


# -- finding ---------------------------------------------------------------------------------------------------------------


def visible(workspace: Workspace) -> "QuerySet[Environment]":
    """The workspace's own environments and the curated ones."""
    return Environment.objects.filter(Q(workspace=workspace) | Q(workspace=None))


def find(workspace: Workspace, name: str) -> Environment | None:
    """The environment of that name, without regard to case; the workspace's own before a curated one, and one that is named so
    before one that has such an alias."""
    rows = list(visible(workspace).filter(name__iexact=name))
    if not rows:
        return _by_alias(name)
    # Exactly as written first, then own before curated.
    rows.sort(key=lambda row: (row.name != name, row.workspace_id is None, row.pk))
    return rows[0]


def _by_alias(name: str) -> Environment | None:
    """The curated environment with the most exact alias that fits the name."""
    wanted, best = name.lower(), (0, "")
    found = None
    for row in Environment.objects.filter(workspace=None).exclude(aliases=[]):
        for alias in row.aliases:
            if fnmatch.fnmatchcase(wanted, alias.lower()):
                exact = (literal(alias), row.name)
                if found is None or exact[0] > best[0]:
                    found, best = row, exact
    return found


def literal(alias: str) -> int:
    """How many characters of an alias stand for themselves."""
    return len(re.sub(r"\[[^\]]*\]|[*?]", "", alias))


def latest(environment: Environment) -> EnvironmentVersion | None:
    """The newest version that is not archived."""
    return environment.versions.filter(archived_at=None).order_by("-number").first()


def named(workspace: Workspace, text: str) -> EnvironmentVersion:
    """The version that ``name`` (its latest), ``name:3`` or ``name@label`` means in a workspace. Raises NoSuchEnvironment."""
    name, mark, which = _split(text.strip())
    environment = find(workspace, name)
    if environment is None:
        names = list(visible(workspace).filter(archived_at=None).values_list("name", flat=True))
        lower = {one.lower(): one for one in names}
        near = difflib.get_close_matches(name.lower(), lower, 1)
        hint = f" Did you mean {lower[near[0]]}?" if near else ""
        raise NoSuchEnvironment(f"There is no environment {name[:255]}.{hint} Environments lists them.")
    versions = environment.versions.select_related("environment")
    found: EnvironmentVersion | None
    if not mark or which.lower() == LATEST:
        found = versions.filter(archived_at=None).order_by("-number").first()
        if found is None:
            raise NoSuchEnvironment(f"All versions of {environment.name} are archived. Name one: {environment.name}:1.")
    elif mark == "@":
        found = versions.filter(labels__name__iexact=which).first()
        if found is None:
            labels = ", ".join(f"@{label}" for label in environment.labels.values_list("name", flat=True))
            there = f"It has {labels}." if labels else f"It has no labels: name a version, {environment.name}:1."
            raise NoSuchEnvironment(f"{environment.name} has no label @{which[:MAX_LABEL]}. {there}")
    else:
        found = versions.filter(number=int(which)).first() if _NUMBER.match(which) else None
        if found is None:
            newest = versions.order_by("-number").first()
            there = f" Its newest is {newest.number}." if newest else ""
            raise NoSuchEnvironment(f"{environment.name} has no version {which[:20] or 'without a number'}.{there}")
    return found


def _split(text: str) -> tuple[str, str, str]:
    """Name, ``:`` or ``@`` or nothing, and what follows it. Names hold neither."""
    match = re.match(r"([^:@]*)([:@]?)(.*)\Z", text, re.DOTALL)
    assert match is not None, "every text has a beginning"
    return match[1].strip(), match[2], match[3].strip()


# -- registering -----------------------------------------------------------------------------------------------------------


def register(environment: Environment, definition: Definition, user: User | None = None) -> EnvironmentVersion:
    """The version with this definition: the latest if it is unchanged, else a new one with the next number."""
    data = definition.to_json()

    def unchanged() -> EnvironmentVersion | None:
        found = latest(environment)
        return found if found is not None and found.definition == data else None

    return unchanged() or _add(environment, data, definition.key(), "", user, "environment.register", unchanged)


def refresh(version: EnvironmentVersion, user: User | None = None, request: str = "") -> EnvironmentVersion:
    """A new version with the same definition, which is resolved anew where it is built next; the old one keeps its packages.

    ``request``: a name of this wish; asked again under the same one, also of a newer version of the environment, it is what was made
    the first time. Raises Refused for a curated environment: it is the same in every workspace, a clone is one's own.
    """
    environment = version.environment
    if environment.curated:
        raise Refused(
            environment=f"{environment.name} is curated, the same in every workspace. Clone it, then refresh yours."
        )
    salt = hashlib.sha256(f"{environment.pk} {request}".encode()).hexdigest()[:32] if request else secrets.token_hex(16)

    def made() -> EnvironmentVersion | None:
        return environment.versions.filter(salt=salt).select_related("environment").first()

    if (found := made()) is not None:
        return found
    key = Definition.from_json(version.definition).key(salt)
    return _add(environment, version.definition, key, salt, user, "environment.refresh", made)


def clone(version: EnvironmentVersion, workspace: Workspace, name: str, user: User | None = None) -> EnvironmentVersion:
    """A new environment of the workspace that begins with this version's definition, and with its packages. Raises Refused."""
    try:
        name_rule(name)
    except ValidationError as error:
        raise Refused(name=" ".join(error.messages)) from None
    if Environment.objects.filter(workspace=workspace, name__iexact=name).exists():
        raise Refused(name=f"{name} is in this workspace already. Choose another name.")
    try:
        with transaction.atomic():
            made = Environment.objects.create(
                workspace=workspace, name=name, description=version.environment.description
            )
            # The same key, so that what was resolved and built already is used.
            return _add(
                made,
                version.definition,
                version.key,
                version.salt,
                user,
                "environment.clone",
                lambda: None,
                f"from {version}",
            )
    except IntegrityError:  # made by somebody else at this moment
        raise Refused(name=f"{name} is in this workspace already. Choose another name.") from None


def _add(
    environment: Environment,
    data: object,
    key: str,
    salt: str,
    user: User | None,
    action: str,
    instead: Callable[[], EnvironmentVersion | None],
    detail: str = "",
) -> EnvironmentVersion:
    """A version with the next number. When somebody was quicker, ``instead`` may say that theirs will do."""
    with transaction.atomic():
        # Locked, so that of two that ask at once the second sees what the first made.
        Environment.objects.select_for_update(no_key=True).get(pk=environment.pk)
        if (found := instead()) is not None:
            return found
        newest = environment.versions.order_by("-number").first()
        made = EnvironmentVersion.objects.create(
            environment=environment, number=newest.number + 1 if newest else 1, definition=data, salt=salt, key=key, created_by=user
        )  # fmt: skip
        if user is not None:
            audit.note(user, action, workspace=environment.workspace, subject=str(made), detail=detail)
        return made


# -- labels and archive ----------------------------------------------------------------------------------------------------


def set_label(version: EnvironmentVersion, name: str, user: User | None = None) -> Label:
    """Have the label of the environment point to this version, made if there is none. Raises Refused."""
    try:
        name_rule(name)
    except ValidationError as error:
        raise Refused(label=" ".join(error.messages)) from None
    if len(name) > MAX_LABEL:
        raise Refused(label=f"{len(name)} characters; the limit is {MAX_LABEL}. Shorten it.")
    if name.isdigit():
        raise Refused(label=f"{name} reads like a version's number. Use a name, such as stable.")
    if name.lower() == LATEST:
        raise Refused(label=f"@{LATEST} always means the newest version. Use another name, such as stable.")
    with transaction.atomic():
        kept = Label.objects.filter(environment=version.environment, name__iexact=name).first()
        label, made = Label.objects.get_or_create(
            environment=version.environment, name=kept.name if kept else name, defaults={"version": version}
        )
        if made or label.version_id != version.pk:
            Label.objects.filter(pk=label.pk).update(version=version)
            label.version = version
            _note(version, user, "environment.label", f"@{label.name}")
    return label


def remove_label(environment: Environment, name: str, user: User | None = None) -> bool:
    """Take a label away; False when there is none (any more)."""
    with transaction.atomic():
        label = Label.objects.filter(environment=environment, name__iexact=name).select_related("version").first()
        if label is None:
            return False
        label.delete()
        _note(label.version, user, "environment.unlabel", f"@{label.name}")
        return True


def archive_version(version: EnvironmentVersion, user: User | None = None) -> bool:
    """It is never the latest again and not offered; who names its number or label still gets it. False: it is archived already."""
    return _archive(version, user, archive=True)


def restore_version(version: EnvironmentVersion, user: User | None = None) -> bool:
    """Undo ``archive_version``; False: it is not archived."""
    return _archive(version, user, archive=False)


def _archive(version: EnvironmentVersion, user: User | None, *, archive: bool) -> bool:
    now = timezone.now() if archive else None
    with transaction.atomic():
        rows = EnvironmentVersion.objects.filter(pk=version.pk, archived_at__isnull=archive)
        if not rows.update(archived_at=now):
            return False
        version.archived_at = now
        _note(version, user, "environment.archive" if archive else "environment.restore")
        return True


def archive(environment: Environment, user: User | None = None) -> bool:
    """It is offered no more; who names it still gets it. False: it is archived already."""
    return _archive_whole(environment, user, archive=True)


def restore(environment: Environment, user: User | None = None) -> bool:
    """Undo ``archive``; False: it is not archived."""
    return _archive_whole(environment, user, archive=False)


def _archive_whole(environment: Environment, user: User | None, *, archive: bool) -> bool:
    now = timezone.now() if archive else None
    with transaction.atomic():
        rows = Environment.objects.filter(pk=environment.pk, archived_at__isnull=archive)
        if not rows.update(archived_at=now):
            return False
        environment.archived_at = now
        action = "environment.archive" if archive else "environment.restore"
        audit.note(user, action, workspace=environment.workspace, subject=environment.name)
        return True


def _note(version: EnvironmentVersion, user: User | None, action: str, detail: str = "") -> None:
    audit.note(user, action, workspace=version.environment.workspace, subject=str(version), detail=detail)
