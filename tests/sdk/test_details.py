"""Runs of scripts seen from outside: waiting with the log, details, logs, files, snapshot, environment."""

import io
import re
import signal
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from runstead import (
    Environment,
    Experiment,
    Run,
    RunDetails,
    RunFailed,
    RunsteadError,
    ScriptRunConfig,
    UserError,
    Workspace,
)
from runstead import widget_html as shown

from tests.sdk.conftest import Home
from tests.waiting import until

TRAIN = """
import os, pathlib, sys, time
from runstead import Run
run = Run.get_context()
print("first line", flush=True)
run.log("loss", 0.5); run.log("loss", 0.25)
pathlib.Path("outputs/model.txt").write_text("weights")
pathlib.Path("logs/extra.txt").write_text("more\\n")
run.tag("from", "inside")
flag = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else None
while flag is not None and not flag.exists():
    time.sleep(0.05)
print("gr\\u00f6\\u00dfe, and the last line", flush=True)
if len(sys.argv) > 2:
    raise ValueError("no data")
"""


@pytest.fixture
def submit(home: Home, ws: Workspace) -> Any:
    folder = home.project("digits", train=TRAIN)

    def make(*arguments: str, **more: Any) -> Run:
        config = ScriptRunConfig(folder, "train.py", list(arguments), compute_target="local", environment="python")
        return Experiment(ws, "digits").submit(config, **more)

    return make


