"""Who did what: one line for each change that others depend on."""

from studio.accounts.models import User
from studio.models import AuditEvent
from studio.workspaces.models import Workspace


def note(user: User | None, action: str, *, workspace: Workspace | None, subject: str = "", detail: str = "") -> None:
    """Write the line in the caller's transaction. ``user`` None means the studio itself; ``detail`` never holds a secret."""
    AuditEvent.objects.create(
        user=user, workspace=workspace, action=action, subject=subject[:255], detail=detail[:2000]
    )
