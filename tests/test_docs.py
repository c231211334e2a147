"""What the documents say is there, is there; what is there is said."""

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = (ROOT / "studio" / "settings.py").read_text()
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def read_settings() -> set[str]:
    return {
        f"RUNSTEAD_{name}" for name in re.findall(r"\b(?:setting|integer|boolean|listed)\(\s*\"([A-Z_]+)\"", SETTINGS)
    }


def test_every_setting_is_in_the_readme_and_no_other():
    told = set(re.findall(r"`(RUNSTEAD_[A-Z_]+)`", README))
    client = {
        name
        for path in (ROOT / "sdk" / "src").rglob("*.py")
        for name in re.findall(r"RUNSTEAD_[A-Z_]+", path.read_text())
    }
    assert read_settings() <= told
    assert told <= read_settings() | client


@pytest.mark.parametrize("document", PAGES, ids=lambda path: path.name)
def test_links_to_files_lead_somewhere(document):
    prose = re.sub(r"`[^`]*`", "", document.read_text())
    for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", prose):
        assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_every_module_that_the_architecture_names_exists():
    text = (ROOT / "docs" / "architecture.md").read_text()
    for path in set(re.findall(r"`((?:studio|environments|runs|sdk|tests)/[\w/{},]+?(?:\.py|/))`", text)):
        if "{" not in path:
            assert (ROOT / path).exists(), path


MODULES = {"studio", "environments", "runs", "sdk/src/runstead"}


def modules_told() -> list[str]:
    """Paths in the first column of the table of modules: a name without a folder is in that of the name before it."""
    text = (ROOT / "docs" / "architecture.md").read_text().partition("## Modules")[2].partition("\n## ")[0]
    found = []
    for row in re.findall(r"^\| (`[^|]+) \|", text, re.M):
        folder = ""
        for name in re.findall(r"`([^`{}]+)`", row):
            top = next((top for top in MODULES if name.startswith(f"{top}/")), "")
            folder = top or folder
            found.append(name if top else f"{folder}/{name}")
    return found


def test_the_table_of_modules_names_each_module_or_package_once():
    told = modules_told()
    assert sorted(told) == sorted(set(told)), "named twice"
    there = set()
    for top in MODULES - {"sdk/src/runstead"}:
        for path in (ROOT / top).iterdir():
            if path.suffix == ".py" and path.stem not in {"__init__", "apps"}:
                there.add(f"{top}/{path.name}")
            elif (path / "__init__.py").exists() and path.name != "migrations":
                there.add(f"{top}/{path.name}/")
    # What lies deeper, and modules of the client, may have rows of their own.
    parts = {name for name in set(told) - there if (ROOT / name).exists()}
    assert set(told) - parts == there, set(told) - parts ^ there


def test_the_row_of_the_client_names_what_people_import():
    (row,) = re.findall(r"^\| `sdk/src/runstead/` .*$", (ROOT / "docs" / "architecture.md").read_text(), re.M)
    for name in re.findall(r"`([a-z_]+)`", row):
        assert (ROOT / "sdk" / "src" / "runstead" / f"{name}.py").exists(), name


