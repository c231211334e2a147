"""Who calls: a token, as ``Bearer`` or as the password of ``Basic``, whatever the user's name beside it is."""

import base64
import binascii
from dataclasses import dataclass
from datetime import datetime

from django.db import connection
from django.http import HttpRequest
from django.utils import timezone

from runs.mlflow.problems import Problem
from studio.accounts.models import Token, User
from studio.rest import USED_SECONDS, too_many_wrong
from studio.workspaces.access import membership_of_token
from studio.workspaces.models import Role, Workspace

MAX_KNOWN = 1000
# Whether what is remembered of a token still holds: one look by its key, so that a token that is taken away is refused at once.
STILL = (
    "SELECT 1 FROM accounts_token t JOIN accounts_user u ON u.id = t.user_id "
    "JOIN workspaces_workspace w ON w.id = t.workspace_id "
    "JOIN workspaces_membership m ON m.user_id = t.user_id AND m.workspace_id = t.workspace_id "
    "WHERE t.digest = %s AND t.scope = %s AND u.is_active AND u.email = %s AND w.slug = %s AND m.role = %s"
)


@dataclass(slots=True)
class Caller:
    """A token's person in the token's workspace."""

    user: User
    workspace: Workspace
    role: Role
    token_id: int
    scope: str
    member_role: str
    expires_at: datetime | None
    last_used_at: datetime | None

    def needs(self, role: Role) -> None:
        """Raises Problem when the token may do less."""
        if self.role.rank < role.rank:
            raise Problem(
                "PERMISSION_DENIED",
                f"This needs the role {role.label.lower()}; the token acts as {self.role.label.lower()}. "
                "Make a token for that role in Settings, Tokens, or ask an owner.",
            )


_known: dict[str, Caller] = {}


def authenticate(request: HttpRequest) -> Caller:
    """Raises Problem: 401 without a good token, 429 after many wrong ones."""
    secret = _secret(request.META.get("HTTP_AUTHORIZATION", ""))
    digest = Token.hashed(secret) if secret else ""
    caller = _known.get(digest)
    now = timezone.now()
    if caller is None or not _holds(caller, digest, now):
        _known.pop(digest, None)
        caller = _load(request, secret)
        if len(_known) >= MAX_KNOWN:
            _known.clear()
        _known[digest] = caller
    if caller.last_used_at is None or (now - caller.last_used_at).total_seconds() > USED_SECONDS:
        caller.last_used_at = now
        Token.objects.filter(pk=caller.token_id).update(last_used_at=now)
    return caller


def _holds(caller: Caller, digest: str, now: datetime) -> bool:
    if caller.expires_at is not None and caller.expires_at <= now:
        return False
    with connection.cursor() as cursor:
        cursor.execute(STILL, [digest, caller.scope, caller.user.email, caller.workspace.slug, caller.member_role])
        return cursor.fetchone() is not None


def _load(request: HttpRequest, secret: str) -> Caller:
    if not secret:
        raise Problem(
            "UNAUTHENTICATED",
            "A token is needed: set MLFLOW_TRACKING_TOKEN to one of Settings, Tokens, or MLFLOW_TRACKING_PASSWORD with any user name.",
        )
    token = Token.find(secret)
    membership = membership_of_token(token) if token is not None else None
    if token is None or membership is None:
        if too_many_wrong(request):
            raise Problem("RESOURCE_EXHAUSTED", "Too many wrong tokens came from here. Wait a minute.")
        raise Problem("UNAUTHENTICATED", "The token is not valid. Make a new one in Settings, Tokens.")
    member_role = token.user.memberships.filter(workspace=token.workspace_id).values_list("role", flat=True).get()
    return Caller(
        token.user, token.workspace, Role(membership.role), token.pk, token.scope, member_role, token.expires_at, token.last_used_at
    )  # fmt: skip


def _secret(header: str) -> str:
    kind, _, rest = header.partition(" ")
    kind, rest = kind.lower(), rest.strip()
    if kind == "bearer":
        return rest
    if kind == "basic":
        try:
            return base64.b64decode(rest, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return ""
