"""What a script may ask of its run and do with it, without a network: on a live studio, and in a folder."""

import inspect
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from runstead import Experiment, Model, Run, RunsteadError, ScriptRunConfig, UserError, Workspace, records
from runstead.child import ChildRun
from runstead.errors import ModelPathNotFoundException
from runstead.inside import Inside
from runstead.run import ScriptRun
from runstead.submitted import SubmittedRun

from tests.sdk.conftest import Home
from tests.waiting import until

FOLDS = """
import pathlib, socket
from azureml.core import Run
def refuse(*args):
    raise AssertionError("a script needs no network")
socket.socket.connect = refuse
run = Run.get_context(allow_offline=False)
assert run.parent is None
pathlib.Path("outputs/model.pkl").write_bytes(b"weights")
for fold in range(3):
    with run.child_run("fold %d" % fold) as child:
        assert child.parent.id == run.id
        child.parent.log("folds", fold)
        for step in range(4):
            child.log("loss", 1 / (step + 1) + fold, step=step)
        child.tag("fold", str(fold))
        child.add_properties({"size": 10 + fold})
        child.upload_file("fold.txt", __import__("io").BytesIO(b"fold %d" % fold))
        if fold == 1:
            pathlib.Path("part").mkdir()
            pathlib.Path("part/model.bin").write_bytes(b"part")
            child.upload_folder("model", "part")
            child.register_model("part", "model", tags={"fold": "1"})
with run.child_run("failing") as bad:
    try:
        with bad.child_run("below"):
            raise ValueError("no good")
    except ValueError as error:
        bad.fail(error)
left = run.child_run("left open")
left.log("a", 1)
few = run.create_children(tag_key="lr", tag_values=[0.1, 0.2])
assert [child.get_tags() for child in few] == [{"lr": "0.1"}, {"lr": "0.2"}]
assert [child.name for child in run.get_children(status="Completed")] == ["fold 2", "fold 1", "fold 0"]
assert [child.id for child in run.get_children(tags={"lr": "0.2"})] == [few[1].id]
assert len(list(run.get_children(recursive=True))) == 8
assert run.get_metrics(recursive=True)[child.id] == {"loss": [3.0, 2.5, 2 + 1 / 3, 2.25]}
model = run.register_model("digits", model_path="outputs/model.pkl", tags={"kind": "mlp"}, properties={"classes": 10},
                           description="By a script", model_framework="ScikitLearn")
print(model.name, model.id, model.version, sep="\\t")
import warnings
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    run.register_model("missing", model_path="outputs/never.pkl")
assert "has no file outputs/never.pkl yet" in str(said[0].message), said
import os
assert run.register_model("absolute", model_path=os.path.abspath("outputs/model.pkl"))._row["path"] == "outputs/model.pkl"
from runstead.errors import ModelPathNotFoundException
try:
    run.register_model("elsewhere", model_path="/etc/passwd")
except ModelPathNotFoundException as error:
    assert "/etc/passwd is not in the run's folder" in str(error), error
else:
    raise AssertionError
details = run.get_details()
assert details["target"] == "local" and details["startTimeUtc"] and details["status"] == "Running", details
assert run.get_tags()["stage"] == "try" and details["properties"]["ContentSnapshotId"] == run.get_snapshot_id()
assert run.get_portal_url().endswith("/runs/%d" % run.number), run.get_portal_url()
run.download_file("outputs/model.pkl", "copy.pkl")
assert open("copy.pkl", "rb").read() == b"weights" and "outputs/model.pkl" in run.get_file_names()
print(*[child.id for child in run.get_children()])
"""


def submitted(home: Home, ws: Workspace, name: str, code: str, **more: Any) -> SubmittedRun:
    config = ScriptRunConfig(home.project(name, train=code), "train.py", environment="python")
    return Experiment(ws, name).submit(config, tags={"stage": "try"}, **more)


def events(run: SubmittedRun) -> list[str]:
    return [event["detail"] for event in run._ask("GET", "/events")["events"] if event["detail"]]


