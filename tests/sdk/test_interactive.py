"""Runs that are a process of the user's: begun, logged to, ended in every way a process can end."""

import math
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from runstead import Experiment, Run, RunsteadError, UserError, Workspace
from runstead.errors import SnapshotException

from tests.sdk.conftest import Home
from tests.waiting import until


class Figure:
    def savefig(self, target: str, format: str) -> None:
        Path(target).write_bytes(b"\x89PNG figure")


@pytest.fixture
def experiment(ws: Workspace) -> Experiment:
    return Experiment(ws, "by-hand")


def newest(ws: Workspace, name: str) -> Any:
    return next(Experiment(ws, name).get_runs())


def test_what_is_logged_comes_back_in_the_shapes_of_the_reference(experiment: Experiment, tmp_path: Path) -> None:
    run = experiment.start_logging(display_name="first", tags={"stage": "a", "bare": None})
    assert (run.type, run.status, run.name) == ("interactive", "Running", "first")
    run.log("once", 0.5)
    for step in range(3):
        run.log("loss", 1 / (step + 1), step=step)
    run.log("text", "hello")
    run.log("flag", True)
    run.log("nothing", None)
    run.log("bad", float("nan"))
    run.log_list("squares", (i * i for i in range(3)))
    run.log_row("epochs", loss=0.5, seconds=2)
    run.log_row("epochs", loss=0.25, seconds=3)
    run.log_table("table", {"x": [1, 2], "y": ["a", "b"]})
    run.log_image("figure", plot=Figure())
    run.log_image("figure", plot=Figure())
    run.log_confusion_matrix(
        "matrix", {"schema_type": "confusion_matrix", "schema_version": "1", "data": {"matrix": [[1]]}}
    )
    found = run.get_metrics()
    assert math.isnan(found.pop("bad"))
    assert found == {
        "once": 0.5, "loss": [1.0, 0.5, 1 / 3], "text": "hello", "flag": True, "nothing": None, "squares": [0, 1, 4],
        "epochs": {"loss": [0.5, 0.25], "seconds": [2, 3]}, "table": {"x": [1, 2], "y": ["a", "b"]},
        "figure": ["figure.png", "figure_2.png"],
        "matrix": {"schema_type": "confusion_matrix", "schema_version": "1", "data": {"matrix": [[1]]}},
    }  # fmt: skip
    assert run.get_metrics("loss") == {"loss": [1.0, 0.5, 1 / 3]}
    assert run.get_metrics("none") == {}
    assert run.get_metrics(recursive=True).keys() == {run.id}
    assert run.get_file_names() == ["figure.png", "figure_2.png"]
    run.complete()
    details = run.get_details()
    assert (details["status"], details["target"], details["runId"]) == ("Completed", None, run.id)
    assert details["endTimeUtc"]


def test_a_list_is_refused_where_one_value_belongs(experiment: Experiment) -> None:
    with experiment.start_logging() as run, pytest.raises(UserError, match="log_list"):
        run.log("loss", [1, 2])


def test_tags_change_and_properties_do_not(experiment: Experiment) -> None:
    with experiment.start_logging() as run:
        run.tag("bare")
        run.set_tags({"a": "1", "b": 2})
        assert run.get_tags() == {"bare": None, "a": "1", "b": "2"}
        assert run.remove_tags(["a"]) == {"bare": None, "b": "2"}
        run.add_properties({"author": "ada"})
        run.add_properties({"author": "ada"})
        with pytest.raises(UserError, match="cannot be changed"):
            run.add_properties({"author": "bob"})
        assert run.properties["author"] == "ada"
        run.display_name, run.description = "named", "noted"
    again = Run(experiment, run.id)
    assert (again.display_name, again.description, again.status) == ("named", "noted", "Completed")


