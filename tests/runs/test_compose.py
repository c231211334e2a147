"""Starting a run: what is refused says field, rule and fix, and loses nothing that was typed."""

import html
import re
import uuid
from typing import Any

import pytest
from django.test import Client

from environments.models import BuildStatus
from runs.config import ScriptRunConfig
from runs.models import Run
from studio.workspaces.models import Secret, Workspace
from tests.runs.factory import make_build, make_run, make_snapshot, make_target, make_version

FILES = {
    "train.py": b"print('hello')\n",
    "broken.py": b"def f(:\n    pass\n",
    "configs/base.yaml": b"lr: 0.1\n",
}


@pytest.fixture(autouse=True)
def no_bell(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rings are counted, not sent: no worker listens in these tests."""
    rung: list[int] = []
    monkeypatch.setattr("runs.submission.ring", rung.append)
    return rung


@pytest.fixture
def fields(workspace: Workspace) -> dict[str, Any]:
    """A form that is right in every field."""
    make_target(workspace, facts={"gpus": [{}, {}]})
    version = make_version(None)
    return {
        "snapshot": make_snapshot(workspace, FILES).digest,
        "git": "",
        "script": "train.py",
        "experiment": "digits",
        "arguments": "--lr 0.4\r\n--name 'two words'",
        "command": "",
        "framework": "python",
        "target": "local",
        "environment": str(version),
        "time_limit": "90 min",
        "memory": "512 MB",
        "gpus": "2",
        "grace": "",
        "priority": "3",
        "var_name": ["A"],
        "var_kind": ["value"],
        "var_value": ["1 2"],
        "var_secret": [""],
        "name": "first",
        "tags": "ls, stage=final",
        "notes": "why",
        "request_id": uuid.uuid4().hex,
    }


URL = "/vision/runs/new"


def text_of(response: Any) -> str:
    return html.unescape(response.content.decode())


def test_a_right_form_starts_one_run_and_opens_it(
    contributor_client: Client, fields: dict, workspace: Workspace
) -> None:
    response = contributor_client.post(URL, fields)
    run = Run.objects.get()
    assert (response.status_code, response["Location"]) == (302, f"/vision/runs/{run.number}")
    assert ScriptRunConfig.from_json(run.config) == ScriptRunConfig(
        script="train.py",
        arguments=("--lr", "0.4", "--name", "two words"),
        variables={"A": "1 2"},
        max_run_duration_seconds=5400,
        memory_bytes=512 * 1024**2,
        gpus=2,
    )
    assert run.gpus == 2
    assert (run.name, run.notes, run.priority, run.experiment.name) == ("first", "why", 3, "digits")
    assert {tag.name: tag.value for tag in run.tags.all()} == {"ls": None, "stage": "final"}
    assert run.created_by is not None and run.created_by.name == "Cora Contributor"


def test_the_same_post_twice_makes_one_run(contributor_client: Client, fields: dict) -> None:
    first = contributor_client.post(URL, fields)
    second = contributor_client.post(URL, fields)
    assert first["Location"] == second["Location"]
    assert Run.objects.count() == 1


def test_git_facts_of_the_browser_become_properties_without_credentials(
    contributor_client: Client, fields: dict
) -> None:
    fields["git"] = '{"repository_uri": "https://user:token@example.test/x.git", "branch": "main", "evil": "x"}'
    contributor_client.post(URL, fields)
    properties = Run.objects.get().properties
    assert properties["azureml.git.branch"] == "main"
    assert "token" not in str(properties) and "evil" not in str(properties)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("snapshot", "", "Code: Choose the project folder"),
        ("snapshot", "0" * 64, "Code: There is no such snapshot in this workspace. Choose the folder again."),
        ("script", "", "Script: Name the script to run, for example train.py."),
        ("script", "trian.py", "Script: trian.py is not in the snapshot. Did you mean train.py?"),
        ("script", "../train.py", "must be a path inside the folder, with '/', without '..'."),
        ("script", "/etc/passwd", "must be a path inside the folder"),
        ("experiment", "", "Experiment: Name the experiment"),
        ("experiment", "a b!", "Experiment: 'a b!' is not a name. Use 1 to 255 letters"),
        ("arguments", "--name 'open", "Arguments: Line 1, column 8: The single quote ' is not closed. Close it"),
        ("arguments", "a\0b", "Arguments: It holds a NUL, which no program can receive. Remove it."),
        (
            "arguments",
            "x" * 100_001,
            "Arguments: Argument 1 has 100,001 bytes; the limit is 100,000. Put it in a file.",
        ),
        ("target", "", "Compute: No target is chosen. Choose one of: local."),
        ("target", "elsewhere", "Compute: There is no target 'elsewhere'. Choose one of: local."),
        ("environment", "", "Environment: Choose the environment"),
        ("environment", "base:99", "Environment: base has no version 99. Its newest is 1."),
        ("environment", "base:x' OR 1", "Environment: base has no version x' OR 1. Its newest is 1."),
        (
            "framework",
            "perl",
            "Framework: 'perl' is not known. Use one of: python, pyspark, pytorch, tensorflow, mpi, command.",
        ),
        ("time_limit", "6", "Time limit: '6' has no unit. Write 6 s, 6 min or 6 h."),
        ("time_limit", "soon", "Time limit: 'soon' is not a duration. Write a number and a unit"),
        ("time_limit", "400 d", "Time limit: The time limit must be between 1 second and 365 days."),
        ("memory", "1 MB", "Memory limit: The memory limit must be between 16 MB and 1 PB."),
        ("memory", "much", "Memory limit: 'much' is not a size. Write a number and a unit"),
        ("gpus", "all", "GPUs: 'all' is not a number of GPUs. Write a whole number, or nothing for none."),
        ("gpus", "3", "GPUs: local has 2 GPUs. Ask for 2 at most, or choose another target."),
        ("grace", "2 h", "Grace: The grace must be between 0 and 3,600 seconds."),
        ("priority", "high", "Priority: 'high' is not a priority. Write a whole number"),
        ("var_name", ["2X"], "Environment variables: '2X' is not a variable's name. Use letters"),
        ("var_name", ["PATH"], "Environment variables: PATH is set by the studio. Choose another name."),
        ("var_name", [""], "Environment variables: A variable has no name. Name it, or remove its row."),
        ("name", "n" * 256, "Run name: The name has 256 characters; the limit is 255."),
        ("tags", "=x", "Tags: '=x' has no name before '='. Write name=value"),
        ("tags", '"open', "Tags: A double quote is not closed."),
        ("notes", "n" * 100_001, "Notes: The notes have 100,001 characters; the limit is 100,000."),
    ],
)
def test_a_refused_form_names_field_rule_and_fix_and_keeps_everything(
    contributor_client: Client, fields: dict, field: str, value: Any, says: str
) -> None:
    fields[field] = value
    response = contributor_client.post(URL, fields)
    assert response.status_code == 422
    assert Run.objects.count() == 0
    page = text_of(response)
    summary = page[page.index('id="errors"') : page.index("</ul>", page.index('id="errors"'))]
    flat = " ".join(re.sub(r"<[^>]+>", "", summary).split())
    assert says in flat
    form = response.context["form"]
    for name in (
        "snapshot",
        "script",
        "experiment",
        "arguments",
        "target",
        "environment",
        "time_limit",
        "memory",
        "grace",
        "priority",
        "name",
        "tags",
        "notes",
        "framework",
        "request_id",
    ):
        assert form[name].value() == fields[name]
    assert form.rows[0]["value"] == "1 2"
    typed = {"arguments": "two words", "time_limit": "90 min", "memory": "512 MB", "tags": "stage=final"}
    for name, text in typed.items():
        assert name == field or text in page
    assert fields["request_id"] in page


def test_two_variables_of_one_name_are_refused(contributor_client: Client, fields: dict) -> None:
    fields |= {"var_name": ["A", "A"], "var_kind": ["value", "value"], "var_value": ["1", "2"], "var_secret": ["", ""]}
    assert "A is given twice. Keep one." in text_of(contributor_client.post(URL, fields))


def test_a_secret_is_named_and_never_shown(contributor_client: Client, fields: dict, workspace: Workspace) -> None:
    secret = Secret(workspace=workspace, name="hf-read")
    secret.seal("s3cr3t-value")
    secret.save()
    fields |= {"var_name": ["HF_TOKEN"], "var_kind": ["secret"], "var_value": [""], "var_secret": ["hf-read"]}
    checked = contributor_client.post(f"{URL}/check", fields)
    assert "--secret HF_TOKEN=hf-read" in text_of(checked)
    assert b"s3cr3t-value" not in checked.content
    assert contributor_client.post(URL, fields).status_code == 302
    assert Run.objects.get().config["secrets"] == {"HF_TOKEN": "hf-read"}
    again = contributor_client.get(f"{URL}?from=1")
    assert b"s3cr3t-value" not in again.content and b"secret: hf-read" in again.content


def test_a_secret_of_another_workspace_cannot_be_named(
    contributor_client: Client, fields: dict, foreign_workspace: Workspace
) -> None:
    secret = Secret(workspace=foreign_workspace, name="theirs")
    secret.seal("value-of-theirs")
    secret.save()
    fields |= {"var_name": ["X"], "var_kind": ["secret"], "var_value": [""], "var_secret": ["theirs"]}
    page = text_of(contributor_client.post(URL, fields))
    assert "X: there is no secret named 'theirs'. Add it in Settings, Secrets." in page


def test_what_belongs_to_another_workspace_does_not_exist(
    contributor_client: Client, fields: dict, foreign_workspace: Workspace
) -> None:
    foreign = make_run(
        foreign_workspace,
        target=make_target(foreign_workspace, "theirs"),
        environment=make_version(foreign_workspace, "own"),
    )
    for field, value in (("snapshot", None), ("target", "theirs"), ("environment", "own:1")):
        sent = {**fields, field: value or make_snapshot(foreign_workspace, {"x.py": b"1"}).digest}
        assert contributor_client.post(URL, sent).status_code == 422
    assert contributor_client.get(f"{URL}?from={foreign.number + 50}").status_code == 404
    fields["copied_from"] = str(foreign.number)
    contributor_client.post(URL, fields)
    assert Run.objects.get(workspace__slug="vision").copied_from is None


def test_a_draining_target_takes_no_new_run(contributor_client: Client, fields: dict, workspace: Workspace) -> None:
    target = make_target(workspace)
    target.enabled = False
    target.save()
    assert "local is being drained and takes no new runs" in text_of(contributor_client.post(URL, fields))


def test_a_command_line_needs_no_script(contributor_client: Client, fields: dict) -> None:
    fields |= {"framework": "command", "command": "bash -c 'echo hi'", "script": "left over"}
    assert contributor_client.post(URL, fields).status_code == 302
    config = ScriptRunConfig.from_json(Run.objects.get().config)
    assert (config.command, config.script, config.arguments) == (("bash", "-c", "echo hi"), "", ())


def test_run_again_fills_the_form_exactly(contributor_client: Client, workspace: Workspace) -> None:
    config = ScriptRunConfig(
        script="train.py",
        arguments=("--text", "a\r\nb 'c' \"d\" $X \\", "\x1b[0m", "ünïcödé 🙂", ""),
        variables={"A": "1\n2"},
        max_run_duration_seconds=5400,
        memory_bytes=2**29,
    )
    run = make_run(workspace, files=FILES, config=config)
    page = contributor_client.get(f"{URL}?from={run.number}")
    form = page.context["form"]
    assert "Filled in from" in text_of(page) and f'href="/vision/runs/{run.number}"' in text_of(page)
    sent = {name: form.text(name) for name in form.fields}
    sent |= {f"var_{part}": [row[part] for row in form.rows] for part in ("name", "kind", "value", "secret")}
    assert contributor_client.post(URL, sent).status_code == 302
    again = Run.objects.exclude(pk=run.pk).get()
    assert again.config == run.config
    assert again.snapshot == run.snapshot
    assert again.copied_from == run


def test_the_form_begins_with_the_last_run_of_this_person_or_of_the_experiment(
    contributor_client: Client, contributor: Any, owner: Any, workspace: Workspace
) -> None:
    mine = make_run(workspace, created_by=contributor)
    make_run(workspace, created_by=owner)
    other = make_run(workspace, created_by=owner, experiment="other")
    assert contributor_client.get(URL).context["source"] == mine
    assert contributor_client.get(f"{URL}?experiment=other").context["source"] == other
    empty = contributor_client.get(f"{URL}?empty")
    assert empty.context["source"] is None
    assert empty.context["form"].text("script") == ""


def test_yaml_fills_the_form_and_leaves_the_code_alone(contributor_client: Client, fields: dict) -> None:
    fields |= {"fill": "1", "yaml": "script: other.py\narguments: ['a b', c]\ntime_limit: 2 h\n"}
    page = contributor_client.post(URL, fields)
    form = page.context["form"]
    assert page.status_code == 200
    assert (form.text("script"), form.text("arguments"), form.text("time_limit")) == ("other.py", "'a b'\nc", "2 h")
    assert form.text("snapshot") == fields["snapshot"]
    assert Run.objects.count() == 0


def test_wrong_yaml_changes_nothing_and_says_why(contributor_client: Client, fields: dict) -> None:
    fields |= {"fill": "1", "yaml": "scirpt: x"}
    page = contributor_client.post(URL, fields)
    assert page.status_code == 422
    assert "'scirpt' is not a field of a run" in text_of(page)
    assert page.context["form"].text("arguments") == fields["arguments"]


def checks(response: Any) -> list[tuple[str, str]]:
    return [(check.level, check.text) for check in response.context["checks"]]


def test_the_dry_checks_of_a_right_form_are_good(
    contributor_client: Client, fields: dict, workspace: Workspace
) -> None:
    make_build(make_target(workspace), make_version(None))
    fields["arguments"] = "--config configs/base.yaml"
    found = checks(contributor_client.post(f"{URL}/check", fields))
    assert ("ok", "train.py is in the folder and parses") in found
    assert ("ok", "1 file named in the arguments is there") in found
    assert ("ok", "base:1 is built, and already on local") in found
    assert any(
        level == "ok" and text.startswith("local answered") and text.endswith("1 of 1 slots free")
        for level, text in found
    )
    assert Run.objects.count() == 0


def test_the_dry_checks_warn_and_do_not_block(contributor_client: Client, fields: dict, workspace: Workspace) -> None:
    make_build(make_target(workspace), make_version(None), BuildStatus.FAILED, error="no such package: torhc")
    fields |= {
        "script": "broken.py",
        "arguments": "--config configs/none.yaml --out outputs/x.json --url https://x.test/a.json",
    }
    response = contributor_client.post(f"{URL}/check", fields)
    found = checks(response)
    assert any(level == "warn" and text.startswith("broken.py, line 1:") for level, text in found)
    assert ("warn", "configs/none.yaml is not in the snapshot") in found
    assert ("warn", "The last build of base:1 on local failed") in found
    assert response.context["warnings"] == 3 and response.context["blocked"] == 0
    assert contributor_client.post(URL, fields).status_code == 302


@pytest.mark.parametrize(
    "source", [b"x = " + b"(" * 5000, b"-" * 200_000 + b"1", b"a\0b", b"\xff\xfe", b"# coding: nonsense\n"]
)
def test_a_hostile_script_is_a_warning_and_no_crash(
    contributor_client: Client, fields: dict, workspace: Workspace, source: bytes
) -> None:
    fields["snapshot"] = make_snapshot(workspace, {"train.py": source}).digest
    response = contributor_client.post(f"{URL}/check", fields)
    assert response.status_code == 200
    assert checks(response)[0][0] == "warn"


def test_the_entry_script_is_guessed_and_files_are_offered(contributor_client: Client, fields: dict) -> None:
    fields["script"] = ""
    response = contributor_client.post(f"{URL}/check", fields)
    assert response.context["guess"] == "train.py"
    assert '<option value="configs/base.yaml">' in text_of(response)


def test_markup_in_fields_is_text(contributor_client: Client, fields: dict) -> None:
    evil = "<script>alert(1)</script>"
    fields |= {"name": evil, "tags": evil, "arguments": evil, "experiment": evil, "notes": evil}
    for address in (URL, f"{URL}/check"):
        assert evil not in contributor_client.post(address, fields).content.decode()


def test_a_reader_may_not_start_runs(reader_client: Client, fields: dict) -> None:
    assert reader_client.get(URL).status_code == 403
    assert reader_client.post(URL, fields).status_code == 403
    assert Run.objects.count() == 0


def test_a_post_without_its_token_is_refused(contributor: Any, client_of: Any, fields: dict) -> None:
    assert client_of(contributor, enforce_csrf_checks=True).post(URL, fields).status_code == 403
    assert Run.objects.count() == 0


@pytest.mark.parametrize(
    ("name", "warned"),
    [
        (".env", True),
        ("conf/.env.local", True),
        (".env.example", False),
        ("id_rsa", True),
        ("key.pem", True),
        ("env.py", False),
    ],
)
def test_a_file_that_usually_holds_a_secret_is_warned_of(name, warned):
    from runs.preflight import check_secrets

    assert bool(check_secrets({"train.py", name})) is warned
