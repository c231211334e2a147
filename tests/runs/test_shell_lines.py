"""A command as people give it: which texts and lists a shell reads, and that what is shown of it means the same again."""

import subprocess

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from runs import shellwords, snippets
from runs.command import argv
from runs.config import ScriptRunConfig
from runs.forms import values_from
from runs.frameworks import Place
from runs.shell_lines import OPERATORS, SHELL, command, line_of, lines, spelled
from tests.runs.test_snippets import WORD, request_with


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("python train.py --lr 0.1", ("python", "train.py", "--lr", "0.1")),
        ("  echo 'a && b' \"c | d\" e\\;f ", ("echo", "a && b", "c | d", "e;f")),
        ("python train.py --out $AZUREML_RUN_ID/${NAME}", ("python", "train.py", "--out", "$AZUREML_RUN_ID/${NAME}")),
        ("python train.py \\\n  --lr 0.1", ("python", "train.py", "--lr", "0.1")),
        ("echo a#b x=1 'it''s' \"\\$(x)\"", ("echo", "a#b", "x=1", "its", "\\$(x)")),
    ],
)  # fmt: skip
def test_plain_words_are_started_without_a_shell(text: str, words: tuple[str, ...]) -> None:
    assert command(text)[: len(words) - 1] == words[:-1]
    assert not line_of(command(text))


@pytest.mark.parametrize(
    "text",
    [
        "pip install -r r.txt && python train.py", "a || b", "a | b", "a; b", "a > b", "a 2>&1", "a < b", "a &", "echo $(date)", "echo `date`",
        'echo "$(date)"', "echo ${A:-b}", "ls *.py", "ls a?", "ls [ab]", "cat ~/x", "A=1 python train.py", "source env.sh", "cd x", "echo $1",
        "(a)", "echo a\necho b", "if true", "echo a # b", 'echo "`date`"', "echo $$",
        'echo "\\\\$(date)"', 'echo "\\\\`date`"',
    ],
)  # fmt: skip
def test_what_only_a_shell_understands_is_one_line_for_it(text: str) -> None:
    assert command(text) == (*SHELL, text)
    assert line_of(command(text)) == text


@pytest.mark.parametrize(
    ("given", "made"),
    [
        (["echo", "a b", "$X", "a|b", "*"], ("echo", "a b", "$X", "a|b", "*")),
        (["pip", "install", "x", "&&", "python", "t.py"], (*SHELL, "pip install x && python t.py")),
        (["python t.py", "--lr", "0.1"], ("python", "t.py", "--lr", "0.1")),
        (["python t.py --lr 0.1; echo done"], (*SHELL, "python t.py --lr 0.1; echo done")),
        (["sh", "-c", "a && b"], ("sh", "-c", "a && b")),
        ([], ()),
    ],
)
def test_a_list_is_taken_word_by_word_unless_it_is_a_line(given: list[str], made: tuple[str, ...]) -> None:
    assert command(given) == made


def test_a_quote_that_is_not_closed_is_said_with_its_place() -> None:
    with pytest.raises(shellwords.QuoteError, match="Line 1, column 6"):
        command("echo 'a && b")


ANY = st.one_of(
    WORD,
    st.sampled_from(sorted(OPERATORS)),
    st.sampled_from(["cd", "A=1", "~", "#", "$(x)", "my tools/run", "*", "'", '"']),
)


@given(st.lists(ANY, min_size=1, max_size=6).map(tuple).filter(lambda words: words[0].strip()))
@example(("grep", "|", "file"))
@example((*SHELL, "a && b"))
@example((*SHELL, "plain words"))
@example(("my tools/run", "x"))
@example(("cd", "&&", "\n", "b"))
@settings(max_examples=400, deadline=None)
def test_what_is_shown_of_a_command_means_the_same_again(words: tuple[str, ...]) -> None:
    assert command(spelled(words)) == words
    assert command(lines(words)) == words
    config = ScriptRunConfig(framework="command", command=words)
    read = snippets.from_yaml(
        snippets.yaml_text(request_with(config={"script": "", "framework": "command", "command": words}))
    )
    assert tuple(read["command"]) == words
    assert command(values_from(read)["command"]) == words
    shown = yaml.safe_load(
        snippets.yaml_text(request_with(config={"script": "", "framework": "command", "command": words}))
    )
    assert command(shown["command"]) == words
    line = snippets.cli_argv(request_with(config={"script": "", "framework": "command", "command": words}))
    assert command(line[line.index("--") + 1 :]) == words
    assert config.words == (() if line_of(words) else words[1:])


def test_variables_are_put_in_by_the_shell_where_there_is_one() -> None:
    place = Place(python="/env/bin/python")
    values = {"NAME": "x; touch stolen"}
    plain = ScriptRunConfig(framework="command", command=command("echo $NAME"))
    assert argv(plain, place, values) == ["echo", "x; touch stolen"]
    shell = ScriptRunConfig(framework="command", command=command("echo $NAME; echo '$NAME'"))
    made = argv(shell, place, values)
    assert made == [*SHELL, "echo $NAME; echo '$NAME'"]
    done = subprocess.run(made, env={"PATH": "/usr/bin:/bin", **values}, capture_output=True, text=True, check=True)
    assert done.stdout == "x; touch stolen\n$NAME\n"


@pytest.mark.parametrize("there", ["bash", "sh"])
def test_bash_runs_the_line_where_it_is_and_sh_where_it_is_not(there: str, tmp_path) -> None:
    for name in ("sh", "bash") if there == "bash" else ("sh",):
        found = subprocess.run(["which", name], capture_output=True, text=True, check=True).stdout.strip()
        (tmp_path / name).symlink_to(found)
    made = command('echo "${BASH_VERSION:+bash}"; exit 7')
    done = subprocess.run(
        [str(tmp_path / "sh"), *made[1:]], env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert (done.stdout.strip(), done.returncode) == ("bash" if there == "bash" else "", 7)
