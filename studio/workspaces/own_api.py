"""Who one is, and which workspaces there are for one, over HTTP."""

from datetime import datetime
from typing import Any

from django.http import HttpRequest
from ninja import Query, Router, Schema

from studio import VERSION
from studio.accounts.models import Token
from studio.rest import REFUSED, Person, Position, Refusal, person, slice_of
from studio.workspaces.access import membership_of_token
from studio.workspaces.models import Membership

router = Router(tags=["account"])


class OwnWorkspace(Schema):
    """``role``: the one that one acts with here."""

    slug: str
    name: str
    role: str


class OwnToken(Schema):
    name: str
    scope: str
    workspace: str
    expires_at: datetime | None


class Me(Schema):
    """``token``: the one that this request came with; null for a signed-in person."""

    email: str
    name: str
    version: str
    token: OwnToken | None


class OwnWorkspaces(Schema):
    workspaces: list[OwnWorkspace]
    next: str | None


@router.get("/me", auth=Person(), response={200: Me, REFUSED: Refusal})
def me(request: HttpRequest) -> dict[str, Any]:
    """Who calls, and which version answers."""
    user = person(request)
    token: Token | None = request.token  # type: ignore[attr-defined]
    own = token and {
        "name": token.name,
        "scope": token.scope,
        "workspace": token.workspace.slug,
        "expires_at": token.expires_at,
    }
    return {"email": user.email, "name": user.name, "version": VERSION, "token": own}


@router.get("/workspaces", auth=Person(), response={200: OwnWorkspaces, REFUSED: Refusal})
def workspaces(request: HttpRequest, position: Query[Position]) -> dict[str, Any]:
    """The workspaces that one is a member of; with a token, the one that it is for."""
    token: Token | None = request.token  # type: ignore[attr-defined]
    if token is not None:
        only = membership_of_token(token)
        rows = [only] if only else []
    else:
        rows = list(
            Membership.objects.filter(user=person(request))
            .select_related("workspace")
            .order_by("workspace__name", "pk")
        )
    found = [{"slug": row.workspace.slug, "name": row.workspace.name, "role": row.role} for row in rows]
    page, following = slice_of(found, lambda row: row["slug"], position)
    return {"workspaces": page, "next": following}
