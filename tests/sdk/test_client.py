"""The client against a live studio: what is sent, what is answered, what a wrong call is told."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from runstead import ComputeTarget as Target
from runstead import Environment as Env
from runstead import Experiment, RunConfiguration, ScriptRunConfig, Workspace, cli
from runstead.errors import RunsteadError, UserError
from runstead.submitted import RunFailed
from runstead.transport import ApiError, Transport

from environments.models import ComputeTarget, Environment, EnvironmentVersion
from runs import logs
from runs.models import LogStream, Run, Snapshot
from runs.status import EndReason, RunStatus
from runs.submission import cancel
from studio.accounts.models import Token, User
from studio.blobs import SMALL
from studio.workspaces.models import Workspace as WorkspaceRow

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home without any configuration, and a project folder as the working directory."""
    for name in ("RUNSTEAD_URL", "RUNSTEAD_TOKEN", "RUNSTEAD_WORKSPACE", "RUNSTEAD_DATA_DIR", "RUNSTEAD_RUN_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home/.config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home/.cache"))
    project = tmp_path / "digits"
    (project / "pkg").mkdir(parents=True)
    (project / "train.py").write_text("print(1)\n")
    (project / "pkg/model.py").write_text("x = 1\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def studio(
    live_server: Any, workspace: WorkspaceRow, contributor: User, home: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """A running studio with a target and an environment, which `from_config` finds."""
    ComputeTarget.objects.create(workspace=workspace, name="local")
    environment = Environment.objects.create(workspace=None, name="python")
    for number in (1, 2):
        EnvironmentVersion.objects.create(
            environment=environment, number=number, definition={"user_managed": True}, key=str(number) * 64
        )
    _, secret = Token.issue(user=contributor, workspace=workspace, name="test")
    monkeypatch.setenv("RUNSTEAD_URL", live_server.url)
    monkeypatch.setenv("RUNSTEAD_TOKEN", secret)
    monkeypatch.setenv("RUNSTEAD_WORKSPACE", workspace.slug)
    return str(live_server.url)


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, int]]:
    """Method, path and bytes of the body of every request that the client makes."""
    seen: list[tuple[str, str, int]] = []
    whole = Transport.request

    def watched(self: Transport, method: str, path: str, body: Any = None, **more: Any) -> Any:
        seen.append((method, path, len(body) if isinstance(body, bytes) else 0))
        return whole(self, method, path, body, **more)

    monkeypatch.setattr(Transport, "request", lambda self, method, path, body=None, query=None, headers=None: watched(
        self, method, path, body, query=query, headers=headers))  # fmt: skip
    return seen


def submit(**more: Any) -> Any:
    config = ScriptRunConfig("digits", "train.py", ["--lr", 0.1], environment="python", **more)
    return Experiment(Workspace.from_config(), "digits").submit(config)


def test_the_python_snippet_makes_the_run_it_shows(studio: str, workspace: WorkspaceRow) -> None:
    ws = Workspace.from_config()
    config = ScriptRunConfig(
        source_directory="./digits",
        script="train.py",
        arguments=["--lr", "0.1", "$SEED"],
        compute_target="local",
        environment=Env.get(ws, "python", version="1"),
        max_run_duration_seconds=21600,
    )
    config.run_config.environment_variables = {"SEED": "7"}
    run = Experiment(ws, "digits").submit(config, tags={"stage": "a", "bare": None}, display_name="first")
    row = Run.objects.get()
    assert (run.id, run.number, run.name, run.status) == (row.uid, row.number, "first", "NotStarted")
    assert run.get_portal_url().endswith(f"/{workspace.slug}/runs/{row.number}")
    assert row.config["arguments"] == ["--lr", "0.1", "$SEED"]
    assert row.config["variables"] == {"SEED": "7"}
    assert row.config["max_run_duration_seconds"] == 21600
    assert str(row.environment) == "python:1"
    assert run.get_tags() == {"stage": "a", "bare": None}
    assert row.snapshot is not None and row.snapshot.file_count == 2


