"""Settings of a workspace: its name, its members, tokens and secrets."""

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from studio import audit
from studio.accounts.links import sign_in_link
from studio.accounts.models import Token, User
from studio.workspaces import members as rules
from studio.workspaces.access import MemberRequest, fetch, member, signed_in
from studio.workspaces.forms import MemberForm, RoleForm, SecretForm, TokenForm, WorkspaceForm, save_secret
from studio.workspaces.models import FormerSlug, Membership, Role, Secret, Workspace

FORM = ["GET", "HEAD", "POST"]


def settings_page(request: MemberRequest, tab: str, status: int = 200, **words: Any) -> HttpResponse:
    page = {"section": "settings", "tab": tab, "is_owner": request.may(Role.OWNER), **words}
    return render(request, f"workspaces/{tab}.html", page, status=status)


def status_of(form: Any) -> int:
    return 422 if form.errors else 200


@signed_in
@require_http_methods(FORM)
def create(request: HttpRequest) -> HttpResponseBase:
    form = WorkspaceForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        with transaction.atomic():
            workspace = form.save()
            FormerSlug.objects.filter(slug=workspace.slug).delete()
            assert isinstance(request.user, User)
            Membership.objects.create(workspace=workspace, user=request.user, role=Role.OWNER)
            audit.note(request.user, "workspace.create", workspace=workspace, subject=workspace.slug)
        return redirect(f"/{workspace.slug}/")
    return render(request, "workspaces/create.html", {"form": form}, status=status_of(form))


@require_http_methods(FORM)
@member(Role.READER)
def general(request: MemberRequest) -> HttpResponseBase:
    form = WorkspaceForm(request.POST if request.method == "POST" else None, instance=request.workspace)
    if request.method == "POST":
        need(request, Role.OWNER)
        if form.is_valid():
            with transaction.atomic():
                before = Workspace.objects.get(pk=request.workspace.pk)
                request.workspace.rename(form.cleaned_data["slug"])
                workspace = form.save()
                if form.changed_data:
                    told = f"{before.name} at {before.slug} → {workspace.name} at {workspace.slug}"
                    audit.note(
                        request.user, "workspace.rename", workspace=workspace, subject=workspace.slug, detail=told
                    )
            messages.success(request, "Saved.")
            return redirect("workspaces:general", workspace.slug)
        # A refused form has already changed the object that the shell shows.
        request.workspace.refresh_from_db()
    return settings_page(request, "general", status_of(form), form=form)


def need(request: MemberRequest, role: Role) -> None:
    if not request.may(role):
        raise PermissionDenied(f"This needs the role {role.label.lower()}; yours is {request.membership.role}.")


@require_safe
@member(Role.READER)
def settings(request: MemberRequest) -> HttpResponseBase:
    """The address that people guess."""
    return redirect("workspaces:members", slug=request.workspace.slug)


@never_cache
@require_http_methods(FORM)
@member(Role.READER)
def members(request: MemberRequest) -> HttpResponseBase:
    """Everybody sees who is here; an owner adds. A new person's one-time link is shown in this one answer only."""
    form = MemberForm(request.POST if request.method == "POST" else None)
    link = None
    if request.method == "POST":
        need(request, Role.OWNER)
        if form.is_valid():
            row, made, joined = rules.add(
                request.workspace, form.cleaned_data["email"], Role(form.cleaned_data["role"]), request.user
            )
            if not joined:
                form.add_error("email", f"{row.user} is a member already, as {row.role}.")
            elif made:
                link = {"person": row.user, "address": sign_in_link(row.user)}
                form = MemberForm()
            else:
                messages.success(request, f"{row.user} is now a member, as {row.role}.")
                return redirect("workspaces:members", request.workspace.slug)
    return members_page(request, form, link)


def members_page(request: MemberRequest, form: MemberForm, link: dict[str, Any] | None = None) -> HttpResponse:
    rows = request.workspace.memberships.select_related("user").order_by("user__name", "user__email")
    words = {"form": form, "link": link, "rows": rows, "roles": Role.choices, "shared_user": len(rows) > 1}
    return settings_page(request, "members", status_of(form), **words)


@require_POST
@member(Role.OWNER)
def member_change(request: MemberRequest, pk: int) -> HttpResponseBase:
    row = fetch(request.workspace.memberships.select_related("user"), pk=pk)
    form = RoleForm(request.POST)
    if not form.is_valid():
        messages.error(request, "role: choose reader, contributor or owner.")
    else:
        try:
            rules.change(row, Role(form.cleaned_data["role"]), request.user)
            messages.success(request, f"{row.user} is now {row.role}.")
        except rules.LastOwner as error:
            messages.error(request, str(error))
    return redirect("workspaces:members", request.workspace.slug)


