"""Every address of the site × every kind of person. A route that says nothing about who may call it fails the build."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from django.http import HttpResponse
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from ninja.operation import PathView

from studio.accounts.models import User
from studio.api import policy_of
from studio.workspaces.models import Membership, Role, Workspace
from tests.studio.world import World, fill

POLICIES = {"public", "signed_in", "token", Role.READER, Role.CONTRIBUTOR, Role.OWNER}
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
UNSAFE = ("POST", "PUT", "PATCH", "DELETE")
# The part of an address before <int:pk> says which kind of object is meant.
KINDS = {"members": "member", "tokens": "token", "secrets": "secret", "builds": "build", "metrics": "series"}
# The word before <name>, where it is not the plural of the kind.
NAMED = {"compute": "target"}
ADMIN = "admin/"
# A view that answers 404 without its parameter is called with one.
QUERIES = {
    "log/line": "?n=1",
    "logs/line": "?n=1",
    "/lock": "?platform=linux-x86_64-py3.11",
    "log/follow": "?seconds=1",
    "artifacts/content": "?path={output}",
    "versions/<version>/content": "?path={output}",
    "metrics/series": "?name={metric}",
}
# Contents come in under their digest, secrets under their name: the address names what is sent, not what is there.
UPLOADS = {("PUT", "api/v1/<slug>/snapshots/blobs/<digest>"), ("PUT", "api/v1/<slug>/secrets/<name>")}


@dataclass(frozen=True)
class Route:
    """One address pattern, as ``<slug:slug>/runs/<int:number>``, with who may call it by which method."""

    pattern: str
    methods: dict[str, str]
    """Method → policy. ``*`` for a view that decides about methods itself."""

    def __str__(self) -> str:
        return "/" + self.pattern

    @property
    def in_workspace(self) -> bool:
        return "slug>" in self.pattern

    @property
    def has_object(self) -> bool:
        return len(re.findall(r"<[^>]+>", self.pattern)) > 1

    @property
    def has_two_objects(self) -> bool:
        return len(re.findall(r"<[^>]+>", self.pattern)) > 2

    def path(self, world: World, slug: str = "", last: World | None = None) -> str:
        """The address with the names of ``world``, the last one of ``last``. KeyError: ``world.py`` lacks that kind."""
        text = self.pattern.replace("/$", "/").strip("^$")

        def value(match: re.Match[str]) -> str:
            name = match["name"]
            if name == "slug":
                return slug or world.workspace.slug
            values = (last if last and "<" not in text[match.end() :] else world).values
            if name == "number" and "environments/" in text:
                name = "version"
            if "models/" in text and (name == "version" or (name == "number" and not text.startswith("api/"))):
                name = "model_version"
            before = text[: match.start()].rstrip("/").rpartition("/")[2]
            if name in {"pk", "id"}:
                return str(values[KINDS[before]])
            if name in {"file", "path"}:
                return "train.py" if "snapshot" in text else str(values["output"])
            if name == "name":
                return str(values[NAMED.get(before, before.removesuffix("s"))])
            return str(values[name])

        path = "/" + re.sub(r"<(?:\w+:)?(?P<name>\w+)>", value, text)
        query = next((query for end, query in QUERIES.items() if text.endswith(end)), "")
        return path + query.format(**(last or world).values)

    def policy(self, method: str) -> str:
        return self.methods.get(method) or self.methods.get("*", "")


def walk(resolver: URLResolver, prefix: str = "") -> Iterator[tuple[str, URLPattern]]:
    for entry in resolver.url_patterns:
        if isinstance(entry, URLPattern):
            yield prefix + str(entry.pattern), entry
        else:
            yield from walk(entry, prefix + str(entry.pattern))


def operations(entry: URLPattern) -> dict[str, str] | None:
    """Method → lowest role of a REST address; None for a page. Empty policy: the operation says nothing."""
    cells = [cell.cell_contents for cell in getattr(entry.callback, "__closure__", None) or ()]
    candidates = [getattr(entry.callback, "__self__", None), *cells]
    view = next((candidate for candidate in candidates if isinstance(candidate, PathView)), None)
    if not isinstance(view, PathView):
        return None
    found = {}
    for operation in view.operations:
        roles = [role for call in operation.auth_callbacks if (role := policy_of(call))]
        sole = len(roles) == 1 and len(operation.auth_callbacks) == 1
        found.update(dict.fromkeys(operation.methods, str(roles[0]) if sole else ""))
    return found


def routes() -> list[Route]:
    found = []
    for pattern, entry in walk(get_resolver()):
        if pattern.startswith(ADMIN):
            continue
        methods = operations(entry)
        if methods is None:
            methods = {"*": "public" if describes_the_api(entry) else getattr(entry.callback, "policy", "")}
        found.append(Route(pattern, methods))
    return found


def describes_the_api(entry: URLPattern) -> bool:
    """Ninja's own two addresses: the schema and the root. They hold no row of anybody."""
    function = getattr(entry.callback, "func", None)
    return getattr(function, "__module__", "").startswith("ninja.openapi")


