"""An unmodified `mlflow` client beside a run."""

import json
from collections.abc import Callable
from typing import Any

from tests.agent_tracking.conftest import RUN_ID, Server


def test_fluent_calls_attach_to_the_current_run_and_become_records(server: Server, script: Callable[..., Any]) -> None:
    answer = script("""
import json, mlflow
with mlflow.start_run() as run:
    mlflow.log_metric("loss", 0.5)
    mlflow.log_metric("loss", 0.25, step=3)
    mlflow.log_metric("bad", float("nan"))
    mlflow.log_metrics({"a": 1, "b": float("inf")}, step=9)
    mlflow.log_param("lr", 0.1)
    mlflow.log_params({"layers": 3, "name": "größe"})
    mlflow.set_tag("stage", "first")
    mlflow.set_tag("stage", "final")
    mlflow.set_tags({"x": "1", "gone": "soon"})
    mlflow.delete_tag("gone")
    mlflow.set_tag("mlflow.note.content", "a note")
seen = mlflow.get_run(run.info.run_id)
print(json.dumps({"id": run.info.run_id, "experiment": run.info.experiment_id,
    "metrics": repr(seen.data.metrics),
    "params": seen.data.params, "tags": seen.data.tags, "status": seen.info.status,
    "user": seen.info.user_id}))
""")
    assert answer["id"] == RUN_ID
    assert answer["experiment"] == "7"
    assert answer["user"] == "ada"
    assert answer["metrics"] == repr({"loss": 0.25, "bad": float("nan"), "a": 1.0, "b": float("inf")})
    assert answer["params"] == {"lr": "0.1", "layers": "3", "name": "größe"}
    assert answer["tags"] == {
        "stage": "final",
        "x": "1",
        "mlflow.note.content": "a note",
        "mlflow.runName": RUN_ID,
    }
    assert answer["status"] == "FINISHED"
    records = [{k: v for k, v in record.items() if k != "t"} for record in server.records()]
    assert {"k": "loss", "v": 0.25, "s": 3} in records
    assert {"k": "bad", "v": "NaN", "s": 0} in records
    assert {"op": "batch", "s": 9, "m": {"a": 1.0, "b": "Infinity"}} in records
    assert {"op": "untag", "k": "gone"} in records
    assert {"op": "note", "v": "a note"} in records


def test_logging_without_start_run_attaches_too(server: Server, script: Callable[..., Any]) -> None:
    script("import mlflow; mlflow.log_metric('loss', 1.5)", printed=False)
    assert [(r["k"], r["v"]) for r in server.records() if "op" not in r] == [("loss", 1.5)]


def test_artifacts_go_up_are_listed_and_come_down(server: Server, script: Callable[..., Any]) -> None:
    answer = script("""
import json, mlflow, pathlib
pathlib.Path("one file.txt").write_text("one")
pathlib.Path("empty").write_bytes(b"")
pathlib.Path("page.html").write_text("<b>")
pathlib.Path("big.bin").write_bytes(bytes(range(256)) * 40000)
pathlib.Path("tree/inner").mkdir(parents=True)
pathlib.Path("tree/a").write_text("a")
pathlib.Path("tree/inner/ü").write_text("u")
mlflow.start_run()
mlflow.log_artifact("one file.txt")
mlflow.log_artifact("empty", "sub/dir")
mlflow.log_artifact("page.html")
mlflow.log_artifact("big.bin")
mlflow.log_artifacts("tree", artifact_path="t")
mlflow.log_text("hello", "texts/hello.txt")
mlflow.log_dict({"k": [1, 2]}, "d.json")
client = mlflow.MlflowClient()
run_id = mlflow.active_run().info.run_id
listed = {f.path: (f.is_dir, f.file_size) for f in client.list_artifacts(run_id)}
inner = [f.path for f in client.list_artifacts(run_id, "t/inner")]
back = pathlib.Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path="big.bin")).read_bytes()
text = mlflow.artifacts.load_text(mlflow.get_artifact_uri("texts/hello.txt"))
folder = pathlib.Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path="t"))
print(json.dumps({"listed": listed, "inner": inner,
    "same": back == pathlib.Path("big.bin").read_bytes(), "text": text,
    "folder": sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())}))
""")
    assert answer["listed"]["one file.txt"] == [False, 3]
    assert answer["listed"]["t"] == [True, None]
    assert answer["inner"] == ["t/inner/ü"]
    assert answer["same"]
    assert answer["text"] == "hello"
    assert answer["folder"] == ["a", "inner/ü"]
    base = server.run_dir / "artifacts"
    assert (base / "sub/dir/empty").read_bytes() == b""
    assert json.loads((base / "d.json").read_text()) == {"k": [1, 2]}
    logged = [record["path"] for record in server.records() if record.get("op") == "artifact"]
    assert set(logged) == {str(path.relative_to(base)) for path in base.rglob("*") if path.is_file()}
    assert not list(server.run_dir.glob(".upload-*"))