@pytest.mark.parametrize("target", re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
def test_make_targets_for_people_are_explained(target):
    if target in {"up", "test", "test-long", "check", "bench", "format", "lock", "migrations", "demo"}:
        assert f"make {target}" in (README + (ROOT / "CONTRIBUTING.md").read_text())


def test_the_contract_names_every_operation_of_the_agent():
    contract = (ROOT / "docs" / "run-directory.md").read_text()
    operations = (ROOT / "environments" / "agent" / "operations.py").read_text()
    for name in re.findall(r"def op_(\w+)", operations):
        assert f"| `{name.replace('_', '.', 1)}` |" in contract or f"| `{name}` |" in contract, name


# -- docs/targets.md: whatever can be chosen is explained, and nothing else is

TARGETS = (ROOT / "docs" / "targets.md").read_text()
CODE = set(re.findall(r"`([^`\n]+)`", TARGETS))


def source(path: str) -> str:
    return (ROOT / path).read_text()


def test_every_transport_launcher_and_framework_is_explained():
    from environments.launchers import LAUNCHERS
    from environments.transports import TRANSPORTS
    from runs.frameworks import FRAMEWORKS

    assert {*TRANSPORTS, *LAUNCHERS, *FRAMEWORKS} <= CODE


def test_every_kind_of_target_has_its_section():
    from environments.options import TITLES

    for title in TITLES.values():
        assert title.partition(",")[0].removesuffix(" cluster") in TARGETS, title


def test_every_option_of_a_target_is_explained():
    """Those that the rules take: the names that are given to ``take``, ``need`` and ``only``."""
    rules = source("environments/options.py")
    names = set(re.findall(r"check\.(?:take|need|section)\(\s*found, \w+, \"(\w+)\"", rules))
    assert {"host", "jump", "base_image", "mounts", "master", "conf", "keep_days", "root"} <= names, (
        "the search found too little"
    )
    told = {part for word in CODE for part in word.split(".")}
    assert names <= told, names - told


def test_every_step_of_the_doctor_is_explained_and_no_other():
    doctor = source("environments/doctor.py")
    titles = set(re.findall(r"self\.step\(\s*f?\"([^\"{]+)", doctor))
    table = TARGETS.partition("| step | fails when | then |")[2].partition("\n\n")[0]
    told = {row.split("|")[1].strip() for row in table.splitlines()[2:]}
    assert len(titles) > 15 and titles == told, titles ^ told


def test_every_command_and_option_of_the_shell_that_is_told_exists():
    from runstead import cli

    parser = cli._parser()
    commands = next(action for action in parser._actions if action.choices).choices
    options = {
        option for command in commands.values() for action in command._actions for option in action.option_strings
    }
    text = re.sub(r"ssh-keygen[^`\n]*|docker (?:images|pull|volume) [^`\n]*| -- .*", "", TARGETS)
    assert set(re.findall(r"(?<!from )runstead ([a-z]+) ", text)) <= set(commands)
    told = set(re.findall(r"(?<![\w-])(--[a-z][a-z-]+)", text)) - {"--privileged"}
    assert told <= options, told - options
    attach = {
        option for action in commands["attach"]._actions for option in action.option_strings if option.startswith("--")
    }
    rest = {"--help", "--json", "--anyway", "--port", "--gpus", "--python", "--socket", "--jump-key"}
    packages = {"--index-url", "--extra-index-url", "--index-secret", "--find-links", "--conda-channel", "--offline"}
    assert attach - rest - packages <= told, attach - told
    assert packages <= set(re.findall(r"--[a-z-]+", source("docs/cli.md")))


def test_the_python_of_the_documents_names_what_the_client_has():
    import runstead

    for block in re.findall(r"```python\n(.*?)```", TARGETS + README, re.S):
        compile(block, "docs", "exec")
        for line in re.findall(r"from runstead import ([^\n#]+)", block):
            for name in line.split(","):
                assert getattr(runstead, name.strip()), name


def test_numbers_of_the_documents_are_those_of_the_code():
    from django.conf import settings

    from environments import cleaning
    from environments.launchers import docker
    from runs import quarantine, queue

    policy = cleaning.Policy()
    assert f"| `cleaning.keep_days` | {policy.keep_days:g} |" in TARGETS
    assert f"| `cleaning.environment_days` | {policy.environment_days:g} |" in TARGETS
    assert f"| `cleaning.cache_bytes` | {policy.cache_bytes / 1e9:g} GB |" in TARGETS
    assert cleaning.EVERY.total_seconds() == 6 * 3600 and "every six hours" in TARGETS
    assert settings.QUARANTINE_AFTER == 5 and "five failures in a row" in TARGETS
    assert quarantine.AT_ONCE_SECONDS == 10 and "within ten seconds" in TARGETS
    assert queue.HOLD_AFTER.total_seconds() == 300 and "five minutes" in TARGETS
    assert f"{docker.PIDS:,} processes" in TARGETS and docker.SHM_BYTES == 2 * 1024**3


# -- docs/environments.md

ENVIRONMENTS = (ROOT / "docs" / "environments.md").read_text()


def test_every_curated_environment_is_named():
    import json

    for path in (ROOT / "environments" / "curated").glob("*.json"):
        assert f"`{json.loads(path.read_text())['name']}`" in ENVIRONMENTS, path.name


def test_every_option_of_containers_that_an_environment_may_name_is_listed_and_no_other():
    from environments.docker_arguments import KNOWN

    (listed,) = re.findall(r"are taken: (.*?)\. All others", ENVIRONMENTS, re.S)
    assert set(re.findall(r"`(--[a-z-]+)`", listed)) == set(KNOWN)


def test_the_commands_about_environments_are_shown():
    for name in re.findall(r'_part\(\s*parts, "([a-z]+)"', source("sdk/src/runstead/cli_envs.py")):
        assert f"runstead envs {name}" in ENVIRONMENTS, name


# -- docs/cli.md: every command and option, as the parser has them


def test_every_command_and_option_of_the_command_line_is_told_as_the_parser_has_it():
    import argparse

    from runstead import cli
    from runstead.cli_completion import walked

    sections = {
        match[1]: match[2]
        for match in re.finditer(
            r"^##+ `runstead ([^`]+)`\n(.*?)(?=^#|\Z)", (ROOT / "docs" / "cli.md").read_text(), re.M | re.S
        )
    }
    commands = {" ".join(path): parser for path, parser in walked([], cli._parser()) if path}
    assert set(sections) == set(commands)
    for name, parser in commands.items():
        rows = re.findall(r"^\| (`.*?) \| (.*) \|$", sections[name], re.M)
        told = {word.partition(" ")[0] for row, _ in rows for word in re.findall(r"`([^`]+)`", row)}
        known: set[str] = set()
        for action in parser._actions:
            if not isinstance(action, argparse._HelpAction | argparse._SubParsersAction):
                known |= set(action.option_strings or [(action.metavar or action.dest).replace("|", "\\|")])
                text = (action.help or "").replace("|", "\\|")
                assert any(text == what for _, what in rows), f"{name}: {action.dest}: {text}"
        assert told == known, f"{name}: {told ^ known}"


def test_commands_that_the_documents_show_are_taken_by_the_parser():
    from runstead import cli

    shown = []
    for page in PAGES:
        for block in re.findall(r"```(?:sh|bash|text)?\n(.*?)```", page.read_text(), re.S):
            shown += re.findall(r"^(?:echo .*\| )?(runstead [a-z].*)$", block, re.M)
    assert len(shown) > 10
    for line in shown:
        words = shlex.split(line.partition("   #")[0].partition(" > ")[0], comments=True)[1:]
        known = words[: words.index("--")] if "--" in words else words
        assert cli._parser(known[0]).parse_args(known).command == known[0], line
