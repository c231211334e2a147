"""Environments by name: found without regard to case, registered as numbered versions."""

from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet

from environments.definition import Definition
from environments.models import Environment, EnvironmentVersion
from studio import audit
from studio.accounts.models import User
from studio.workspaces.models import Workspace


def visible(workspace: Workspace) -> "QuerySet[Environment]":
    """The workspace's own environments and the curated ones."""
    return Environment.objects.filter(Q(workspace=workspace) | Q(workspace=None))


def find(workspace: Workspace, name: str) -> Environment | None:
    """The environment of that name, without regard to case; the workspace's own before a curated one."""
    rows = list(visible(workspace).filter(name__iexact=name))
    # Exactly as written first, then own before curated.
    rows.sort(key=lambda row: (row.name != name, row.workspace_id is None, row.pk))
    return rows[0] if rows else None


def latest(environment: Environment) -> EnvironmentVersion | None:
    return environment.versions.order_by("-number").first()


def register(environment: Environment, definition: Definition, user: User | None = None) -> EnvironmentVersion:
    """The version with this definition: the newest if it is unchanged, else a new one with the next number."""
    data = definition.to_json()
    while True:
        newest = latest(environment)
        if newest is not None and newest.definition == data:
            return newest
        number = newest.number + 1 if newest else 1
        try:
            with transaction.atomic():
                made = EnvironmentVersion.objects.create(
                    environment=environment, number=number, definition=data, key=definition.key()
                )
                if user is not None:
                    audit.note(user, "environment.register", workspace=environment.workspace, subject=str(made))
                return made
        except IntegrityError:  # somebody registered that number meanwhile: look again
            continue
