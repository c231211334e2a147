"""Tokens over HTTP: a token's text is in one answer only, the one that makes it."""

from datetime import datetime, timedelta
from typing import Annotated, Any

from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from ninja import Query, Router, Schema, Status
from pydantic import Field

from studio import audit
from studio.accounts.models import Token
from studio.once import once
from studio.rest import (
    REFUSED,
    Body,
    Member,
    Position,
    Problem,
    Refusal,
    not_found,
    page_of,
    person,
    refused,
    workspace_of,
)
from studio.workspaces.models import Role

router = Router(tags=["tokens"])
MAX_DAYS = 3650
MAX_NAME = 80
MAX_ID = 2**63 - 1


class TokenShown(Schema):
    """``hint``: how its text begins. ``scope``: the highest role it acts with."""

    id: int
    name: str
    hint: str
    scope: str
    owner: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


class MadeToken(TokenShown):
    """``token`` is its text, kept nowhere; null in the answer to a repeated request."""

    token: str | None


class Tokens(Schema):
    tokens: list[TokenShown]
    next: str | None


class NewToken(Body):
    """``days`` until it ends; null: no end."""

    name: str
    scope: Annotated[Role, Field(strict=False)] = Role.CONTRIBUTOR
    days: int | None = 90


class Revoked(Schema):
    revoked: bool


@router.get("", auth=Member(Role.READER), response={200: Tokens, REFUSED: Refusal})
def listed(request: HttpRequest, position: Query[Position]) -> dict[str, Any]:
    """One's own tokens, the newest first; an owner also sees the others'."""
    page, following = page_of(tokens_of(request), "id", position, newest=True)
    return {"tokens": [described(row) for row in page], "next": following}


@router.post("", auth=Member(Role.READER), response={201: MadeToken, REFUSED: Refusal})
def made(request: HttpRequest, data: NewToken) -> Status[dict[str, Any]]:
    """Make a token for this workspace. Its role is at most one's own, and a token makes none that outlives it.

    With ``Idempotency-Key`` a repeated request makes no other one; its answer has no ``token``: revoke it, and make a new one.
    """
    errors: dict[str, str] = {}
    if not data.name.strip() or len(data.name) > MAX_NAME or not data.name.isprintable():
        errors["name"] = f"It is no single line of text. Use 1 to {MAX_NAME} characters."
    own = Role(request.membership.role)  # type: ignore[attr-defined]
    if data.scope.rank > own.rank:
        errors["scope"] = f"It is above your own role. Use {own} at most."
    if data.days is not None and not 1 <= data.days <= MAX_DAYS:
        errors["days"] = f"It is out of range. Use 1 to {MAX_DAYS:,}, or null for a token without an end."
    if errors:
        raise refused(errors)
    end = timezone.now() + timedelta(days=data.days) if data.days is not None else None
    by: Token | None = request.token  # type: ignore[attr-defined]
    if by is not None and by.expires_at is not None and (end is None or end > by.expires_at):
        rule = f"A token makes none that outlives it; yours ends {by.expires_at:%Y-%m-%d}."
        raise Problem.of(403, "days", rule, "Ask for fewer days, or sign in and make it in Settings, Tokens.")

    def make() -> dict[str, Any]:
        with transaction.atomic():
            row, secret = Token.issue(
                user=person(request),
                workspace=workspace_of(request),
                name=data.name.strip(),
                scope=data.scope,
                expires_at=end,
            )
            told = f"{row.scope}, until {end:%Y-%m-%d}" if end else f"{row.scope}, without an end"
            audit.note(person(request), "token.create", workspace=row.workspace, subject=row.name, detail=told)
        return {**described(row), "token": secret}

    return Status(201, once(request, data.model_dump(), make, keep=lambda body: {**body, "token": None}))


@router.delete("/{int:id}", auth=Member(Role.READER), response={200: Revoked, REFUSED: Refusal})
def revoked(request: HttpRequest, id: int) -> dict[str, bool]:
    """Revoke a token: from now on it answers 401."""
    row = tokens_of(request).filter(pk=id).first() if id <= MAX_ID else None
    if row is None:
        raise not_found("token")
    with transaction.atomic():
        row.delete()
        owner = "" if row.user == person(request) else f"of {row.user.email}"
        audit.note(person(request), "token.revoke", workspace=workspace_of(request), subject=row.name, detail=owner)
    return {"revoked": True}


def tokens_of(request: HttpRequest) -> QuerySet[Token]:
    rows = Token.objects.filter(workspace=workspace_of(request)).select_related("user")
    is_owner = request.membership.allows(Role.OWNER)  # type: ignore[attr-defined]
    return rows if is_owner else rows.filter(user=person(request))


def described(row: Token) -> dict[str, Any]:
    names = ("name", "hint", "scope", "created_at", "expires_at", "last_used_at")
    return {"id": row.pk, "owner": str(row.user), **{name: getattr(row, name) for name in names}}
