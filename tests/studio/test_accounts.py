"""The doors: sign-in, one-time links, passwords, sessions, tokens."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client
from django.utils import timezone

from studio.accounts.links import owner_of, sign_in_link, spend
from studio.accounts.models import Token, User
from studio.workspaces.access import membership_of_token
from studio.workspaces.models import Membership, Role, Workspace
from tests.conftest import PASSWORD

NEW = "a quite different passphrase"


def path_of(link: str) -> str:
    return "/" + link.partition("://")[2].partition("/")[2]


def signed_in(client: Client) -> bool:
    return client.get("/account").status_code == 200


def try_password(client: Client, email: str, password: str, **fields: str):
    return client.post("/sign-in", {"email": email, "password": password, **fields})


class TestSignIn:
    def test_goes_to_the_page_that_was_wanted(self, owner: User, workspace: Workspace, visitor_client: Client) -> None:
        door = visitor_client.get(f"/{workspace.slug}/settings/tokens").headers["Location"]
        assert door == f"/sign-in?next=/{workspace.slug}/settings/tokens"
        answer = try_password(visitor_client, owner.email, PASSWORD, next=f"/{workspace.slug}/settings/tokens")
        assert answer.headers["Location"] == f"/{workspace.slug}/settings/tokens"

    def test_takes_the_email_in_any_case_and_with_blanks_around(self, owner: User, visitor_client: Client) -> None:
        assert try_password(visitor_client, f" {owner.email.upper()} ", PASSWORD).status_code == 302
        assert signed_in(visitor_client)

    def test_keeps_the_email_and_tells_no_more_than_that_it_failed(self, owner: User, visitor_client: Client) -> None:
        wrong = try_password(visitor_client, owner.email, "wrong").content.decode()
        unknown = try_password(visitor_client, "nobody@example.test", "wrong").content.decode()
        assert f'value="{owner.email}"' in wrong
        assert "That email and password do not match." in wrong
        assert "That email and password do not match." in unknown

    @pytest.mark.parametrize(
        "target",
        [
            "https://evil.example/",
            "//evil.example/",
            "/\\evil.example",
            "\\\\evil.example",
            "javascript:alert(1)",
            "http:evil.example",
            " //evil.example",
            "/\t/evil.example",
            "data:text/html,x",
        ],
    )
    def test_never_leads_to_another_site(self, target: str, owner: User, visitor_client: Client) -> None:
        page = visitor_client.get("/sign-in", {"next": target}).content.decode()
        assert 'name="next" value="/"' in page
        assert try_password(visitor_client, owner.email, PASSWORD, next=target).headers["Location"] == "/"
        assert visitor_client.get("/sign-in", {"next": target}).headers["Location"] == "/"

    def test_makes_a_new_session_so_that_a_planted_one_is_worth_nothing(self, owner: User, client: Client) -> None:
        session = client.session
        session["planted"] = "yes"
        session.save()
        planted = session.session_key
        try_password(client, owner.email, PASSWORD)
        assert client.session.session_key != planted

    def test_stops_after_ten_wrong_passwords_even_for_the_right_one(self, owner: User, visitor_client: Client) -> None:
        spellings = [owner.email, owner.email.upper(), f" {owner.email} "]
        codes = [try_password(visitor_client, spellings[i % 3], "wrong").status_code for i in range(10)]
        assert codes[-1] == 429
        assert try_password(visitor_client, owner.email, PASSWORD).status_code == 429
        assert not signed_in(visitor_client)

    def test_locks_the_tried_person_only(self, owner: User, reader: User, visitor_client: Client) -> None:
        for _ in range(11):
            try_password(visitor_client, owner.email, "wrong")
        assert try_password(visitor_client, reader.email, PASSWORD).status_code == 302

    def test_refuses_a_deactivated_person(self, owner: User, visitor_client: Client) -> None:
        User.objects.filter(pk=owner.pk).update(is_active=False)
        assert try_password(visitor_client, owner.email, PASSWORD).status_code == 200
        assert not signed_in(visitor_client)

    def test_a_fragment_of_a_signed_out_page_sends_the_whole_page_to_the_door(
        self, workspace: Workspace, visitor_client: Client
    ) -> None:
        answer = visitor_client.get(f"/{workspace.slug}/capacity", headers={"HX-Request": "true"})
        assert answer.status_code == 401
        assert answer.headers["HX-Redirect"] == "/sign-in"


class TestOneTimeLink:
    @pytest.fixture
    def newcomer(self, workspace: Workspace) -> User:
        user = User.objects.create_user("new@example.test")
        Membership.objects.create(workspace=workspace, user=user, role=Role.READER)
        return user

    def test_signs_in_by_a_press_and_not_by_looking(self, newcomer: User, visitor_client: Client) -> None:
        link = path_of(sign_in_link(newcomer))
        page = visitor_client.get(link, follow=True)
        assert page.status_code == 200
        assert newcomer.email in page.content.decode()
        assert not signed_in(visitor_client)
        answer = visitor_client.post("/sign-in/link")
        assert answer.headers["Location"] == "/account?first=1"
        assert signed_in(visitor_client)

    def test_leaves_no_token_in_the_address_of_the_page(self, newcomer: User, visitor_client: Client) -> None:
        answer = visitor_client.get(path_of(sign_in_link(newcomer)))
        assert answer.headers["Location"] == "/sign-in/link"

    def test_works_once(self, newcomer: User, client_of: Callable[..., Client]) -> None:
        link = path_of(sign_in_link(newcomer))
        first, second = client_of(None), client_of(None)
        first.get(link)
        second.get(link)
        assert first.post("/sign-in/link").status_code == 302
        assert second.post("/sign-in/link").status_code == 410
        assert not signed_in(second)
        assert client_of(None).get(link).status_code == 410

    def test_of_two_at_the_same_moment_one_gets_in(self, newcomer: User) -> None:
        one, two = User.objects.get(pk=newcomer.pk), User.objects.get(pk=newcomer.pk)
        assert [spend(one), spend(two)] == [True, False]

    def test_is_void_after_a_day(self, newcomer: User, visitor_client: Client, settings) -> None:
        link = path_of(sign_in_link(newcomer))
        settings.PASSWORD_RESET_TIMEOUT = -1
        assert visitor_client.get(link).status_code == 410

    @pytest.mark.parametrize(
        "uid, token", [("x", "y"), ("MQ", "abc-def"), ("", ""), ("w4A", "1-2"), ("OTk5OTk5OTk5OTk5OTk5OTk5OTk", "a-b")]
    )
    def test_nonsense_opens_nothing(self, uid: str, token: str, owner: User) -> None:
        assert owner_of(uid, token) is None

    def test_a_deactivated_person_stays_out(self, newcomer: User, visitor_client: Client) -> None:
        link = path_of(sign_in_link(newcomer))
        User.objects.filter(pk=newcomer.pk).update(is_active=False)
        assert visitor_client.get(link).status_code == 410

    def test_lets_its_person_set_a_password_without_the_old_one(self, owner: User, visitor_client: Client) -> None:
        visitor_client.get(path_of(sign_in_link(owner)))
        visitor_client.post("/sign-in/link")
        assert visitor_client.post("/account/password", {"new": NEW}).status_code == 302
        owner.refresh_from_db()
        assert owner.check_password(NEW)
        # Once only: from now on this session knows no more than any other.
        assert visitor_client.post("/account/password", {"new": "yet another passphrase"}).status_code == 422


class TestPassword:
    def test_needs_the_present_one(self, owner: User, owner_client: Client) -> None:
        answer = owner_client.post("/account/password", {"present": "wrong", "new": NEW})
        assert answer.status_code == 422
        assert "That is not your present password." in answer.content.decode()
        owner.refresh_from_db()
        assert owner.check_password(PASSWORD)

    @pytest.mark.parametrize("weak", ["short", "password123", "1234567890"])
    def test_must_not_be_weak(self, weak: str, owner: User, owner_client: Client) -> None:
        answer = owner_client.post("/account/password", {"present": PASSWORD, "new": weak})
        # Numbers alone are refused as common ones.
        assert answer.status_code == 422
        assert owner_client.session.session_key

    def test_ends_every_other_session_and_keeps_this_one(self, owner: User, client_of: Callable[..., Client]) -> None:
        here, there = client_of(owner), client_of(owner)
        assert signed_in(there)
        assert here.post("/account/password", {"present": PASSWORD, "new": NEW}).status_code == 302
        assert signed_in(here)
        assert not signed_in(there)

    def test_takes_the_tokens_with_it_when_asked(self, owner: User, owner_client: Client, workspace: Workspace) -> None:
        _, secret = Token.issue(user=owner, workspace=workspace, name="ci")
        owner_client.post("/account/password", {"present": PASSWORD, "new": NEW})
        assert Token.find(secret)
        owner_client.post("/account/password", {"present": NEW, "new": PASSWORD, "revoke": "on"})
        assert Token.find(secret) is None


class TestSessions:
    def test_end_with_the_sign_out(self, owner: User, client_of: Callable[..., Client]) -> None:
        client = client_of(owner)
        old = client.cookies.copy()
        assert client.post("/sign-out").status_code == 302
        client.cookies = old
        assert not signed_in(client)

    def test_a_link_does_not_sign_out(self, owner_client: Client) -> None:
        assert owner_client.get("/sign-out").status_code == 405
        assert signed_in(owner_client)

    def test_end_with_the_deactivation(self, owner: User, owner_client: Client) -> None:
        User.objects.filter(pk=owner.pk).update(is_active=False)
        assert not signed_in(owner_client)

    def test_cookies_are_for_this_site_and_no_script(self, owner: User, visitor_client: Client) -> None:
        try_password(visitor_client, owner.email, PASSWORD)
        cookie = next(value for name, value in visitor_client.cookies.items() if "session" in name)
        assert cookie["httponly"]
        assert cookie["samesite"] == "Lax"


class TestTokens:
    @pytest.fixture
    def bearer(self, workspace: Workspace) -> Callable[..., Client]:
        def make(user: User, **fields: object) -> Client:
            row, secret = Token.issue(user=user, workspace=workspace, name="t", **fields)
            client = Client(headers={"Authorization": f"Bearer {secret}"})
            client.row = row
            return client

        return make

    def code(self, client: Client, workspace: Workspace, method: str = "get") -> int:
        return getattr(client, method)(f"/api/v1/{workspace.slug}/runs").status_code

    def test_acts_until_it_is_revoked(
        self, contributor: User, workspace: Workspace, bearer: Callable[..., Client]
    ) -> None:
        client = bearer(contributor)
        assert self.code(client, workspace) == 200
        client.row.delete()
        assert self.code(client, workspace) == 401

    def test_is_dead_after_its_end_or_with_its_person(
        self, contributor: User, workspace: Workspace, bearer: Callable[..., Client]
    ) -> None:
        assert self.code(bearer(contributor, expires_at=timezone.now() - timedelta(seconds=1)), workspace) == 401

    def test_that_it_has_ended_is_told_to_who_holds_it(
        self, contributor: User, workspace: Workspace, bearer: Callable[..., Client]
    ) -> None:
        over = bearer(contributor, expires_at=datetime(2026, 1, 31, 12, tzinfo=UTC))
        answer = over.get(f"/api/v1/{workspace.slug}/runs")
        assert "The token ended on 2026-01-31." in answer.json()["detail"]
        client = bearer(contributor)
        User.objects.filter(pk=contributor.pk).update(is_active=False)
        assert self.code(client, workspace) == 401

    def test_a_read_only_token_of_an_owner_starts_nothing(
        self, owner: User, workspace: Workspace, bearer: Callable[..., Client]
    ) -> None:
        client = bearer(owner, scope="reader")
        assert self.code(client, workspace) == 200
        assert client.post(f"/api/v1/{workspace.slug}/runs", {}, "application/json").status_code == 403

    def test_never_outranks_its_person(self, reader: User, workspace: Workspace, bearer: Callable[..., Client]) -> None:
        row = bearer(reader, scope="owner").row
        membership = membership_of_token(Token.objects.select_related("user", "workspace").get(pk=row.pk))
        assert membership is not None
        assert membership.role == Role.READER

    def test_works_in_its_own_workspace_only(
        self, owner: User, workspace: Workspace, bearer: Callable[..., Client]
    ) -> None:
        other = Workspace.objects.create(slug="other", name="Other")
        Membership.objects.create(workspace=other, user=owner, role=Role.OWNER)
        assert self.code(bearer(owner), other) == 404

    def test_is_shown_once_and_kept_as_a_digest(self, owner_client: Client, workspace: Workspace) -> None:
        address = f"/{workspace.slug}/settings/tokens"
        page = owner_client.post(address, {"name": "ci", "scope": "contributor", "life": "90"}).content.decode()
        secret = re.search(r"rst_[\w-]{40,}", page)
        assert secret
        assert secret[0] not in owner_client.get(address).content.decode()
        row = Token.objects.get()
        assert secret[0] not in str(vars(row))
        assert Token.find(secret[0]) == row
        assert row.expires_at is not None

    def test_is_no_key_to_the_pages(self, owner: User, workspace: Workspace, bearer: Callable[..., Client]) -> None:
        assert bearer(owner).get(f"/{workspace.slug}/settings/members").status_code == 302
