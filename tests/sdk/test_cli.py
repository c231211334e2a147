"""The command `runstead` against a live studio, as a person, a CI job and an editor call it."""

import hashlib
import json
import re
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from runstead import cli, cli_init, config

from tests.live import ROOT, Studio, free_port
from tests.sdk.shell import Shell, access, proxied
from tests.waiting import until

TRAIN = """import sys
sys.path.insert(0, "pkg")
from runstead import Run
run = Run.get_context()
for step in range(3):
    run.log("loss", 1 / (step + 1), step=step)
print("arguments", sys.argv[1:])
"""
BYTES = b"caf\xe9 \xff\x00\r\n\xf0\x9f\x98 cut"


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    running = Studio(tmp_path_factory.mktemp("studio") / "data").start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def shell(studio: Studio, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return Shell(studio, tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("projects") / "digits"
    folder.mkdir()
    (folder / "train.py").write_text(TRAIN)
    (folder / "exit.py").write_text("import sys\nprint('leaving')\nsys.exit(int(sys.argv[1]))\n")
    (folder / "fail.py").write_text("import helper\n\nhelper.check(None)\n")
    (folder / "helper.py").write_text("import json\n\n\ndef check(what):\n    return json.loads(what)\n")
    (folder / "raw.py").write_text(f"import os\nos.write(1, {BYTES!r})\n")
    (folder / "slow.py").write_text(
        "import pathlib, sys, time\nstop = pathlib.Path(sys.argv[1])\nn = 0\nwhile not stop.exists():\n"
        "    print('line', n, time.time(), flush=True)\n    n += 1\n    time.sleep(0.1)\nprint('end', flush=True)\n"
    )
    (folder / "outputs.py").write_text(
        "import os\nos.makedirs('outputs/plots')\nopen('outputs/model.bin', 'wb').write(bytes(range(256)) * 40000)\n"
        "open('outputs/plots/a.txt', 'w').write('a')\nopen('outputs/plots/ü b.txt', 'w').write('b')\n"
    )
    return folder


def submitted(shell: Shell, project: Path, *words: str, **more: Any) -> dict[str, Any]:
    place = words.index("--") if "--" in words else len(words)
    found: dict[str, Any] = shell.json(
        "run", str(project), "--experiment", "cli", *words[:place], *words[place:], **more
    )
    return found


def finished(shell: Shell, project: Path, *words: str) -> dict[str, Any]:
    return submitted(shell, project, "--wait", *words)


# run: options, files, exit codes.


def test_a_run_is_followed_to_its_end(shell: Shell, project: Path) -> None:
    done = shell("run", str(project), "--experiment", "cli", "--follow", "--", "train.py", "--lr", "0.1", "--", "$HOME")
    lines = done.stdout.decode().splitlines()
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"Run \d+  http://\S+/default/runs/\d+", lines[0])
    assert lines[-1].startswith("arguments ['--lr', '0.1', '--', ")
    assert "Completed  http" in done.stderr.decode()


@pytest.mark.parametrize("option", ["--follow", "--wait"])
def test_who_waits_is_told_why(shell: Shell, project: Path, option: str) -> None:
    shell.ok("drain", "local")
    try:
        waiting = shell.start("run", str(project), "--experiment", "cli", option, "--", "exit.py", "0")
        assert waiting.stdout is not None and waiting.stderr is not None
        number = re.search(rb"Run (\d+)", waiting.stdout.readline())[1].decode()  # type: ignore[index]
        told = [waiting.stderr.readline().decode()]
        while "draining" not in told[-1]:
            told.append(waiting.stderr.readline().decode())
        assert told[-1] == "[Queued: local is draining: nothing new starts.]\n" and len(set(told)) == len(told), told
        assert "Waits for    local is draining" in shell.ok("show", number)
    finally:
        shell.ok("resume", "local")
    _, err = waiting.communicate(timeout=60)
    assert waiting.returncode == 0, err


@pytest.mark.parametrize("option", ["--follow", "--wait"])
@pytest.mark.parametrize("code", [0, 1, 3, 255])
def test_the_exit_code_is_that_of_the_script(shell: Shell, project: Path, option: str, code: int) -> None:
    done = shell("run", str(project), "--experiment", "cli", option, "--", "exit.py", str(code))
    assert done.returncode == code, done.stderr
    assert (b"leaving" in done.stdout) is (option == "--follow")


def test_a_failure_is_told_with_the_line_of_the_project(shell: Shell, project: Path) -> None:
    done = shell("run", str(project), "--experiment", "cli", "--follow", "--", "fail.py")
    text = done.stderr.decode()
    assert done.returncode == 1
    assert re.search(r"runstead: run \d+ failed: TypeError: the JSON object must be str", text)
    # Raised in the standard library: the innermost line of the project is the one to look at.
    line = next(line for line in text.splitlines() if ": error: " in line)
    found = re.match(str(cli_init.SUMMARY["pattern"]["regexp"]), line)
    assert found and found.group(1, 2) == ("helper.py", "5")
    # Whoever follows later is told the same, beside the log.
    number = re.search(r"runstead: run (\d+) failed", text)
    assert number
    done = shell("logs", "-f", number[1])
    assert done.returncode == 0
    assert done.stderr.decode().splitlines() == [line]


def test_a_canceled_run_is_no_success(shell: Shell, studio: Studio, project: Path, tmp_path: Path) -> None:
    waiting = shell.start(
        "run", str(project), "--experiment", "cli", "--follow", "--", "slow.py", str(tmp_path / "stop")
    )
    assert waiting.stdout is not None
    number = re.search(rb"Run (\d+)", waiting.stdout.readline())[1].decode()  # type: ignore[index]
    waiting.stdout.readline()
    assert shell.ok("cancel", number, "--wait") == f"Run {number}: Canceled\n"
    _, err = waiting.communicate(timeout=60)
    assert waiting.returncode not in {0, None} and b"Canceled" in err


def test_a_file_gives_the_run_and_options_win(shell: Shell, project: Path, tmp_path: Path) -> None:
    words = ("--name", "n", "--env", "python", "--set", "A=b=c", "--tag", "stage=a", "--tag", "bare", "--time-limit", "1h",
             "--memory", "2GB", "--priority", "3", "--notes", "two\nlines", "--", "train.py", "--x=1")  # fmt: skip
    first = submitted(shell, project, *words)
    (tmp_path / "run.yaml").write_text(
        "experiment: cli\nname: n\ntarget: local\nenvironment: python\nscript: train.py\narguments: ['--x=1']\n"
        'variables: {A: b=c}\ntags: {stage: a, bare: null}\ntime_limit: 1 h\nmemory: 2 GB\npriority: 3\nnotes: "two\\nlines"\n'
    )
    second = shell.json("run", str(project), "-f", str(tmp_path / "run.yaml"))
    third = shell.json(
        "run", str(project), "-f", str(tmp_path / "run.yaml"), "--set", "B=2", "--name", "other", "--", "exit.py", "0"
    )
    for name in ("config", "tags", "name", "notes", "priority", "environment", "snapshot", "experiment"):
        assert first[name] == second[name], name
    assert third["config"]["variables"] == {"A": "b=c", "B": "2"}
    assert (third["name"], third["config"]["script"], third["config"]["arguments"]) == ("other", "exit.py", ["0"])


def test_what_the_new_run_page_gives_is_accepted(shell: Shell, project: Path, tmp_path: Path) -> None:
    from runs.config import ScriptRunConfig
    from runs.snippets import RunRequest, cli_argv, yaml_text

    asked = RunRequest(
        experiment="cli", target="local", environment="python", name="given", notes="-odd", priority=2, tags={"a": None, "b": "1=2"},
        config=ScriptRunConfig(
            script="train.py", arguments=("--lr", "0.1", "", "é", "$X"), variables={"X": "1 2"}, max_run_duration_seconds=3600,
            memory_bytes=2**31, grace_seconds=5,
        ),
    )  # fmt: skip
    (tmp_path / "run.yaml").write_text(yaml_text(asked))
    by_file = shell.json("run", str(project), "--file", str(tmp_path / "run.yaml"))
    words = cli_argv(asked)
    by_line = shell.json("run", str(project), *words[3:])
    assert (
        by_file["config"]
        == by_line["config"]
        == {**by_line["config"], **json.loads(json.dumps(asked.config.to_json()))}
    )
    for name in ("tags", "name", "notes", "priority", "experiment", "environment"):
        assert by_file[name] == by_line[name], name


# What is wrong is named.


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("rnu",), 2, "there is no 'rnu'. Did you mean run?"),
        (("run", "--tagret", "x"), 2, "--tagret is not known here. Did you mean --target?"),
        (("runs", "--status", "Runing"), 2, "there is no 'Runing'. Did you mean Running?"),
        (("logs",), 2, "the following arguments are required: RUN"),
        (("run", ".", "train.py"), 2, "train.py is not known here. The script and its arguments stand behind --"),
        (("logs", "12", "--", "x"), 2, "-- is not known here"),
        (("envs", "shwo"), 2, "Did you mean show?"),
        (("show", "99999"), 1, "there is no run 99999 in workspace default"),
        (("show", "cli_1_abc"), 1, "there is no run cli_1_abc"),
        (("logs", "a/b"), 1, "'a/b' is no run"),
        (("cancel", "99999"), 1, "there is no run 99999"),
        (("run", "--framework", "pytorchh", "--", "a.py"), 2, "there is no 'pytorchh'. Did you mean pytorch?"),
        (("run", "--time-limit", "foo", "--", "a.py"), 2, "--time-limit: 'foo' is no duration"),
        (("run", "--memory", "8XB", "--", "a.py"), 2, "--memory: '8XB' is no size"),
        (("run", "--set", "FOO", "--", "a.py"), 2, "--set: 'FOO' needs the form NAME=VALUE"),
        (("run",), 2, "Name the script to run behind --"),
        (("run", "--file", "nope.yaml"), 2, "nope.yaml"),
        (("runs", "--limit", "-1"), 2, "'-1' is no number of things: use 0 or more"),
        (("download", "99999"), 1, "there is no run 99999"),
        (("runs", "--filter", "status:nothing"), 1, "status:nothing"),
        (("models", "show", "none"), 1, "there is no model none"),
        (("doctor", "moon"), 1, "moon"),
        (("init",), 1, "runstead init --vscode"),
        (("up", "--home", "/nowhere"), 1, "there is no studio in /nowhere"),
    ],
)
def test_a_wrong_call_says_what_and_what_to_do(shell: Shell, words: tuple[str, ...], code: int, told: str) -> None:
    assert told in shell.refused(*words, code=code)