ROUTES = routes()
INSIDE = [route for route in ROUTES if route.in_workspace]
WITH_TWO = [route for route in INSIDE if route.has_two_objects]
WITH_OBJECT = [route for route in INSIDE if route.has_object]
PERSONAL = [route for route in ROUTES if not route.in_workspace and "signed_in" in route.methods.values()]


@pytest.fixture
def worlds(workspace: Workspace, foreign_workspace: Workspace, owner: User, reader: User) -> tuple[World, World]:
    elsewhere = foreign_workspace.memberships.get().user
    return fill(workspace, owner, reader, name="ours", number=7), fill(
        foreign_workspace, elsewhere, elsewhere, name="theirs", number=4711
    )


def send(client: Client, method: str, path: str, **extra: object) -> HttpResponse:
    return client.generic(method, path, content_type="application/x-www-form-urlencoded", **extra)


def answers(client: Client, route: Route, path: str) -> Iterator[tuple[str, HttpResponse]]:
    """Every method that the route takes, with its answer."""
    client.raise_request_exception = False
    for method in METHODS:
        if "*" not in route.methods and method not in route.methods:
            continue
        answer = send(client, method, path)
        if answer.status_code != 405:
            yield method, answer
            # A page may have signed the person out, or ended their session, on purpose.


def body(answer: HttpResponse) -> str:
    content = b"".join(answer.streaming_content) if answer.streaming else answer.content
    return content.decode(errors="replace")


def test_the_walk_sees_the_site() -> None:
    """A walk that finds nothing would pass every test below."""
    patterns = {str(route) for route in ROUTES}
    assert {"/sign-in", "/<slug:slug>/settings/members", "/healthz"} <= patterns
    assert len(INSIDE) > 30
    assert any(route.pattern.startswith("api/") and "POST" in route.methods for route in ROUTES)


@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_every_route_says_who_may_call_it(route: Route) -> None:
    assert route.methods, f"{route}: no operation"
    for method, policy in route.methods.items():
        assert policy in POLICIES, (
            f"{route} {method}: add @member(Role.…), @signed_in, @tracking or @public (or auth=Member(…))"
        )


@pytest.mark.parametrize("route", INSIDE, ids=str)
def test_a_workspace_needs_its_members(route: Route) -> None:
    for method, policy in route.methods.items():
        assert policy in set(Role), f"{route} {method}: it is inside a workspace and must name a role"


@pytest.mark.parametrize("route", INSIDE, ids=str)
def test_a_visitor_is_sent_to_the_door(route: Route, worlds: tuple[World, World], visitor_client: Client) -> None:
    for method, answer in answers(visitor_client, route, route.path(worlds[0])):
        if route.pattern.startswith("api/"):
            assert answer.status_code == 401, f"{method} {answer.status_code}"
        else:
            assert answer.status_code == 302, f"{method} {answer.status_code}"
            assert answer.headers["Location"].startswith("/sign-in?next=/")


@pytest.mark.parametrize("route", PERSONAL, ids=str)
def test_a_personal_page_sends_a_visitor_to_the_door(route: Route, visitor_client: Client) -> None:
    for _, answer in answers(visitor_client, route, "/" + route.pattern):
        if route.pattern.startswith("api/"):
            assert answer.status_code == 401
            continue
        assert answer.status_code == 302
        assert answer.headers["Location"].startswith("/sign-in")


@pytest.mark.parametrize("route", INSIDE, ids=str)
def test_a_stranger_and_a_member_of_another_workspace_find_nothing(
    route: Route, worlds: tuple[World, World], stranger: User, client_of: Callable[..., Client]
) -> None:
    ours, theirs = worlds
    elsewhere = theirs.workspace.memberships.get().user
    for person in (stranger, elsewhere):
        for method, answer in answers(client_of(person), route, route.path(ours)):
            assert answer.status_code == 404, f"{method} as {person}: {answer.status_code}"
            assert not [mark for mark in ours.marks if mark in body(answer)]


