"""`runstead import mlflow`: stores that the real MLflow made, brought into a live studio; cut off, repeated, compared."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from runstead.import_mlflow import Import
from runstead.mlflow_calls import Mlflow
from runstead.mlflow_folder import mapping
from runstead.mlflow_stores import open_store

from tests.live import ROOT
from tests.mlflow_server.conftest import Server

STORE = """
import json, sys
from pathlib import Path
import mlflow, pandas as pd
from mlflow.entities import Metric, Param
mark = sys.argv[1]
Path("adds.py").write_text('''
import mlflow.pyfunc
from mlflow.models import set_model
class Adds(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return [item + 1 for item in model_input]
set_model(Adds())
''')
c = mlflow.MlflowClient()
e = c.create_experiment(f"/team/größe {mark}", tags={"team": "vision", "mlflow.note.content": "what for"})
mlflow.set_experiment(experiment_id=e)
with mlflow.start_run(run_name="first", description='a "note": of\\ntwo lines, ' + "long " * 60) as run:
    for value, step in ((0.5, 1), (float("nan"), 2), (0.25, 3)):
        mlflow.log_metric("loss", value, step=step)
    mlflow.log_metric("a/b", 1e-300)
    mlflow.log_param("p", "x: 'y'\\n#2")
    mlflow.set_tag("t", "it's")
    mlflow.log_text("hello", "d/ü file.txt")
    Path("empty").write_bytes(b"")
    mlflow.log_artifact("empty")
    mlflow.log_input(mlflow.data.from_pandas(pd.DataFrame({"a": [1]}), name="ds"), context="training")
    info = mlflow.pyfunc.log_model(name="adds", python_model="adds.py", pip_requirements=[], registered_model_name=f"reg {mark}", params={"d": 1})
    with mlflow.start_run(nested=True) as child:
        c.log_batch(child.info.run_id, [Metric("many", i / 7, 1_700_000_000_000 + i, i) for i in range(900)], [Param(f"p{i}", str(i)) for i in range(90)])
for n in range(3):
    c.log_batch(run.info.run_id, [Metric("many", i / 7, 1_700_000_000_000 + i, i) for i in range(n * 900, n * 900 + 900)])
c.set_registered_model_alias(f"reg {mark}", "champ", "1")
c.create_model_version(f"reg {mark}", info.model_uri)
c.delete_model_version(f"reg {mark}", "2")
c.create_model_version(f"reg {mark}", f"runs:/{run.info.run_id}/d", run.info.run_id, description="third")
c.transition_model_version_stage(f"reg {mark}", "3", "Production")
gone = c.create_run(e)
c.delete_run(gone.info.run_id)
other = c.create_experiment(f"gone {mark}")
inside = c.create_run(other)
c.delete_experiment(other)
failed = c.create_run("0")
c.set_terminated(failed.info.run_id, "FAILED")
print(json.dumps({"experiment": e, "run": run.info.run_id, "child": child.info.run_id, "gone": gone.info.run_id, "inside": inside.info.run_id,
    "failed": failed.info.run_id, "model": info.model_id, "start": c.get_run(run.info.run_id).info.start_time, "end": c.get_run(run.info.run_id).info.end_time}))