def test_a_script_makes_children_and_models_and_the_studio_has_them(home: Home, ws: Workspace) -> None:
    run = submitted(home, ws, "folds", FOLDS)
    assert run.wait_for_completion(raise_on_error=False)["status"] == "Completed", run.read_log()
    log = run.read_log().decode()
    assert log.splitlines()[0] == "digits\tdigits\tNone"
    children = {child.name: child for child in run.get_children()}
    assert {child.id for child in children.values()} == set(log.split()[-7:])
    assert all(child.type == "interactive" and child.experiment.name == "folds" for child in children.values())
    for fold in range(3):
        child = children[f"fold {fold}"]
        assert (child.status, child.tags, child.properties) == (
            "Completed",
            {"fold": str(fold)},
            {"size": str(10 + fold)},
        )
        assert child.get_metrics()["loss"] == [1 / (step + 1) + fold for step in range(4)]
        assert child.parent.id == run.id
    assert children["fold 0"].get_file_names() == ["fold.txt"]
    assert children["fold 1"].get_file_names() == ["fold.txt", "model/model.bin"]
    assert run.get_metrics()["folds"] == [0.0, 1.0, 2.0]
    assert run.get_file_names() == ["outputs/model.pkl"]
    bad = children["failing"]
    assert (bad.status, bad._data["error"]["message"]) == ("Failed", "no good")
    (below,) = bad.get_children()
    assert (below.name, below.status, below._data["error"]["type"]) == ("below", "Failed", "ValueError")
    assert children["left open"].status == "Completed"
    assert children["left open"]._data["reason"] == "exited"
    (model,) = Model.list(ws, "digits")
    assert (model.version, model.run_id, model.tags, model.description) == (1, run.id, {"kind": "mlp"}, "By a script")
    assert model.properties == {"classes": "10", "framework": "ScikitLearn"}
    assert Path(model.download(str(home.folder / "fetched"))).read_bytes() == b"weights"
    (part,) = Model.list(ws, "part")
    assert part.run_id == children["fold 1"].id
    told = events(run)
    assert "Registered digits:1, as the script asked." in told
    assert any("missing, which was not registered: 'outputs/never.pkl' is no artifact" in text for text in told), told


def test_of_a_failed_and_of_a_canceled_script_what_is_there_is_kept(home: Home, ws: Workspace) -> None:
    code = (
        "import pathlib, sys, time\nfrom runstead import Run\nrun = Run.get_context()\n"
        "pathlib.Path('outputs/m.bin').write_bytes(b'm')\nrun.register_model('kept', 'outputs/m.bin')\n"
        "child = run.child_run('open')\nchild.log('a', 1)\nprint('ready', flush=True)\n"
        "time.sleep(60 if len(sys.argv) > 1 else 0)\nraise SystemExit(3)\n"
    )
    folder = home.project("ends", train=code)
    failed = Experiment(ws, "ends").submit(ScriptRunConfig(folder, "train.py", environment="python"))
    canceled = Experiment(ws, "ends").submit(ScriptRunConfig(folder, "train.py", ["wait"], environment="python"))
    until(lambda: list(canceled.get_children()) and b"ready" in canceled.read_log(), 60)
    (seen,) = canceled.get_children()
    assert (seen.status, seen.get_metrics()) == ("Running", {"a": 1.0})
    canceled.cancel()
    for run, status, reason in ((failed, "Failed", "exit_code"), (canceled, "Canceled", "canceled")):
        assert run.wait_for_completion(raise_on_error=False)["status"] == status
        (child,) = run.get_children()
        assert (child.status, child._data["reason"]) == (status, reason)
    assert sorted(model.run_id for model in Model.list(ws, "kept")) == sorted([failed.id, canceled.id])


def test_a_studio_that_dies_at_any_moment_makes_each_version_and_child_once(home: Home, ws: Workspace) -> None:
    code = (
        "import pathlib, time\nfrom runstead import Run\nrun = Run.get_context()\n"
        "for number in range(12):\n    with run.child_run('c%d' % number) as child:\n"
        "        child.log('n', number)\n        time.sleep(0.15)\n"
        "pathlib.Path('outputs/m.bin').write_bytes(b'm' * 3_000_000)\nrun.register_model('crashed', 'outputs/m.bin')\n"
    )
    run = submitted(home, ws, "crashes", code)
    until(lambda: len(list(run.get_children())) > 1, 60)
    for _ in range(5):
        before = run.get_status()
        home.studio.kill_workers()
        until(lambda: home.studio.processes("house"), 60)
        if before in ("Completed", "Failed"):
            break
    assert run.wait_for_completion(raise_on_error=False)["status"] == "Completed", run.read_log()
    children = list(run.get_children())
    assert sorted(child.name for child in children) == sorted(f"c{number}" for number in range(12))
    assert all(child.status == "Completed" for child in children)
    assert sorted(child.get_metrics()["n"] for child in children) == list(range(12))
    assert [model.version for model in Model.list(ws, "crashed")] == [1]


