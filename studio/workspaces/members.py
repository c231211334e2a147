"""Who belongs to a workspace, and the one rule: it always keeps an owner."""

from django.db import transaction

from studio import audit
from studio.accounts.models import Token, User
from studio.workspaces.models import Membership, Role, Workspace


class LastOwner(Exception):
    """The workspace would be left without an owner."""

    def __str__(self) -> str:
        return "This is the last owner. Make another member an owner first."


def add(workspace: Workspace, email: str, role: Role, by: User | None) -> tuple[Membership, bool, bool]:
    """Make the person if need be, and the membership; return it, whether the person and whether the membership is new."""
    with transaction.atomic():
        user = User.objects.filter(email=email).first()
        made = user is None
        if user is None:
            user = User.objects.create_user(email)
            audit.note(by, "user.create", workspace=workspace, subject=email)
        membership, joined = Membership.objects.get_or_create(workspace=workspace, user=user, defaults={"role": role})
        if joined:
            audit.note(by, "member.add", workspace=workspace, subject=user.email, detail=role)
    return membership, made, joined


def _keeps_an_owner(membership: Membership) -> None:
    """Raise LastOwner when no other active owner is there. Call inside the transaction that takes this one away."""
    owners = Membership.objects.select_for_update().filter(
        workspace_id=membership.workspace_id, role=Role.OWNER, user__is_active=True
    )
    if membership.role == Role.OWNER and not [row for row in owners if row.pk != membership.pk]:
        raise LastOwner


def change(membership: Membership, role: Role, by: User | None) -> None:
    with transaction.atomic():
        if role != Role.OWNER:
            _keeps_an_owner(membership)
        before, membership.role = membership.role, role
        membership.save(update_fields=["role"])
        if before != role:
            email = membership.user.email
            audit.note(by, "member.change", workspace=membership.workspace, subject=email, detail=f"{before} → {role}")


def remove(membership: Membership, by: User | None) -> None:
    """Take the person out; the tokens made for this workspace end with it."""
    with transaction.atomic():
        _keeps_an_owner(membership)
        Token.objects.filter(workspace_id=membership.workspace_id, user_id=membership.user_id).delete()
        audit.note(by, "member.remove", workspace=membership.workspace, subject=membership.user.email)
        membership.delete()