def test_files_go_up_and_come_down_byte_for_byte(experiment: Experiment, tmp_path: Path) -> None:
    large = bytes(range(256)) * 40_000
    (tmp_path / "folder/deep").mkdir(parents=True)
    (tmp_path / "folder/a.txt").write_text("a")
    (tmp_path / "folder/deep/b.bin").write_bytes(large)
    with experiment.start_logging() as run, (tmp_path / "folder/a.txt").open("rb") as stream:
        run.upload_file("one.txt", str(tmp_path / "folder/a.txt"))
        run.upload_file("stream.txt", stream)
        run.upload_files(["x/1", "x/2"], [str(tmp_path / "folder/a.txt")] * 2)
        run.upload_folder("data", str(tmp_path / "folder"))
        with pytest.raises(UserError, match="relative path"):
            run.upload_file("../out", str(tmp_path / "folder/a.txt"))
        with pytest.raises(UserError, match="cannot be read"):
            run.upload_file("none", str(tmp_path / "none"))
    assert run.get_file_names() == ["data/a.txt", "data/deep/b.bin", "one.txt", "stream.txt", "x/1", "x/2"]
    run.download_file("data/deep/b.bin", str(tmp_path / "back.bin"))
    assert (tmp_path / "back.bin").read_bytes() == large
    run.download_file("one.txt", str(tmp_path / "folder/"))
    run.download_files(prefix="data/", output_directory=str(tmp_path / "all"))
    assert (tmp_path / "all/data/deep/b.bin").read_bytes() == large
    run.download_files(prefix="data", output_directory=str(tmp_path / "bare"), append_prefix=False)
    assert sorted(str(p.relative_to(tmp_path / "bare")) for p in (tmp_path / "bare").rglob("*.*")) == [
        "a.txt",
        "deep/b.bin",
    ]
    assert not list(tmp_path.rglob(".runstead-*"))
    with pytest.raises(UserError, match=r"no artifact 'one\.txd'\. Did you mean one\.txt\?"):
        run.download_file("one.txd")


def test_a_failure_is_told_with_its_trace_and_a_run_that_ended_stays_so(experiment: Experiment) -> None:
    with pytest.raises(ZeroDivisionError), experiment.start_logging() as run:
        run.log("before", 1)
        1 / 0  # noqa: B018
    error = run.get_details()["error"]
    assert (run.status, error["type"], error["message"]) == ("Failed", "ZeroDivisionError", "division by zero")
    assert "1 / 0" in error["detail"]
    assert run.get_metrics() == {"before": 1.0}
    with pytest.raises(RunsteadError, match="ended already"):
        run.complete()
    other = experiment.start_logging()
    other.fail("no data", error_code="Empty")
    assert other.get_details()["error"]["code"] == "Empty"