@pytest.mark.parametrize("route", WITH_OBJECT, ids=str)
@pytest.mark.parametrize("role", list(Role))
def test_an_object_of_a_foreign_workspace_is_not_there(
    route: Route, role: Role, worlds: tuple[World, World], person: Callable[..., User], client_of: Callable[..., Client]
) -> None:
    """The address of one's own workspace with the number, name or id of another one's object."""
    ours, theirs = worlds
    client = client_of(person(role))
    for method, answer in answers(client, route, route.path(theirs, slug=ours.workspace.slug)):
        allowed = Role(route.policy(method)).rank <= role.rank
        if (method, route.pattern) in UPLOADS:
            continue
        expected = {404} if allowed else {403, 404}
        assert answer.status_code in expected, f"{method}: {answer.status_code}"
        assert not [mark for mark in theirs.marks if mark in body(answer)]


# Not where the name is the same in both worlds: a train.py, and a version 1.
UNLIKE = [route for route in WITH_TWO if "snapshot" not in route.pattern and "environments/" not in route.pattern]


@pytest.mark.parametrize("route", UNLIKE, ids=str)
def test_an_object_of_another_run_is_not_there(route: Route, worlds: tuple[World, World], owner_client: Client) -> None:
    """One's own run, with a file or a series of a foreign one."""
    ours, theirs = worlds
    for method, answer in answers(owner_client, route, route.path(ours, last=theirs)):
        assert answer.status_code == 404, f"{method}: {answer.status_code}"
        assert not [mark for mark in theirs.marks if mark in body(answer)]


def test_sending_a_content_does_not_tell_whether_another_workspace_has_it(
    worlds: tuple[World, World], owner_client: Client
) -> None:
    ours, theirs = worlds
    there = theirs.run.artifacts.get()
    answers = [
        owner_client.put(f"/api/v1/{ours.workspace.slug}/snapshots/blobs/{digest}", b"", "application/octet-stream")
        for digest in (there.digest, "0" * 64)
    ]
    assert len({answer.status_code for answer in answers}) == 1
    assert len({body(answer).replace(there.digest, "0" * 64) for answer in answers}) == 1


@pytest.mark.parametrize("route", INSIDE, ids=str)
@pytest.mark.parametrize("role", list(Role))
def test_a_role_opens_what_it_should_and_nothing_above(
    route: Route, role: Role, worlds: tuple[World, World], person: Callable[..., User], client_of: Callable[..., Client]
) -> None:
    client = client_of(person(role))
    for method, answer in answers(client, route, route.path(worlds[0])):
        needs = Role(route.policy(method))
        if role.rank < needs.rank:
            assert answer.status_code == 403, f"{method}: {answer.status_code}"
        else:
            assert answer.status_code < 500, f"{method}: {answer.status_code}"
            assert answer.status_code not in {401, 404} or method != "GET", f"{method}: {answer.status_code}"


@pytest.mark.parametrize("route", [r for r in ROUTES if not {"public", "token"} & set(r.methods.values())], ids=str)
def test_nothing_changes_without_the_csrf_token(
    route: Route, worlds: tuple[World, World], owner: User, client_of: Callable[..., Client]
) -> None:
    client = client_of(owner, enforce_csrf_checks=True)
    path = route.path(worlds[0]) if route.in_workspace else "/" + route.pattern
    for method in UNSAFE:
        if "*" not in route.methods and method not in route.methods:
            continue
        plain = send(client, method, path)
        json = client.generic(method, path, "{}", content_type="application/json")
        allowed = {403, 405} if not route.pattern.startswith("api/") else {403, 405, 415}
        assert {plain.status_code, json.status_code} <= allowed, f"{method}: {plain.status_code}, {json.status_code}"


@pytest.mark.parametrize("path", ["/sign-in", "/sign-in/link"])
def test_the_doors_need_the_csrf_token_too(path: str, client_of: Callable[..., Client], db: None) -> None:
    assert client_of(None, enforce_csrf_checks=True).post(path, {"email": "a@b.c", "password": "x"}).status_code == 403


