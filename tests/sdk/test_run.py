"""The run context: what `run.log` and its relatives write, refuse and give back."""

import io
import json
import math
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runstead import Run
from runstead.errors import RunsteadError, UserError
from runstead.run import ScriptRun

from environments import inrun

SOURCE = Path(__file__).parents[2] / "sdk" / "src"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    (tmp_path / "run" / "code" / "outputs").mkdir(parents=True)
    (tmp_path / "run" / "code" / "logs").mkdir()
    monkeypatch.setenv("RUNSTEAD_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("RUNSTEAD_RUN_ID", "digits_1_ab")
    monkeypatch.setenv("RUNSTEAD_EXPERIMENT", "digits")
    monkeypatch.setenv("RUNSTEAD_RUN_NUMBER", "12")
    monkeypatch.chdir(tmp_path / "run" / "code")
    yield Run.get_context()


def records(run: Run, times: bool = False) -> list[dict[str, Any]]:
    path = Path(os.environ["RUNSTEAD_RUN_DIR"], "records.jsonl")
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return found if times else [{k: v for k, v in record.items() if k != "t"} for record in found]


class NumpyLike:
    def __init__(self, value: Any, size: Any = 1) -> None:
        self.value, self.size = value, size

    def item(self) -> Any:
        return self.value


def test_scalars_become_the_lines_of_the_contract(run: Run) -> None:
    run.log("loss", 0.25)
    run.log("loss", 0.1 + 0.2, step=3)
    run.log("count", 7)
    run.log("bad", float("nan"))
    run.log("up", math.inf, step=NumpyLikeStep(4))
    run.log("down", -math.inf)
    run.log("note", 'a "text"\n<b>é☃')
    run.log("flag", True)
    run.log("nothing", None)
    run.log("np", NumpyLike(1.5))
    run.log("np", NumpyLike(2))
    run.log("torch", NumpyLike(0.5, size=lambda: ()))
    assert records(run) == [
        {"k": "loss", "v": 0.25},
        {"k": "loss", "v": 0.1 + 0.2, "s": 3},
        {"k": "count", "v": 7},
        {"k": "bad", "v": "NaN"},
        {"k": "up", "v": "Infinity", "s": 4},
        {"k": "down", "v": "-Infinity"},
        {"op": "value", "k": "note", "v": 'a "text"\n<b>é☃'},
        {"op": "value", "k": "flag", "v": True},
        {"op": "value", "k": "nothing", "v": None},
        {"k": "np", "v": 1.5},
        {"k": "np", "v": 2},
        {"k": "torch", "v": 0.5},
    ]
    assert all(abs(record["t"] - Path("..").stat().st_mtime) < 3600 for record in records(run, times=True))


class NumpyLikeStep(int):
    pass


@given(
    name=st.text(min_size=1, max_size=250),
    value=st.one_of(st.floats(), st.integers(-(2**70), 2**70), st.text(), st.booleans()),
)
def test_every_name_and_value_is_one_whole_line_or_an_error_that_says_why(
    name: str, value: Any, tmp_path_factory: Any
) -> None:
    run_dir = tmp_path_factory.mktemp("run")
    run = ScriptRun(str(run_dir))
    try:
        run.log(name, value)
    except UserError as error:
        assert str(error).startswith("name:")
        assert any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or 0xD800 <= ord(c) < 0xE000 for c in name)
        return
    finally:
        os.close(run._writer.fd)
    lines = (run_dir / "records.jsonl").read_bytes().split(b"\n")
    assert len(lines) == 2
    assert lines[1] == b""
    record = json.loads(lines[0], parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert record["k"] == name
    if isinstance(value, float) and not math.isfinite(value):
        assert float(record["v"]) == value or math.isnan(value)
    elif isinstance(value, str):
        assert record["v"] == value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    else:
        assert record["v"] == value
        assert type(record["v"]) is type(value)


@pytest.mark.parametrize(
    "value",
    [[1], (1, 2), {"a": 1}, {1}, object(), b"x", 1j, NumpyLike([1], size=3), NumpyLike([1], size=(2, 2)), 10**400],
)
def test_log_refuses_what_is_not_one_value_and_names_the_way(run: Run, value: Any) -> None:
    with pytest.raises(UserError, match=r"^m: "):
        run.log("m", value)
    assert records(run) == []


@pytest.mark.parametrize("name", ["", "x" * 251, 7, None, "a\nb", "a\x00", "\ud800", ["a"]])
def test_a_bad_name_is_refused(run: Run, name: Any) -> None:
    with pytest.raises(UserError, match=r"^name: "):
        run.log(name, 1.0)
    assert records(run) == []


@pytest.mark.parametrize("step", [1.5, "1", 2**63, -(2**63) - 1, True, [1], float("nan"), float("inf")])
def test_a_bad_step_is_refused(run: Run, step: Any) -> None:
    with pytest.raises(UserError, match=r"^step: "):
        run.log("m", 1.0, step=step)
    assert records(run) == []


def test_lists_rows_and_tables(run: Run) -> None:
    run.log_list("squares", (i * i for i in range(4)))
    run.log_list("odd", [1, "two", None, True, float("nan")])
    run.log_row("epochs", loss=0.5, seconds=2)
    run.log_row("epochs", loss=0.25, seconds=3)
    run.log_table("t", {"x": [1, 2], "y": ["a", "b"]})
    assert records(run) == [
        {"op": "list", "k": "squares", "v": [0, 1, 4, 9]},
        {"op": "list", "k": "odd", "v": [1, "two", None, True, "NaN"]},
        {"op": "row", "k": "epochs", "v": {"loss": 0.5, "seconds": 2}},
        {"op": "row", "k": "epochs", "v": {"loss": 0.25, "seconds": 3}},
        {"op": "table", "k": "t", "v": {"x": [1, 2], "y": ["a", "b"]}},
    ]
    for wrong in ("text", 5, {"a": 1}, [[1]]):
        with pytest.raises(UserError):
            run.log_list("l", wrong)
    with pytest.raises(UserError, match="x has 1, y has 2"):
        run.log_table("t", {"x": [1], "y": [1, 2]})
    with pytest.raises(UserError):
        run.log_row("r")
    assert len(records(run)) == 5


def test_images_come_from_exactly_one_source_and_never_replace_each_other(run: Run, tmp_path: Path) -> None:
    class Figure:
        def savefig(self, target: Any, format: str) -> None:
            Path(target).write_bytes(b"\x89PNG" + format.encode())

    (tmp_path / "a.jpg").write_bytes(b"jpg")
    run.log_image("my image/1", plot=Figure())
    run.log_image("my image/1", plot=Figure())
    run.log_image("photo", path=str(tmp_path / "a.jpg"))
    assert [(r["op"], r["path"]) for r in records(run)] == [
        ("image", "my_image_1.png"),
        ("image", "my_image_1_2.png"),
        ("image", "photo.jpg"),
    ]
    artifacts = Path(os.environ["RUNSTEAD_RUN_DIR"], "artifacts")
    assert (artifacts / "my_image_1_2.png").read_bytes() == b"\x89PNGpng"
    assert (artifacts / "photo.jpg").read_bytes() == b"jpg"
    for arguments in ({}, {"path": "a.jpg", "plot": Figure()}, {"path": "none.png"}, {"plot": 7}):
        with pytest.raises(UserError):
            run.log_image("i", **arguments)


def test_schemas_are_checked(run: Run) -> None:
    value = {
        "schema_type": "confusion_matrix",
        "schema_version": "1.0.0",
        "data": {"class_labels": ["a"], "matrix": [[NumpyLike(3)]]},
    }
    run.log_confusion_matrix("cm", value)
    run.log_residuals("r", '{"schema_type": "residuals", "schema_version": "v1", "data": {"bin_edges": [NaN]}}')
    assert records(run)[0]["v"]["data"] == {"class_labels": ["a"], "matrix": [[3]]}
    assert records(run)[1]["v"]["data"] == {"bin_edges": ["NaN"]}
    for wrong in ({}, "x", 5, {**value, "schema_type": "residuals"}, {**value, "data": object()}):
        with pytest.raises(UserError, match=r"^cm: "):
            run.log_confusion_matrix("cm", wrong)


def test_tags_and_properties(run: Run) -> None:
    run.tag("bare")
    run.set_tags({"stage": "one", "n": 5})
    run.set_tags({"stage": "two"})
    assert run.get_tags() == {"bare": None, "stage": "two", "n": "5"}
    assert run.remove_tags(["bare", "never"]) == {"stage": "two", "n": "5"}
    run.add_properties({"seed": 1})
    run.add_properties({"seed": 1, "other": "x"})
    with pytest.raises(UserError, match=r"seed is '1' already"):
        run.add_properties({"third": "y", "seed": 2})
    assert run.get_properties() == {"seed": "1", "other": "x"}


def test_files_are_kept_by_name_and_what_is_collected_anyway_is_left_alone(run: Run, tmp_path: Path) -> None:
    run_dir = Path(os.environ["RUNSTEAD_RUN_DIR"])
    Path("outputs/model.pkl").write_bytes(b"model")
    run.upload_file("outputs/model.pkl", "outputs/model.pkl")
    run.upload_file("outputs/copy.pkl", "./outputs/model.pkl")
    run.upload_file("models/best.pt", io.BytesIO(b"best"))
    (tmp_path / "tree" / "a").mkdir(parents=True)
    (tmp_path / "tree" / "a" / "b.txt").write_text("b")
    run.upload_folder("tree", tmp_path / "tree")
    assert Path("outputs/copy.pkl").read_bytes() == b"model"
    assert (run_dir / "artifacts/models/best.pt").read_bytes() == b"best"
    assert [record["path"] for record in records(run)] == ["models/best.pt", "tree/a/b.txt"]
    assert run.get_file_names() == ["models/best.pt", "outputs/copy.pkl", "outputs/model.pkl", "tree/a/b.txt"]
    for name in ("../x", "/etc/x", "a/../../x", "", "a//b", "a\nb", 5, "x" * 300):
        with pytest.raises(UserError, match=r"^name: "):
            run.upload_file(name, io.BytesIO(b""))
    with pytest.raises(UserError, match=r"^path: there is no file"):
        run.upload_file("x", "missing")
    assert not (run_dir / "artifacts" / "x").exists()


def test_who_the_run_is_and_how_it_ends(run: Run) -> None:
    assert (run.id, run.number, run.experiment.name, run.name) == ("digits_1_ab", 12, "digits", "digits_1_ab")
    run.display_name = "better"
    assert run.name == "better"
    run.description = "why"
    assert run.description == "why"
    with pytest.raises(ZeroDivisionError), run as same:
        assert same is run
        raise ZeroDivisionError("no")
    assert run.get_tags() == {"error": "ZeroDivisionError: no"}
    assert run.get_status() == "Running"


def test_metrics_are_read_back_in_their_shapes(run: Run) -> None:
    run.log("one", 1.5)
    for value in (1.0, float("inf")):
        run.log("two", value)
    run.log_row("row", x=1, y=2)
    run.log_row("rows", x=1)
    run.log_row("rows", x=2)
    run.log_list("list", [1, 2])
    assert run.get_metrics() == {
        "one": 1.5,
        "two": [1.0, math.inf],
        "row": {"x": 1, "y": 2},
        "rows": {"x": [1, 2]},
        "list": [1, 2],
    }
    assert run.get_metrics("one") == {"one": 1.5}
    assert run.get_metrics("none") == {}
    assert run.get_metrics("one", recursive=True) == {"digits_1_ab": {"one": 1.5}}


def test_threads_and_forked_processes_never_mix_their_lines(run: Run) -> None:
    def work(name: str) -> None:
        for number in range(300):
            run.log(name, float(number))

    children = []
    for child in range(3):
        pid = os.fork()
        if pid == 0:
            work(f"process-{child}-{'x' * 200}")
            os._exit(0)
        children.append(pid)
    threads = [threading.Thread(target=work, args=(f"thread-{number}",)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(os.waitpid(pid, 0)[1] == 0 for pid in children)
    found: dict[str, list[float]] = {}
    for record in records(run):
        found.setdefault(record["k"], []).append(record["v"])
    assert len(found) == 6
    assert all(values == [float(number) for number in range(300)] for values in found.values())


def test_outside_a_run_it_prints_or_refuses(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RUNSTEAD_RUN_DIR", raising=False)
    run = Run.get_context()
    run.log("loss", 0.5, step=2)
    run.tag("stage", "x")
    with pytest.raises(UserError):
        run.log("loss", [1])
    assert capsys.readouterr().out == "[not in a run] metric loss = 0.5 (step 2)\n[not in a run] tag stage = x\n"
    run.upload_file("outputs/model.pkl", io.BytesIO(b"weights"))
    run.upload_file("notes.txt", io.BytesIO(b"words"))
    assert capsys.readouterr().out == "[not in a run] artifact outputs/model.pkl\n[not in a run] artifact notes.txt\n"
    assert run.id == "OfflineRun"
    assert run.get_metrics() == {"loss": 0.5}
    with pytest.raises(RunsteadError, match="does not belong to a run"):
        Run.get_context(allow_offline=False)
    for asked in (run.get_portal_url, run.get_environment, run.wait_for_completion):
        with pytest.raises(RunsteadError, match=r"does not belong to a run, .*Workspace.from_config\(\)\.$"):
            asked()


def test_a_full_disk_is_said_and_spoils_no_other_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: whole(fd, data[:4]))
    with pytest.raises(RunsteadError, match="disk is full"):
        run.log("a", 1.0)
    monkeypatch.undo()
    run._writer.put(op="tag", k="b", v=None)
    lines = Path(run._writer.run_dir, "records.jsonl").read_bytes().splitlines()
    assert json.loads(lines[-1])["k"] == "b"


def test_the_packed_package_is_the_same_every_time_and_works_alone(tmp_path: Path) -> None:
    digest, data = inrun.sdk_zip()
    inrun.sdk_zip.cache_clear()
    assert inrun.sdk_zip() == (digest, data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        archive.extractall(tmp_path / "lib")
    run_dir = tmp_path / "run"
    (run_dir / "code/outputs").mkdir(parents=True)
    code = """
import runstead, sys
from runstead import Run
run = Run.get_context(allow_offline=False)
run.log("a", 1.0); run.log_row("r", x=1); run.upload_file("f", sys.argv[0] or __file__) if 0 else None
class F:
    def savefig(self, target, format): open(target, "w").close()
run.log_image("i", plot=F())
run.log_confusion_matrix("c", {"schema_type": "confusion_matrix", "schema_version": "1", "data": {}})
import io; run.upload_file("f", io.BytesIO(b"x"))
print(run.get_metrics()["a"], run.get_file_names())
try:
    runstead.RunDetails
except AttributeError as error:
    print(error)
from azureml.core import Run as Same, Workspace
print(Same is Run, Workspace is runstead.Workspace)
try:
    run.wait_for_completion()
except runstead.RunsteadError as error:
    print(error)
"""
    environment = {"PYTHONPATH": str(tmp_path / "lib"), "RUNSTEAD_RUN_DIR": str(run_dir)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == "1.0 ['f', 'i.png']"
    assert "not available inside a run" in done.stdout
    assert "True True" in done.stdout
    assert "A script does not reach the studio from its run" in done.stdout


def test_importing_the_run_context_loads_nothing_heavy(tmp_path: Path) -> None:
    code = "import sys; before = set(sys.modules); from runstead import Run; Run.get_context().log('a', 1.0); print(*(set(sys.modules) - before))"
    environment = {"PYTHONPATH": str(SOURCE), "RUNSTEAD_RUN_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert (
        loaded & {"urllib", "http", "subprocess", "pathlib", "shutil", "tempfile", "asyncio", "ssl", "argparse"}
        == set()
    )