"""


@pytest.fixture(params=["sqlite", "folder"])
def store(
    request: pytest.FixtureRequest, whole_mlflow: str, tmp_path: Path
) -> Iterator[tuple[str, dict[str, Any], str]]:
    """(path of the store, ids in it, what its names end with): made by MLflow itself."""
    place = tmp_path / "old"
    place.mkdir()
    mark = f"{request.param} {time.time_ns()}"
    path = place / ("mlflow.db" if request.param == "sqlite" else "mlruns")
    env = {
        "PATH": os.environ["PATH"], "HOME": str(tmp_path), "MLFLOW_ALLOW_FILE_STORE": "true",
        "MLFLOW_TRACKING_URI": f"sqlite:///{path}" if request.param == "sqlite" else str(path),
    }  # fmt: skip
    done = subprocess.run(
        [whole_mlflow, "-c", STORE, mark], env=env, cwd=place, capture_output=True, text=True, check=False, timeout=250
    )
    assert done.returncode == 0, done.stderr[-3000:]
    yield str(path), json.loads(done.stdout.splitlines()[-1]), mark


@pytest.fixture
def command(server: Server, tmp_path: Path) -> Callable[..., "subprocess.Popen[str]"]:
    def start(*words: str) -> "subprocess.Popen[str]":
        env = {
            "PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(ROOT / "sdk/src"), "RUNSTEAD_URL": server.url,
            "RUNSTEAD_WORKSPACE": "default", "RUNSTEAD_TOKEN": server.tokens["contributor"],
        }  # fmt: skip
        argv = [sys.executable, "-m", "runstead", "import", "mlflow", *words]
        return subprocess.Popen(argv, env=env, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start


def finished(process: "subprocess.Popen[str]", code: int = 0) -> str:
    out, err = process.communicate(timeout=200)
    assert process.returncode == code, out + err
    return out + err


def test_a_store_comes_over_whole_and_once(
    client: MlflowClient, store: tuple[str, dict[str, Any], str], command: Callable[..., "subprocess.Popen[str]"]
) -> None:
    path, ids, mark = store
    # Cut off again and again, at moments that lie ever later.
    for delay in (0.6, 0.9, 1.3):
        process = command(path, "--json")
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
    first = json.loads(finished(command(path, "--json")))
    again = json.loads(finished(command(path, "--json")))
    assert first == again and first["problems"] == []
    counts = first["counts"]
    assert (
        counts["experiments"],
        counts["runs"],
        counts["logged models"],
        counts["registered models"],
        counts["versions"],
    ) == (3, 5, 1, 1, 2)
    assert (
        counts["points"] in {3 + 1 + 2700 + 900, 3 + 2 + 2700 + 900} and counts["parameters"] == 91
    )  # folders repeat a point of a model

    experiment = client.get_experiment_by_name(f"/team/größe {mark}")
    assert experiment.tags == {"team": "vision", "mlflow.note.content": "what for"}
    run = client.get_run(ids["run"])
    assert (run.info.status, run.info.start_time, run.info.end_time, run.info.run_name) == (
        "FINISHED",
        ids["start"],
        ids["end"],
        "first",
    )
    assert run.data.metrics == {"loss": 0.25, "a/b": 1e-300, "many": 2699 / 7}
    assert run.data.params == {"p": "x: 'y'\n#2"}
    assert (
        run.data.tags["t"] == "it's"
        and run.data.tags["mlflow.note.content"] == 'a "note": of\ntwo lines, ' + "long " * 60
    )
    assert [repr(m.value) for m in client.get_metric_history(ids["run"], "loss")] == ["0.5", "nan", "0.25"]
    assert [m.step for m in client.get_metric_history(ids["run"], "many")] == list(range(2700))
    assert run.inputs.dataset_inputs[0].dataset.name == "ds"
    assert [o.model_id for o in run.outputs.model_outputs] == [ids["model"]]
    assert mlflow.artifacts.load_text(f"runs:/{ids['run']}/d/ü file.txt") == "hello"
    assert "empty" in [f.path for f in client.list_artifacts(ids["run"])]
    child = client.get_run(ids["child"])
    assert child.data.tags["mlflow.parentRunId"] == ids["run"] and len(child.data.params) == 90
    assert client.get_run(ids["gone"]).info.lifecycle_stage == "deleted"
    assert client.get_experiment_by_name(f"gone {mark}").lifecycle_stage == "deleted"
    assert client.get_run(ids["failed"]).info.status == "FAILED"
    model = client.get_logged_model(ids["model"])
    assert (model.name, str(model.status), model.source_run_id) == ("adds", "READY", ids["run"])
    assert "class Adds" in mlflow.artifacts.load_text(f"{model.artifact_location}/adds.py")
    name = f"reg {mark}"
    assert sorted(int(v.version) for v in client.search_model_versions(f"name = '{name}'")) == [1, 3]
    assert int(client.get_model_version_by_alias(name, "champ").version) == 1
    third = client.get_model_version(name, "3")
    assert (third.description, third.current_stage) == ("third", "Production")
    assert mlflow.artifacts.load_text(f"models:/{name}/3/ü file.txt") == "hello"


def test_a_stage_that_was_not_reached_is_set_by_the_next_import_and_one_that_cannot_be_is_told(
    server: Server, client: MlflowClient, store: tuple[str, dict[str, Any], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, ids, mark = store
    name = f"reg {mark}"
    whole = Mlflow.call
    cut: list[type[BaseException]] = [KeyboardInterrupt]

    def cutting(self: Mlflow, call: str, /, **fields: Any) -> Any:
        if call == "model-versions/transition-stage":
            if not cut:
                return {}  # taken, and not done
            raise cut.pop()
        return whole(self, call, **fields)

    def brought() -> Import:
        job = Import(open_store(path), Mlflow(server.url, "default", server.tokens["contributor"]), quiet=True)
        job.run()
        return job

    with monkeypatch.context() as patched:
        patched.setattr(Mlflow, "call", cutting)
        with pytest.raises(KeyboardInterrupt):
            brought()
        assert client.get_model_version(name, "3").current_stage == "None"
        assert brought().problems == [f"version 3 of {name}: its stage is None, in the store Production"]
    job = brought()
    assert (job.problems, job.counts["versions"]) == ([], 2)
    assert client.get_model_version(name, "3").current_stage == "Production"
    assert client.get_model_version_by_alias(name, "champ").version == "1"
    # What the store does not say stays as it was said here.
    client.transition_model_version_stage(name, "1", "Archived")
    assert brought().problems == []
    assert client.get_model_version(name, "1").current_stage == "Archived"
    # Another version of the number is none of the store's: it is told, and left as it is.
    with server.acting("owner") as owner:
        owner.delete_model_version(name, "3")
    assert brought().problems == [
        f"version 3 of {name}: it was deleted in the studio, which gives its number to no other"
    ]
    with server.acting("owner") as owner:
        owner.delete_registered_model(name)
    client.create_registered_model(name)
    other = client.create_run(client.get_run(ids["run"]).info.experiment_id)
    client.log_text(other.info.run_id, "other", "d/file.txt")
    for _ in range(3):
        client.create_model_version(name, f"runs:/{other.info.run_id}/d", other.info.run_id)
    assert (
        f"version 3 of {name}: the studio has another version of this number, of the run {other.info.run_id}"
        in brought().problems
    )
    assert client.get_model_version(name, "3").current_stage == "None"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("none.db", "there is no file"),
        ("notes.txt", "SQLite"),
        ("empty", "no store of MLflow"),
        ("s3://b/x", "not on this machine"),
    ],
)
def test_what_is_no_store_is_told(
    command: Callable[..., "subprocess.Popen[str]"], tmp_path: Path, name: str, said: str
) -> None:
    (tmp_path / "notes.txt").write_text("no database " * 100)
    (tmp_path / "empty").mkdir()
    assert said in finished(command(name), 1)


def test_a_count_that_differs_is_told(
    client: MlflowClient, store: tuple[str, dict[str, Any], str], command: Callable[..., "subprocess.Popen[str]"]
) -> None:
    path, ids, _ = store
    finished(command(path))
    client.log_metric(ids["child"], "many", 1.0)
    said = finished(command(path), 1)
    assert f"run {ids['child']}: the metric many has 901 points, in the store 900" in said


def test_values_of_a_meta_file_over_several_lines() -> None:
    lines = [
        "a: plain words",
        "  go on",
        "b: 'it''s",
        "",
        "  two'",
        'c: "x\\',
        '  \\ y\\u00e9\\n"',
        "d: null",
        "e: '5'",
        "f: 5",
        "g:",
        "  h: i",
        "  'j:k': l",
        "m: {}",
    ]
    assert mapping(lines) == {
        "a": "plain words go on", "b": "it's\ntwo", "c": "x yé\n", "d": None, "e": "5", "f": 5, "g": {"h": "i", "j:k": "l"}, "m": {},
    }  # fmt: skip
