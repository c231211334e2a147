"""Secrets over HTTP: values go in and never come out."""

from datetime import datetime

from django.http import HttpRequest
from ninja import Query, Router, Schema, Status

from studio.rest import REFUSED, Body, Member, Position, Refusal, page_of, refused
from studio.workspaces.forms import SecretForm, save_secret
from studio.workspaces.models import Role, Secret, Workspace

router = Router(tags=["secrets"])


class SecretName(Schema):
    name: str
    updated_at: datetime


class SecretValue(Body):
    value: str


class Secrets(Schema):
    secrets: list[SecretName]
    next: str | None


@router.get("", auth=Member(Role.READER), response={200: Secrets, REFUSED: Refusal})
def listed_secrets(request: HttpRequest, position: Query[Position]) -> dict[str, object]:
    """Names, by which runs, environments and targets use them."""
    page, following = page_of(workspace_of(request).secrets.defer("ciphertext"), "name", position)
    return {"secrets": page, "next": following}


@router.put("/{name}", auth=Member(Role.OWNER), response={200: SecretName, 201: SecretName, REFUSED: Refusal})
def keep_secret(request: HttpRequest, name: str, data: SecretValue) -> Status[Secret]:
    """Keep a value under a name, instead of one that is there."""
    form = SecretForm({"name": name, "value": data.value})
    if not form.is_valid():
        raise refused({field: " ".join(map(str, messages)) for field, messages in form.errors.items()})
    workspace = workspace_of(request)
    there = workspace.secrets.filter(name=name).first()
    row = there or Secret(workspace=workspace, name=name)
    save_secret(form, row, request.user)  # type: ignore[arg-type]
    return Status(200 if there else 201, row)


def workspace_of(request: HttpRequest) -> Workspace:
    found: Workspace = request.workspace  # type: ignore[attr-defined]
    return found