@require_POST
@member(Role.READER)
def member_remove(request: MemberRequest, pk: int) -> HttpResponseBase:
    """An owner removes anybody; everybody may leave."""
    row = fetch(request.workspace.memberships.select_related("user"), pk=pk)
    leaves = row.user_id == request.user.pk
    if not leaves:
        need(request, Role.OWNER)
    try:
        rules.remove(row, request.user)
    except rules.LastOwner as error:
        messages.error(request, str(error))
        return redirect("workspaces:members", request.workspace.slug)
    if leaves:
        return redirect("front")
    messages.success(request, f"{row.user} was removed, and their tokens with them.")
    return redirect("workspaces:members", request.workspace.slug)


@never_cache
@require_POST
@member(Role.OWNER)
def member_link(request: MemberRequest, pk: int) -> HttpResponseBase:
    """A new one-time link, for somebody who never came in: one with a password must not be entered for them."""
    row = fetch(request.workspace.memberships.select_related("user"), pk=pk)
    if row.user.has_usable_password():
        raise PermissionDenied(f"{row.user} has a password and signs in with it.")
    return members_page(request, MemberForm(), {"person": row.user, "address": sign_in_link(row.user)})


@never_cache
@require_http_methods(FORM)
@member(Role.READER)
def tokens(request: MemberRequest) -> HttpResponseBase:
    """One's own tokens; an owner also sees and revokes the others'. The text is shown in this one answer only."""
    form = TokenForm(Role(request.membership.role), request.POST if request.method == "POST" else None)
    secret = None
    if request.method == "POST" and form.is_valid():
        life = form.lifetime
        with transaction.atomic():
            row, secret = Token.issue(
                user=request.user,
                workspace=request.workspace,
                name=form.cleaned_data["name"],
                scope=form.cleaned_data["scope"],
                expires_at=timezone.now() + life if life else None,
            )
            told = f"{row.scope}, until {row.expires_at:%Y-%m-%d}" if row.expires_at else f"{row.scope}, without an end"
            audit.note(request.user, "token.create", workspace=request.workspace, subject=row.name, detail=told)
        form = TokenForm(Role(request.membership.role))
    rows = visible_tokens(request).select_related("user")
    words = {"form": form, "secret": secret, "rows": rows, "now": timezone.now()}
    return settings_page(request, "tokens", status_of(form), **words)


def visible_tokens(request: MemberRequest) -> Any:
    rows = Token.objects.filter(workspace=request.workspace)
    return rows if request.may(Role.OWNER) else rows.filter(user=request.user)


@require_POST
@member(Role.READER)
def token_revoke(request: MemberRequest, pk: int) -> HttpResponseBase:
    row = fetch(visible_tokens(request), pk=pk)
    with transaction.atomic():
        row.delete()
        owner = "" if row.user_id == request.user.pk else f"of {row.user.email}"
        audit.note(request.user, "token.revoke", workspace=request.workspace, subject=row.name, detail=owner)
    messages.success(request, f"The token {row.name} is revoked.")
    return redirect("workspaces:tokens", request.workspace.slug)


@never_cache
@sensitive_post_parameters("value")
@require_http_methods(FORM)
@member(Role.READER)
def secrets(request: MemberRequest) -> HttpResponseBase:
    """Names for everybody, who needs them in a run's form; values go in and never come out."""
    form = SecretForm(request.POST if request.method == "POST" else None)
    if request.method == "POST":
        need(request, Role.OWNER)
        if form.is_valid():
            name = form.cleaned_data["name"]
            row = request.workspace.secrets.filter(name=name).first() or Secret(workspace=request.workspace, name=name)
            save_secret(form, row, request.user)
            messages.success(request, f"The secret {name} is kept.")
            return redirect("workspaces:secrets", request.workspace.slug)
    rows = request.workspace.secrets.select_related("created_by").defer("ciphertext")
    return settings_page(request, "secrets", status_of(form), form=form, rows=rows)


@require_POST
@member(Role.OWNER)
def secret_delete(request: MemberRequest, pk: int) -> HttpResponseBase:
    row = fetch(request.workspace.secrets.all(), pk=pk)
    with transaction.atomic():
        row.delete()
        audit.note(request.user, "secret.delete", workspace=request.workspace, subject=row.name)
    messages.success(request, f"The secret {row.name} is deleted. Runs that name it will not start.")
    return redirect("workspaces:secrets", request.workspace.slug)
