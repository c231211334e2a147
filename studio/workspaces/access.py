"""Who may call which view. Every view of the site carries a policy; a test walks all routes and fails on one without.

Views authorise while fetching: an object is looked up inside the workspace that the person belongs to, so that a foreign
one cannot be told from one that does not exist.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django_htmx.middleware import HtmxDetails

from studio.accounts.models import Token, User
from studio.workspaces.models import FormerSlug, Membership, Role, Workspace

P = ParamSpec("P")
M = TypeVar("M", bound=Model)


class MemberRequest(HttpRequest):
    """A request of a member, as views decorated with ``member`` receive it."""

    user: User
    htmx: HtmxDetails
    workspace: Workspace
    membership: Membership

    def may(self, role: Role) -> bool:
        return self.membership.allows(role)


MemberView = Callable[Concatenate[MemberRequest, P], HttpResponseBase]


def public(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Mark a view that anybody may call."""
    view.policy = "public"  # type: ignore[attr-defined]
    return view


def signed_in(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Mark a view that needs a signed-in person and no workspace."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return to_sign_in(request)
        return view(request, *args, **kwargs)

    guarded.policy = "signed_in"  # type: ignore[attr-defined]
    return guarded


def to_sign_in(request: HttpRequest) -> HttpResponse:
    """Send a page to the sign-in; tell a fragment's page to go there as a whole."""
    if request.headers.get("HX-Request"):
        return HttpResponse(status=401, headers={"HX-Redirect": "/sign-in"})
    return redirect_to_login(request.get_full_path())


def member(role: Role) -> Callable[[MemberView[P]], Callable[..., HttpResponseBase]]:
    """Let members of at least ``role`` in; the view's first address part is the workspace's slug.

    Not signed in: to the sign-in. Not a member, or no such workspace: 404. A lower role: 403.
    """

    def decorate(view: MemberView[P]) -> Callable[..., HttpResponseBase]:
        @wraps(view)
        def guarded(request: Any, slug: str, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
            if not request.user.is_authenticated:
                return to_sign_in(request)
            membership = membership_of(request.user, slug)
            if membership is None:
                moved = moved_to(request, slug)
                if moved is None:
                    raise Http404("No such page.")
                return redirect(moved)
            if not membership.allows(role):
                raise PermissionDenied(f"This needs the role {role.label.lower()}; yours is {membership.role}.")
            adopt(request, membership)
            if request.session.get("workspace") != slug and not request.headers.get("HX-Request"):
                request.session["workspace"] = slug  # where "/" leads next time
            return view(request, *args, **kwargs)

        guarded.policy = role  # type: ignore[attr-defined]
        return guarded

    return decorate


def membership_of(user: User, slug: str) -> Membership | None:
    return Membership.objects.select_related("workspace").filter(user=user, workspace__slug=slug).first()


def moved_to(request: HttpRequest, slug: str) -> str | None:
    """Where a member's page is now, when its address has the workspace's former slug."""
    if request.method not in {"GET", "HEAD"} or not request.path.startswith(f"/{slug}/"):
        return None
    assert isinstance(request.user, User)
    former = (
        FormerSlug.objects.filter(slug=slug, workspace__memberships__user=request.user)
        .select_related("workspace")
        .first()
    )
    return f"/{former.workspace.slug}{request.get_full_path().removeprefix(f'/{slug}')}" if former else None


def membership_of_token(token: Token) -> Membership | None:
    """The membership that a token acts with: its owner's, its role lowered to the token's scope. Not to be saved."""
    membership = membership_of(token.user, token.workspace.slug)
    if membership is not None:
        membership.role = min(Role(membership.role), Role(token.scope), key=lambda role: role.rank)
    return membership


def adopt(request: Any, membership: Membership) -> None:
    request.membership = membership
    request.workspace = membership.workspace
    request.may = membership.allows


def fetch(rows: "QuerySet[M]", **lookup: Any) -> M:
    """The one row of an already workspace-bound queryset, or 404."""
    row = rows.filter(**lookup).first()
    if row is None:
        raise Http404("No such page.")
    return row
