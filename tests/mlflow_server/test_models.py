"""Models with MLflow's real client: logged, registered, found, staged, loaded."""

import json
import os
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric

from tests.mlflow_server.conftest import Server

FLAVOR = """
import json, mlflow, sys
import mlflow.sklearn
from pathlib import Path
from sklearn.linear_model import LogisticRegression
name = sys.argv[1]
Path("adds.py").write_text('''
import mlflow.pyfunc
from mlflow.models import set_model
class Adds(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return [item + 1 for item in model_input]
set_model(Adds())
''')
client = mlflow.MlflowClient()
mlflow.set_experiment(name)
with mlflow.start_run() as run:
    info = mlflow.pyfunc.log_model(name="adds", python_model="adds.py", pip_requirements=[], registered_model_name=name, params={"depth": 3})
    again = mlflow.pyfunc.log_model(name="adds", python_model="adds.py", pip_requirements=[])
    mlflow.sklearn.log_model(LogisticRegression().fit([[0], [1]], [0, 1]), name="fit", pip_requirements=[])
run_id = run.info.run_id
mlflow.register_model(f"runs:/{run_id}/adds", name)
uris = [info.model_uri, f"models:/{name}/1", f"models:/{name}/latest", f"runs:/{run_id}/adds", again.model_uri]
outside = mlflow.pyfunc.log_model(name="loose", python_model="adds.py", pip_requirements=[])
version = client.get_model_version(name, "1")
logged = client.get_logged_model(info.model_id)
print(json.dumps({
    "predicted": [mlflow.pyfunc.load_model(uri).predict([1, 2]) for uri in [*uris, outside.model_uri]],
    "fit": mlflow.sklearn.load_model(f"runs:/{run_id}/fit").predict([[0], [1]]).tolist(),
    "version": [version.run_id == run_id, version.status, version.current_stage, version.source == f"models:/{info.model_id}"],
    "logged": [logged.name, str(logged.status), logged.source_run_id == run_id, logged.params],
    "outputs": [o.model_id for o in client.get_run(run_id).outputs.model_outputs][:2] == [info.model_id, again.model_id],
    "listed": [f.path for f in client.list_artifacts(run_id, "adds")].count("adds/MLmodel"),
    "versions": sorted(int(v.version) for v in client.search_model_versions(f"name = '{name}'")),
}))
"""


@pytest.fixture
def name() -> str:
    return f"model {uuid.uuid4().hex[:6]}"


