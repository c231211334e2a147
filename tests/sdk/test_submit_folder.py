"""A folder submitted to a live studio: what the target receives, what is refused, and what an interruption leaves."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from runstead import Experiment, ScriptRunConfig, Workspace, sending
from runstead import upload as uploading
from runstead.errors import RunsteadError, UserError
from runstead.folder import Folder
from runstead.transport import Transport

from tests.live import FINAL, Studio
from tests.sdk.shell import Shell, access, proxied
from tests.sdk.trees import PLANS, Plan, Tree, plant, tree_of
from tests.waiting import until

MAX_FILES, MAX_BYTES = 400, 30_000_000
WAITING = """import pathlib, time
pathlib.Path("outputs/waiting").touch()
while not pathlib.Path("outputs/go").exists():
    time.sleep(0.01)
"""


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    limits = {"RUNSTEAD_SNAPSHOT_MAX_FILES": str(MAX_FILES), "RUNSTEAD_SNAPSHOT_MAX_BYTES": str(MAX_BYTES)}
    running = Studio(tmp_path_factory.mktemp("studio") / "data", **limits).start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def shell(studio: Studio, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return Shell(studio, tmp_path_factory.mktemp("home"))


@pytest.fixture
def workspace(studio: Studio, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Workspace:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, value in access(studio).items():
        monkeypatch.setenv(name, value)
    return Workspace.from_config()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "pkg").mkdir(parents=True)
    (folder / "train.py").write_text("print('trained')\n")
    (folder / "pkg/model.py").write_text("x = 1\n")
    return folder


def count_of_runs(studio: Studio) -> int:
    return len(studio.control("runs"))


def code_of(studio: Studio, number: int) -> Tree:
    """The run's copy of its folder on the target, without the two folders of its own; the run waits to be looked at and then ends."""
    pk = next(row["id"] for row in studio.control("runs") if row["number"] == number)
    row = studio.wait_for([pk], {"Running", *FINAL})[0]
    assert row["status"] == "Running", studio.control("text", id=pk)
    code = studio.runs_dir() / row["attempt"] / "code"
    until((code / "outputs/waiting").exists, 20, what="outputs/waiting")
    (code / "outputs/waiting").unlink()
    found = {name: what for name, what in tree_of(code).items() if name not in {b"outputs", b"logs"}}
    (code / "outputs/go").touch()
    assert studio.wait_for([pk])[0]["status"] == "Completed"
    return found


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(plan=PLANS)
def test_what_the_target_has_is_byte_for_byte_what_the_folder_held(
    plan: Plan, studio: Studio, workspace: Workspace, tmp_path: Path
) -> None:
    folder = tmp_path / "tree"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "train.py").write_text(WAITING)
    plant(folder, plan)
    held = tree_of(folder)
    run = Experiment(workspace, "trees").submit(ScriptRunConfig(folder, "train.py", environment="python"))
    assert code_of(studio, run.number) == held


def test_odd_names_bits_links_and_empty_folders_arrive_and_come_back(
    studio: Studio, shell: Shell, project: Path, tmp_path: Path
) -> None:
    names = (b"caf\xe9", b"\xff\xfe/\x80.txt", "名 前".encode(), b" lead", b"-x", b'it\'s "q" $(x)', b"ab:c|d?e*")
    for name in names:
        path = project / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name)
    (project / "run.sh").write_text("#!/bin/sh\n")
    (project / "run.sh").chmod(0o700)
    (project / "empty/inner").mkdir(parents=True)
    (project / "to_model").symlink_to("pkg/model.py")
    (project / os.fsdecode(b"to_caf\xe9")).symlink_to(os.fsdecode(b"caf\xe9"))
    (project / "train.py").write_text(WAITING)
    number = shell.json("run", str(project), "--experiment", "odd", "--", "train.py")["number"]
    held = tree_of(project)
    assert len(held) == len(names) + 6
    assert code_of(studio, number) == held
    shell.ok("download", str(number), "--snapshot", "-o", str(tmp_path / "back"))
    assert tree_of(tmp_path / "back/snapshot") == held


# What is refused, and with which words.


