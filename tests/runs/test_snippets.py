"""The snippets start the same run when they are pasted, whatever is in the arguments."""

import ast
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2] / "sdk" / "src"))

from runs import shellwords
from runs.config import ScriptRunConfig
from runs.forms import values_from
from runs.snippets import RunRequest, YamlError, cli, cli_argv, from_yaml, python, to_mapping, yaml_text
from runs.tags import format_tags, parse_tags
from runs.units import duration_text, parse_duration, parse_size, size_text

# Every character but NUL, which no program can receive, and halves of surrogate pairs, which are none.
WORD = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=40)
WORDS = st.lists(WORD, max_size=8).map(tuple)
TEXT = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=30)


def request_with(**fields: Any) -> RunRequest:
    config = ScriptRunConfig(**{"script": "train.py", **fields.pop("config", {})})
    return RunRequest(
        **{"experiment": "digits", "target": "local", "environment": "base:2", "config": config, **fields}
    )


def in_a_shell(text: str) -> list[str]:
    """The words that a real shell makes of a text, as a program would receive them."""
    script = "runstead() { printf '%s\\0' runstead \"$@\"; }\n" + text
    out = subprocess.run(["bash", "--norc", "-c", script], capture_output=True, check=True).stdout
    return [word.decode("utf-8", "surrogateescape") for word in out.split(b"\0")[:-1]]


@given(WORDS, st.dictionaries(st.from_regex(r"[A-Z_][A-Z0-9_]{0,8}", fullmatch=True), WORD, max_size=3))
@settings(max_examples=30, deadline=None)
def test_the_command_line_reaches_a_real_shell_word_for_word(
    arguments: tuple[str, ...], variables: dict[str, str]
) -> None:
    asked = request_with(config={"arguments": arguments, "variables": variables})
    assert in_a_shell(cli(asked)) == cli_argv(asked)


@given(WORDS)
@settings(max_examples=150, deadline=None)
def test_the_command_line_is_read_back_by_shlex(arguments: tuple[str, ...]) -> None:
    asked = request_with(config={"arguments": arguments})
    text = cli(asked)
    head, _, tail = text.partition(" \\\n  -- ")
    words = [*shlex.split(head.replace(" \\\n", " ")), "--"]
    rows = shlex.split(tail.replace(" \\\n     ", " "))
    # An argument may itself hold what a continued line looks like; the shell above is the judge of those.
    if not any(" \\\n     " in word for word in arguments):
        assert words + rows == cli_argv(asked)
    assert cli_argv(asked)[-len(arguments) - 1 :] == ["train.py", *arguments]


@given(WORDS, st.dictionaries(WORD.filter(str.strip), WORD, max_size=3), WORD, WORD)
@settings(max_examples=200, deadline=None)
def test_yaml_is_read_back_as_it_was_written(
    arguments: tuple[str, ...], variables: dict[str, str], name: str, notes: str
) -> None:
    asked = request_with(
        config={
            "arguments": arguments,
            "variables": variables,
            "max_run_duration_seconds": 5401,
            "memory_bytes": 512 * 1024**2,
            "gpus": 2,
        },
        name=name,
        notes=notes,
        tags={"baseline": None, "stage": "final, at last"},
    )
    expected = to_mapping(asked) | {"time_limit": 5401, "memory": 512 * 1024**2}
    assert from_yaml(yaml_text(asked)) == expected


@given(WORDS)
@settings(max_examples=200, deadline=None)
def test_python_holds_the_arguments_as_literals(arguments: tuple[str, ...]) -> None:
    tree = ast.parse(python(request_with(config={"arguments": arguments}, name='o\'neil \\ "x"')))
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "ScriptRunConfig"
    ]
    found = {keyword.arg: keyword.value for keyword in calls[0].keywords}
    assert ast.literal_eval(found["script"]) == "train.py"
    assert ast.literal_eval(found.get("arguments", ast.List([]))) == list(arguments)


@given(WORDS)
@settings(max_examples=300, deadline=None)
def test_a_filled_text_field_gives_back_the_same_arguments(arguments: tuple[str, ...]) -> None:
    typed = shellwords.lines(arguments)
    # A browser's text field turns every line break into CR LF, and drops a lone CR.
    sent = typed.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\r\n")
    assert tuple(shellwords.split(sent.replace("\r\n", "\n"))) == arguments


@given(st.text(st.characters(blacklist_categories=("Cs",)), max_size=40))
@settings(max_examples=400, deadline=None)
def test_splitting_follows_shlex(text: str) -> None:
    text = text.replace("$'", "$").replace("\\\n", " ").replace("\\\r\n", " ")
    # shlex ends a word at ASCII white space only, as shells do.
    try:
        expected = shlex.split(text)
    except ValueError:
        with pytest.raises(shellwords.QuoteError):
            shellwords.split(text)
    else:
        if '"' not in text or "\\" not in text:
            assert shellwords.split(text) == expected


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [("--name 'open", 1, 8), ('--a 1\n--b "x', 2, 5), ("it's", 1, 3), ("a\nb \\", 2, 3), ("$'x", 1, 2)],
)
def test_the_place_of_an_unclosed_quote_is_named(text: str, line: int, column: int) -> None:
    with pytest.raises(shellwords.QuoteError) as caught:
        shellwords.split(text)
    assert (caught.value.line, caught.value.column) == (line, column)
    assert f"Line {line}, column {column}" in str(caught.value)


