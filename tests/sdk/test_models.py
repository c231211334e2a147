"""Models: registered from runs and from folders, found, changed, fetched, deleted."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from runstead import Experiment, Model, ModelNotFoundException, UserError, Workspace
from runstead.errors import ModelPathNotFoundException

from tests.sdk.conftest import Home
from tests.sdk.shell import access, proxied


@pytest.fixture
def run(ws: Workspace, tmp_path: Path):
    made = Experiment(ws, "training").start_logging()
    for name, text in (("outputs/model.txt", "weights"), ("outputs/deep/a.txt", "a"), ("outputs/deep/b/c.txt", "c")):
        (tmp_path / "file").write_text(text)
        made.upload_file(name, str(tmp_path / "file"))
    made.complete()
    return made


def test_versions_count_up_and_are_found_by_name_id_and_version(ws: Workspace, run) -> None:
    first = run.register_model(
        "digits", "outputs/model.txt", tags={"kind": "linear"}, properties={"acc": "0.9"}, description="d"
    )
    second = run.register_model("digits", model_path="outputs/deep", model_framework="Custom")
    assert [(m.name, m.id, m.version) for m in (first, second)] == [
        ("digits", "digits:1", 1),
        ("digits", "digits:2", 2),
    ]
    assert (first.tags, first.properties, first.description) == ({"kind": "linear"}, {"acc": "0.9"}, "d")
    assert (first.run_id, first.run.id) == (run.id, run.id)
    assert second.model_framework == "Custom"
    assert Model(ws, "digits").version == 2
    assert Model(ws, "digits", version=1).id == Model(ws, id="digits:1").id == "digits:1"
    assert (
        Model(ws, "digits", tags={"kind": "linear"}).version
        == Model(ws, "digits", tags=[["kind", "linear"]]).version
        == 1
    )
    assert [m.id for m in Model.list(ws)] == ["digits:2", "digits:1"]
    assert [m.id for m in Model.list(ws, latest=True)] == ["digits:2"]
    assert [m.id for m in Model.list(ws, name="digits", properties={"acc": "0.9"}, run_id=run.id)] == ["digits:1"]
    assert ws.models["digits"].version == 2
    with pytest.raises(ModelNotFoundException, match="There are: digits"):
        Model(ws, "digit")
    with pytest.raises(ModelNotFoundException, match="There are: 2, 1"):
        Model(ws, "digits", version=9)
    with pytest.raises(UserError, match="name:version"):
        Model(ws, id="digits")
    with pytest.raises(ModelPathNotFoundException, match=r"^model_path: 'outputs/modle\.txt'"):
        run.register_model("digits", "outputs/modle.txt")


def test_a_file_and_a_folder_come_back_as_they_were(ws: Workspace, run, tmp_path: Path) -> None:
    file = run.register_model("file", "outputs/model.txt")
    folder = run.register_model("folder", "outputs/deep/")
    assert Path(file.download(str(tmp_path / "x"))).read_text() == "weights"
    with pytest.raises(UserError, match="exist_ok"):
        file.download(str(tmp_path / "x"))
    file.download(str(tmp_path / "x"), exist_ok=True)
    place = Path(folder.download(str(tmp_path / "y")))
    assert place == tmp_path / "y/deep"
    assert {str(p.relative_to(place)): p.read_text() for p in place.rglob("*.txt")} == {"a.txt": "a", "b/c.txt": "c"}
    assert Path(Model.get_model_path("file", _workspace=ws)).read_text() == "weights"


def test_tags_change_properties_do_not_and_a_version_can_go(ws: Workspace, run) -> None:
    model = run.register_model("changed", "outputs/model.txt", properties={"p": "1"})
    model.add_tags({"a": "1", "b": None})
    model.remove_tags(["a"])
    model.update(description="better")
    model.add_properties({"q": "2"})
    again = Model(ws, "changed")
    assert (again.tags, again.description, again.properties) == ({"b": None}, "better", {"p": "1", "q": "2"})
    with pytest.raises(Exception, match="another value"):
        again.add_properties({"p": "2"})
    model.delete()
    with pytest.raises(ModelNotFoundException):
        Model(ws, "changed")


def test_a_folder_of_this_machine_becomes_a_model(ws: Workspace, tmp_path: Path) -> None:
    (tmp_path / "net/deep").mkdir(parents=True)
    (tmp_path / "net/w.bin").write_bytes(b"\x00w")
    (tmp_path / "net/deep/x.bin").write_bytes(b"x")
    model = Model.register(ws, model_path=tmp_path / "net", model_name="local", tags={"a": "b"})
    part = Model.register(ws, str(tmp_path / "net"), "local", child_paths=["w.bin"])
    assert (model.id, part.id, model.tags) == ("local:1", "local:2", {"a": "b"})
    place = Path(model.download(str(tmp_path / "back")))
    assert {str(p.relative_to(place)): p.read_bytes() for p in place.rglob("*.bin")} == {
        "w.bin": b"\x00w",
        "deep/x.bin": b"x",
    }
    assert model.run.status == "Completed"
    with pytest.raises(UserError, match="no file or folder"):
        Model.register(ws, tmp_path / "none", "local")


INTERRUPTED = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from runstead import Model
print(Model.get_model_path("cut"))
"""


def test_a_model_whose_download_was_interrupted_is_fetched_again(home: Home, ws: Workspace, tmp_path: Path) -> None:
    (tmp_path / "md/sub").mkdir(parents=True)
    whole = {"a.bin": b"a", "b.bin": b"bb", "sub/c.bin": b"ccc"}
    for name, content in whole.items():
        (tmp_path / "md" / name).write_bytes(content)
    model = Model.register(ws, tmp_path / "md", "cut")
    started: list[subprocess.Popen[str]] = []
    asked: list[str] = []

    def hook(when: str, _: int, path: str) -> None:
        if when == "before" and "/content" in path:
            asked.append(path)
            if len(asked) == 2:
                started[0].send_signal(signal.SIGINT)

    def found(place: Path) -> dict[str, bytes]:
        return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}

    with proxied(home.studio.port, hook) as url:
        env = {**home.env, **access(home.studio), "RUNSTEAD_URL": url}
        words = [sys.executable, "-c", INTERRUPTED]
        started.append(subprocess.Popen(words, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True))
        assert "KeyboardInterrupt" in started[0].communicate(timeout=60)[1]
        assert len(asked) == 2 and found(tmp_path / "azureml-models") == {}
        done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, check=True, timeout=60)
        place = tmp_path / done.stdout.strip()
        assert (place, found(place)) == (tmp_path / "azureml-models/cut/1/md", whole)
        assert len(asked) == 5
        # What is whole is not asked for again; what somebody took a file from is.
        subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, check=True, timeout=60)
        assert len(asked) == 5
        (place / "b.bin").unlink()
        (place / "mine.txt").write_text("mine")
        subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, check=True, timeout=60)
    assert found(place) == {**whole, "mine.txt": b"mine"}
    model.download(str(tmp_path / "again"))
    assert {path.name for path in (tmp_path / "again").iterdir()} == {"md"}
    assert (tmp_path / "again/md").stat().st_mode == (tmp_path / "md").stat().st_mode