def refused(shell: Shell, studio: Studio, *words: str, **more: Any) -> str:
    before = count_of_runs(studio)
    text = shell.refused(*words, **more)
    assert count_of_runs(studio) == before
    return text


@pytest.mark.parametrize(
    ("target", "rule"),
    [("/etc/passwd", "The link is absolute"), ("../elsewhere", "leads out of the folder"), ("pkg/../../x", "leads out of the folder"),
     ("round", "leads in a circle")],
)  # fmt: skip
def test_a_link_out_of_the_tree_is_refused_with_the_rule(
    shell: Shell, studio: Studio, project: Path, target: str, rule: str
) -> None:
    (project / "round").symlink_to(target)
    text = refused(shell, studio, "run", str(project), "--", "train.py")
    assert "round: " in text and rule in text and "list it in .runignore" in text
    (project / ".runignore").write_text("round\n")
    assert shell.ok("run", str(project), "--", "train.py").startswith("Run ")


def test_a_folder_without_anything_to_send_says_why(shell: Shell, studio: Studio, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    assert "is empty. Name the folder that holds the script" in refused(
        shell, studio, "run", str(tmp_path / "none"), "--", "train.py"
    )
    (tmp_path / "none/train.py").write_text("")
    (tmp_path / "none/.gitignore").write_text("*\n")
    text = refused(shell, studio, "run", str(tmp_path / "none"), "--", "train.py")
    assert "nothing of" in text and "2 entries are left out" in text and "* in .gitignore" in text


def test_a_script_that_is_not_sent_is_named_with_the_reason_or_the_one_that_may_be_meant(
    shell: Shell, studio: Studio, project: Path
) -> None:
    assert "Did you mean train.py?" in refused(shell, studio, "run", str(project), "--", "trian.py")
    assert "Did you mean pkg/model.py?" in refused(shell, studio, "run", str(project), "--", "pkg/modell.py")
    (project / ".amlignore").write_text("train.py\n")
    text = refused(shell, studio, "run", str(project), "--", "train.py")
    assert "train.py is left out of the snapshot: train.py is train.py in .amlignore" in text
    assert "there is no folder" in refused(shell, studio, "run", str(project / "nowhere"), "--", "train.py")


def test_the_first_ignore_file_counts_and_no_other(shell: Shell, studio: Studio, project: Path) -> None:
    (project / "train.py").write_text(WAITING)
    for name, rule in ((".gitignore", "a.txt\n"), (".amlignore", "b.txt\n"), (".runignore", "c.txt\n")):
        (project / name).write_text(rule)
    for name in (
        "a.txt",
        "b.txt",
        "c.txt",
        ".git/config",
        "venv/pyvenv.cfg",
        "venv/bin/python",
        "pkg/__pycache__/x.pyc",
    ):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("")
    for first, expected in (
        (".runignore", {b"a.txt", b"b.txt"}),
        (".amlignore", {b"a.txt", b"c.txt"}),
        (".gitignore", {b"b.txt", b"c.txt"}),
    ):
        number = shell.json("run", str(project), "--", "train.py")["number"]
        had = code_of(studio, number)
        assert {name for name in had if name.endswith(b".txt")} == expected
        assert not any(name.startswith((b".git/", b"venv", b"pkg/__pycache__")) for name in had)
        (project / first).unlink()


def test_a_folder_over_a_limit_names_the_largest_before_it_is_read(
    shell: Shell, studio: Studio, project: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(MAX_FILES):
        path = project / "shards" / f"{number}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(str(number))
    text = refused(shell, studio, "run", str(project), "--", "train.py")
    assert "402 files; the limit is 400" in text and "shards/ (400 files)" in text and ".runignore" in text
    shutil.rmtree(project / "shards")
    (project / "weights").mkdir()
    (project / "weights/a.bin").write_bytes(bytes(MAX_BYTES))
    (project / "notes.bin").write_bytes(bytes(2_000_000))
    text = refused(shell, studio, "run", str(project), "--", "train.py")
    assert "32 MB; the limit is 30 MB" in text and "weights (30 MB)" in text and "notes.bin (2.0 MB)" in text
    # A really large folder is refused before it is read for many minutes.
    monkeypatch.setattr(sending, "MANY_BYTES", 1_000_000)
    monkeypatch.setattr(Folder, "_hash", lambda *_: pytest.fail("a file was read"))
    with pytest.raises(UserError, match=r"32 MB; the limit is 30 MB.*weights/ \(30 MB\), notes\.bin \(2\.0 MB\)"):
        Experiment(workspace, "e").submit(ScriptRunConfig(project, "train.py"))


def test_names_that_one_file_system_cannot_hold_at_once_are_refused(
    shell: Shell, studio: Studio, project: Path
) -> None:
    (project / "Train.py").write_text("")
    assert "Train.py" in refused(shell, studio, "run", str(project), "--", "train.py")
    (project / "Train.py").unlink()
    (project / "new\nline").write_text("")
    assert "control character" in refused(shell, studio, "run", str(project), "--", "train.py")


def test_a_file_that_changes_between_reading_and_sending_is_noticed(
    workspace: Workspace, studio: Studio, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, send = count_of_runs(studio), uploading._send

    def meddled(transport: Transport, folder: Folder, *rest: Any) -> None:
        changed.write_bytes(os.urandom(changed.stat().st_size))
        send(transport, folder, *rest)

    monkeypatch.setattr(uploading, "_send", meddled)
    for changed in (project / "train.py", project / "big.bin"):
        # New to the studio: what it has already is not read a second time.
        (project / "train.py").write_text(f"# {os.urandom(8).hex()}\n")
        (project / "big.bin").write_bytes(os.urandom(2_000_000))
        with pytest.raises(RunsteadError, match=f"{changed.name} changed while the folder was sent"):
            Experiment(workspace, "e").submit(ScriptRunConfig(project, "train.py"))
    assert count_of_runs(studio) == before


def test_a_file_that_grows_while_it_is_read_is_noticed(
    workspace: Workspace, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = os.read

    def growing(fd: int, size: int) -> bytes:
        block = read(fd, size)
        if block.startswith(b"print('trained')"):
            with (project / "train.py").open("a") as file:
                file.write("#")
        return block

    monkeypatch.setattr("runstead.folder.os.read", growing)
    with pytest.raises(RunsteadError, match=r"train\.py changes while it is read"):
        Experiment(workspace, "e").submit(ScriptRunConfig(project, "train.py"))


# Interrupted at any moment, and repeated: one run.

REQUESTS = 4  # what is missing, small contents, the snapshot, the run


def moments() -> list[tuple[str, int]]:
    return [(when, number) for number in range(1, REQUESTS + 1) for when in ("before", "after")]


@pytest.mark.parametrize(("when", "number"), moments())
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_submit_that_is_killed_and_repeated_makes_one_run(
    studio: Studio, project: Path, tmp_path: Path, when: str, number: int, how: signal.Signals
) -> None:
    (project / "data.bin").write_bytes(os.urandom(1000))  # contents that the studio has not seen
    client: list[subprocess.Popen[bytes]] = []

    def kill(now: str, at: int, _: str) -> None:
        if (now, at) == (when, number):
            client[0].send_signal(how)
            client[0].wait(20)

    place = access(studio)
    known = {row["id"] for row in studio.control("runs")}
    words = (
        "run",
        str(project),
        "--experiment",
        "killed",
        "--tag",
        f"{when}={number}-{how}",
        "--json",
        "--",
        "train.py",
    )
    with proxied(studio.port, kill) as url:
        shell = Shell(None, tmp_path / "home", **{**place, "RUNSTEAD_URL": url})
        client.append(shell.start(*words))
        out, err = client[0].communicate(timeout=60)
        assert client[0].returncode == (-signal.SIGKILL if how == signal.SIGKILL else 130), err
        assert out == b""
        if how == signal.SIGINT:
            assert b"The same command again goes on" in err
        again = shell.ok(*words)
        made = [row for row in studio.control("runs") if row["id"] not in known]
        assert len(made) == 1
        assert json.loads(again)["number"] == made[0]["number"]
        # And asked for once more, now that the first was answered, it is another run.
        shell.ok(*words)
    assert len([row for row in studio.control("runs") if row["id"] not in known]) == 2


def test_a_client_killed_at_any_moment_and_called_again_makes_one_run(
    studio: Studio, project: Path, shell: Shell
) -> None:
    """Not at a request, as above, but wherever it is: importing, hashing, waiting, sending, ending."""

    def fill(moment: int) -> tuple[str, ...]:
        for number in range(MAX_FILES - 50):
            (project / f"f{number}.txt").write_text(f"{moment} {number}")
        return (
            "run",
            str(project),
            "--experiment",
            "anywhere",
            "--name",
            f"moment {moment}",
            "--json",
            "--",
            "train.py",
        )

    lasted = []
    for once in range(3):  # the first is slower than those that follow
        words = fill(-once)
        began = time.monotonic()
        shell.ok(*words)
        lasted.append(time.monotonic() - began)
    whole, moments, cut = min(lasted), 12, 0
    for moment in range(1, moments + 1):
        words = fill(moment)
        known = {row["id"] for row in studio.control("runs")}
        client = shell.start(*words)
        with contextlib.suppress(subprocess.TimeoutExpired):
            client.wait(whole * moment / moments)  # the moment is what is tested
        client.kill()
        told, _ = client.communicate(timeout=20)
        cut += not told
        if not told:  # one that gave its answer has done its work: called again, it would be another run
            shell.ok(*words)
        assert len([row for row in studio.control("runs") if row["id"] not in known]) == 1, moment
    assert cut >= moments // 4


def test_equal_submits_at_the_same_time_are_as_many_runs(studio: Studio, project: Path, shell: Shell) -> None:
    known = {row["id"] for row in studio.control("runs")}
    clients = [shell.start("run", str(project), "--experiment", "equal", "--json", "--", "train.py") for _ in range(4)]
    numbers = {json.loads(client.communicate(timeout=60)[0])["number"] for client in clients}
    assert len(numbers) == 4
    assert len([row for row in studio.control("runs") if row["id"] not in known]) == 4


def test_a_refused_submit_keeps_no_key(studio: Studio, project: Path, shell: Shell) -> None:
    folder = shell.home / "cache/runstead/pending"
    refused(shell, studio, "run", str(project), "--target", "moon", "--", "train.py")
    assert [path.name for path in folder.glob("*")] == []


def test_a_cut_upload_of_a_large_file_goes_on(studio: Studio, project: Path, tmp_path: Path) -> None:
    (project / "weights.bin").write_bytes(os.urandom(20_000_000))
    client: list[subprocess.Popen[bytes]] = []
    offsets: list[int] = []

    def kill(now: str, _: int, path: str) -> None:
        if now == "after" and "offset=" in path:
            offsets.append(int(path.partition("offset=")[2].partition("&")[0]))
            if len(offsets) == 2:
                client[0].kill()

    with proxied(studio.port, kill) as url:
        shell = Shell(None, tmp_path / "home", **{**access(studio), "RUNSTEAD_URL": url})
        client.append(shell.start("run", str(project), "--", "train.py"))
        client[0].communicate(timeout=60)
        assert shell.ok("run", str(project), "--", "train.py").startswith("Run ")
    piece = uploading.PIECE
    assert offsets == [0, piece, 2 * piece]


def test_the_second_submit_reads_no_file_again(studio: Studio, project: Path, shell: Shell, tmp_path: Path) -> None:
    for number in range(100):
        (project / f"f{number}.txt").write_text(str(number))
    words = ("run", str(project), "--", "train.py")
    shell.ok(*words)

    def opened() -> list[str]:
        script = (
            "import sys, os\n"
            "seen = []\n"
            "sys.addaudithook(lambda event, args: seen.append(str(args[0])) if event == 'open' else None)\n"
            "from runstead import cli\n"
            f"code = cli.main({list(words)!r})\n"
            f"print([path for path in seen if path.startswith({str(project)!r})])\n"
        )
        done = subprocess.run(
            [*shell.argv()[:1], "-c", script], env=shell.env, capture_output=True, text=True, check=True
        )
        return list(eval(done.stdout.splitlines()[-1]))

    # The stamps must be old enough to be trusted first.
    until(lambda: not opened(), 20, every=0.2, what="a submit that opens no file of the folder")
    (project / "f7.txt").write_text("changed")
    assert opened() == [str(project / "f7.txt")] * 2  # hashed, then sent