def test_waiting_prints_as_in_the_reference_and_returns_the_details(
    submit: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    run = submit(tags={"stage": "a"})
    details = run.wait_for_completion(show_output=True)
    out = capsys.readouterr().out
    assert out == (
        f"RunId: {run.id}\nWeb View: {run.get_portal_url()}\n\nStreaming log\n=============\n\n"
        "first line\ngröße, and the last line\n"
        f"\nExecution Summary\n=================\nRunId: {run.id}\nWeb View: {run.get_portal_url()}\nStatus: Completed\n"
    )
    assert re.fullmatch(r"digits_\d{10}_[0-9a-f]{8}", run.id)
    assert {key: details[key] for key in ("runId", "target", "status", "warnings")} == {
        "runId": run.id, "target": "local", "status": "Completed", "warnings": []
    }  # fmt: skip
    assert details["startTimeUtc"] < details["endTimeUtc"]
    assert details["properties"]["ContentSnapshotId"] == run.get_snapshot_id()
    assert details["runDefinition"]["script"] == "train.py"
    assert details["submittedBy"]
    assert set(details["logFiles"]) == {"log", "logs/extra.txt"} or set(details["logFiles"]) == {"log", "extra.txt"}
    assert "error" not in details
    assert run.get_tags() == {"stage": "a", "from": "inside"}
    assert run.get_metrics() == {"loss": [0.5, 0.25]}


def test_a_line_is_seen_within_a_second_and_the_end_of_a_running_run_is_not_known(
    submit: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flag = tmp_path / "go"
    run = submit(str(flag))
    seen = io.StringIO()
    thread = threading.Thread(target=run.stream_log, args=(seen,))
    thread.start()
    until(lambda: "first line" in seen.getvalue(), 60)
    assert "endTimeUtc" not in Run(run.experiment, run.id).get_details()
    start = time.monotonic()
    flag.touch()
    until(lambda: "last line" in seen.getvalue(), 10, every=0.005)
    taken = time.monotonic() - start
    thread.join(30)
    assert taken < 1.0, taken


def test_a_failed_run_raises_with_its_details_unless_told_not_to(submit: Any, tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    run = submit(str(tmp_path / "go"), "fail")
    with pytest.raises(RunFailed, match="ValueError: no data") as caught:
        run.wait_for_completion()
    error = caught.value.details["error"]
    assert (error["code"], error["message"]) == ("ValueError", "no data")
    assert run.wait_for_completion(raise_on_error=False)["status"] == "Failed"
    assert run.get_file_names() and "outputs/model.txt" in run.get_file_names()


@pytest.mark.parametrize(
    ("code", "error", "said"),
    [
        ("import sys; sys.exit(3)", {"code": "exit_code", "message": "exit code 3"}, "exit code 3"),
        (
            "import os; os.kill(os.getpid(), 9)",
            {"code": "signal", "message": "signal 9 (SIGKILL)"},
            r"signal 9 \(SIGKILL\)",
        ),
        ("x = 1\ndef f(:", {"code": "SyntaxError", "file": "train.py", "file_line": 2}, "SyntaxError: invalid syntax"),
    ],
)
def test_every_failure_has_an_error(home: Home, ws: Workspace, code: str, error: dict[str, Any], said: str) -> None:
    folder = home.project("failing", train=code)
    config = ScriptRunConfig(folder, "train.py", compute_target="local", environment="python")
    with pytest.raises(RunFailed, match=said) as caught:
        Experiment(ws, "failing").submit(config).wait_for_completion()
    found = caught.value.details["error"]
    assert {name: found.get(name) for name in error} == error


def test_a_canceled_run_raises_nothing(submit: Any, tmp_path: Path) -> None:
    run = submit(str(tmp_path / "never"))
    until(lambda: run.get_status() == "Running", 60)
    run.cancel()
    assert run.wait_for_completion()["status"] == "Canceled"


def test_ctrl_c_stops_the_waiting_and_says_that_the_run_continues(
    submit: Any, home: Home, ws: Workspace, tmp_path: Path
) -> None:
    run = submit(str(tmp_path / "go"))
    code = f"from runstead import Workspace; Workspace.from_config().get_run({run.id!r}).wait_for_completion(show_output=True)"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=home.folder,
        env=home.env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "first line" in line:
            break
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert f"The run continues: {run.get_portal_url()}" in error
    assert run.get_status() == "Running"
    (tmp_path / "go").touch()
    assert run.wait_for_completion()["status"] == "Completed"


def test_logs_snapshot_environment_and_files_come_home(submit: Any, ws: Workspace, tmp_path: Path) -> None:
    run = submit()
    run.wait_for_completion()
    paths = run.get_all_logs(str(tmp_path / "logs"))
    assert {Path(path).read_text() for path in paths} == {"first line\ngröße, and the last line\n", "more\n"}
    (tmp_path / "file").touch()
    with pytest.raises(RunsteadError, match="was not written"):
        run.get_all_logs(str(tmp_path / "file"))
    assert run.get_details_with_logs()["logFiles"]["log"].startswith("first line")
    with zipfile.ZipFile(run.restore_snapshot(path=str(tmp_path))) as archive:
        assert archive.read("train.py").decode() == TRAIN
    assert str(run.get_environment()) == str(Environment.get(ws, "python"))
    run.download_file("outputs/model.txt", str(tmp_path / "model.txt"))
    assert (tmp_path / "model.txt").read_text() == "weights"
    assert run.read_log(6) == "line\ngröße, and the last line\n".encode()
    with pytest.raises(UserError, match="this run has the snapshot"):
        run.restore_snapshot("0" * 64)


def test_show_output_at_submission_waits(submit: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert submit(show_output=True).status == "Completed"
    assert "Execution Summary" in capsys.readouterr().out


def test_details_for_people_show_status_metrics_and_log_and_no_markup_of_the_script(
    submit: Any, ws: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    run = submit(display_name="<script>alert(1)</script>")
    run.wait_for_completion()
    RunDetails(run).show()
    out = capsys.readouterr().out
    assert "Completed" in out and "loss = 0.25" in out and "last line" in out
    html = shown.look(run).html()
    assert "&lt;script&gt;" in html and "<script" not in html
    assert "<polyline" in html and "0.25" in html and "größe" in html
    assert "<th>Metric</th><th>Last</th><th>Course</th>" in html
    assert html.index("flex-direction:column-reverse") < html.index("größe")  # a live log is at its end
    assert RunDetails(run).get_widget_data()["run_id"] == run.id


def test_a_run_of_another_id_is_named(ws: Workspace) -> None:
    with pytest.raises(UserError, match="no run 'nothing_1_x' in workspace default"):
        ws.get_run("nothing_1_x")
