"""Every operation of the REST API × every kind of token. The operations are those of the description, so that none is forgotten."""

import itertools
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core.cache import cache
from django.db import transaction
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

from studio import rest
from studio.accounts.models import Token, User
from studio.api import api, policies
from studio.openapi import plain
from studio.workspaces.models import Membership, Role, Workspace
from tests.studio.test_routes import ROUTES, UPLOADS, Route, body
from tests.studio.world import World, fill

DESCRIBED = {
    (method.upper(), path): operation
    for path, item in api.get_openapi_schema()["paths"].items()
    for method, operation in item.items()
}
CALLS = [
    (method, route)
    for route in ROUTES
    if route.pattern.startswith("api/") and "*" not in route.methods
    for method in route.methods
]
INSIDE = [(method, route) for method, route in CALLS if route.in_workspace]
NAMING = [(method, route) for method, route in INSIDE if route.has_object and (method, route.pattern) not in UPLOADS]


def each(calls: list[tuple[str, Route]]) -> Any:
    return pytest.mark.parametrize(("method", "route"), calls, ids=str)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Many wrong tokens come from here on purpose."""
    monkeypatch.setattr(rest, "BAD_TOKENS", 10**6)
    yield
    cache.clear()


@pytest.fixture
def ours(workspace: Workspace, owner: User, reader: User) -> World:
    return fill(workspace, owner, reader, name="ours", number=7)


@pytest.fixture
def theirs(foreign_workspace: Workspace) -> World:
    elsewhere = foreign_workspace.memberships.get().user
    return fill(foreign_workspace, elsewhere, elsewhere, name="theirs", number=4711)


def path_of(route: Route, world: World, slug: str = "") -> str:
    return route.path(world, slug) if route.in_workspace else "/" + route.pattern


def call(method: str, path: str, text: str | None, content: bytes = b"{}") -> HttpResponse:
    client = Client(headers={"Authorization": f"Bearer {text}"} if text is not None else {})
    client.raise_request_exception = False
    return client.generic(method, path, content, content_type="application/json")


def token(user: User, workspace: Workspace, scope: Role, **fields: Any) -> str:
    return Token.issue(user=user, workspace=workspace, name="matrix", scope=scope, **fields)[1]


def is_refused(answer: HttpResponse, status: int) -> None:
    assert answer.status_code == status, answer.content[:500]
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert all(error["rule"] and error["fix"] for error in answer.json()["errors"])


def test_the_matrix_has_every_operation_of_the_description() -> None:
    assert {(method, "/" + plain(route.pattern)) for method, route in CALLS} == set(DESCRIBED)
    assert len(INSIDE) > 75
    stated = {
        (method, f"/api/v1{plain(path)}"): role for path, item in policies().items() for method, role in item.items()
    }
    assert stated == {(method, "/" + plain(route.pattern)): route.policy(method) for method, route in CALLS}


@each(CALLS)
def test_no_token_and_one_that_is_wrong_expired_revoked_or_of_somebody_gone_is_401(
    method: str, route: Route, ours: World, owner: User, person: Callable[..., User]
) -> None:
    workspace = ours.workspace
    gone = person(Role.OWNER, is_active=False)
    revoked = token(owner, workspace, Role.OWNER)
    Token.objects.filter(digest=Token.hashed(revoked)).delete()
    past = timezone.now() - timedelta(seconds=1)
    texts = {
        "none": None, "wrong": "rst_" + "x" * 43, "empty": "", "odd": "\xe9 \xff", "revoked": revoked,
        "expired": token(owner, workspace, Role.OWNER, expires_at=past), "gone": token(gone, workspace, Role.OWNER),
    }  # fmt: skip
    for text in texts.values():
        answer = call(method, path_of(route, ours), text)
        is_refused(answer, 401)
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert not [mark for mark in ours.marks if mark in body(answer)]


@each(INSIDE)
def test_a_token_opens_what_its_scope_and_its_owners_role_both_do(
    method: str, route: Route, ours: World, person: Callable[..., User]
) -> None:
    """Each meets the same rows: what it changed is undone."""
    needs, path = Role(route.policy(method)), path_of(route, ours)
    for role, scope in itertools.product(Role, Role):
        with transaction.atomic():
            answer = call(method, path, token(person(role), ours.workspace, scope))
            if min(role.rank, scope.rank) < needs.rank:
                is_refused(answer, 403)
            else:
                assert answer.status_code < 500 and answer.status_code not in {401, 403}, (role, scope, answer.content)
            transaction.set_rollback(True)


@each(INSIDE)
def test_a_token_of_another_workspace_finds_nothing_also_where_its_owner_is_a_member_of_both(
    method: str, route: Route, ours: World, theirs: World, owner: User
) -> None:
    Membership.objects.create(workspace=theirs.workspace, user=owner, role=Role.OWNER)
    elsewhere = theirs.workspace.memberships.exclude(user=owner).get().user
    for user in (owner, elsewhere):
        answer = call(method, path_of(route, ours), token(user, theirs.workspace, Role.OWNER))
        is_refused(answer, 404)
        assert not [mark for mark in ours.marks if mark in body(answer)]


@each(NAMING)
def test_a_token_finds_no_object_of_another_workspace_in_its_own(
    method: str, route: Route, ours: World, theirs: World, owner: User
) -> None:
    answer = call(
        method, path_of(route, theirs, slug=ours.workspace.slug), token(owner, ours.workspace, Role.OWNER), b""
    )
    assert answer.status_code in {404, 422}, answer.content[:500]
    if answer.status_code == 422:  # what it needs was not sent: then it tells nothing of what is there
        there = call(method, path_of(route, ours), token(owner, ours.workspace, Role.OWNER), b"")
        assert there.status_code == 422 and there.content == answer.content
    assert not [mark for mark in theirs.marks if mark in body(answer)]


def test_many_wrong_tokens_keep_no_good_one_out(
    monkeypatch: pytest.MonkeyPatch, workspace: Workspace, owner: User
) -> None:
    monkeypatch.setattr(rest, "BAD_TOKENS", 3)
    good = token(owner, workspace, Role.READER)
    for path in (f"/api/v1/{workspace.slug}/runs", "/api/2.0/mlflow/experiments/get?experiment_id=0"):
        cache.clear()
        assert [call("GET", path, f"rst_wrong{n}").status_code for n in range(5)] == [401, 401, 401, 429, 429]
        assert call("GET", path, good).status_code == 200
