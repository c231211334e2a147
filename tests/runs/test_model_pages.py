"""Pages of registered models, and registering from a run's outputs."""

import pytest
from django.test import Client

from runs import registering
from runs.models import ModelVersion, Run
from runs.status import RunStatus
from studio.accounts.models import User
from studio.workspaces.models import Workspace
from tests.runs.factory import make_artifact, make_run

NAME = "Digits <b> 1"
ADDRESS = "/vision/models/Digits%20%3Cb%3E%201"


@pytest.fixture
def run(workspace: Workspace) -> Run:
    run = make_run(workspace, status=RunStatus.COMPLETED)
    make_artifact(run, "outputs/model.pkl", b"0123456789")
    return run


@pytest.fixture
def version(workspace: Workspace, owner: User, run: Run) -> ModelVersion:
    return registering.register(workspace, owner, NAME, run, "outputs", description="about <it>")


def page(client: Client, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200
    return answer.content.decode()


def test_none_yet_says_how_to_begin(reader_client: Client, workspace: Workspace) -> None:
    assert "No models yet" in page(reader_client, "/vision/models")
    assert 'href="/vision/models" aria-current="page"' in page(reader_client, "/vision/models")


def test_a_run_registers_what_it_left(contributor_client: Client, reader_client: Client, run: Run) -> None:
    outputs = page(contributor_client, f"/vision/runs/{run.number}/outputs/outputs/model.pkl")
    assert "Register model" in outputs and 'value="outputs/model.pkl"' in outputs
    assert "Register model" not in page(reader_client, f"/vision/runs/{run.number}/outputs")
    address = f"/vision/runs/{run.number}/register"
    answer = contributor_client.post(address, {"name": NAME, "path": "outputs/model.pkl"})
    assert (answer.status_code, answer.headers["Location"]) == (302, f"{ADDRESS}/1")
    for wrong in ({"name": "a/b"}, {"name": "m", "path": "none"}, {"name": ".."}, {}):
        answer = contributor_client.post(address, wrong, follow=True)
        assert "is not a name" in answer.content.decode() or "is no artifact" in answer.content.decode()
    assert ModelVersion.objects.count() == 1


def test_the_pages_show_versions_with_their_run_and_files(
    reader_client: Client,
    contributor_client: Client,
    workspace: Workspace,
    owner: User,
    run: Run,
    version: ModelVersion,
) -> None:
    registering.set_alias(version, "best")
    registering.register(workspace, owner, NAME, run, "outputs/model.pkl")
    listed = page(reader_client, "/vision/models?search=digits")
    assert f'href="{ADDRESS}"' in listed and f'href="{ADDRESS}/2"' in listed and "Digits <b>" not in listed
    newest = page(reader_client, ADDRESS)
    assert "version 2" in newest and f'href="/vision/runs/{run.number}"' in newest and "More actions" not in newest
    first = page(reader_client, f"{ADDRESS}/1")
    assert "@best" in first and "about &lt;it&gt;" in first and f'href="{ADDRESS}/1/files/model.pkl"' in first
    answer = reader_client.get(f"{ADDRESS}/1/files/model.pkl")
    assert b"".join(answer.streaming_content) == b"0123456789" and answer.headers["Content-Disposition"].startswith(
        "attachment"
    )
    for gone in (f"{ADDRESS}/3", f"{ADDRESS}/1/files/../x", f"{ADDRESS}/1/files/none", "/vision/models/none"):
        assert reader_client.get(gone).status_code == 404
    assert page(reader_client, "/vision/jump?q=digits").count(f'href="{ADDRESS}"') == 1


def test_what_is_said_of_a_model_can_be_changed(
    contributor_client: Client, owner_client: Client, reader_client: Client, workspace: Workspace, version: ModelVersion
) -> None:
    assert reader_client.post(f"{ADDRESS}/edit", {"description": "x"}).status_code == 403
    contributor_client.post(f"{ADDRESS}/edit", {"description": "for digits"})
    contributor_client.post(f"{ADDRESS}/edit", {"archived": "1"})
    model = workspace.models.get()
    assert model.description == "for digits" and model.archived_at
    assert "Nothing is archived" not in page(reader_client, "/vision/models?archived=yes")
    contributor_client.post(f"{ADDRESS}/edit", {"archived": "0"})
    assert contributor_client.post(f"{ADDRESS}/edit", {"remove": "1"}).status_code == 403
    assert owner_client.post(f"{ADDRESS}/edit", {"remove": "9"}).status_code == 404
    assert owner_client.post(f"{ADDRESS}/edit", {"remove": "1"}).status_code == 302
    assert not ModelVersion.objects.exists() and "It has no versions." in page(reader_client, ADDRESS)
