"""What users of MLflow do, with its real client: experiments, runs, logging, artifacts."""

import json
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelOutput, Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException

from tests.mlflow_server.conftest import Server


def test_fluent_calls_make_an_ordinary_run(client: MlflowClient, server: Server) -> None:
    mlflow.set_experiment("digits")
    with mlflow.start_run(run_name="first", description="a note") as run:
        mlflow.log_metric("loss", 0.5)
        mlflow.log_metric("loss", 0.25, step=3)
        mlflow.log_metrics({"a": 1, "b/c": 2.5}, step=9)
        mlflow.log_param("lr", 0.1)
        mlflow.log_params({"layers": 3, "name": "größe"})
        mlflow.set_tag("stage", "first")
        mlflow.set_tags({"stage": "final", "gone": "soon"})
        mlflow.delete_tag("gone")
        Path("note.txt").write_text("kept")
        mlflow.log_artifact("note.txt")
        during = client.get_run(run.info.run_id)
        assert (during.info.status, during.info.end_time) == ("RUNNING", None)
    seen = client.get_run(run.info.run_id)
    assert seen.info.status == "FINISHED"
    assert seen.info.run_name == "first"
    assert seen.info.lifecycle_stage == "active"
    assert seen.data.metrics == {"loss": 0.25, "a": 1.0, "b/c": 2.5}
    assert seen.data.params == {"lr": "0.1", "layers": "3", "name": "größe"}
    assert seen.data.tags["stage"] == "final" and "gone" not in seen.data.tags
    assert seen.data.tags["mlflow.note.content"] == "a note"
    assert seen.info.start_time <= seen.info.end_time <= time.time() * 1000 + 1000
    assert [(e.name, e.lifecycle_stage) for e in [client.get_experiment(seen.info.experiment_id)]] == [
        ("digits", "active")
    ]
    number = server.studio.control("number", uid=run.info.run_id)
    page = server.studio.control("page_text", path=f"/default/runs/{number}/metrics")
    assert "loss" in page and "b/c" in page


def test_a_run_that_fails_or_is_killed_says_so_and_may_be_taken_up_again(client: MlflowClient, experiment: str) -> None:
    with pytest.raises(RuntimeError), mlflow.start_run(experiment_id=experiment) as failed:
        raise RuntimeError("script")
    assert client.get_run(failed.info.run_id).info.status == "FAILED"
    killed = client.create_run(experiment)
    client.set_terminated(killed.info.run_id, "KILLED", end_time=killed.info.start_time + 5000)
    with mlflow.start_run(run_id=failed.info.run_id):
        assert client.get_run(failed.info.run_id).info.status == "RUNNING"
        mlflow.log_metric("again", 1)
    seen = client.get_run(failed.info.run_id)
    assert (seen.info.status, seen.data.metrics) == ("FINISHED", {"again": 1.0})
    client.log_metric(killed.info.run_id, "later", 2.0)  # MLflow lets a client log after the end
    seen = client.get_run(killed.info.run_id)
    assert (seen.info.status, seen.data.metrics) == ("KILLED", {"later": 2.0})


def test_the_experiment_of_runs_that_name_none(client: MlflowClient) -> None:
    default = client.get_experiment("0")
    assert (default.name, default.experiment_id) == ("Default", "0")
    assert client.get_experiment_by_name("Default").experiment_id == "0"
    run = client.create_run("0")
    assert run.info.experiment_id == "0"
    assert run.info.run_id in [r.info.run_id for r in client.search_runs(["0"])]
    assert "Default" in [e.name for e in client.search_experiments()]