def test_a_megabyte_of_arguments_is_split_at_once() -> None:
    import time

    began = time.perf_counter()
    assert shellwords.split("a" * 1_000_000 + " 'b" + "c" * 1_000_000 + "'")[1].startswith("bc")
    assert time.perf_counter() - began < 0.5


def test_a_snippet_holds_the_name_of_a_secret_and_nothing_else_of_it() -> None:
    asked = request_with(config={"secrets": {"HF_TOKEN": "hf-read"}})
    assert "--secret HF_TOKEN=hf-read" in cli(asked)
    assert from_yaml(yaml_text(asked))["secrets"] == {"HF_TOKEN": "hf-read"}

    assert "'HF_TOKEN': 'hf-read'" in python(asked)


@pytest.mark.parametrize(("folder", "source"), [("digits", "./digits"), ("a\nscript: evil.py", ".")])
def test_the_yaml_says_which_command_takes_it(folder: str, source: str) -> None:
    text = yaml_text(request_with(folder=folder))
    assert text.splitlines()[0] == f"# runstead run {source} --file run.yaml"
    assert from_yaml(text)["script"] == "train.py"


@given(WORDS, WORD, st.integers(-3, 3), st.integers(0, 3600))
@settings(max_examples=100, deadline=None)
def test_our_own_command_understands_its_snippet(
    arguments: tuple[str, ...], text: str, priority: int, grace: int
) -> None:
    from runstead.cli import _parser
    from runstead.cli_run import _asked

    config = {
        "arguments": arguments,
        "variables": {"A": text},
        "secrets": {"T": "hf"},
        "memory_bytes": 2**29,
        "gpus": grace % 3,
        "grace_seconds": grace,
    }
    tags = {"baseline": None, "stage": text}
    asked = request_with(config=config, name=text, notes=text, tags=tags, priority=priority)
    line = cli_argv(asked)[1:]
    end = line.index("--")
    found = _asked(_parser().parse_args(line[:end]), line[end + 1 :])
    expected = {**to_mapping(asked), "memory": 2**29, "grace": grace}
    assert {**found, "framework": "python"} == {
        name: value for name, value in expected.items() if name not in {"grace"} or grace != 10
    } | ({} if arguments else {"arguments": []})


def test_values_that_look_like_options_are_joined_to_theirs() -> None:
    assert "--name=--help" in cli(request_with(name="--help"))


def test_a_folder_with_an_odd_name_is_never_pasted_into_the_command() -> None:
    assert cli(request_with(folder="a; rm -rf x")).startswith("runstead run . \\\n")
    assert cli(request_with(folder="resnet")).startswith("runstead run ./resnet \\\n")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("script: [train.py", "Line 1, column"),
        ("- a\n- b", "script: train.py"),
        ("scirpt: train.py", "'scirpt' is not a field of a run. Use: experiment"),
        ("arguments: --lr 0.1", "arguments: expected a list"),
        ("arguments:\n- [1, 2]", "arguments, item 1: expected a text"),
        ("variables: 3", "variables: expected NAME: value lines"),
        ("time_limit: soon", "time_limit: 'soon' is not a duration. Write a number and a unit"),
        ("time_limit: true", "time_limit: expected a whole number"),
        ("memory: 12 parsecs", "memory: '12 parsecs' is not a size"),
        ('name: "\\ud800"', "surrogate"),
        ("!!python/object/apply:os.system [id]", "could not determine a constructor"),
        ("[" * 20_000, "This is no YAML"),
        ("name: " + "x" * 300_000, "the limit is 262,144"),
    ],
)
def test_wrong_yaml_names_the_place_the_rule_and_the_fix(text: str, says: str) -> None:
    with pytest.raises(YamlError) as caught:
        from_yaml(text)
    assert says in str(caught.value)


def test_yaml_of_a_person_fills_the_form() -> None:
    given_values = from_yaml(
        "script: train.py\narguments: [--lr, 0.1, --flag]\ntime_limit: 1 h 30 m\ntags: [ls]\nvariables: {N: 3}\n"
    )
    values = values_from(given_values)
    assert values["arguments"] == "--lr 0.1\n--flag"
    assert values["time_limit"] == "90 min"
    assert values["tags"] == "ls"
    assert values["rows"] == [{"name": "N", "kind": "value", "value": "3", "secret": ""}]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("6 h", 21600),
        ("90 min", 5400),
        ("1h30m", 5400),
        ("2 days", 172800),
        ("1.5 h", 5400),
        ("45 Seconds", 45),
        (" 1 w ", 604800),
    ],
)
def test_durations_are_typed_freely(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"), [("512 MB", 2**29), ("1.5GB", 3 * 2**29), ("2g", 2**31), ("1 GiB", 2**30), ("100 b", 100)]
)
def test_sizes_are_typed_freely(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "h", "-3 h", "6 x", "1e3 s", "6 h 3", "٣ h h"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"Write"):
        parse_duration(text)


@given(st.integers(0, 2**45))
def test_the_text_of_a_limit_is_exact(value: int) -> None:
    assert parse_duration(duration_text(value)) == value
    assert parse_duration(duration_text(value, "")) == value
    assert parse_size(size_text(value)) == value


@given(
    st.dictionaries(
        TEXT.map(lambda t: t.replace("=", "").strip()).filter(bool), st.none() | TEXT.map(str.strip), max_size=5
    )
)
@settings(max_examples=200, deadline=None)
def test_tags_are_read_back_as_they_were_written(tags: dict[str, str | None]) -> None:
    assert parse_tags(format_tags(tags)) == tags
