"""Members, tokens, secrets, names: the settings of a workspace."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from django.test import Client

from studio import credentials
from studio.accounts.models import Token, User
from studio.setup import first_start
from studio.workspaces import members
from studio.workspaces.models import RESERVED_SLUGS, Membership, Role, Secret, Workspace


def text(answer) -> str:
    return answer.content.decode()


class TestMembers:
    def address(self, workspace: Workspace, more: str = "") -> str:
        return f"/{workspace.slug}/settings/members{more}"

    def test_a_new_person_gets_a_link_that_is_shown_once(self, owner_client: Client, workspace: Workspace) -> None:
        page = text(owner_client.post(self.address(workspace), {"email": "New@Example.test", "role": "reader"}))
        assert "/sign-in/link/" in page
        assert "/sign-in/link/" not in text(owner_client.get(self.address(workspace)))
        row = Membership.objects.get(user__email="new@example.test")
        assert (row.workspace, row.role) == (workspace, "reader")
        assert not row.user.has_usable_password()

    def test_a_known_person_gets_no_link_of_somebody_elses_making(
        self, owner_client: Client, workspace: Workspace, stranger: User
    ) -> None:
        answer = owner_client.post(self.address(workspace), {"email": stranger.email, "role": "reader"})
        assert answer.status_code == 302
        row = Membership.objects.get(user=stranger)
        again = owner_client.post(self.address(workspace, f"/{row.pk}/link"))
        assert again.status_code == 403
        assert "/sign-in/link/" not in text(again)

    def test_nobody_joins_twice(self, owner_client: Client, workspace: Workspace, reader: User) -> None:
        answer = owner_client.post(self.address(workspace), {"email": reader.email, "role": "owner"})
        assert answer.status_code == 422
        assert "is a member already" in text(answer)
        assert Membership.objects.get(user=reader).role == Role.READER

    @pytest.mark.parametrize("change", ["contributor", "reader", "remove"])
    def test_the_last_owner_stays(self, change: str, owner: User, owner_client: Client, workspace: Workspace) -> None:
        row = Membership.objects.get(user=owner)
        path = f"/{row.pk}/remove" if change == "remove" else f"/{row.pk}"
        answer = owner_client.post(self.address(workspace, path), {"role": change}, follow=True)
        assert "This is the last owner." in text(answer)
        assert Membership.objects.get(pk=row.pk).role == Role.OWNER

    def test_a_deactivated_owner_does_not_count(self, owner: User, person: Callable[..., User]) -> None:
        person(Role.OWNER, is_active=False)
        with pytest.raises(members.LastOwner):
            members.change(Membership.objects.get(user=owner), Role.READER, owner)

    def test_a_removed_person_takes_their_tokens_along(
        self, owner_client: Client, contributor: User, workspace: Workspace
    ) -> None:
        _, secret = Token.issue(user=contributor, workspace=workspace, name="ci")
        owner_client.post(self.address(workspace, f"/{Membership.objects.get(user=contributor).pk}/remove"))
        assert Token.find(secret) is None
        assert not Membership.objects.filter(user=contributor).exists()

    def test_everybody_may_leave_and_nobody_removes_others(
        self, reader: User, reader_client: Client, contributor: User, workspace: Workspace
    ) -> None:
        other = Membership.objects.get(user=contributor)
        assert reader_client.post(self.address(workspace, f"/{other.pk}/remove")).status_code == 403
        own = Membership.objects.get(user=reader)
        assert reader_client.post(self.address(workspace, f"/{own.pk}/remove")).status_code == 302
        assert reader_client.get(self.address(workspace)).status_code == 404

    def test_a_second_member_brings_the_warning(
        self, owner_client: Client, workspace: Workspace, person: Callable[..., User]
    ) -> None:
        warning = "share the studio"
        assert warning not in text(owner_client.get(self.address(workspace)))
        person(Role.CONTRIBUTOR)
        assert warning in text(owner_client.get(self.address(workspace)))

    def test_names_are_escaped(self, owner_client: Client, workspace: Workspace, person: Callable[..., User]) -> None:
        person(Role.READER, name='<img src=x onerror=alert(1)> hx-get="/x"')
        page = text(owner_client.get(self.address(workspace)))
        assert "<img" not in page
        assert "&lt;img" in page


class TestTokens:
    def test_one_sees_and_revokes_ones_own_and_an_owner_all(
        self, owner: User, owner_client: Client, contributor: User, contributor_client: Client, workspace: Workspace
    ) -> None:
        mine, _ = Token.issue(user=contributor, workspace=workspace, name="mine")
        theirs, _ = Token.issue(user=owner, workspace=workspace, name="theirs")
        base = f"/{workspace.slug}/settings/tokens"
        assert "theirs" not in text(contributor_client.get(base))
        assert contributor_client.post(f"{base}/{theirs.pk}/revoke").status_code == 404
        assert "mine" in text(owner_client.get(base))
        assert owner_client.post(f"{base}/{mine.pk}/revoke").status_code == 302
        assert not Token.objects.filter(pk=mine.pk).exists()

    def test_nobody_makes_one_above_their_role(self, reader_client: Client, workspace: Workspace) -> None:
        answer = reader_client.post(f"/{workspace.slug}/settings/tokens", {"name": "x", "scope": "owner", "life": "7"})
        assert answer.status_code == 422
        assert not Token.objects.exists()


class TestSecrets:
    VALUE = "planted-value-93f1"

    def test_go_in_and_never_come_out(
        self, owner_client: Client, reader_client: Client, workspace: Workspace, foreign_workspace: Workspace
    ) -> None:
        address = f"/{workspace.slug}/settings/secrets"
        assert owner_client.post(address, {"name": "HF_TOKEN", "value": self.VALUE}).status_code == 302
        row = Secret.objects.get()
        assert row.reveal() == self.VALUE
        assert self.VALUE.encode() not in bytes(row.ciphertext)
        for client in (owner_client, reader_client):
            page = text(client.get(address))
            assert "HF_TOKEN" in page
            assert self.VALUE not in page

    def test_are_not_echoed_when_the_name_is_wrong(self, owner_client: Client, workspace: Workspace) -> None:
        answer = owner_client.post(f"/{workspace.slug}/settings/secrets", {"name": "no way!", "value": self.VALUE})
        assert answer.status_code == 422
        assert self.VALUE not in text(answer)
        assert "Use 1 to 255 letters" in text(answer)

    def test_a_name_that_is_there_gets_the_new_value(self, owner_client: Client, workspace: Workspace) -> None:
        for value in ("one", "two\r\nlines"):
            owner_client.post(f"/{workspace.slug}/settings/secrets", {"name": "KEY", "value": value})
        assert Secret.objects.get().reveal() == "two\nlines"

    def test_contributors_set_none(self, contributor_client: Client, workspace: Workspace) -> None:
        answer = contributor_client.post(f"/{workspace.slug}/settings/secrets", {"name": "KEY", "value": "x"})
        assert answer.status_code == 403
        assert not Secret.objects.exists()

    def test_do_not_depend_on_the_key_of_the_sessions(self, settings) -> None:
        sealed = credentials.encrypt("x")
        settings.SECRET_KEY = "another"
        assert credentials.decrypt(sealed) == "x"


class TestNames:
    def test_the_old_address_leads_to_the_new_one(
        self, owner_client: Client, stranger_client: Client, workspace: Workspace
    ) -> None:
        answer = owner_client.post(f"/{workspace.slug}/settings/general", {"name": "Lab", "slug": "lab"})
        assert answer.headers["Location"] == "/lab/settings/general"
        moved = owner_client.get("/vision/settings/members?x=1")
        assert moved.headers["Location"] == "/lab/settings/members?x=1"
        assert stranger_client.get("/vision/settings/members").status_code == 404

    def test_an_old_address_is_free_for_another_workspace(self, owner_client: Client, workspace: Workspace) -> None:
        owner_client.post("/vision/settings/general", {"name": "Lab", "slug": "lab"})
        assert owner_client.post("/workspaces/new", {"name": "Second", "slug": "vision"}).status_code == 302
        assert "Second" in text(owner_client.get("/vision/settings/general"))

    @pytest.mark.parametrize("slug", [*sorted(RESERVED_SLUGS), "Upper", "-a", "a-", "a_b", "a/b", "", "x" * 41, "ünï"])
    def test_an_address_of_the_studio_or_a_wrong_one_is_refused(
        self, slug: str, owner_client: Client, workspace: Workspace
    ) -> None:
        assert owner_client.post("/workspaces/new", {"name": "X", "slug": slug}).status_code == 422
        assert Workspace.objects.count() == 1

    def test_whoever_makes_a_workspace_owns_it(self, stranger: User, stranger_client: Client) -> None:
        assert stranger_client.get("/").headers["Location"] == "/workspaces/new"
        answer = stranger_client.post("/workspaces/new", {"name": "Mine", "slug": "mine"})
        assert answer.headers["Location"] == "/mine/"
        assert Membership.objects.get(user=stranger).role == Role.OWNER
        assert stranger_client.get("/").headers["Location"] == "/mine/"


class TestFirstStart:
    def test_makes_a_workspace_with_an_owner_without_a_password(self, db: None) -> None:
        first = first_start()
        assert first.made
        assert first.workspace.slug == "default"
        assert first.owner.email.endswith("@localhost")
        assert not first.owner.has_usable_password()
        assert first.owner.is_superuser
        assert Membership.objects.get().role == Role.OWNER

    def test_again_changes_nothing_also_after_a_rename(self, db: None) -> None:
        first = first_start()
        Workspace.objects.update(slug="lab")
        again = first_start()
        assert not again.made
        assert (again.workspace.pk, again.owner.pk) == (first.workspace.pk, first.owner.pk)
        assert Workspace.objects.count() == User.objects.count() == 1

    def test_of_many_processes_at_once_exactly_one_makes_it(self, tmp_path: Path) -> None:
        environment = {**os.environ, "RUNSTEAD_DATA_DIR": str(tmp_path / "data"), "RUNSTEAD_LOG_LEVEL": "ERROR"}
        manage = [sys.executable, "manage.py"]
        root = Path(__file__).parents[2]
        subprocess.run([*manage, "migrate", "-v0"], check=True, env=environment, cwd=root, capture_output=True)
        code = "from studio.setup import first_start; print('made', first_start().made)"
        racers = [
            subprocess.Popen(
                [*manage, "shell", "-v0", "-c", code], env=environment, cwd=root, stdout=subprocess.PIPE, text=True
            )
            for _ in range(4)
        ]
        said = [racer.communicate(timeout=120)[0].strip() for racer in racers]
        assert sorted(said) == ["made False"] * 3 + ["made True"]