def test_experiments_have_any_name_and_go_and_come_back(client: MlflowClient, refused: Callable[..., str]) -> None:
    mark = uuid.uuid4().hex[:6]
    name = f"/Users/ada@example.test/größe {mark}"
    key = client.create_experiment(name, tags={"team": "vision"})
    seen = client.get_experiment(key)
    assert (seen.name, seen.tags, seen.lifecycle_stage) == (name, {"team": "vision"}, "active")
    assert client.get_experiment_by_name(name).experiment_id == key
    assert client.get_experiment_by_name("nothing of this name") is None
    refused("RESOURCE_ALREADY_EXISTS", client.create_experiment, name)
    client.set_experiment_tag(key, "k", "v")
    client.set_experiment_tag(key, "mlflow.note.content", "what it is for")
    client.delete_experiment_tag(key, "team")
    assert client.get_experiment(key).tags == {"k": "v", "mlflow.note.content": "what it is for"}
    client.rename_experiment(key, f"plain-{mark}")
    assert client.get_experiment(key).name == f"plain-{mark}"
    assert client.get_experiment_by_name(name) is None
    kept, gone = client.create_run(key), client.create_run(key)
    client.delete_run(gone.info.run_id)
    client.delete_experiment(key)
    assert client.get_experiment(key).lifecycle_stage == "deleted"
    assert client.get_run(kept.info.run_id).info.lifecycle_stage == "deleted"
    refused("INVALID_PARAMETER_VALUE", client.create_run, key)
    refused("RESOURCE_ALREADY_EXISTS", client.create_experiment, f"plain-{mark}")
    assert key not in [e.experiment_id for e in client.search_experiments()]
    assert key in [e.experiment_id for e in client.search_experiments(view_type=ViewType.DELETED_ONLY)]
    client.restore_experiment(key)
    assert client.get_run(kept.info.run_id).info.lifecycle_stage == "active"
    assert client.get_run(gone.info.run_id).info.lifecycle_stage == "deleted"
    client.restore_run(gone.info.run_id)
    assert len(client.search_runs([key])) == 2


def test_experiments_are_searched(client: MlflowClient) -> None:
    mark = uuid.uuid4().hex[:6]
    keys = [client.create_experiment(f"{mark}-{n}", tags={"n": str(n % 2), "mark": mark}) for n in range(5)]

    def names(**search: Any) -> list[str]:
        return [e.name.rpartition("-")[2] for e in client.search_experiments(**search)]

    where = f"tags.mark = '{mark}'"
    assert names(filter_string=where) == ["4", "3", "2", "1", "0"]
    assert names(filter_string=f"name LIKE '{mark}-%'", order_by=["name ASC"]) == ["0", "1", "2", "3", "4"]
    assert names(filter_string=f"{where} AND tags.n = '1'", order_by=["experiment_id ASC"]) == ["1", "3"]
    assert names(filter_string=f"name ILIKE '{mark.upper()}-3'") == ["3"]
    assert names(filter_string=f"attribute.name = '{mark}-2'") == ["2"]
    first = client.search_experiments(filter_string=where, max_results=3)
    rest = client.search_experiments(filter_string=where, max_results=3, page_token=first.token)
    assert [e.experiment_id for e in [*first, *rest]] == keys[::-1] and not rest.token


def test_children_know_their_parent(client: MlflowClient, experiment: str) -> None:
    mlflow.set_experiment(experiment_id=experiment)
    with mlflow.start_run() as parent, mlflow.start_run(nested=True) as child:
        pass
    seen = client.get_run(child.info.run_id)
    assert seen.data.tags["mlflow.parentRunId"] == parent.info.run_id
    where = f"tags.mlflow.parentRunId = '{parent.info.run_id}'"
    assert [r.info.run_id for r in client.search_runs([experiment], where)] == [child.info.run_id]
    assert client.get_parent_run(child.info.run_id).info.run_id == parent.info.run_id


def test_metric_history_comes_back_whole_and_the_last_point_is_of_the_highest_step(
    client: MlflowClient, experiment: str
) -> None:
    run = client.create_run(experiment).info.run_id
    points = [Metric("m", i / 7, 1_700_000_000_000 + i, i - 5) for i in range(2000)]
    for first in range(0, 2000, 1000):
        client.log_batch(run, points[first : first + 1000], [Param("p", "1")], [RunTag("t", "2")])
    history = client.get_metric_history(run, "m")
    assert [(h.value, h.step, h.timestamp) for h in history] == [(p.value, p.step, p.timestamp) for p in points]
    assert client.get_metric_history(run, "other") == []
    # MLflow's rule: the highest step, of it the newest, of these the highest value.
    for step, at, value in [
        (0, 100, 1000.0),
        (3, 40, 100.0),
        (3, 50, 10.0),
        (3, 50, 20.0),
        (-3, 900, 900.0),
        (-1, 800, 800.0),
    ]:
        client.log_metric(run, "order", value, at, step)
    assert client.get_run(run).data.metrics["order"] == 20.0
    for value in (float("nan"), float("inf"), float("-inf")):
        client.log_metric(run, "odd", value, step=1)
    assert [repr(h.value) for h in client.get_metric_history(run, "odd")] == ["nan", "inf", "-inf"]
    client.log_metric(run, "nan", float("nan"))
    assert repr(client.get_run(run).data.metrics["nan"]) == "nan"