def test_what_only_the_studio_knows_is_refused_with_the_way_to_ask(home: Home, ws: Workspace) -> None:
    code = (
        "from azureml.core import Run, Model\nimport runstead\nrun = Run.get_context()\n"
        "print(run.experiment.name, run.experiment.workspace.name, run.number, hasattr(run, 'workspace'))\n"
        "for ask in (lambda: Model(run.experiment.workspace, 'm'), lambda: run.wait_for_completion(),\n"
        "            lambda: run.submit_child(None), lambda: run.experiment.submit(None), lambda: run.cancel()):\n"
        "    try:\n        ask()\n    except runstead.RunsteadError as error:\n        print('said:', error)\n"
    )
    run = submitted(home, ws, "asks", code)
    assert run.wait_for_completion(raise_on_error=False)["status"] == "Completed", run.read_log()
    lines = run.read_log().decode().splitlines()
    assert lines[0] == f"asks {ws.name} {run.number} False"
    assert len(lines) == 6
    assert all(line.startswith("said:") and "Workspace.from_config()" in line for line in lines[1:]), lines


# In a folder alone.


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    (tmp_path / "run" / "code" / "outputs").mkdir(parents=True)
    (tmp_path / "run" / "code" / "logs").mkdir()
    (tmp_path / "run" / "log").write_bytes(b"line\n")
    facts = {
        "tags": {"a": "1", "bare": None},
        "properties": {"p": "x"},
        "name": "named",
        "parent": "above_1",
        "target": "box",
    }
    (tmp_path / "run" / "spec.json").write_text(json.dumps({"facts": facts}))
    monkeypatch.setenv("RUNSTEAD_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("RUNSTEAD_RUN_ID", "digits_1_ab")
    monkeypatch.chdir(tmp_path / "run" / "code")
    yield Run.get_context()


def lines_of(run: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(run._writer.run_dir, "records.jsonl").read_text().splitlines()]


def test_what_the_run_was_submitted_with_is_known_and_changed(run: Any) -> None:
    assert (run.name, run.tags, run.properties) == ("named", {"a": "1", "bare": None}, {"p": "x"})
    run.set_tags({"a": "2"})
    assert run.remove_tags(["bare"]) == {"a": "2"}
    with pytest.raises(UserError, match="p is 'x' already"):
        run.add_properties({"p": "y"})
    assert run.parent.id == "above_1"
    run.parent.log("a", 1)
    run.parent.tag("best", "a")
    run.parent.flush()
    told = lines_of(run)[-2:]
    assert [line["op"] for line in told] == ["parent", "parent"] and (told[0]["r"]["k"], told[0]["r"]["v"]) == (
        "a",
        1.0,
    )
    assert run.get_metrics() == {} and "best" not in run.tags
    for asked in ("get_tags", "get_metrics", "log_image", "upload_file", "register_model"):
        with pytest.raises(RunsteadError, match=rf"{asked}: a script does not reach.*'above_1'"):
            getattr(run.parent, asked)("a")
    assert run.get_details()["target"] == "box"


def test_files_and_logs_are_read_where_they_are(run: Any, tmp_path: Path) -> None:
    Path("outputs/a").mkdir()
    Path("outputs/a/m.bin").write_bytes(b"m")
    Path("logs/train.log").write_text("step")
    with run.child_run() as child:
        child.upload_file("c.txt", tmp_path / "run" / "log")
        child.log_image("i", path=str(_png(tmp_path)))
        assert child.get_file_names() == ["c.txt", "i.png"]
    run.upload_file("x/y.txt", tmp_path / "run" / "log")
    assert run.get_file_names() == ["logs/train.log", "outputs/a/m.bin", "x/y.txt"]
    run.download_files("outputs/", str(tmp_path / "down"), append_prefix=False)
    assert (tmp_path / "down/a/m.bin").read_bytes() == b"m"
    child.download_file("c.txt", str(tmp_path / "c.txt"))
    assert (tmp_path / "c.txt").read_bytes() == b"line\n"
    with pytest.raises(UserError, match=r"no artifact 'outputs/a/n.bin'. Did you mean outputs/a/m.bin"):
        run.download_file("outputs/a/n.bin")
    assert run.get_details_with_logs()["logFiles"] == {"log": "line\n", "logs/train.log": "step"}
    assert [Path(path).read_text() for path in run.get_all_logs(str(tmp_path / "logs"))] == ["line\n", "step"]


def _png(folder: Path) -> Path:
    (folder / "i.png").write_bytes(b"\x89PNG")
    return folder / "i.png"


def test_lines_of_children_are_those_of_the_contract(run: Any) -> None:
    child = run.child_run("one")
    child.log("loss", 0.5, step=2)
    child.tag("t", "v")
    child.child_run("two").fail("why", "Code")
    shown = [{key: value for key, value in line.items() if key != "t"} for line in lines_of(run)]
    for line in shown:
        line.get("r", {}).pop("t", None)
    key, inner = child._key, shown[3]["c"]
    assert shown == [
        {"op": "child", "c": key, "k": "one"},
        {"op": "of", "c": key, "r": {"k": "loss", "v": 0.5, "s": 2}},
        {"op": "of", "c": key, "r": {"op": "tag", "k": "t", "v": "v"}},
        {"op": "child", "c": inner, "k": "two", "p": key},
        {"op": "of", "c": inner, "r": {"op": "end", "v": "Failed", "error": {"type": "Code", "message": "why"}}},
    ]
    assert run.get_metrics() == {}
    assert [child.status for child in run.get_children(recursive=True)] == ["Running", "Failed"]
    with pytest.raises(UserError, match="type"):
        run.get_children(type="odd")


def test_all_children_are_told_from_one_reading_of_the_file(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run.log("loss", 0.5)
    for number in range(20):
        with run.child_run(f"c{number}") as child:
            child.tag("odd", str(number % 2))
            child.log("n", number)
            child.log("m", number)
            with child.child_run("below") as below:
                below.log("n", -number)
    whole, readings = records.read, []

    def counted(*words: Any) -> Iterator[dict[str, Any]]:
        readings.append(words)
        return whole(*words)

    monkeypatch.setattr(records, "read", counted)
    for filters, count in (
        ({}, 20),
        ({"recursive": True}, 40),
        ({"tags": {"odd": "1"}, "status": "Completed", "recursive": True}, 10),
        ({"status": "Running"}, 0),
    ):
        readings.clear()
        assert len(list(run.get_children(**filters))) == count
        assert len(readings) == 1
    readings.clear()
    metrics = run.get_metrics(recursive=True)
    assert len(readings) == 2  # the run's own, and those of all below it
    children = list(run.get_children())
    assert [child.name for child in children] == [f"c{number}" for number in reversed(range(20))]
    assert [metrics[child.id] for child in children] == [{"n": n, "m": n} for n in reversed(range(20))]
    assert (len(metrics), metrics[run.id]) == (41, {"loss": 0.5})
    assert set(metrics) == {run.id, *(child.id for child in run.get_children(recursive=True))}
    assert run.get_metrics("m", recursive=True)[below.id] == {}
    assert list(children[0].get_metrics(recursive=True)) == [children[0].id, below.id]
    assert children[0].get_metrics() == {"n": 19, "m": 19}


def test_too_many_children_are_refused_with_what_to_do(run: Any) -> None:
    run.create_children(count=500)
    with pytest.raises(UserError, match=r"up to 500 children.*submit_child"):
        run.child_run()
    with pytest.raises(UserError, match="count"):
        run.create_children(count=0)


def test_a_model_of_a_file_that_is_not_kept_is_refused(run: Any) -> None:
    Path("model.pkl").write_bytes(b"m")
    with pytest.raises(ModelPathNotFoundException, match=r"outputs/, or keep it first"):
        run.register_model("m", "model.pkl")
    for wrong in ("", "a/b", "a:b", " a", "x" * 256, 5):
        with pytest.raises(UserError, match="model_name"):
            run.register_model(wrong, "outputs")
    for path in ("../x", "/etc/passwd/../x"):
        with pytest.raises(UserError, match="name"):
            run.register_model("m", path)
    assert lines_of(run) == []
    Path("outputs/m.pkl").write_bytes(b"m")
    model = run.register_model("m", "./outputs/m.pkl")
    assert (lines_of(run)[0]["k"], lines_of(run)[0]["path"]) == ("m", "outputs/m.pkl")
    assert (model.name, model.version, model.run_id, model.run) == ("m", None, "digits_1_ab", run)
    assert isinstance(model, Model) and not hasattr(model, "workspace")
    for ask in (model.download, lambda: model.add_tags({"a": "b"}), model.delete, lambda: model.url):
        with pytest.raises(RunsteadError, match="becomes a version when the run has ended"):
            ask()


def test_outside_a_run_there_is_no_experiment_as_in_the_reference(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RUNSTEAD_RUN_DIR", raising=False)
    run = Run.get_context()
    assert not hasattr(run, "experiment")
    with run.child_run("fold") as child:
        child.log("loss", 0.5)
    assert run.get_metrics(recursive=True)[child.id] == {"loss": 0.5}
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "[not in a run] child fold"
    assert out[1] == f"[not in a run] child {child._key}: metric loss = 0.5"
    assert os.environ.get("RUNSTEAD_RUN_DIR") is None


NAMES = [
    name
    for name in {**vars(Inside), **vars(ChildRun)}
    if not name.startswith("_") and callable(getattr(Run, name, None))
]


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"wait_for_completion"}))
@pytest.mark.parametrize("kind", [ScriptRun, ChildRun])
def test_a_call_has_the_same_signature_inside_a_script_as_outside(kind: type, name: str) -> None:
    def shape(owner: type) -> list[tuple[str, Any]]:
        return [(one.name, one.default) for one in inspect.signature(getattr(owner, name)).parameters.values()]

    assert shape(kind) == shape(Run)
    assert {"register_model", "child_run", "get_children", "download_files", "get_details"} <= set(NAMES)