def test_unknown_fields_of_a_run_file_are_named_with_the_nearest(shell: Shell, project: Path, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    for text, told in (
        ("script: train.py\nenvironmnt: x\n", "environmnt: there is no such field. Did you mean environment?"),
        ("script: train.py\ntags: 5\n", "tags: name: value lines or a list are needed"),
        ("script: train.py\narguments: --lr 1\n", "arguments: a list is needed"),
        ("script: train.py\ngpus: many\n", "gpus: a whole number is needed"),
        ("script: train.py\ndistribution: {proces_count: 2}\nframework: pytorch\n", "proces_count"),
        ("- 1\n", "must hold 'field: value' lines"),
        ("a: [\n", "is no YAML"),
    ):
        path.write_text(text)
        assert told in shell.refused("run", str(project), "--file", str(path), code=2)


def test_a_refusal_is_json_where_json_was_asked_for(shell: Shell) -> None:
    done = shell("show", "99999", "--json")
    assert (done.returncode, done.stdout) == (1, b"")
    assert "there is no run 99999" in json.loads(done.stderr)["error"]


def test_where_nobody_answers_the_address_and_what_to_try_is_said(shell: Shell, studio: Studio, project: Path) -> None:
    place = access(studio)
    port = free_port()
    text = shell.refused("run", str(project), "--", "train.py", **{**place, "RUNSTEAD_URL": f"http://127.0.0.1:{port}"})
    assert (
        f"http://127.0.0.1:{port} cannot be reached" in text
        and "check the address" in text
        and "Nothing is lost" in text
    )
    assert "token is not valid" in shell.refused("runs", **{**place, "RUNSTEAD_TOKEN": "rst_wrong"})
    text = shell.refused("runs", **{**place, "RUNSTEAD_WORKSPACE": "foreign"})
    assert "no such workspace" in text
    assert "No studio was found" in Shell(None, shell.home / "elsewhere").refused("runs")
    assert "url: 'ftp://x' is no address" in shell.refused("runs", **{**place, "RUNSTEAD_URL": "ftp://x"})


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:abc",
        "http://localhost:99999",
        "http://[::1",
        "http://a..b",
        "http://lo cal",
        "http://localhost/ä",
    ],
)
def test_a_mistyped_address_is_named(shell: Shell, url: str) -> None:
    told = f"runstead: url: {url!r} is no address. Use for example http://127.0.0.1:8000.\n"
    assert shell.refused("runs", RUNSTEAD_URL=url, RUNSTEAD_TOKEN="t") == told
    assert shell.refused("login", url, RUNSTEAD_TOKEN="t").endswith(
        "is no address. Use for example http://127.0.0.1:8000.\n"
    )