def test_the_shell_snippet_makes_the_same_run_as_the_file(studio: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "./digits", "--experiment", "e", "--name", "n", "--target", "local", "--env", "python:2", "--set", "A=b=c",
             "--tag", "stage=a", "--tag", "bare", "--time-limit", "6h", "--memory", "512MB", "--", "train.py", "--", "--lr=1"]  # fmt: skip
    assert cli.main(words) == 0
    assert capsys.readouterr().out.startswith("Run 1  http")
    Path("run.yaml").write_text(
        "experiment: e\nname: n\ntarget: local\nenvironment: python:2\nframework: python\nscript: train.py\n"
        "arguments: ['--', '--lr=1']\nvariables: {A: b=c}\ntags: {stage: a, bare: null}\ntime_limit: 6 h\nmemory: 512 MB\n"
    )
    assert cli.main(["run", "digits", "--file", "run.yaml"]) == 0
    first, second = Run.objects.order_by("number")
    assert first.config == second.config
    assert first.config["arguments"] == ["--", "--lr=1"]
    assert (first.name, first.experiment, first.environment) == (second.name, second.experiment, second.environment)
    assert first.snapshot == second.snapshot
    assert (
        {t.name: t.value for t in first.tags.all()}
        == {t.name: t.value for t in second.tags.all()}
        == {"stage": "a", "bare": None}
    )


def test_only_what_is_missing_is_sent(studio: str, home: Path, requests: list[tuple[str, str, int]]) -> None:
    data = os.urandom(SMALL + 100)
    (home / "digits/weights.bin").write_bytes(data)
    submit()
    assert [path.split("/")[1] for _, path, _ in requests[:3]] == ["missing", "blobs", "blobs"]
    requests.clear()
    submit()
    assert [path for _, path, _ in requests] == ["snapshots/missing", "runs"]
    requests.clear()
    (home / "digits/pkg/model.py").write_text("x = 2\n")
    submit()
    assert [(path, size) for method, path, size in requests if method == "PUT"] == [("snapshots/blobs", 41 + 6)]
    assert Snapshot.objects.count() == 2


