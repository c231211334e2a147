"""Facts of git, asked of real repositories in every state that people leave them in, also of hostile ones."""

import os
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from runstead import git

from runs import gitinfo

URL = "https://example.test/lab/digits.git"
OUR_URL = {"repository_uri": URL}


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("GIT_", "AZUREML_GIT_"))]:
        monkeypatch.delenv(name)
    (tmp_path / "home").mkdir()
    (tmp_path / "home/.gitconfig").write_text(
        '[user]\nname = Ada\nemail = ada@example.test\n[init]\ndefaultBranch = main\n[protocol "file"]\nallow = always\n'
    )
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)


def run(folder: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def repository(folder: Path, url: str = URL) -> Path:
    folder.mkdir(parents=True)
    run(folder, "init", "-q")
    run(folder, "remote", "add", "origin", url)
    (folder / "train.py").write_text("print(1)\n")
    (folder / "pkg").mkdir()
    (folder / "pkg/model.py").write_text("x = 1\n")
    run(folder, "add", ".")
    run(folder, "commit", "-qm", "first")
    return folder


def commit(folder: Path) -> str:
    return run(folder, "rev-parse", "HEAD")


def both(folder: Path) -> dict[str, str]:
    """What the client finds, which the studio's own look must find too."""
    found = git.facts(str(folder))
    theirs = gitinfo.gitinfo(folder)
    assert {f"azureml.git.{name}": value for name, value in found.items()} == {
        name: value for name, value in theirs.items() if name.startswith("azureml")
    }
    return found


State = Callable[[Path], "tuple[Path, dict[str, str]]"]
STATES: dict[str, State] = {}


def state(make: State) -> State:
    STATES[make.__name__.replace("_", " ")] = make
    return make


@state
def no_repository(base: Path) -> tuple[Path, dict[str, str]]:
    (base / "plain").mkdir()
    return base / "plain", {}


@state
def unborn_branch(base: Path) -> tuple[Path, dict[str, str]]:
    (base / "new").mkdir()
    run(base / "new", "init", "-q")
    return base / "new", {"branch": "main", "dirty": "False"}


@state
def unborn_branch_with_files(base: Path) -> tuple[Path, dict[str, str]]:
    (base / "new").mkdir()
    run(base / "new", "init", "-q")
    (base / "new/train.py").write_text("")
    return base / "new", {"branch": "main", "dirty": "True"}


@state
def clean(base: Path) -> tuple[Path, dict[str, str]]:
    folder = repository(base / "r")
    return folder, {**OUR_URL, "branch": "main", "commit": commit(folder), "dirty": "False"}


@state
def changed_file(base: Path) -> tuple[Path, dict[str, str]]:
    folder = repository(base / "r")
    (folder / "train.py").write_text("print(2)\n")
    return folder, {**OUR_URL, "branch": "main", "commit": commit(folder), "dirty": "True"}


@state
def new_file(base: Path) -> tuple[Path, dict[str, str]]:
    folder = repository(base / "r")
    (folder / "new.py").write_text("")
    return folder, {**OUR_URL, "branch": "main", "commit": commit(folder), "dirty": "True"}


@state
def change_outside_the_folder(base: Path) -> tuple[Path, dict[str, str]]:
    folder = repository(base / "r")
    (folder / "train.py").write_text("print(2)\n")
    return folder / "pkg", {**OUR_URL, "branch": "main", "commit": commit(folder), "dirty": "False"}


@state
def ignored_file(base: Path) -> tuple[Path, dict[str, str]]:
    folder = repository(base / "r")
    (folder / ".git/info/exclude").write_text("*.log\n")
    (folder / "a.log").write_text("")
    return folder, {**OUR_URL, "branch": "main", "commit": commit(folder), "dirty": "False"}


@state
def detached_head(base: Path) -> tuple[Path, dict[str, str]]:
    folder = repository(base / "r")
    run(folder, "checkout", "-q", "--detach")
    return folder, {**OUR_URL, "commit": commit(folder), "dirty": "False"}


@state
def worktree(base: Path) -> tuple[Path, dict[str, str]]:
    folder = repository(base / "r")
    run(folder, "worktree", "add", "-q", "-b", "side", str(base / "tree"))
    (base / "tree/train.py").write_text("print(3)\n")
    run(base / "tree", "commit", "-qam", "second")
    return base / "tree", {**OUR_URL, "branch": "side", "commit": commit(base / "tree"), "dirty": "False"}


@state
def branch_with_its_own_remote(base: Path) -> tuple[Path, dict[str, str]]:
    folder = repository(base / "r")
    run(folder, "remote", "add", "fork", "git@example.test:ada/digits.git")
    run(folder, "config", "branch.main.remote", "fork")
    facts = {"repository_uri": "git@example.test:ada/digits.git", "branch": "main"}
    return folder, {**facts, "commit": commit(folder), "dirty": "False"}


@state
def no_remote(base: Path) -> tuple[Path, dict[str, str]]:
    folder = repository(base / "r")
    run(folder, "remote", "remove", "origin")
    return folder, {"branch": "main", "commit": commit(folder), "dirty": "False"}


@state
def credentials_in_the_address(base: Path) -> tuple[Path, dict[str, str]]:
    folder = repository(base / "r", "https://ada:s3cret@example.test/lab/digits.git?private_token=x")
    facts = {"repository_uri": "https://***@example.test/lab/digits.git", "branch": "main"}
    return folder, {**facts, "commit": commit(folder), "dirty": "False"}


@state
def shallow_clone(base: Path) -> tuple[Path, dict[str, str]]:
    folder = repository(base / "r")
    run(base, "clone", "-q", "--depth", "1", f"file://{folder}", "shallow")
    facts = {"repository_uri": f"file://{folder}", "branch": "main"}
    return base / "shallow", {**facts, "commit": commit(folder), "dirty": "False"}


def with_submodule(base: Path) -> Path:
    repository(base / "lib", "https://example.test/lab/lib.git")
    folder = repository(base / "r")
    run(folder, "submodule", "--quiet", "add", f"file://{base / 'lib'}", "vendor/lib")
    run(folder, "commit", "-qm", "with a submodule")
    return folder


@state
def inside_a_submodule(base: Path) -> tuple[Path, dict[str, str]]:
    folder = with_submodule(base) / "vendor/lib"
    facts = {"repository_uri": f"file://{base / 'lib'}", "branch": "main"}
    return folder, {**facts, "commit": commit(folder), "dirty": "False"}


@state
def clean_submodule(base: Path) -> tuple[Path, dict[str, str]]:
    folder = with_submodule(base)
    return folder, {**OUR_URL, "branch": "main", "commit": commit(folder), "dirty": "False"}


@state
def changed_file_in_a_submodule(base: Path) -> tuple[Path, dict[str, str]]:
    folder = with_submodule(base)
    (folder / "vendor/lib/train.py").write_text("print(9)\n")
    return folder, {**OUR_URL, "branch": "main", "commit": commit(folder), "dirty": "True"}


@state
def new_file_in_a_submodule_of_another_folder(base: Path) -> tuple[Path, dict[str, str]]:
    folder = with_submodule(base)
    (folder / "vendor/lib/new.py").write_text("")
    return folder / "pkg", {**OUR_URL, "branch": "main", "commit": commit(folder), "dirty": "False"}


@state
def submodule_at_another_commit(base: Path) -> tuple[Path, dict[str, str]]:
    folder = with_submodule(base)
    run(folder / "vendor/lib", "commit", "-q", "--allow-empty", "-m", "further")
    return folder, {**OUR_URL, "branch": "main", "commit": commit(folder), "dirty": "True"}


@state
def submodule_that_was_not_fetched(base: Path) -> tuple[Path, dict[str, str]]:
    folder = with_submodule(base)
    run(folder, "submodule", "--quiet", "deinit", "-f", "vendor/lib")
    return folder, {**OUR_URL, "branch": "main", "commit": commit(folder), "dirty": "False"}


@state
def broken_repository(base: Path) -> tuple[Path, dict[str, str]]:
    (base / "broken").mkdir()
    (base / "broken/.git").write_text("gitdir: /nowhere\n")
    return base / "broken", {}


@pytest.mark.parametrize("name", STATES)
def test_each_state_of_a_repository_has_its_facts(name: str, tmp_path: Path) -> None:
    folder, facts = STATES[name](tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert both(folder) == facts


def test_a_repository_of_another_account_is_told_and_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = repository(tmp_path / "r")
    # What git does when a folder belongs to somebody else, without needing a second account.
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.warns(
        UserWarning, match=r"belongs to another account.*git config --global --add safe\.directory " + str(folder)
    ):
        assert git.facts(str(folder)) == {}
    run(tmp_path, "config", "--global", "--add", "safe.directory", str(folder))
    assert git.facts(str(folder))["commit"]


def test_variables_override_and_are_masked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZUREML_GIT_REPOSITORY_URI", "https://u:p@example.test/a.git")
    monkeypatch.setenv("AZUREML_GIT_BRANCH", "release")
    assert git.facts(str(tmp_path)) == {"repository_uri": "https://***@example.test/a.git", "branch": "release"}


def test_a_hook_of_git_that_submits_another_folder_tells_of_that_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calling, other = repository(tmp_path / "calling"), repository(tmp_path / "other")
    run(other, "commit", "-q", "--allow-empty", "-m", "second")
    monkeypatch.setenv("GIT_DIR", str(calling / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(calling / ".git/index"))
    found = git.facts(str(other))
    monkeypatch.delenv("GIT_DIR")
    monkeypatch.delenv("GIT_INDEX_FILE")
    assert found["commit"] == commit(other) != commit(calling)


def test_without_the_command_git_nothing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = repository(tmp_path / "r")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git.facts(str(folder)) == {}


def evil_filter(folder: Path, config: Path, trap: Path) -> None:
    with config.open("a") as file:
        file.write(f'[filter "evil"]\n\tclean = {trap}\n\tprocess = {trap}\n[core]\n\tfsmonitor = {trap}\n')
    (folder / ".gitattributes").write_text("* filter=evil\n")
    (folder / "train.py").write_text("print(77)\n")


def in_its_own_configuration(base: Path, trap: Path) -> Path:
    folder = repository(base / "r")
    evil_filter(folder, folder / ".git/config", trap)
    return folder


def in_a_file_that_its_configuration_includes(base: Path, trap: Path) -> Path:
    folder = repository(base / "r")
    (folder / ".git/config").open("a").write("[include]\n\tpath = more\n")
    evil_filter(folder, folder / ".git/more", trap)
    return folder


def in_the_configuration_of_a_worktree(base: Path, trap: Path) -> Path:
    folder = repository(base / "r")
    run(folder, "config", "extensions.worktreeConfig", "true")
    evil_filter(folder, folder / ".git/config.worktree", trap)
    return folder


def in_a_submodule(base: Path, trap: Path) -> Path:
    folder = with_submodule(base)
    evil_filter(folder / "vendor/lib", folder / ".git/modules/vendor/lib/config", trap)
    return folder


def under_a_name_that_an_option_cannot_say(base: Path, trap: Path) -> Path:
    folder = repository(base / "r")
    run(folder, "config", "filter.a=b.clean", str(trap))
    (folder / ".gitattributes").write_text("* filter=a=b\n")
    (folder / "train.py").write_text("print(77)\n")
    return folder


def as_the_remote_of_a_partial_clone(base: Path, trap: Path) -> Path:
    folder = repository(base / "r")
    run(folder, "config", "core.repositoryFormatVersion", "1")
    run(folder, "config", "extensions.partialClone", "origin")
    run(folder, "config", "remote.origin.promisor", "true")
    run(folder, "config", "remote.origin.url", f"ext::{trap} %S")
    run(folder, "config", "protocol.ext.allow", "always")
    tree = run(folder, "rev-parse", "HEAD^{tree}")
    (folder / ".git/objects" / tree[:2] / tree[2:]).unlink()
    return folder


@pytest.mark.parametrize(
    "place",
    [
        in_its_own_configuration, in_a_file_that_its_configuration_includes, in_the_configuration_of_a_worktree, in_a_submodule,
        under_a_name_that_an_option_cannot_say, as_the_remote_of_a_partial_clone,
    ],
)  # fmt: skip
def test_no_program_that_a_repository_names_is_executed(place: Callable[[Path, Path], Path], tmp_path: Path) -> None:
    trap, mark = tmp_path / "trap.sh", tmp_path / "executed"
    trap.write_text(f'#!/bin/sh\necho "$0 $*" >> {mark}\nexit 1\n')
    trap.chmod(0o755)
    folder = place(tmp_path, trap)
    mark.unlink(missing_ok=True)
    git.facts(str(folder))
    gitinfo.gitinfo(folder)
    assert not mark.exists(), mark.read_text()
    # The trap is one: git itself, asked plainly, springs it.
    subprocess.run(["git", "status", "--porcelain"], cwd=folder, capture_output=True, check=False)
    assert mark.exists()