def test_a_workspace_of_any_letters_is_asked_for(shell: Shell, studio: Studio) -> None:
    assert "no such workspace" in shell.refused("runs", **{**access(studio), "RUNSTEAD_WORKSPACE": "bürö"})


def test_the_address_of_another_studios_run_is_refused(shell: Shell, studio: Studio, project: Path) -> None:
    run = submitted(shell, project, "--", "train.py")
    number = run["number"]
    here = f"workspace default of {studio.url}"
    for host, workspace, login in (
        ("https://other.example.org", "teamb", "https://other.example.org/teamb"),
        (studio.url, "teamb", f"{studio.url}/teamb"),
        (studio.url.replace("http:", "https:"), "default", studio.url.replace("http:", "https:") + "/default"),
        (f"http://127.0.0.1:{studio.port + 1}", "default", f"http://127.0.0.1:{studio.port + 1}/default"),
        ("other.example.org", "default", "http://other.example.org/default"),
    ):
        address = f"{host}/{workspace}/runs/{number}?tab=logs"
        told = f"runstead: RUN: {address} is not in {here}, where commands go. 'runstead login {login}' leads there.\n"
        for words in (("cancel",), ("logs",), ("models", "register", "m", "--path", "p", "--run")):
            assert shell.refused(*words, address) == told
    assert f"'/teamb/runs/{number}' is no run of workspace default" in shell.refused("cancel", f"/teamb/runs/{number}")
    assert "is no run. Give its number" in shell.refused("cancel", f"http://localhost:abc/default/runs/{number}")
    assert shell.json("show", str(number))["canceled_by"] is None


