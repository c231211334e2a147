"""The workspace: found, written down, described; what is in it."""

import json
import os
import re
import uuid
from pathlib import Path

import pytest
from runstead import Environment, Experiment, Workspace
from runstead.errors import WorkspaceException

from tests.sdk.conftest import Home


def test_it_is_found_with_no_configuration_at_all(home: Home) -> None:
    done = home.python("-c", "from runstead import Workspace; ws = Workspace.from_config(); print(ws.name, ws.url)")
    assert done.stdout.split() == ["default", home.studio.url]


def test_what_notebooks_print_is_there(ws: Workspace, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "")  # and back afterwards
    assert (ws.name, ws.resource_group, ws.location) == ("default", "runstead", f"127.0.0.1:{home.studio.port}")
    assert uuid.UUID(ws.subscription_id)
    details = ws.get_details()
    assert (details["name"], details["role"]) == ("default", "owner")
    assert details["user"] and details["id"].endswith("/workspaces/default")
    assert ws.get_mlflow_tracking_uri() == f"{home.studio.url}/default/mlflow"
    assert os.environ["MLFLOW_TRACKING_TOKEN"] == ws.transport.token
    other = Workspace(ws.url, "other", "rst_of-another")
    other.get_mlflow_tracking_uri()
    assert os.environ["MLFLOW_TRACKING_TOKEN"] == "rst_of-another"
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "rst_of-mine")
    ws.get_mlflow_tracking_uri()
    assert os.environ["MLFLOW_TRACKING_TOKEN"] == "rst_of-mine", "what the user has set stays"


def test_mlflow_needs_one_line(home: Home, ws: Workspace) -> None:
    code = (
        "import mlflow\n"
        "from runstead import Workspace\n"
        "ws = Workspace.from_config()\n"
        "mlflow.set_tracking_uri(ws.get_mlflow_tracking_uri())\n"
        "mlflow.set_experiment('by-mlflow')\n"
        "with mlflow.start_run():\n"
        "    mlflow.log_metric('loss', 0.5)\n"
    )
    home.python("-c", code)
    (run,) = ws.experiments["by-mlflow"].get_runs()
    assert run.get_metrics() == {"loss": 0.5}


@pytest.mark.parametrize("below", ["", "deep/deeper"])
def test_a_written_configuration_is_found_from_below_and_holds_no_token(
    ws: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    ws.write_config(str(tmp_path))
    file = tmp_path / ".azureml/config.json"
    assert set(json.loads(file.read_text())) == {
        "url",
        "workspace",
        "workspace_name",
        "resource_group",
        "subscription_id",
    }
    (tmp_path / below).mkdir(parents=True, exist_ok=True)
    for path in (str(file), str(tmp_path / below)):
        found = Workspace.from_config(path)
        assert (found.name, found.url) == (ws.name, ws.url)
        assert found.experiments == {} or found.get_details()


def test_names_lead_to_what_is_there(ws: Workspace) -> None:
    with Experiment(ws, "named").start_logging() as run:
        pass
    assert "named" in list(ws.experiments)
    assert list(ws.compute_targets) == ["local"]
    assert "AzureML-Minimal" in ws.environments and isinstance(ws.environments["python"], Environment)
    assert ws.models == {}
    assert ws.get_run(run.id).id == ws.get_run(run.number).id == run.id


def test_another_workspace_needs_its_own_sign_in(ws: Workspace) -> None:
    assert Workspace.get("default", subscription_id="x", resource_group="y").url == ws.url
    assert list(Workspace.list()) == ["default"]
    assert Workspace.create("default", exist_ok=True).name == "default"
    for wrong in (
        lambda: Workspace.get("other"),
        lambda: Workspace.create("other"),
        lambda: Workspace.create("default"),
    ):
        with pytest.raises(WorkspaceException, match="workspace"):
            wrong()


def test_loading_the_client_is_quick(home: Home) -> None:
    done = home.python("-X", "importtime", "-c", "import runstead")
    taken = {
        name.strip(): int(total) for total, name in re.findall(r"\|\s*(\d+) \|\s*(runstead\S*)$", done.stderr, re.M)
    }
    assert taken["runstead"] < 100_000
    assert set(taken) == {"runstead"}


def test_a_client_that_is_dropped_closes_its_connections(home: Home, ws: Workspace) -> None:
    code = (
        "import threading\n"
        "from runstead import Workspace\n"
        "ws = Workspace.from_config()\n"
        "thread = threading.Thread(target=lambda: ws.experiments); thread.start(); thread.join()\n"
        "print(ws.experiments)\n"
    )
    done = home.python("-X", "dev", "-W", "always::ResourceWarning", "-c", code)
    assert (done.returncode, done.stderr) == (0, "")