def test_flavors_log_register_and_load_models(server: Server, name: str, whole_mlflow: str, tmp_path: Path) -> None:
    env = {
        "PATH": os.environ["PATH"], "HOME": str(tmp_path), "MLFLOW_TRACKING_URI": server.url,
        "MLFLOW_TRACKING_TOKEN": server.tokens["contributor"], "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    }  # fmt: skip
    done = subprocess.run(
        [whole_mlflow, "-c", FLAVOR, name],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "predicted": [[2, 3]] * 6, "fit": [0, 1], "version": [True, "READY", "None", True],
        "logged": ["adds", "READY", True, {"depth": "3"}], "outputs": True, "listed": 1, "versions": [1, 2],
    }  # fmt: skip


def test_a_model_without_a_run_has_its_files_all_the_same(client: MlflowClient, experiment: str) -> None:
    Path("weights").mkdir()
    Path("weights/w.txt").write_text("1 2 3")
    model = client.create_logged_model(experiment, name="loose", tags={"a": "b"}, model_type="Agent")
    client.log_model_artifacts(model.model_id, "weights")
    client.finalize_logged_model(model.model_id, "READY")
    seen = client.get_logged_model(model.model_id)
    assert (seen.source_run_id or None, seen.model_type, seen.tags) == (None, "Agent", {"a": "b"})
    assert mlflow.artifacts.load_text(f"{seen.artifact_location}/w.txt") == "1 2 3"
    assert [f.path for f in client.list_logged_model_artifacts(model.model_id)] == ["w.txt"]


def test_logged_models_are_changed_and_searched(
    client: MlflowClient, experiment: str, refused: Callable[..., str]
) -> None:
    run = client.create_run(experiment).info.run_id
    models = [
        client.create_logged_model(
            experiment, name=f"m{n}", source_run_id=run, params={"n": str(n)}, tags={"even": str(n % 2 == 0)}
        )
        for n in range(4)
    ]
    for n, model in enumerate(models):
        client.log_batch(
            run,
            [Metric("acc", n / 10, 1000, 0, model_id=model.model_id, dataset_name="d", dataset_digest="1", run_id=run)],
        )
        client.log_metric(run, "acc", n / 5, 2000, 1, model_id=model.model_id)
    seen = client.get_logged_model(models[3].model_id)
    assert (
        sorted((m.key, m.value, m.dataset_name) for m in seen.metrics) == [("acc", 0.3, "d"), ("acc", 0.6, None)]
        or len(seen.metrics) == 2
    )

    def names(where: str = "", **more: object) -> str:
        return "".join(m.name[-1] for m in client.search_logged_models([experiment], where, **more))

    assert names() == "3210"
    assert names("tags.even = 'True'") == "20"
    assert names("params.n != '2'") == "310"
    assert names("metrics.acc > 0.25") == "32"
    assert names("name LIKE 'm%' AND status = 'PENDING'") == "3210"
    assert names(f"source_run_id = '{run}' AND model_id = '{models[1].model_id}'") == "1"
    assert names(order_by=[{"field_name": "metrics.acc", "ascending": True}]) == "0123"
    first = client.search_logged_models([experiment], max_results=3)
    assert (
        len(first) == 3 and len(client.search_logged_models([experiment], max_results=3, page_token=first.token)) == 1
    )
    client.set_logged_model_tags(models[0].model_id, {"c": "d"})
    client.delete_logged_model_tag(models[0].model_id, "even")
    assert client.get_logged_model(models[0].model_id).tags == {"c": "d"}
    refused("RESOURCE_DOES_NOT_EXIST", client.delete_logged_model_tag, models[0].model_id, "even")
    client.delete_logged_model(models[0].model_id)
    refused("RESOURCE_DOES_NOT_EXIST", client.get_logged_model, models[0].model_id)
    assert names() == "321"


def test_the_registry_from_a_model_to_its_end(
    client: MlflowClient, server: Server, experiment: str, name: str, refused: Callable[..., str]
) -> None:
    with mlflow.start_run(experiment_id=experiment) as run:
        mlflow.log_text("one", "m/weights.txt")
    source = f"runs:/{run.info.run_id}/m"
    model = client.create_registered_model(name, tags={"task": "digits"}, description="what it does")
    assert (model.name, model.tags, model.description) == (name, {"task": "digits"}, "what it does")
    refused("RESOURCE_ALREADY_EXISTS", client.create_registered_model, name)
    for n in (1, 2, 3):
        version = client.create_model_version(
            name, source, run.info.run_id, tags={"n": str(n)}, description=f"the {n}th"
        )
        assert (version.version, version.source, version.tags) == (n, source, {"n": str(n)}) or int(
            version.version
        ) == n
    client.update_registered_model(name, "new words")
    client.update_model_version(name, "2", "second")
    client.set_registered_model_tag(name, "k", "v")
    client.delete_registered_model_tag(name, "task")
    client.set_model_version_tag(name, "2", "x", "y")
    client.delete_model_version_tag(name, "2", "n")
    seen = client.get_registered_model(name)
    assert (seen.description, seen.tags) == ("new words", {"k": "v"})
    assert [int(v.version) for v in seen.latest_versions] == [3]
    second = client.get_model_version(name, "2")
    assert (second.description, second.tags) == ("second", {"x": "y"})

    client.set_registered_model_alias(name, "champion", "1")
    client.set_registered_model_alias(name, "champion", "2")
    assert int(client.get_model_version_by_alias(name, "champion").version) == 2
    assert mlflow.artifacts.load_text(f"models:/{name}@champion/weights.txt") == "one"
    assert {k: int(v) for k, v in client.get_registered_model(name).aliases.items()} == {"champion": 2}
    client.delete_registered_model_alias(name, "champion")
    refused("INVALID_PARAMETER_VALUE", client.get_model_version_by_alias, name, "champion")

    client.transition_model_version_stage(name, "1", "Production")
    client.transition_model_version_stage(name, "2", "production", archive_existing_versions=True)
    assert [client.get_model_version(name, n).current_stage for n in "123"] == ["Archived", "Production", "None"]
    assert {v.current_stage: int(v.version) for v in client.get_latest_versions(name)} == {
        "Archived": 1,
        "Production": 2,
        "None": 3,
    }
    assert [int(v.version) for v in client.get_latest_versions(name, ["Production"])] == [2]

    assert {int(v.version) for v in client.search_model_versions(f"name = '{name}'")} == {1, 2, 3}
    assert [
        int(v.version) for v in client.search_model_versions(f"name = '{name}'", order_by=["version_number ASC"])
    ] == [1, 2, 3]
    assert [int(v.version) for v in client.search_model_versions(f"name = '{name}' AND tags.x = 'y'")] == [2]
    assert len(client.search_model_versions(f"run_id = '{run.info.run_id}'")) == 3
    assert [m.name for m in client.search_registered_models(f"name = '{name}'")] == [name]
    assert [m.name for m in client.search_registered_models(f"name ILIKE '{name.upper()}%' AND tags.k = 'v'")] == [name]

    copied = client.copy_model_version(f"models:/{name}/2", f"{name} copy")
    assert int(copied.version) == 1
    assert mlflow.artifacts.load_text(f"models:/{name} copy/1/weights.txt") == "one"
    refused("PERMISSION_DENIED", client.delete_model_version, name, "3")
    with server.acting("owner") as owner:
        owner.delete_model_version(name, "3")
    refused("RESOURCE_DOES_NOT_EXIST", client.get_model_version, name, "3")
    assert int(client.create_model_version(name, source, run.info.run_id).version) == 4  # numbers are never used again
    client.rename_registered_model(name, f"{name} new")
    refused("RESOURCE_DOES_NOT_EXIST", client.get_registered_model, name)
    assert client.get_registered_model(f"{name} new").description == "new words"
    refused("PERMISSION_DENIED", client.delete_registered_model, f"{name} new")
    with server.acting("owner") as owner:
        owner.delete_registered_model(f"{name} new")
    refused("RESOURCE_DOES_NOT_EXIST", client.get_registered_model, f"{name} new")


def test_what_is_registered_stays_as_it_was(client: MlflowClient, experiment: str, name: str) -> None:
    with mlflow.start_run(experiment_id=experiment) as run:
        mlflow.log_text("run_id: x", "m/MLmodel")
        mlflow.log_text("before", "m/weights.txt")
        mlflow.register_model(f"runs:/{run.info.run_id}/m", name)
        mlflow.log_text("after", "m/weights.txt")
    assert mlflow.artifacts.load_text(f"models:/{name}/1/weights.txt") == "before"


@pytest.mark.parametrize(
    "source",
    [
        "/etc", "file:///etc", "file://localhost/etc/passwd", "//proc/self", "../../x", "runs:/{run}/../../x", "s3://bucket/x", "http://#/../",
        "http://127.0.0.1/x", "mlflow-artifacts:/../x/artifacts", "mlflow-artifacts://host/{run}/artifacts/m", "models:/none/1",
        "runs:/nothing/m", "runs:/{run}/none", "mlflow-artifacts:/{run}/other/m", "dbfs:/x", "C:\\x", "", "runs:/{foreign}/m",
        "mlflow-artifacts:/{foreign}/artifacts/m", "models:/m-00000000000000000000000000000000",
    ],
)  # fmt: skip
def test_a_source_that_names_no_files_of_this_workspace_is_refused(
    client: MlflowClient, server: Server, experiment: str, name: str, source: str
) -> None:
    run = client.create_run(experiment).info.run_id
    client.log_text(run, "x", "m/x.txt")
    with server.acting("foreign") as other:
        foreign = other.create_run("0").info.run_id
        other.log_text(foreign, "secret", "m/x.txt")
    client.create_registered_model(name)
    status, body = server.post("model-versions/create", name=name, source=source.format(run=run, foreign=foreign))
    assert status in {400, 404} and body["error_code"] in {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"}, body
    assert client.search_model_versions(f"name = '{name}'") == []