def test_every_address_of_its_page_names_a_run(shell: Shell, studio: Studio, project: Path) -> None:
    run = submitted(shell, project, "--", "train.py")
    number = run["number"]
    for address in (
        run["url"], f"{studio.url}/default/runs/{number}/logs", f"http://LOCALHOST:{studio.port}/default/runs/{number}#x",
        f"localhost:{studio.port}/default/runs/{number}", f"/default/runs/{number}", f"/runs/{number}", str(number),
    ):  # fmt: skip
        assert shell.json("show", address)["id"] == run["id"], address
    # Behind a proxy the API has another address than the pages, which the studio knows.
    with proxied(studio.port) as url:
        env = {**access(studio), "RUNSTEAD_URL": url}
        for address in (run["url"], f"{url}/default/runs/{number}"):
            assert shell.json("show", address, **env)["id"] == run["id"]
        assert "is not in workspace" in shell.refused("show", f"https://o.example.org/default/runs/{number}", **env)


def test_another_server_is_not_taken_for_a_studio(shell: Shell, studio: Studio, tmp_path: Path) -> None:
    port = free_port()
    other = subprocess.Popen(
        [*shell.argv()[:1], "-m", "http.server", str(port), "--bind", "127.0.0.1"], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{port}"

        def answered() -> str:
            text = shell.refused("runs", **{**access(studio), "RUNSTEAD_URL": url})
            return text if "cannot be reached" not in text else ""

        assert f"{url} answered 404, and not as a Runstead studio does" in until(answered, 20)
    finally:
        other.kill()
        other.wait()


@pytest.mark.parametrize(
    ("version", "told"), [("0.2.0", "update the client"), ("0.0.9", "update the studio"), ("0.1.7", "")]
)
def test_studio_and_client_of_other_versions_say_so(shell: Shell, studio: Studio, version: str, told: str) -> None:
    with proxied(studio.port, headers={"Runstead-Version": version}) as url:
        done = shell("runs", **{**access(studio), "RUNSTEAD_URL": url})
        assert done.returncode == 0
        if told:
            assert f"The studio is version {version}, this client 0.1.0: {told}" in done.stderr.decode()
            # An unknown field may be known to the newer one.
            text = shell.refused("runs", "--filter", "status:nothing", **{**access(studio), "RUNSTEAD_URL": url})
            assert told in text.partition("status:nothing")[2]
        else:
            assert done.stderr == b""


def test_doctor_looks_at_all_between_the_shell_and_the_studio(shell: Shell, studio: Studio) -> None:
    steps = {step["title"]: step for step in shell.json("doctor")}
    assert all(step["ok"] for step in steps.values()), steps
    assert {"Configuration", "Studio", "Token and workspace", "Version", "Clock", "Cache of digests", "git"} == set(
        steps
    )
    assert "ok    Studio" in shell.ok("doctor")
    with proxied(studio.port, headers={"Date": "Thu, 01 Jan 2026 00:00:00 GMT"}) as url:
        text = shell.ok("doctor", **{**access(studio), "RUNSTEAD_URL": url})
        assert "ahead of the studio's" in text and "Set this machine's clock" in text
    done = shell("doctor", **{**access(studio), "RUNSTEAD_TOKEN": "rst_wrong"})
    assert done.returncode == 1 and b"FAIL  Token and workspace" in done.stdout


# Logs.


def test_a_log_is_printed_byte_for_byte(shell: Shell, project: Path) -> None:
    number = str(finished(shell, project, "--", "raw.py")["number"])
    for words in (("logs", number), ("logs", "-f", number)):
        assert shell(*words).stdout == BYTES
    assert shell("logs", number, "--offset", "5").stdout == BYTES[5:]
    listed = shell.json("logs", number)
    assert [(log["name"], log["size"]) for log in listed["logs"]] == [("log", len(BYTES))]
    assert shell.ok("logs", "--list", number) == f"log  {len(BYTES)}\n"


def test_a_log_is_followed_within_a_second(shell: Shell, project: Path, tmp_path: Path) -> None:
    stop = tmp_path / "stop"
    number = submitted(shell, project, "--", "slow.py", str(stop))["number"]
    following = shell.start("logs", "-f", str(number))
    assert following.stdout is not None
    delays = []
    try:
        for _ in range(30):
            line = following.stdout.readline().split()
            delays.append(time.time() - float(line[2]))
    finally:
        stop.touch()
        rest = following.communicate(timeout=60)[0]
    assert following.returncode == 0 and rest.endswith(b"end\n")
    assert sorted(delays[10:])[len(delays[10:]) // 2] < 1.0, delays


@pytest.mark.parametrize("words", [("logs", "-f"), ("run", "--follow")])
def test_ctrl_c_says_that_the_run_continues(
    shell: Shell, project: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    stop = tmp_path / "stop"
    if words[0] == "logs":
        number = str(submitted(shell, project, "--", "slow.py", str(stop))["number"])
        client = shell.start(*words, number)
    else:
        client = shell.start("run", str(project), "--experiment", "cli", "--follow", "--", "slow.py", str(stop))
        number = ""
    assert client.stdout is not None
    first = client.stdout.readline()
    number = number or re.search(rb"Run (\d+)", first)[1].decode()  # type: ignore[index]
    client.stdout.readline()
    client.send_signal(signal.SIGINT)
    _, err = client.communicate(timeout=20)
    assert client.returncode == 130
    assert "The run continues: http" in err.decode() and f"runstead cancel {number}" in err.decode()
    assert b"Traceback" not in err
    assert shell.json("show", number)["status"] == "Running"
    stop.touch()


# Lists and looks.


def test_runs_are_listed_filtered_and_sorted(shell: Shell, project: Path) -> None:
    for name, lr in (("first", "0.1"), ("second", "0.2"), ("third", "0.05")):
        shell.ok("run", str(project), "--experiment", "lists", "--name", name, "--tag", f"lr={lr}", "--tag", "group", "--wait", "--",
                 "train.py", "--lr", lr)  # fmt: skip
    shell("run", str(project), "--experiment", "lists", "--name", "bad", "--wait", "--", "exit.py", "1")

    def names(*words: str) -> list[str]:
        return [run["name"] for run in shell.json("runs", "--experiment", "lists", *words)]

    assert names() == ["bad", "third", "second", "first"]
    assert names("--limit", "2") == ["bad", "third"]
    assert names("--limit", "0") == names()
    assert names("--status", "Completed") == ["third", "second", "first"] == names("--status", "completed")
    assert (
        names("--filter", "status:Completed")
        == names("--filter", "status:completed,CancelRequested")
        == names("--status", "Completed")
    )
    assert names("--status", "Completed", "--status", "Failed") == names()
    assert names("--tag", "lr=0.2") == ["second"]
    assert names("--tag", "group", "--tag", "lr=0.1") == ["first"]
    assert names("--sort", "-param.lr")[:3] == ["second", "first", "third"]
    assert names("--sort", "number") == ["first", "second", "third", "bad"]
    assert names("--sort", "param.lr")[:3] == ["third", "first", "second"]
    assert names("--filter", "lr>0.07") == ["second", "first"]
    assert names("--kind", "interactive") == []
    text = shell.ok("runs", "--experiment", "lists")
    rows = text.splitlines()
    assert rows[0].split() == ["RUN", "NAME", "EXPERIMENT", "STATUS", "TARGET", "CREATED", "TOOK", "BY"]
    assert [row.split()[1:5] for row in rows[1:]] == [
        ["bad", "lists", "Failed", "local"], *([name, "lists", "Completed", "local"] for name in ("third", "second", "first"))
    ]  # fmt: skip


def test_a_hostile_name_cannot_write_to_the_terminal(shell: Shell, project: Path) -> None:
    run = submitted(
        shell, project, "--name", "evil-name", "--notes", "\x1b]0;title\x07\x1b[31mred", "--wait", "--", "train.py"
    )
    for words in (("runs", "--limit", "5"), ("show", str(run["number"]))):
        out = shell(*words).stdout
        assert b"\x1b" not in out and b"\x07" not in out


def test_a_run_is_shown_with_what_it_logged(shell: Shell, project: Path) -> None:
    run = finished(shell, project, "--tag", "stage=a", "--", "train.py", "--lr", "0.25")
    text = shell.ok("show", str(run["number"]))
    for told in (
        "Status       Completed",
        "Experiment   cli",
        "Target       local",
        "Script       train.py --lr 0.25",
        "Tags         stage=a",
    ):
        assert told in text
    assert re.search(r"loss +0\.333333 +0\.333333 +1 +3", text)
    assert re.search(r"lr +0\.25", text)
    found = shell.json("show", str(run["number"]))
    assert found == shell.json("show", run["id"]) == shell.json("show", run["url"])
    assert [row["name"] for row in found["metrics"] if not row["name"].startswith("system/")] == ["loss"]
    assert found["params"]["lr"] == "0.25"


def test_files_are_fetched_whole_and_checked(shell: Shell, studio: Studio, project: Path, tmp_path: Path) -> None:
    number = str(finished(shell, project, "--", "outputs.py")["number"])
    place = tmp_path / "all"
    text = shell.ok("download", number, "-o", str(place))
    assert text.startswith("3 files, ")
    model = bytes(range(256)) * 40000
    assert (place / "outputs/model.bin").read_bytes() == model
    assert {path.name for path in (place / "outputs/plots").iterdir()} == {"a.txt", "ü b.txt"}
    # Again: nothing is fetched. Cut short: it goes on. Changed here: it is not written over.
    assert [row["fetched"] for row in shell.json("download", number, "-o", str(place))] == [False] * 3
    (place / "outputs/model.bin").rename(place / "outputs/model.bin.runstead-part")
    with (place / "outputs/model.bin.runstead-part").open("r+b") as file:
        file.truncate(1_000_000)
    ranges: list[str] = []
    with proxied(studio.port, lambda when, _, path: ranges.append(path) if when == "before" else None) as url:
        shell.ok("download", number, "outputs/model.bin", "-o", str(place), **{**access(studio), "RUNSTEAD_URL": url})
    assert (place / "outputs/model.bin").read_bytes() == model
    (place / "outputs/model.bin").write_bytes(b"mine")
    assert "is there already and differs" in shell.refused("download", number, "-o", str(place))
    assert (place / "outputs/model.bin").read_bytes() == b"mine"
    shell.ok("download", number, "outputs/model.bin", "-o", str(place), "--force")
    assert hashlib.sha256((place / "outputs/model.bin").read_bytes()).digest() == hashlib.sha256(model).digest()
    assert "was not written" in shell.refused("download", number, "-o", str(place / "outputs/model.bin"))
    # Parts of it, its code and its log.
    shell.ok("download", number, "outputs/plots/", "-o", str(tmp_path / "plots"))
    assert [path.name for path in (tmp_path / "plots/outputs").iterdir()] == ["plots"]
    assert "Did you mean outputs/model.bin?" in shell.refused("download", number, "outputs/modle.bin")
    shell.ok("download", number, "--snapshot", "--log", "-o", str(tmp_path / "code"))
    assert (tmp_path / "code/snapshot/train.py").read_text() == TRAIN
    assert (tmp_path / "code/log.txt").read_bytes() == b""


def test_a_log_whose_download_was_cut_is_fetched_from_its_beginning(
    shell: Shell, project: Path, tmp_path: Path
) -> None:
    number = str(finished(shell, project, "--", "raw.py")["number"])
    (tmp_path / "log.txt.runstead-part").write_bytes(BYTES[:5])
    shell.ok("download", number, "--log", "-o", str(tmp_path))
    assert (tmp_path / "log.txt").read_bytes() == BYTES


def test_models_are_registered_shown_and_fetched(shell: Shell, project: Path, tmp_path: Path) -> None:
    number = str(finished(shell, project, "--", "outputs.py")["number"])
    words = (
        "models",
        "register",
        "digits",
        "--run",
        number,
        "--path",
        "outputs",
        "--tag",
        "best",
        "--description",
        "the first",
    )
    assert shell.ok(*words) == "digits:1\n"
    assert shell.ok(*words) == "digits:2\n"
    assert [(row["name"], row["latest"]) for row in shell.json("models")] == [("digits", 2)]
    assert re.search(r"^digits +2 ", shell.ok("models"), re.M)
    rows = shell.ok("models", "show", "digits").splitlines()
    assert [row.split()[:3] for row in rows[1:]] == [["2", number, "outputs"], ["1", number, "outputs"]]
    assert shell.json("models", "show", "digits:1")["tags"] == {"best": None}
    shell.ok("models", "download", "digits", "-o", str(tmp_path / "model"))
    assert {path.name for path in (tmp_path / "model").iterdir()} == {"model.bin", "plots"}
    assert "path" in shell.refused("models", "register", "digits", "--run", number, "--path", "nothing")


def test_a_page_is_opened_or_its_address_printed(shell: Shell, studio: Studio, project: Path) -> None:
    run = submitted(shell, project, "--", "train.py")
    assert shell.ok("open", str(run["number"])) == run["url"] + "\n"
    assert shell.ok("open") == f"{studio.url}/default/\n"
    assert shell.json("open", run["id"]) == {"url": run["url"]}


def test_targets_and_environments_are_there(shell: Shell) -> None:
    assert [row["name"] for row in shell.json("targets")] == ["local"]
    assert "python" in {row["name"] for row in shell.json("envs")}
    assert shell.ok("targets").splitlines()[1].split()[0] == "local"
    assert all(step["ok"] or not step["needed"] for step in shell.json("doctor", "local"))
    assert shell.json("drain", "local")["name"] == shell.json("resume", "local")["name"] == "local"


# Signing in.


def test_a_login_is_checked_kept_private_and_used(studio: Studio, tmp_path: Path) -> None:
    place = access(studio)
    shell = Shell(None, tmp_path / "home")
    token = place["RUNSTEAD_TOKEN"].encode() + b"\n"
    assert "token is not valid" in shell.refused("login", studio.url, data=b"rst_wrong\n")
    assert "token: there is none" in shell.refused("login", studio.url, data=b"\n")
    assert "URL: give the studio's address" in shell.refused("login", data=token)
    assert "it opens the workspace default, not other" in shell.refused(
        "login", studio.url, "--workspace", "other", data=token
    )
    assert not (shell.home / "config/runstead/logins.json").exists()
    found = shell.json("login", f"{studio.url}/default/runs", data=token)
    assert (found["url"], found["workspace"]) == (studio.url, "default")
    path = shell.home / "config/runstead/logins.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert isinstance(shell.json("runs"), list)
    path.chmod(0o644)
    assert f"note: {path} holds tokens and others may read it: chmod 600 it." in shell("runs").stderr.decode()
    # A project that names its studio and no token gets the one of the login.
    (tmp_path / "project").mkdir()
    (tmp_path / "project/runstead.json").write_text(json.dumps({"url": studio.url, "workspace": "default"}))
    assert shell.ok("logout").startswith(f"Forgotten: {studio.url}, workspace default.")
    assert "No studio was found" in shell.refused("runs")
    assert "token: there is none for the workspace default" in shell.refused("runs", cwd=tmp_path / "project")


def test_the_last_login_goes_before_the_studio_of_this_machine_and_after_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RUNSTEAD_URL", "RUNSTEAD_TOKEN", "RUNSTEAD_WORKSPACE", "RUNSTEAD_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    local = tmp_path / "local.json"
    local.write_text(json.dumps({"url": "http://127.0.0.1:1", "workspace": "default", "token": "l"}))
    (tmp_path / "runstead").mkdir(mode=0o700)
    (tmp_path / "runstead/studio.json").write_text(json.dumps({"client": str(local)}))
    assert config.find()["url"] == "http://127.0.0.1:1"
    config.keep_login("https://a", "one", "t1")
    config.keep_login("https://b", "two", "t2")
    assert config.find() == {"url": "https://b", "workspace": "two", "token": "t2"}
    monkeypatch.setenv("RUNSTEAD_URL", "https://a/")
    monkeypatch.setenv("RUNSTEAD_WORKSPACE", "one")
    assert config.find()["token"] == "t1"
    monkeypatch.setenv("RUNSTEAD_TOKEN", "said")
    assert config.find()["token"] == "said"
    assert [entry["url"] for entry in config.forget_logins("https://b/")] == ["https://b"]
    assert [entry["url"] for entry in config.logins()] == ["https://a"]


# Files for other programs.


def test_up_finds_the_studio(shell: Shell, studio: Studio, tmp_path: Path) -> None:
    assert shell.ok("up", "--print", cwd=ROOT / "runs") == f"cd {ROOT} && make up\n"
    # Noted by the studio that ran last on this machine, or beside the client that is installed in place.
    assert shell.ok("up", "--print", cwd=tmp_path) == f"cd {ROOT} && make up\n"
    assert json.loads((studio.data_dir / "config/runstead/studio.json").read_text())["home"] == str(ROOT)


def test_tasks_of_vs_code_are_written_and_those_of_others_kept(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / ".vscode/tasks.json"
    shell.ok("init", "--vscode", cwd=tmp_path)
    first = json.loads(path.read_text())
    labels = [task["label"] for task in first["tasks"]]
    assert labels[0] == "Runstead: run this file"
    # Every task is a command line that the parser takes.
    for task in first["tasks"]:
        words = [word.replace("${input:runstead-run}", "12") for word in task["args"]]
        known = words[: words.index("--")] if "--" in words else words
        assert cli._parser(words[0]).parse_args(known).command == words[0]
    path.write_text(
        json.dumps(
            {"version": "2.0.0", "tasks": [{"label": "mine", "type": "shell", "command": "ls"}, first["tasks"][0]]}
        )
    )
    shell.ok("init", "--vscode", str(tmp_path))
    again = json.loads(path.read_text())
    assert [task["label"] for task in again["tasks"]] == ["mine", *labels]
    path.write_text("// mine\n{}\n")
    assert "is no plain JSON" in shell.refused("init", "--vscode", cwd=tmp_path)
    assert path.read_text().startswith("// mine")
    assert json.loads(shell.ok("init", "--vscode", "--print", cwd=tmp_path)) == first


@pytest.mark.parametrize("where", ["its own", "the library's"])
def test_the_problem_matcher_finds_the_projects_line_wherever_the_error_was_raised(
    shell: Shell, tmp_path: Path, where: str
) -> None:
    folder = tmp_path / "failing"
    (folder / "pkg").mkdir(parents=True)
    (folder / "train.py").write_text(
        "from pkg.inner import work\n\n\ndef main():\n    work({'a': 1}, 'b')\n\n\nmain()\n"
    )
    fails = "table[key] + 1" if where == "its own" else "json.loads(key)"
    (folder / "pkg/inner.py").write_text(f"import json\ndef work(table, key):\n    return {fails}\n")
    number = str(shell.json("run", str(folder), "--experiment", "cli", "--", "train.py")["number"])
    done = shell("logs", "-f", number)
    assert "/code/pkg/inner.py" in done.stdout.decode()
    matches = [re.search(cli_init.SUMMARY["pattern"]["regexp"], line) for line in done.stderr.decode().splitlines()]
    found = [match.group(1, 2) for match in matches if match is not None]
    assert found == [("pkg/inner.py", "3")]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("ru", {"run", "runs"}), ("run --tar", {"--target"}), ("envs sho", {"show"}), ("runs --status Fail", {"Failed"}),
        ("completion z", {"zsh"}), ("envs build --fol", {"--follow"}), ("models re", {"register"}),
        ("run --framework py", {"python", "pyspark", "pytorch"}), ("run --target lo", {"local"}), ("run --env scikit-l", {"scikit-learn"}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("program", ["bash", "fish"])
def test_tab_completes(shell: Shell, tmp_path: Path, program: str, line: str, offered: set[str]) -> None:
    script = tmp_path / "completion"
    script.write_text(shell.ok("completion", program))
    words = ["runstead", *line.split()]
    program_of(shell, tmp_path)
    if program == "bash":
        text = f'source {script}; COMP_WORDS=({" ".join(words)}); COMP_CWORD={len(words) - 1}; _runstead; printf "%s\\n" "${{COMPREPLY[@]}}"'
    else:
        text = f"source {script}; complete -C 'runstead {line}'"
    env = {**shell.env, "PATH": f"{tmp_path}:{shell.env['PATH']}"}
    done = subprocess.run([program, "-c", text], env=env, capture_output=True, text=True, check=True)
    found = {row.split("\t")[0] for row in done.stdout.splitlines()}
    # fish offers what is near, too.
    assert offered == found if program == "bash" else offered <= found


def program_of(shell: Shell, folder: Path) -> None:
    """The command itself, as an installation puts it on the path: completion asks it for names."""
    script = folder / "runstead"
    script.write_text("#!/bin/sh\nexec " + " ".join(shell.argv()) + ' "$@"\n')
    script.chmod(0o755)


def test_names_that_the_studio_knows_are_offered(shell: Shell, project: Path) -> None:
    submitted(shell, project, "--", "train.py")
    assert "local" in shell.ok("completion", "bash", "--names", "targets").split()
    assert "scikit-learn" in shell.ok("completion", "zsh", "--names", "environments").split()
    assert "cli" in shell.ok("completion", "fish", "--names", "experiments").split()


def test_zsh_takes_the_completion(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "_runstead").write_text(shell.ok("completion", "zsh"))
    text = f"fpath=({tmp_path} $fpath); autoload -U compinit; compinit -u -D; echo $_comps[runstead]; autoload +X _runstead && echo loaded"
    done = subprocess.run(["zsh", "-fc", text], env=shell.env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["_runstead", "loaded"], done.stderr


def test_a_ci_job_without_a_terminal_is_asked_nothing(shell: Shell, project: Path) -> None:
    done = subprocess.run(
        shell.argv("run", str(project), "--experiment", "ci", "--follow", "--", "train.py"), env={**shell.env, "CI": "true", "TERM": "dumb"},
        stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False, start_new_session=True,
    )  # fmt: skip
    assert done.returncode == 0
    assert b"\x1b" not in done.stdout + done.stderr and b"\r" not in done.stdout + done.stderr


def test_a_reader_that_leaves_is_no_error(shell: Shell, project: Path) -> None:
    number = finished(shell, project, "--", "train.py")["number"]
    done = subprocess.run(
        ["bash", "-c", f'{" ".join(shell.argv("runs", "--json"))} | head -c 1; exit ${{PIPESTATUS[0]}}'], env=shell.env, cwd=shell.home, capture_output=True, check=False
    )  # fmt: skip
    assert number and b"Traceback" not in done.stderr and b"BrokenPipe" not in done.stderr


# Last, since it ends what the others need.


def test_following_goes_on_through_a_restart_of_the_studio(
    shell: Shell, studio: Studio, project: Path, tmp_path: Path
) -> None:
    stop = tmp_path / "stop"
    number = submitted(shell, project, "--", "slow.py", str(stop))["number"]
    env = access(studio)  # the address stays; only the process is another
    following = shell.start("logs", "-f", str(number), **env)
    waiting = shell.start(
        "run", str(project), "--experiment", "cli", "--wait", "--json", "--", "slow.py", str(stop), **env
    )
    assert following.stdout is not None and following.stderr is not None
    begun = following.stdout.readline()
    until(lambda: len(shell.json("runs", "--status", "Running")) >= 1, 30)
    assert studio.stop() == 0
    time.sleep(5)  # longer than a single request waits for an answer
    studio.start()
    stop.touch()
    # Not communicate: it forgets what readline has read ahead.
    out, err = begun + following.stdout.read(), following.stderr.read()
    assert following.wait(60) == 0, err
    assert b"Still trying; the run goes on." in err and b"The studio answers again." in err
    row = next(row for row in studio.control("runs") if row["number"] == number)
    kept = studio.control("log", id=row["id"])
    assert hashlib.sha256(out).hexdigest() == kept["sha256"]
    assert shell("logs", str(number)).stdout == out
    end = json.loads(waiting.communicate(timeout=120)[0])
    assert (waiting.returncode, end["status"]) == (0, "Completed")
