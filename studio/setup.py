"""What a new studio begins with. Everything here may run again at every start, and in two processes at once."""

import getpass
from dataclasses import dataclass

from django.db import IntegrityError, transaction

from studio.accounts.models import User
from studio.workspaces.models import Membership, Role, Workspace


@dataclass(frozen=True)
class FirstStart:
    workspace: Workspace
    owner: User
    made: bool
    """Whether this call made the workspace: true in exactly one process, once."""


def first_start() -> FirstStart:
    """The workspace ``default`` and its owner; made when the studio has no workspace at all yet.

    A studio whose ``default`` was renamed or removed is not new: its oldest workspace and that one's oldest owner are returned.
    """
    found = existing()
    if found is not None:
        return found
    try:
        with transaction.atomic():
            # The unique slug decides between two processes: the loser's transaction goes back as a whole.
            workspace = Workspace.objects.create(slug="default", name="Default")
            owner = User.objects.filter(is_superuser=True, is_active=True).order_by("pk").first() or make_owner()
            Membership.objects.create(workspace=workspace, user=owner, role=Role.OWNER)
    except IntegrityError:
        found = existing()
        if found is None:
            raise
        return found
    return FirstStart(workspace, owner, made=True)


def existing() -> FirstStart | None:
    first = (
        Membership.objects.filter(role=Role.OWNER, user__is_active=True)
        .select_related("workspace", "user")
        .order_by("pk")
        .first()
    )
    return FirstStart(first.workspace, first.user, made=False) if first else None


def make_owner() -> User:
    """The person who starts the studio. Without a password until they set one: the one-time link is the first key."""
    try:
        account = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        account = "owner"
    name = "".join(letter for letter in account.lower() if letter.isalnum() or letter in "._-") or "owner"
    return User.objects.create_superuser(f"{name}@localhost", name=account)