def test_experiments_history_and_search_answer_about_this_run(server: Server, script: Callable[..., Any]) -> None:
    answer = script("""
import json, mlflow, time
from mlflow.entities import Metric, Param, RunTag
client = mlflow.MlflowClient()
mlflow.start_run(run_name="renamed")
run_id = mlflow.active_run().info.run_id
points = [Metric("m", i / 7, 1000 + i, i - 5) for i in range(900)]
client.log_batch(run_id, points, [Param("p", "1")], [RunTag("t", "2")])
history = client.get_metric_history(run_id, "m")
print(json.dumps({
    "history": [[h.value, h.step, h.timestamp] for h in history],
    "none": client.get_metric_history(run_id, "other"),
    "by_name": mlflow.get_experiment_by_name("digits").experiment_id,
    "by_id": mlflow.get_experiment("7").name,
    "missing": mlflow.get_experiment_by_name("nothing"),
    "all": [e.name for e in mlflow.search_experiments()],
    "set": mlflow.set_experiment("some other name").experiment_id,
    "runs": [r.info.run_id for r in client.search_runs(["7"])],
    "name": mlflow.get_run(run_id).info.run_name,
}))
""")
    assert answer["history"] == [[i / 7, i - 5, 1000 + i] for i in range(900)]
    assert answer["none"] == []
    assert answer["missing"] is None
    assert (answer["by_name"], answer["by_id"], answer["all"], answer["set"]) == (
        "7",
        "digits",
        ["digits"],
        "7",
    )
    assert answer["runs"] == [RUN_ID]
    assert answer["name"] == "renamed"
    assert {"op": "name", "v": "renamed"} in server.records()


def test_what_cannot_be_is_an_mlflow_exception_with_the_reason(server: Server, script: Callable[..., Any]) -> None:
    answer = script("""
import json, mlflow
from mlflow.exceptions import MlflowException
client = mlflow.MlflowClient()
mlflow.start_run()
mlflow.log_param("lr", "1")
run_id = mlflow.active_run().info.run_id
found = {}
def attempt(name, call):
    try:
        call()
    except MlflowException as error:
        found[name] = [error.error_code, str(error)]
attempt("nested", lambda: mlflow.start_run(nested=True))
attempt("param", lambda: client.log_param(run_id, "lr", "2"))
attempt("foreign", lambda: client.log_metric("other_run", "m", 1.0))
attempt("foreign_get", lambda: client.get_run("other_run"))
attempt("step", lambda: client.log_metric(run_id, "m", 1.0, step=2**62 * 2 - 1))
attempt("missing", lambda: mlflow.artifacts.load_text(f"mlflow-artifacts:/{run_id}/artifacts/none.txt"))
attempt("delete", lambda: client.delete_run(run_id))
print(json.dumps(found))
""")
    assert answer["nested"][0] == "RESOURCE_CONFLICT"
    assert "another one from inside" in answer["nested"][1]
    assert answer["param"][0] == "INVALID_PARAMETER_VALUE"
    assert answer["foreign"][0] == answer["foreign_get"][0] == "RESOURCE_DOES_NOT_EXIST"
    assert answer["delete"][0] == "ENDPOINT_NOT_FOUND"
    assert "step" not in answer
    assert not [r for r in server.records() if r.get("op") == "param" and r["v"] == "2"]


def test_logged_models_keep_their_files_apart_and_are_found_again(server: Server, script: Callable[..., Any]) -> None:
    answer = script("""
import json, mlflow, pathlib
from mlflow.entities import LoggedModelOutput
client = mlflow.MlflowClient()
run_id = mlflow.start_run().info.run_id
found = []
for number in range(2):
    pathlib.Path("model").mkdir(exist_ok=True)
    pathlib.Path("model/weights").write_text(str(number))
    model = client.create_logged_model(
        "7", name="model", source_run_id=run_id, params={"depth": "3"}, tags={"a": "b"})
    client.log_model_artifacts(model.model_id, "model")
    client.finalize_logged_model(model.model_id, "READY")
    client.set_logged_model_tags(model.model_id, {"c": "d"})
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=number)])
    seen = client.get_logged_model(model.model_id)
    found.append([seen.name, str(seen.status), seen.params, seen.tags])
outputs = mlflow.get_run(run_id).outputs.model_outputs
models = [client.get_logged_model(output.model_id) for output in outputs]
loaded = [mlflow.artifacts.load_text(model.artifact_location + "/weights") for model in models]
print(json.dumps({"found": found, "loaded": loaded}))
""")
    assert answer["found"] == [["model", "READY", {"depth": "3"}, {"a": "b", "c": "d"}]] * 2
    assert answer["loaded"] == ["0", "1"]
    assert (server.run_dir / "artifacts/model/weights").read_text() == "0"
    assert (server.run_dir / "artifacts/model-2/weights").read_text() == "1"