def test_history_of_many_runs_is_read_at_once_and_by_pages(
    client: MlflowClient, server: Server, experiment: str
) -> None:
    runs = [client.create_run(experiment).info.run_id for _ in range(3)]
    for n, run in enumerate(runs):
        client.log_batch(run, [Metric("m", float(n * 100 + i), 1000 + i, i) for i in range(100)])
    named = "&".join(f"run_id={run}" for run in runs)
    status, body = server.get(f"metrics/get-history-bulk?metric_key=m&{named}")
    assert status == 200 and len(body["metrics"]) == 300 and {m["run_id"] for m in body["metrics"]} == set(runs)
    named = "&".join(f"run_ids={run}" for run in runs)
    status, body = server.get(
        f"metrics/get-history-bulk-interval?metric_key=m&start_step=10&end_step=59&max_results=5&{named}"
    )
    steps = [m["step"] for m in body["metrics"] if m["run_id"] == runs[0]]
    assert len(steps) == 5 and (steps[0], steps[-1]) == (10, 59)
    page = server.get(f"metrics/get-history?run_id={runs[0]}&metric_key=m&max_results=60")[1]
    rest = server.get(
        f"metrics/get-history?run_id={runs[0]}&metric_key=m&max_results=60&page_token={page['next_page_token']}"
    )[1]
    assert [m["step"] for m in page["metrics"] + rest["metrics"]] == list(range(100)) and "next_page_token" not in rest
    assert server.get(f"metrics/get-history?run_id={runs[0]}&metric_key=m&page_token=junk")[0] == 400


def test_parameters_do_not_change(client: MlflowClient, experiment: str, refused: Callable[..., str]) -> None:
    run = client.create_run(experiment).info.run_id
    client.log_param(run, "lr", "0.1")
    client.log_param(run, "lr", "0.1")
    assert "lr" in refused("INVALID_PARAMETER_VALUE", client.log_param, run, "lr", "0.2")
    long = "x" * 6000
    client.log_param(run, "long", long)
    assert client.get_run(run).data.params == {"lr": "0.1", "long": long}


def test_a_bad_item_in_a_batch_keeps_the_whole_batch_out(client: MlflowClient, server: Server, experiment: str) -> None:
    run = client.create_run(experiment).info.run_id
    metrics = [{"key": f"m{i}", "value": 1.0, "timestamp": 1, "step": 0} for i in range(1000)]
    bad: list[tuple[str, dict[str, Any]]] = [
        ("metrics[999].value", {"metrics": [*metrics[:-1], {**metrics[0], "value": "high"}]}),
        ("metrics[999].step", {"metrics": [*metrics[:-1], {**metrics[0], "step": 2**63}]}),
        ("metrics[0].key", {"metrics": [{**metrics[0], "key": "../m"}]}),
        ("params[0].key", {"metrics": metrics[:1], "params": [{"key": "", "value": "1"}]}),
        ("tags[0].key", {"metrics": metrics[:1], "tags": [{"key": "a//b", "value": "1"}]}),
        ("at most 1000 metrics", {"metrics": [*metrics, metrics[0]]}),
        ("at most 100 params", {"params": [{"key": f"p{i}", "value": "1"} for i in range(101)]}),
        ("at most 100 tags", {"tags": [{"key": f"t{i}", "value": "1"} for i in range(101)]}),
        ("at most 1000 items", {"metrics": metrics, "tags": [{"key": "t", "value": "1"}]}),
        ("Duplicate", {"metrics": metrics[:1], "params": [{"key": "p", "value": "1"}] * 2}),
        ("list of objects", {"metrics": {"key": "m"}}),
    ]
    for said, body in bad:
        status, answer = server.post("runs/log-batch", run_id=run, **body)
        assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE"), said
        assert said in answer["message"], answer
    client.log_param(run, "p", "1")
    changed = {"metrics": metrics, "params": []} | {"metrics": metrics[:900], "params": [{"key": "p", "value": "2"}]}
    assert server.post("runs/log-batch", run_id=run, **changed)[0] == 400
    seen = client.get_run(run).data
    assert (seen.metrics, seen.params) == ({}, {"p": "1"})
    assert set(seen.tags) == {"mlflow.runName", "mlflow.user"}


