"""Ignore rules, compared with what git itself leaves out."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from runstead.gitignore import Rules, lines_of

NAMES = ["a", "b", "ab", "a b", "a.py", "b.txt", "#a", "!a", "[a]", "a-b", "-", "]", "A1"]
TREE = sorted(
    {f"{x}/{y}/{z}" for x in ("a", "ab", "A1") for y in ("a", "a.py", "b") for z in NAMES}
    | {f"-/{name}" for name in NAMES}
    | {f"b/{name}" for name in NAMES}
    | {"#a", "!a", "[a]", "a-b", "]", "a.py", "b.txt", "a b"}
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tree")
    for path in TREE:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("")
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    return folder


def kept_by_git(tree: Path, data: bytes) -> set[str]:
    rules = tree.parent / "rules"
    rules.write_bytes(data)
    command = ["git", "-c", "core.excludesFile=/dev/null", "ls-files", "-z", "--others", f"--exclude-from={rules}"]
    return set(subprocess.run(command, cwd=tree, capture_output=True, text=True, check=True).stdout.split("\0")) - {""}


def kept_by_us(data: bytes) -> set[str]:
    rules = Rules(lines_of(data))

    def kept(path: str) -> bool:
        parts = path.split("/")
        folders = ("/".join(parts[:count]) for count in range(1, len(parts)))
        return not any(rules.why(folder, True) for folder in folders) and not rules.why(path, False)

    return {path for path in TREE if kept(path)}


@pytest.mark.parametrize(
    "text",
    [
        "*\n!*/\n!*.py", "a/", "/a", "a/**", "**/b", "a/**/b", "a/*\n!a/a", "a b", "a\\ b", "a\\ ", "a b   ", "\\#a", "#a", "\\!a",
        "!a", "[a]", "\\[a\\]", "[!a]", "[^a]", "[]]", "[]-]", "[a-", "[[:alpha:]]", "[[:nope:]]", "[[:digit:][:upper:]]*", "a\\",
        "**", "*/", "/", "//", "a//", "***", "a**b", "a**/a", "a/b**/c", "?a**/b", "/**/", "**/", "a/?", "?/b", "[a-b]/", "[b-a]", "a\r\nb\r\n", "\ufeffa",
        "a/b/\n!a/b/a", "[\\]]", "[a\\-b]", "a/[!/]/b", "a[/]b",
    ],
)  # fmt: skip
def test_known_corners_are_as_in_git(tree: Path, text: str) -> None:
    data = text.encode()
    assert kept_by_us(data) == kept_by_git(tree, data)


PIECE = st.sampled_from(
    [*"ab*?[]!-/\\ #.1A^", "**", "/**/", "**/", "[a-b]", "[!a]", "a/", "!", "*.py", "[[:alpha:]]", "\\ "]
)
LINE = st.lists(PIECE, max_size=6).map("".join)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(LINE, min_size=1, max_size=4))
def test_any_rules_are_as_in_git(tree: Path, lines: list[str]) -> None:
    data = "\n".join(lines).encode()
    assert kept_by_us(data) == kept_by_git(tree, data), lines