@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_every_answer_carries_the_safe_headers(route: Route, worlds: tuple[World, World], owner_client: Client) -> None:
    path = route.path(worlds[0]) if route.in_workspace else "/" + re.sub(r"<[^>]+>", "x", route.pattern)
    owner_client.raise_request_exception = False
    answer = owner_client.get(path)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    policy = answer.headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in policy or "frame-ancestors 'self'" in policy or "sandbox" in policy
    assert "unsafe-eval" not in policy
    assert not re.search(r"script-src[^;]*(unsafe-inline|\*|https?:)", policy)
    assert answer.headers["Referrer-Policy"] == "same-origin"


@pytest.mark.parametrize("route", INSIDE, ids=str)
def test_no_page_has_inline_script(route: Route, worlds: tuple[World, World], owner_client: Client) -> None:
    owner_client.raise_request_exception = False
    answer = owner_client.get(route.path(worlds[0]))
    if not answer.headers.get("Content-Type", "").startswith("text/html"):
        return
    page = body(answer)
    assert not re.search(r"<script(?![^>]*\bsrc=)(?![^>]*type=\"application/json\")", page)
    assert not re.search(r"<[^>]+\son[a-z]+\s*=", page)
    assert "javascript:" not in page
    assert "hx-on" not in page


class TestAdmin:
    @pytest.mark.parametrize("role", [*Role, None])
    def test_is_closed_to_everybody_but_staff(
        self, role: Role | None, person: Callable[..., User], client_of: Callable[..., Client]
    ) -> None:
        client = client_of(person(role))
        for path in (
            "/admin/",
            "/admin/accounts/user/",
            "/admin/workspaces/workspace/",
            "/admin/workspaces/membership/",
        ):
            answer = client.get(path)
            assert answer.status_code == 302, path
            assert answer.headers["Location"].startswith("/admin/login/")

    def test_has_no_second_door_past_the_rate_limit(self, visitor_client: Client) -> None:
        answer = visitor_client.post("/admin/login/", {"username": "a@example.test", "password": "x"})
        assert answer.status_code == 405
        assert visitor_client.get("/admin/login/?next=/admin/").headers["Location"].startswith("/sign-in")

    def test_opens_to_staff_and_keeps_its_frames_shut(
        self, person: Callable[..., User], client_of: Callable[..., Client]
    ) -> None:
        client = client_of(person(None, is_staff=True, is_superuser=True))
        for path in ("/admin/", "/admin/accounts/user/", "/admin/workspaces/workspace/add/"):
            answer = client.get(path)
            assert answer.status_code == 200, path
            assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]


def test_a_foreign_host_name_is_refused(visitor_client: Client) -> None:
    assert visitor_client.get("/sign-in", headers={"Host": "evil.example"}).status_code == 400


def test_a_foreign_origin_is_refused(owner: User, client_of: Callable[..., Client], workspace: Workspace) -> None:
    client = client_of(owner, enforce_csrf_checks=True)
    token = re.search(r'name="csrf-token" content="([^"]+)"', body(client.get("/account")))
    assert token
    fields = {"csrfmiddlewaretoken": token[1], "name": "Mallory", "density": "default", "zone": "UTC"}
    assert client.post("/account", fields, headers={"Origin": "https://evil.example"}).status_code == 403
    assert client.post("/account", fields, headers={"Origin": "http://testserver"}).status_code == 302


def test_a_page_that_is_not_there_gives_an_id_to_copy(owner_client: Client, workspace: Workspace) -> None:
    answer = owner_client.get("/no-such-workspace/runs")
    assert answer.status_code == 404
    assert re.search(r"data-copy=\"404-[0-9a-f]{10}\"", body(answer))


def test_an_error_of_ours_tells_its_id_and_nothing_else(
    owner_client: Client, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import studio.views

    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("the inner secret")

    monkeypatch.setattr(studio.views, "find", broken)
    owner_client.raise_request_exception = False
    answer = owner_client.get(f"/{workspace.slug}/jump?q=x")
    assert answer.status_code == 500
    assert "the inner secret" not in body(answer)
    incident = re.search(r"500-([0-9a-f]{10})", body(answer))
    assert incident
    assert any(incident[1] in record.getMessage() and record.exc_info for record in caplog.records)


def test_membership_ends_and_so_does_everything(
    contributor: User, contributor_client: Client, workspace: Workspace
) -> None:
    assert contributor_client.get(f"/{workspace.slug}/settings/members").status_code == 200
    Membership.objects.filter(user=contributor).delete()
    assert contributor_client.get(f"/{workspace.slug}/settings/members").status_code == 404