def test_the_folder_of_outputs_is_kept_and_facts_of_git_become_properties(
    experiment: Experiment, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/model.bin").write_bytes(b"m")
    for words in (
        ["init", "-q", "-b", "main"],
        ["-c", "user.name=a", "-c", "user.email=a@example.test", "commit", "-qm", "c", "--allow-empty"],
    ):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    run = experiment.start_logging(outputs=str(tmp_path / "out"), snapshot_directory=str(tmp_path))
    run.complete()
    assert run.get_file_names() == ["outputs/model.bin"]
    assert run.properties["azureml.git.branch"] == run.properties["mlflow.source.git.branch"] == "main"
    assert run.properties["azureml.git.dirty"] == "True"
    with experiment.start_logging(snapshot_directory=None) as bare:
        assert "azureml.git.commit" not in bare.get_properties()


BEGIN = "from runstead import *; run = Experiment(Workspace.from_config(), {0!r}).start_logging(); run.log('a', 1)\n"


@pytest.mark.parametrize(
    ("ending", "status", "error"),
    [
        ("", "Completed", None),
        ("raise ValueError('no')", "Failed", "ValueError"),
        ("import sys; sys.exit(0)", "Completed", None),
    ],
)
def test_a_process_that_says_nothing_ends_its_run_as_it_ends(
    home: Home, ws: Workspace, ending: str, status: str, error: str | None
) -> None:
    home.python("-c", BEGIN.format("silent") + ending, check=False)
    run = newest(ws, "silent")
    assert run.status == status
    assert run._data["error"].get("type") == error
    assert run.get_metrics() == {"a": 1.0}


def test_ctrl_c_in_a_with_statement_cancels_the_run(home: Home, ws: Workspace) -> None:
    code = BEGIN.format("interrupted") + "import time\nwith run:\n    print('in', flush=True)\n    time.sleep(60)\n"
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=home.folder, env=home.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None and process.stdout.readline() == b"in\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert newest(ws, "interrupted").status == "Canceled"


def test_a_thousand_values_are_logged_without_waiting_for_the_network(experiment: Experiment) -> None:
    with experiment.start_logging() as run:
        start = time.monotonic()
        for step in range(1000):
            run.log("fast", step, step=step)
        taken = time.monotonic() - start
    assert run.get_metrics("fast")["fast"] == [float(step) for step in range(1000)]
    assert taken < 0.5, taken


def test_a_lost_answer_doubles_no_value(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    import http.client

    run = experiment.start_logging()
    run.log("first", 0)
    run.flush()
    whole, lost = http.client.HTTPConnection.getresponse, []

    def losing(self: http.client.HTTPConnection) -> Any:
        answer = whole(self)
        if len(lost) < 2:
            lost.append(answer.read())
            raise ConnectionResetError("lost")
        return answer

    monkeypatch.setattr(http.client.HTTPConnection, "getresponse", losing)
    run.log("value", 1)
    run.log("value", 2)
    run.complete()
    assert len(lost) == 2
    assert run.get_metrics("value") == {"value": [1.0, 2.0]}


def test_what_is_refused_is_told_at_the_next_call(experiment: Experiment) -> None:
    with experiment.start_logging() as run:
        run._line('{"op":"unheard-of"}\n')
        with pytest.raises(RunsteadError, match=r"refused.*unheard-of"):
            run.flush()
        run.log("after", 1)
        run.flush()
        assert run.get_metrics() == {"after": 1.0}


def test_lists_of_runs_filter_and_come_newest_first(ws: Workspace) -> None:
    experiment = Experiment(ws, "filtered")
    for number in range(3):
        run = experiment.start_logging(tags={"n": str(number), **({"odd": None} if number % 2 else {})})
        run.add_properties({"p": str(number)})
        run.complete() if number else run.fail("x")
    assert [run.tags["n"] for run in experiment.get_runs()] == ["2", "1", "0"]
    assert [run.tags["n"] for run in experiment.get_runs(tags="odd")] == ["1"]
    assert [run.tags["n"] for run in experiment.get_runs(tags={"n": "2"})] == ["2"]
    assert [run.tags["n"] for run in experiment.get_runs(properties={"p": "0"})] == ["0"]
    assert [run.tags["n"] for run in Run.list(experiment, status="Failed")] == ["0"]
    assert list(experiment.get_runs(type="script")) == []
    with pytest.raises(UserError, match="type"):
        experiment.get_runs(type="odd")


def test_an_experiment_is_tagged_archived_and_deleted(ws: Workspace) -> None:
    experiment = Experiment(ws, "described")
    experiment.tag("bare")
    experiment.set_tags({"team": "vision"})
    experiment.description = "Digits by hand"
    experiment.remove_tags(["bare"])
    again = Experiment(ws, "described").refresh()
    assert (again.tags, again.description) == ({"team": "vision"}, "Digits by hand")
    assert [one.name for one in Experiment.list(ws, tags={"team": "vision"})] == ["described"]
    experiment.archive()
    assert "described" not in ws.experiments
    assert "described" in {one.name for one in Experiment.list(ws, view_type="ArchivedOnly")}
    experiment.reactivate()
    assert "described" in ws.experiments
    Experiment.delete(ws, experiment.id)
    assert "described" not in ws.experiments
    with pytest.raises(UserError, match="no experiment"):
        Experiment.delete(ws, "described")


def test_a_studio_that_goes_away_for_a_while_loses_nothing(home: Home, ws: Workspace) -> None:
    run = Experiment(ws, "patient").start_logging()
    for process in home.studio.processes("web"):
        process.suspend()
    try:
        run.log("while", 1)
        run.log("away", 2)
    finally:
        for process in home.studio.processes("web"):
            process.resume()
    run.complete()
    assert run.get_metrics() == {"while": 1.0, "away": 2.0}
    until(lambda: run.get_status() == "Completed")


IDLE = """
import sys, time
from runstead import Experiment, Workspace, pulse
pulse.BEAT = 0.5
run = Experiment(Workspace.from_config(), "idle").start_logging()
print(run.number, flush=True)
time.sleep(600)
"""


def test_a_client_that_has_nothing_to_log_says_that_it_is_there_and_one_that_is_killed_does_not(
    home: Home, ws: Workspace
) -> None:
    process = subprocess.Popen([sys.executable, "-c", IDLE], cwd=home.folder, env=home.env, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        run = ws.get_run(int(process.stdout.readline()))
        silent_for(home, run, 300)
        until(lambda: run.refresh()._data["unreachable_since"] is None and heard(home, run) < 5, 30)
        # What a machine does that sleeps: silence for longer than is waited for, then the next word.
        process.send_signal(signal.SIGSTOP)
        silent_for(home, run, 25 * 3600)
        until(lambda: run.get_status() == "Failed", 200)
        assert (run._data["reason"], bool(run._data["ended_at"])) == ("client_lost", True)
        process.send_signal(signal.SIGCONT)
        until(lambda: run.get_status() == "Running", 30)
        process.kill()
        process.wait()
        silent_for(home, run, 300)
        until(lambda: run.refresh()._data["unreachable_since"], 200)
        assert run.status == "Running"
        assert "Silent since" in home.python("-m", "runstead", "show", str(run.number)).stdout
    finally:
        process.kill()
        process.wait()
    run.cancel()
    assert run.status == "Canceled"


def silent_for(home: Home, run: Any, seconds: float) -> None:
    home.studio.control("silence", number=run.number, seconds=seconds)


def heard(home: Home, run: Any) -> float:
    return home.studio.control("heard", number=run.number)


def test_heartbeats_are_few_and_cease_with_the_run(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    from runstead import interactive, pulse
    from runstead.transport import Transport

    asked: list[str] = []
    whole = Transport.request

    def counting(self: Transport, method: str, path: str, *more: Any, **named: Any) -> Any:
        asked.append(path)
        return whole(self, method, path, *more, **named)

    monkeypatch.setattr(Transport, "request", counting)
    monkeypatch.setattr(pulse, "BEAT", 1.0)
    monkeypatch.setattr(interactive._pulse, "_runs", {})  # of earlier tests: it goes on as long as the process
    monkeypatch.setattr(interactive, "_open", {})
    monkeypatch.setattr(interactive, "_pulse", pulse.Pulse(interactive._open))
    run = experiment.start_logging()
    others = run.create_children(count=20)
    for child in others[3:]:
        child.complete()
    asked.clear()
    began = time.monotonic()
    for step in range(25):  # two log, two are silent
        others[0].log("busy", step)
        run.log("busy", step)
        time.sleep(0.1)
    # One call for all that have nothing to say: about one a second.
    assert 1 <= asked.count("runs/heartbeat") <= time.monotonic() - began + 2
    for child in others[:3]:
        child.complete()
    run.complete()
    time.sleep(0.5)  # one may be under way
    asked.clear()
    time.sleep(2.5)
    assert asked == []


def test_the_code_is_kept_as_a_submit_keeps_it(experiment: Experiment, tmp_path: Path) -> None:
    (tmp_path / "code/pkg").mkdir(parents=True)
    (tmp_path / "code/train.py").write_text("print(1)\n")
    (tmp_path / "code/pkg/a.py").write_text("a = 1\n")
    (tmp_path / "code/data.bin").write_bytes(b"x" * 1000)
    (tmp_path / "code/.runignore").write_text("*.bin\n")
    with experiment.start_logging(snapshot_directory=str(tmp_path / "code")) as run, run.child_run() as child:
        assert child.get_snapshot_id() == ""
    assert len(run.get_snapshot_id()) == 64
    assert run.get_details()["properties"]["ContentSnapshotId"] == run.get_snapshot_id()
    with zipfile.ZipFile(run.restore_snapshot(path=str(tmp_path))) as archive:
        assert sorted(archive.namelist()) == [".runignore", "pkg/a.py", "train.py"]
    with experiment.start_logging(snapshot_directory=str(tmp_path / "code")) as again:
        assert again.get_snapshot_id() == run.get_snapshot_id()


def test_a_folder_that_was_named_and_cannot_be_sent_is_an_error_and_begins_no_run(
    experiment: Experiment, ws: Workspace, tmp_path: Path
) -> None:
    before = newest(ws, "by-hand").number
    with pytest.raises(SnapshotException, match=r"^snapshot_directory: .* is empty"):
        experiment.start_logging(snapshot_directory=str(tmp_path))
    with pytest.raises(SnapshotException, match=r"^snapshot_directory: there is no folder"):
        experiment.start_logging(snapshot_directory=str(tmp_path / "none"))
    assert newest(ws, "by-hand").number == before


def test_a_working_directory_that_is_no_folder_of_code_is_left_with_a_warning(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from runstead import interactive

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(interactive, "MOST_FILES", 20)
    monkeypatch.setattr(interactive, "MOST_BYTES", 10_000)
    with experiment.start_logging() as run:
        run.log("a", 1)
    assert run.get_snapshot_id() == ""
    (tmp_path / "large.bin").write_bytes(b"x" * 20_000)
    with pytest.warns(UserWarning, match=r"has 20 KB; of a folder .* The largest there: large\.bin"):
        experiment.start_logging().complete()
    (tmp_path / "large.bin").unlink()
    (tmp_path / "many").mkdir()
    for number in range(50):
        (tmp_path / f"many/{number}").write_text("")
    with pytest.warns(UserWarning, match=r"has over 20 files.* The largest there: many/"):
        experiment.start_logging().complete()
    (tmp_path / ".runignore").write_text("many/\n")
    (tmp_path / "train.py").write_text("print(1)")
    with experiment.start_logging() as run:
        assert len(run.get_snapshot_id()) == 64


FORKED = """
import os, sys
from runstead import Experiment, Workspace, interactive
run = Experiment(Workspace.from_config(), "forked").start_logging()
run.log("a", 1)
pid = os.fork()
if pid == 0:
    run.log("b", 2)
    own = Experiment(Workspace.from_config(), "forked-own").start_logging()
    assert list(interactive._open) == [own.id]
    sys.exit()
assert os.waitpid(pid, 0)[1] == 0
print(run.get_status())
"""


def test_a_process_that_is_forked_ends_its_own_runs_and_no_others(home: Home, ws: Workspace) -> None:
    assert home.python("-c", FORKED).stdout == "Running\n"
    assert newest(ws, "forked").status == "Completed"
    assert newest(ws, "forked").get_metrics() == {"a": 1.0, "b": 2.0}
    assert newest(ws, "forked-own").status == "Completed"


WORKERS = """
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor
from runstead import Experiment, Workspace
fork = multiprocessing.get_context("fork")
run = Experiment(Workspace.from_config(), "workers").start_logging(snapshot_directory=None)

def work(number):
    for step in range(5):
        run.log(sys.argv[1], number * 10 + step)

if sys.argv[2] == "warm":
    run.log("own", 1)
if sys.argv[1] == "process":
    workers = [fork.Process(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
elif sys.argv[1] == "pool":
    with fork.Pool(4) as pool:
        pool.map(work, range(4), chunksize=1)
else:
    with ProcessPoolExecutor(4, mp_context=fork) as pool:
        list(pool.map(work, range(4)))
run.complete()
"""


@pytest.mark.parametrize(
    ("kind", "parent"),
    [("process", "cold"), ("process", "warm"), ("pool", "cold"), ("pool", "warm"), ("executor", "cold")],
)
def test_what_workers_of_multiprocessing_log_arrives(home: Home, ws: Workspace, kind: str, parent: str) -> None:
    done = home.python("-c", WORKERS, kind, parent)
    assert done.stderr == ""
    found = newest(ws, "workers").get_metrics()
    assert sorted(found[kind]) == [number * 10 + step for number in range(4) for step in range(5)]
    assert found.get("own") == (1.0 if parent == "warm" else None)


OWN = """
import multiprocessing, sys
from runstead import Experiment, Workspace
fork = multiprocessing.get_context("fork")
above = Experiment(Workspace.from_config(), "above").start_logging(snapshot_directory=None)

def work(ending):
    Experiment(Workspace.from_config(), ending).start_logging(snapshot_directory=None).log("a", 1)
    if ending == "failing":
        raise ValueError("no good")
    sys.exit(0)

for ending in ("ending", "failing"):
    worker = fork.Process(target=work, args=(ending,))
    worker.start()
    worker.join()
print(above.get_status())
"""


def test_a_worker_of_multiprocessing_ends_its_own_runs_as_it_ends(home: Home, ws: Workspace) -> None:
    assert home.python("-c", OWN).stdout == "Running\n"
    ended, failed = newest(ws, "ending"), newest(ws, "failing")
    assert (ended.status, ended.get_metrics()) == ("Completed", {"a": 1.0})
    assert (failed.status, failed.get_metrics()) == ("Failed", {"a": 1.0})
    assert failed._data["error"] == {**failed._data["error"], "type": "ValueError", "message": "no good"}
    assert newest(ws, "above").status == "Completed"


UNHEARD = """
import sys
from runstead import Experiment, Workspace, interactive, pulse, transport
pulse.BEAT = 0.2
transport.PAUSES = ()
run = Experiment(Workspace.from_config(), "unheard").start_logging(snapshot_directory=None)
run.log("a", 1)
run.flush()
address = run.workspace.transport._port
run.workspace.transport._port = 1
run.workspace.transport.close()
try:
    run.fail("no data", error_code="Empty") if sys.argv[1] == "Failed" else run.complete()
except transport.Unreachable:
    print(run.number, flush=True)
run.workspace.transport._port = address
input()
"""


@pytest.mark.parametrize("status", ["Completed", "Failed"])
def test_an_end_that_did_not_reach_the_studio_is_told_when_the_process_ends(
    home: Home, ws: Workspace, status: str
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", UNHEARD, status], cwd=home.folder, env=home.env, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        run = ws.get_run(int(process.stdout.readline()))
        assert run.status == "Running"
        silent_for(home, run, 100)
        until(lambda: heard(home, run) < 5, 30)  # it is spoken for while its process lives
        # That the process itself then fails is no news of the run: its end was told before.
        assert process.stdin is not None
        process.stdin.close()
        process.wait(timeout=60)
        assert process.returncode == 1
        assert b"EOFError" in process.stderr.read()  # type: ignore[union-attr]
    finally:
        process.kill()
        process.wait()
    assert run.get_status() == status
    assert run._data["error"].get("message") == ("no data" if status == "Failed" else None)


def test_a_run_that_was_ended_elsewhere_is_not_ended_again_with_the_process(home: Home, ws: Workspace) -> None:
    code = BEGIN.format("elsewhere") + (
        "run.workspace.transport.request('POST', 'runs/%d/finish' % run.number, {'status': 'Canceled'})\n"
        "try:\n    run.complete()\nexcept RunsteadError as error:\n    print(error)\n"
        "print(interactive._open, interactive._said)\n"
    )
    done = home.python("-c", "from runstead import interactive\n" + code)
    assert "ended already: Canceled" in done.stdout and done.stdout.endswith("{} {}\n")
    assert done.stderr == ""