def test_artifacts_go_up_are_listed_come_down_and_go(client: MlflowClient, server: Server, experiment: str) -> None:
    Path("one file.txt").write_text("one")
    Path("empty").write_bytes(b"")
    Path("page.html").write_text("<script>")
    Path("big.bin").write_bytes(os.urandom(3_000_000))
    Path("tree/inner").mkdir(parents=True)
    Path("tree/a").write_text("a")
    Path("tree/inner/ü").write_text("u")
    with mlflow.start_run(experiment_id=experiment) as run:
        mlflow.log_artifact("one file.txt")
        mlflow.log_artifact("empty", "sub/dir")
        mlflow.log_artifact("page.html")
        mlflow.log_artifact("big.bin")
        mlflow.log_artifacts("tree", artifact_path="t")
        mlflow.log_text("hello", "texts/hello.txt")
        mlflow.log_dict({"k": [1, 2]}, "d.json")
        mlflow.log_dict({"k": 3}, "d.json")
        uri = mlflow.get_artifact_uri("texts/hello.txt")
    run_id = run.info.run_id
    listed = {f.path: (f.is_dir, f.file_size) for f in client.list_artifacts(run_id)}
    assert listed == {
        "one file.txt": (False, 3), "page.html": (False, 8), "big.bin": (False, 3_000_000), "d.json": (False, 12),
        "sub": (True, None), "t": (True, None), "texts": (True, None),
    }  # fmt: skip
    assert [f.path for f in client.list_artifacts(run_id, "t")] == ["t/a", "t/inner"]
    assert [f.path for f in client.list_artifacts(run_id, "t/inner")] == ["t/inner/ü"]
    assert client.list_artifacts(run_id, "one file.txt") == []
    down = Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path="big.bin"))
    assert down.read_bytes() == Path("big.bin").read_bytes()
    assert mlflow.artifacts.load_text(uri) == "hello"
    assert json.loads(mlflow.artifacts.load_text(f"runs:/{run_id}/d.json")) == {"k": 3}
    folder = Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path="t"))
    assert sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()) == ["a", "inner/ü"]
    whole = Path(mlflow.artifacts.download_artifacts(run_id=run_id))
    assert (whole / "sub/dir/empty").read_bytes() == b""
    repository = mlflow.store.artifact.artifact_repository_registry.get_artifact_repository(
        client.get_run(run_id).info.artifact_uri
    )
    with server.acting("owner"):
        repository.delete_artifacts("t/inner")
        repository.delete_artifacts("page.html")
    assert [f.path for f in client.list_artifacts(run_id, "t")] == ["t/a"]
    assert "page.html" not in [f.path for f in client.list_artifacts(run_id)]
    with pytest.raises(MlflowException, match="Failed to download"):
        mlflow.artifacts.load_text(f"runs:/{run_id}/page.html")


def test_large_files_go_up_in_one_request_where_the_client_would_split_them(
    client: MlflowClient, experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "true")
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE", "1000000")
    Path("big.bin").write_bytes(os.urandom(2_000_000))
    run = client.create_run(experiment).info.run_id
    client.log_artifact(run, "big.bin")
    down = Path(mlflow.artifacts.download_artifacts(run_id=run, artifact_path="big.bin"))
    assert down.read_bytes() == Path("big.bin").read_bytes()


def test_data_sets_and_models_of_a_run_are_kept(client: MlflowClient, experiment: str) -> None:
    run = client.create_run(experiment).info.run_id
    data = Dataset(name="digits", digest="abc123", source_type="local", source="{}", schema="{}", profile=None)
    client.log_inputs(run, [DatasetInput(data, [InputTag("mlflow.data.context", "training")])])
    model = client.create_logged_model(experiment, name="m", source_run_id=run)
    client.log_outputs(run, [LoggedModelOutput(model.model_id, step=3)])
    seen = client.get_run(run)
    found = seen.inputs.dataset_inputs[0]
    assert (found.dataset.name, found.dataset.digest, found.dataset.schema) == ("digits", "abc123", "{}")
    assert [(t.key, t.value) for t in found.tags] == [("mlflow.data.context", "training")]
    assert [(o.model_id, o.step) for o in seen.outputs.model_outputs] == [(model.model_id, 3)]
    for where in (
        "dataset.name = 'digits'",
        "datasets.digest LIKE 'abc%'",
        "dataset.context = 'training'",
        "dataset.name IN ('digits', 'x')",
    ):
        assert [r.info.run_id for r in client.search_runs([experiment], where)] == [run], where
    assert client.search_runs([experiment], "dataset.name = 'other'") == []