def test_a_large_file_goes_on_where_it_was_cut(studio: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import runstead.upload

    monkeypatch.setattr(runstead.upload, "PIECE", 100_000)
    (home / "digits/weights.bin").write_bytes(os.urandom(SMALL + 250_000))
    whole, offsets = Transport.request, []

    def cut(self: Transport, method: str, path: str, body: Any = None, query: Any = None, headers: Any = None) -> Any:
        if query and "offset" in query:
            offsets.append(query["offset"])
            if len(offsets) == 3:
                raise RunsteadError("cut")
        return whole(self, method, path, body, query, headers)

    monkeypatch.setattr(Transport, "request", cut)
    with pytest.raises(RunsteadError, match="cut"):
        submit()
    submit()
    assert offsets[:4] == [0, 100_000, 200_000, 200_000]
    assert Run.objects.count() == 1


def test_a_lost_reply_makes_one_run(studio: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import http.client

    lost = []
    whole = http.client.HTTPConnection.getresponse

    def losing(self: http.client.HTTPConnection) -> Any:
        answer = whole(self)
        if answer.headers.get("X-Seen") is None and Run.objects.exists() and not lost:
            lost.append(1)
            answer.read()
            raise ConnectionResetError("lost")
        return answer

    monkeypatch.setattr(http.client.HTTPConnection, "getresponse", losing)
    run = submit()
    assert lost
    assert run.id == Run.objects.get().uid


def finish(run: Any, reason: EndReason, text: bytes, **fields: Any) -> None:
    """What the attendant would write: the log and the end."""
    row = Run.objects.get(number=run.number)
    stream, _ = LogStream.objects.get_or_create(run=row, name="log")
    logs.append(stream, 0, text, b"")
    Run.objects.filter(pk=row.pk).update(
        status=RunStatus.COMPLETED if reason == EndReason.EXITED else RunStatus.FAILED,
        reason=reason, started_at=timezone.now(), ended_at=timezone.now(), **fields,
    )  # fmt: skip


def test_waiting_prints_the_log_and_the_summary(studio: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = submit()
    finish(run, EndReason.EXITED, "größe\nlast".encode(), exit_code=0)
    details = run.wait_for_completion(show_output=True)
    out = capsys.readouterr().out
    assert out.startswith(
        f"RunId: {run.id}\nWeb View: {run.get_portal_url()}\n\nStreaming log\n=============\n\ngröße\nlast"
    )
    assert out.endswith("Status: Completed\n")
    assert details["runId"] == run.id
    assert details["status"] == "Completed"
    assert details["endTimeUtc"]


def test_a_failed_run_raises_unless_told_not_to_and_the_shell_exits_as_the_script_did(
    studio: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = submit()
    error = {"type": "ValueError", "message": "no data", "line": 3}
    finish(run, EndReason.EXIT_CODE, b"oops\n", exit_code=3, error=error)
    with pytest.raises(RunFailed, match="ValueError: no data") as caught:
        run.wait_for_completion()
    assert caught.value.details["error"] == {**error, "code": "ValueError"}
    assert run.wait_for_completion(raise_on_error=False)["status"] == "Failed"
    monkeypatch.setattr("runstead.submitting.submit", lambda *_, **__: run)
    assert cli.main(["run", "digits", "--follow", "--", "train.py"]) == 3
    assert "oops" in capsys.readouterr().out


def test_a_run_is_cancelled_and_found_again(studio: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = submit()
    ws = Workspace.from_config()
    assert ws.get_run(run.id).number == run.number
    assert cli.main(["cancel", str(run.number)]) == 0
    row = Run.objects.get()
    assert row.status == RunStatus.CANCEL_REQUESTED
    assert cancel(row, None)
    assert run.get_status() == "CancelRequested"
    assert [found.id for found in Experiment(ws, "digits").get_runs()] == [run.id]
    run.log("loss", 0.5)
    assert run.get_metrics() == {"loss": 0.5}
    with pytest.raises(UserError, match="no run"):
        ws.get_run("nothing")


REFUSED = (
    "Did you mean train.py?", "there is no folder", "no environment pyhton", "python has no version 9. Its newest",
    "no compute target named moon", "PATH is set by the studio", "no secret named none", "is no experiment's name",
)  # fmt: skip
"""What only the folder or the studio can say; the rest is wrong usage."""


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["digits", "--", "tran.py"], "Did you mean train.py?"),
        (["digits"], "Name the script"),
        (["digits", "--"], "the script is missing"),
        (["none", "--", "train.py"], "there is no folder"),
        (["digits", "--env", "pyhton", "--", "train.py"], "no environment pyhton"),
        (["digits", "--env", "python:9", "--", "train.py"], "python has no version 9. Its newest"),
        (["digits", "--target", "moon", "--", "train.py"], "no compute target named moon"),
        (["digits", "--time-limit", "6", "--", "train.py"], "--time-limit: '6' is no duration"),
        (["digits", "--memory", "lots", "--", "train.py"], "--memory: 'lots' is no size"),
        (["digits", "--set", "novalue", "--", "train.py"], "--set: 'novalue' needs the form NAME=VALUE"),
        (["digits", "--set", "PATH=x", "--", "train.py"], "PATH is set by the studio"),
        (["digits", "--secret", "KEY=none", "--", "train.py"], "no secret named none"),
        (["digits", "--experiment", "a b", "--", "train.py"], "is no experiment's name"),
        (["digits", "--framework", "spark", "--", "train.py"], "there is no 'spark'"),
        (["digits", "--file", "wrong.yaml"], "Did you mean environment?"),
        (["digits", "--file", "none.yaml"], "cannot be read"),
    ],
)
def test_a_wrong_call_names_the_field_and_the_fix(
    studio: str, words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("wrong.yaml").write_text("script: train.py\nenvironmnt: x\n")
    try:
        code: int | str | None = cli.main(["run", *words])
    except SystemExit as ended:
        code = ended.code
    wrong_usage = told not in REFUSED
    assert code == (2 if wrong_usage else 1)
    assert told in capsys.readouterr().err
    assert not Run.objects.exists()


def test_environments_and_targets_are_found_by_name(studio: str) -> None:
    ws = Workspace.from_config()
    assert str(Env.get(ws, "Python")) == "python:2"
    assert list(Env.list(ws)) == ["python"]
    assert Target(ws, "local").type == "Local"
    for wrong in (lambda: Env.get(ws, "nope"), lambda: Env.get(ws, "python", version=7), lambda: Target(ws, "nope")):
        with pytest.raises(UserError, match="There are: "):
            wrong()


def test_a_run_configuration_wins_with_a_warning_over_what_is_given_beside_it() -> None:
    run_config = RunConfiguration(script="a.py", framework="PYTHON")
    run_config.target = "gpu"
    with pytest.warns(UserWarning, match="compute_target is ignored"):
        config = ScriptRunConfig(".", "b.py", run_config=run_config, compute_target="local")
    assert (config.request()["target"], config.request()["script"], config.request()["framework"]) == (
        "gpu",
        "b.py",
        "python",
    )
    assert ScriptRunConfig(".", command="python train.py 'a b'").request()["command"] == "python train.py 'a b'"
    for wrong in (
        {"script": "a.py", "arguments": [["x"]]},
        {"script": "a.py", "arguments": [None]},
        {},
        {"script": "a", "command": "b"},
    ):
        with pytest.raises(UserError):
            ScriptRunConfig(".", **wrong).request()


def test_a_token_is_wrong_and_a_workspace_is_foreign(
    studio: str, foreign_workspace: WorkspaceRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNSTEAD_WORKSPACE", foreign_workspace.slug)
    with pytest.raises(ApiError) as caught:
        Env.list(Workspace.from_config())
    assert caught.value.status == 404
    monkeypatch.setenv("RUNSTEAD_TOKEN", "rst_wrong")
    with pytest.raises(ApiError, match="token is not valid") as caught:
        Env.list(Workspace.from_config())
    assert caught.value.status == 401


def test_the_studio_is_found_in_the_order_of_how_plainly_it_was_said(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="make up"):
        Workspace.from_config()
    (home / "config.json").write_text(json.dumps({"subscription_id": "x", "workspace_name": "other"}))
    with pytest.raises(UserError, match="make up"):
        Workspace.from_config()
    (home / "runstead.json").write_text(json.dumps({"url": "http://above", "workspace": "w", "token": "t"}))
    monkeypatch.chdir(home / "digits/pkg")
    assert Workspace.from_config().url == "http://above"
    private = home / "data/local-client.json"
    private.parent.mkdir()
    private.write_text(json.dumps({"url": "http://127.0.0.1:1", "workspace": "default", "token": "t"}))
    noted = home / "home/.config/runstead/studio.json"
    noted.parent.mkdir(parents=True)
    noted.write_text(json.dumps({"client": str(private)}))
    assert Workspace.from_config().url == "http://127.0.0.1:1"
    monkeypatch.setenv("RUNSTEAD_URL", "http://said")
    monkeypatch.setenv("RUNSTEAD_TOKEN", "t")
    assert Workspace.from_config().url == "http://said"
    assert Workspace.from_config(str(home)).url == "http://above"
    monkeypatch.delenv("RUNSTEAD_TOKEN")
    with pytest.raises(UserError, match=r"^token: "):
        Workspace.from_config()
    with pytest.raises(UserError, match=r"^url: "):
        Workspace("ftp://x", "w", "t")


def test_a_studio_that_is_not_there_says_so_quickly(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runstead.transport.PAUSES", (0.0,))
    with pytest.raises(RunsteadError, match="cannot be reached"):
        Env.list(Workspace("http://127.0.0.1:9", "default", "t"))


def test_the_command_needs_no_package_but_the_standard_library(home: Path) -> None:
    source = Path(__file__).parents[2] / "sdk/src"
    command = [sys.executable, "-S", "-m", "runstead", "run", "digits", "--", "train.py"]
    done = subprocess.run(
        command, env={"PYTHONPATH": str(source), "HOME": str(home)}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("runstead: No studio was found.")


def test_a_run_is_checked_on_its_target_before_it_is_started(studio: str, tmp_path: Path) -> None:
    from environments import reaching

    project = tmp_path / "checked"
    project.mkdir()
    (project / "train.py").write_text("import os\nimport zebra_stripes\n")
    config = ScriptRunConfig(str(project), "train.py", ["--data", "/nowhere/rows.csv"], environment="python:1")
    try:
        found = config.check(Workspace.from_config())
    finally:
        reaching.close_all()
    assert not found and not found.passed and found.answered and found.seconds < 3
    text = str(found)
    assert "FAIL  train.py, line 2 imports zebra_stripes" in text
    assert "WARN  /nowhere/rows.csv is not on local" in text
    assert not Run.objects.exists()


def test_https_to_a_studio_without_it_says_so(studio: str) -> None:
    transport = Transport(studio.replace("http://", "https://"), "vision", "rst_x")
    with pytest.raises(RunsteadError, match=r"does not speak https\. Use http://"):
        transport.request("GET", "runs")
