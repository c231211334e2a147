"""Experiments, registered models and tokens over HTTP."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

from runs import outside
from runs.models import Experiment, LogStream, ModelVersion, RegisteredModel, Run
from runs.status import RunStatus
from studio.accounts.models import Token, User
from studio.models import Answer, AuditEvent
from studio.workspaces.models import Role, Workspace
from tests.runs.factory import make_artifact, make_run

BASE = "/api/v1/vision"


def send(client: Client, method: str, path: str, body: Any = None, **headers: str) -> HttpResponse:
    return client.generic(method, BASE + path, json.dumps(body), content_type="application/json", headers=headers)


def problem(answer: HttpResponse, status: int, field: str, words: str) -> None:
    body = answer.json()
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/problem+json"), body
    (error,) = body["errors"]
    assert error["field"] == field and words in f"{error['rule']} {error['fix']}", error


class TestExperiments:
    def test_is_made_once_changed_and_listed(self, contributor_client: Client, workspace: Workspace) -> None:
        made = send(contributor_client, "POST", "/experiments", {"name": "digits", "tags": {"a": None}})
        again = send(contributor_client, "POST", "/experiments", {"name": "digits", "description": "other"})
        assert (made.status_code, again.status_code) == (201, 200) and again.json() == made.json()
        change = {"description": "d", "tags": {"b": "1"}, "primary_metric": "val/loss"}
        row = send(contributor_client, "PATCH", "/experiments/digits", change).json()
        assert (row["description"], row["tags"], row["primary_metric"], row["maximize"]) == (
            "d",
            {"b": "1"},
            "val/loss",
            False,
        )
        assert send(contributor_client, "PATCH", "/experiments/digits", {"maximize": True}).json()["maximize"] is True
        make_run(workspace, experiment="digits")
        assert contributor_client.get(f"{BASE}/experiments/digits").json()["runs"] == 1
        assert send(contributor_client, "PATCH", "/experiments/digits", {"archived": True}).json()["archived_at"]
        assert contributor_client.get(f"{BASE}/experiments").json()["experiments"] == []
        assert len(contributor_client.get(f"{BASE}/experiments?archived=yes").json()["experiments"]) == 1

    def test_are_paged_by_name(self, contributor_client: Client, workspace: Workspace) -> None:
        for name in "cabed":
            Experiment.objects.create(workspace=workspace, name=name)
        seen: list[str] = []
        after: str | None = ""
        while after is not None:
            page = contributor_client.get(f"{BASE}/experiments", {"after": after, "limit": 2}).json()
            seen += [row["name"] for row in page["experiments"]]
            after = page["next"]
        assert seen == list("abcde")
        assert [r["name"] for r in contributor_client.get(f"{BASE}/experiments?search=B").json()["experiments"]] == [
            "b"
        ]

    @pytest.mark.parametrize(
        ("body", "field"),
        [({"name": "-"}, "name"), ({"name": "a/b"}, "name"), ({"name": "x" * 256}, "name"), ({}, "name"), ({"name": "a", "x": 1}, "x"),
         ({"name": "a", "description": "x" * 20_001}, "description"), ({"name": "a", "tags": {"": None}}, "tags")],
    )  # fmt: skip
    def test_a_bad_one_names_the_field(
        self, contributor_client: Client, workspace: Workspace, body: Any, field: str
    ) -> None:
        problem(send(contributor_client, "POST", "/experiments", body), 422, field, "")
        assert not Experiment.objects.exists()

    def test_is_removed_when_all_its_runs_are_archived(
        self, owner_client: Client, contributor_client: Client, workspace: Workspace
    ) -> None:
        runs = [make_run(workspace, experiment="digits", status=RunStatus.COMPLETED) for _ in range(2)]
        child = outside.begin(workspace, None, "other", parent=runs[0])
        make_artifact(runs[0], "a", b"1")
        LogStream.objects.create(run=runs[0])
        version = ModelVersion.objects.create(
            model=RegisteredModel.objects.create(workspace=workspace, name="m"), number=1, run=runs[0]
        )
        Run.objects.filter(pk=runs[0].pk).update(archived_at=timezone.now())
        problem(send(owner_client, "DELETE", "/experiments/digits"), 409, "runs", "2 runs that are not archived")
        Run.objects.filter(pk__in=[runs[1].pk, child.pk]).update(archived_at=timezone.now())
        problem(
            send(owner_client, "DELETE", "/experiments/digits"), 409, "runs", "1 run that is not archived"
        )  # it goes on
        outside.finish(child, RunStatus.COMPLETED)
        assert send(contributor_client, "DELETE", "/experiments/digits").status_code == 403
        assert send(owner_client, "DELETE", "/experiments/digits").json() == {"removed": True, "runs": 2}
        assert not Run.objects.exists() and [e.name for e in Experiment.objects.all()] == ["other"]
        version.refresh_from_db()
        assert version.run is None
        assert AuditEvent.objects.get(action="experiment.remove").detail == "2 archived runs"
        Experiment.objects.create(workspace=workspace, name="empty")
        assert send(owner_client, "DELETE", "/experiments/empty").json() == {"removed": True, "runs": 0}


class TestModels:
    @pytest.fixture
    def run(self, workspace: Workspace) -> Run:
        run = make_run(workspace, status=RunStatus.COMPLETED)
        make_artifact(run, "outputs/model.pkl", b"0123456789")
        make_artifact(run, "outputs/more/x.txt", b"x")
        return run

    def test_versions_count_up_and_keep_their_files(
        self, contributor_client: Client, owner_client: Client, workspace: Workspace, run: Run
    ) -> None:
        wanted = {
            "name": "digits",
            "run": run.number,
            "path": "outputs",
            "tags": {"t": "1"},
            "properties": {"p": 1},
            "description": "d",
        }
        one, two = (send(contributor_client, "POST", "/models", wanted).json() for _ in range(2))
        assert [(row["id"], row["run"], row["run_id"]) for row in (one, two)] == [
            (f"digits:{n}", run.number, run.uid) for n in (1, 2)
        ]
        assert [file["path"] for file in one["files"]] == ["model.pkl", "more/x.txt"] and one["size"] == 11
        run.artifacts.all().delete()
        for text in ("1", "latest"):
            answer = contributor_client.get(
                f"{BASE}/models/digits/versions/{text}/content?path=model.pkl", headers={"Range": "bytes=2-4"}
            )
            assert (answer.status_code, b"".join(answer.streaming_content)) == (206, b"234")
        assert contributor_client.get(f"{BASE}/models/digits/versions/1/content?path=../x").status_code == 404
        model = contributor_client.get(f"{BASE}/models/digits").json()
        assert (model["versions"], model["latest"], [row["version"] for row in model["all_versions"]]) == (2, 2, [2, 1])
        assert [row["name"] for row in contributor_client.get(f"{BASE}/models?search=DIG").json()["models"]] == [
            "digits"
        ]
        assert send(owner_client, "DELETE", "/models/digits/versions/2").json() == {"removed": True}
        assert contributor_client.get(f"{BASE}/models/digits/versions/2").status_code == 404
        assert contributor_client.get(f"{BASE}/models/digits/versions/latest").json()["version"] == 1
        assert send(contributor_client, "DELETE", "/models/digits").status_code == 403
        assert send(owner_client, "DELETE", "/models/digits").json() == {"removed": True}
        assert not ModelVersion.objects.exists()

    def test_a_repeated_request_registers_once(self, contributor_client: Client, run: Run) -> None:
        wanted = {"name": "digits", "run": run.number, "path": "outputs"}
        answers = [send(contributor_client, "POST", "/models", wanted, **{"Idempotency-Key": "k"}) for _ in range(2)]
        assert answers[0].json() == answers[1].json() and ModelVersion.objects.count() == 1
        problem(
            send(contributor_client, "POST", "/models", {**wanted, "path": ""}, **{"Idempotency-Key": "k"}),
            422,
            "Idempotency-Key",
            "new key",
        )

    def test_a_version_is_changed_and_found_by_its_alias(self, contributor_client: Client, run: Run) -> None:
        for _ in range(2):
            send(contributor_client, "POST", "/models", {"name": "m", "run": run.number})
        path = "/models/m/versions"
        change = {
            "description": "d",
            "tags": {"a": None},
            "stage": "Production",
            "aliases": ["best", "prod"],
            "properties": {"p": 1},
        }
        row = send(contributor_client, "PATCH", f"{path}/1", change).json()
        assert {name: row[name] for name in change} == change
        assert send(contributor_client, "PATCH", f"{path}/2", {"aliases": ["best"]}).json()["aliases"] == ["best"]
        assert contributor_client.get(f"{BASE}{path}/best").json()["version"] == 2
        assert contributor_client.get(f"{BASE}{path}/prod").json()["aliases"] == ["prod"]
        problem(
            send(contributor_client, "PATCH", f"{path}/1", {"properties": {"p": 2}, "stage": "x"}),
            409,
            "properties",
            "do not change",
        )
        for aliases in (["7"], ["latest"], ["a/b"], [""], ["a:b"], ["x" * 251]):
            problem(
                send(contributor_client, "PATCH", f"{path}/1", {"aliases": aliases, "stage": "x"}),
                422,
                "aliases",
                "alias",
            )
        problem(send(contributor_client, "PATCH", f"{path}/1", {"stage": "x" * 41}), 422, "stage", "40")
        row = contributor_client.get(f"{BASE}{path}/1").json()
        assert (row["stage"], row["aliases"]) == ("Production", ["prod"])
        model = send(
            contributor_client, "PATCH", "/models/m", {"description": "m", "tags": {"x": "y"}, "archived": True}
        ).json()
        assert (model["description"], model["tags"]) == ("m", {"x": "y"}) and model["archived_at"]
        assert contributor_client.get(f"{BASE}/models").json()["models"] == []

    @pytest.mark.parametrize(
        ("body", "field"),
        [({"path": "nothing"}, "path"), ({"run": 99}, "run"), ({"run": 2**80}, "run"), ({"name": "a/b"}, "name"), ({"name": ""}, "name"),
         ({"tags": {"": None}}, "tags"), ({"description": "x" * 100_001}, "description"), ({"version": 3}, "version"), ({"path": "outputs\0"}, "path")],
    )  # fmt: skip
    def test_a_bad_one_names_the_field(self, contributor_client: Client, run: Run, body: Any, field: str) -> None:
        problem(send(contributor_client, "POST", "/models", {"name": "m", "run": run.number, **body}), 422, field, "")
        assert not RegisteredModel.objects.exists()


class TestTokens:
    def test_is_shown_once_and_works_until_revoked(
        self, contributor: User, contributor_client: Client, workspace: Workspace
    ) -> None:
        made = send(contributor_client, "POST", "/tokens", {"name": "ci", "scope": "reader", "days": 7})
        body = made.json()
        assert made.status_code == 201 and body["token"].startswith(body["hint"])
        (row,) = contributor_client.get(f"{BASE}/tokens").json()["tokens"]
        assert row["id"] == body["id"] and "token" not in row
        client = Client(headers={"Authorization": f"Bearer {body['token']}"})
        assert client.get(f"{BASE}/runs").status_code == 200
        assert send(client, "POST", "/experiments", {"name": "x"}).status_code == 403
        assert client.get("/api/v1/foreign/runs").status_code == 404
        assert send(client, "DELETE", f"/tokens/{body['id']}").json() == {"revoked": True}
        assert client.get(f"{BASE}/runs").status_code == 401
        assert [event.action for event in AuditEvent.objects.order_by("pk")] == ["token.create", "token.revoke"]

    def test_a_repeated_request_makes_one_and_keeps_no_text(
        self, contributor_client: Client, workspace: Workspace
    ) -> None:
        answers = [
            send(contributor_client, "POST", "/tokens", {"name": "ci"}, **{"Idempotency-Key": "k"}).json()
            for _ in range(2)
        ]
        secret = answers[0]["token"]
        assert answers[1] == {**answers[0], "token": None} and Token.objects.count() == 1
        assert secret not in json.dumps(list(Answer.objects.values_list("body", flat=True)))

    @pytest.mark.parametrize(
        ("body", "field"),
        [({"name": ""}, "name"), ({"name": "x" * 81}, "name"), ({"name": "a\nb"}, "name"), ({"name": "a", "scope": "owner"}, "scope"),
         ({"name": "a", "scope": "king"}, "scope"), ({"name": "a", "days": 0}, "days"), ({"name": "a", "days": 10**9}, "days")],
    )  # fmt: skip
    def test_a_bad_one_names_the_field(
        self, contributor_client: Client, workspace: Workspace, body: Any, field: str
    ) -> None:
        problem(send(contributor_client, "POST", "/tokens", body), 422, field, "")
        assert not Token.objects.exists()

    def test_a_token_makes_none_above_itself_or_after_it(self, owner: User, workspace: Workspace) -> None:
        end = timezone.now() + timedelta(days=5)
        _, secret = Token.issue(user=owner, workspace=workspace, name="t", scope="contributor", expires_at=end)
        client = Client(headers={"Authorization": f"Bearer {secret}"})
        problem(send(client, "POST", "/tokens", {"name": "a", "scope": "owner", "days": 1}), 422, "scope", "own role")
        for days in (6, None):
            problem(send(client, "POST", "/tokens", {"name": "a", "days": days}), 403, "days", "outlives")
        assert send(client, "POST", "/tokens", {"name": "a", "days": 4}).status_code == 201

    def test_an_owner_sees_and_revokes_all_others_their_own(
        self, contributor: User, owner_client: Client, reader_client: Client, workspace: Workspace
    ) -> None:
        row, _ = Token.issue(user=contributor, workspace=workspace, name="theirs")
        assert reader_client.get(f"{BASE}/tokens").json()["tokens"] == []
        assert send(reader_client, "DELETE", f"/tokens/{row.pk}").status_code == 404
        assert [found["name"] for found in owner_client.get(f"{BASE}/tokens").json()["tokens"]] == ["theirs"]
        assert send(owner_client, "DELETE", f"/tokens/{row.pk}").status_code == 200


@pytest.mark.parametrize("scope", list(Role))
@pytest.mark.parametrize("role", list(Role))
def test_a_token_acts_with_the_lower_of_its_scope_and_its_owners_role(
    role: Role, scope: Role, person: Callable[..., User], workspace: Workspace, foreign_workspace: Workspace
) -> None:
    _, secret = Token.issue(user=person(role), workspace=workspace, name="t", scope=scope)
    client = Client(headers={"Authorization": f"Bearer {secret}"})
    acts = min(role.rank, scope.rank)
    Experiment.objects.create(workspace=workspace, name="e")
    for needs, method, path in (
        (Role.READER, "GET", "/experiments"),
        (Role.CONTRIBUTOR, "PATCH", "/experiments/e"),
        (Role.OWNER, "DELETE", "/experiments/e"),
    ):
        answer = send(client, method, path, {} if method == "PATCH" else None)
        assert answer.status_code == (200 if needs.rank <= acts else 403), method
        assert client.generic(method, f"/api/v1/foreign{path}").status_code == 404
