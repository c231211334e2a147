"""The command `runstead completion`: what Tab offers in bash, zsh and fish, made of the parser itself."""

from __future__ import annotations

import argparse

from .shell import connect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterator, List, Optional, Tuple

HOW = """bash: runstead completion bash > ~/.local/share/bash-completion/completions/runstead
zsh:  runstead completion zsh > a file named _runstead in a folder of $fpath
fish: runstead completion fish > ~/.config/fish/completions/runstead.fish
"""
NAMED = {"--target": "targets", "--env": "environments", "--experiment": "experiments"}
"""Options whose values the studio knows."""
FILES = ("--file", "--key", "--jump-key", "--output", "--home")


def add(commands: Any) -> None:
    """Add the command to those of `runstead`."""
    parser = commands.add_parser(
        "completion", help="print what makes Tab complete the commands", epilog=HOW, formatter_class=argparse.RawDescriptionHelpFormatter
    )  # fmt: skip
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="whose")
    parser.add_argument(
        "--names", choices=tuple(NAMED.values()), metavar="KIND", help="print the names of these instead, for Tab"
    )
    parser.set_defaults(call=_completion)


def _completion(options: argparse.Namespace, line: Optional[List[str]]) -> int:
    from .cli import _parser

    if options.names:
        for row in connect().request("GET", options.names).json()[options.names]:
            print(row["name"])
        return 0
    tree = {"/".join(["", *path]): Command(path, parser) for path, parser in walked([], _parser())}
    print({"bash": _bash, "zsh": _zsh, "fish": _fish}[options.shell](tree), end="")
    return 0


class Command:
    """What may follow a command: its own commands and options, each with a line of help."""

    def __init__(self, path: List[str], parser: Any) -> None:
        self.path = path
        self.commands: List[Tuple[str, str]] = []
        self.options: List[Tuple[str, str]] = []
        self.values: Dict[str, Optional[List[str]]] = {}
        """Option that takes a value → what it may be, None for anything."""
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                self.commands = [(choice.dest, choice.help or "") for choice in action._choices_actions]
            elif action.choices and not action.option_strings:
                self.commands = [(str(choice), "") for choice in action.choices]
            for option in action.option_strings:
                self.options.append((option, (action.help or "").replace("%%", "%")))
                if action.nargs != 0:
                    self.values[option] = [str(choice) for choice in action.choices] if action.choices else None


def walked(path: List[str], parser: Any) -> Iterator[Tuple[List[str], Any]]:
    """Every command of a parser, by the words that lead to it."""
    yield path, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                yield from walked([*path, name], inner)


BASH = """# bash completion of runstead
_runstead() {
    local cur="${COMP_WORDS[COMP_CWORD]}" prev="${COMP_WORDS[COMP_CWORD-1]}" at="" word words i
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        word="${COMP_WORDS[i]}"
        if [[ $word == -- ]]; then compopt -o default 2>/dev/null; return; fi
        case "$at/$word" in
            %(paths)s) at="$at/$word" ;;
        esac
    done
    case "$at $prev" in
%(values)s
    esac
    case "$at" in
%(words)s
    esac
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
    if [[ ${#COMPREPLY[@]} -eq 0 && $cur != -* ]]; then compopt -o default 2>/dev/null; fi
}
complete -F _runstead runstead
"""


def _bash(tree: Dict[str, Command]) -> str:
    values, words = [], []
    for place, command in tree.items():
        names = " ".join([name for name, _ in command.commands] + [option for option, _ in command.options])
        words.append('        "%s") words="%s" ;;' % (place, names))
        for option, choices in command.values.items():
            if choices or option in NAMED:
                words_of = " ".join(choices or ["$(%s)" % _names(option, "bash")])
                do = 'COMPREPLY=($(compgen -W "%s" -- "$cur")); return' % words_of
            else:
                do = "compopt -o default 2>/dev/null; return" if option in FILES else "return"
            values.append('        "%s %s") %s ;;' % (place, option, do))
    paths = "|".join('"%s"' % place for place in tree if place)
    return BASH % {"paths": paths, "values": "\n".join(values), "words": "\n".join(words)}


ZSH = """#compdef runstead
_runstead() {
    local at="" word
    local -a found
    integer i
    for ((i = 2; i < CURRENT; i++)); do
        word="${words[i]}"
        if [[ $word == -- ]]; then _files; return; fi
        case "$at/$word" in
            %(paths)s) at="$at/$word" ;;
        esac
    done
    case "$at ${words[CURRENT-1]}" in
%(values)s
    esac
    case "$at" in
%(words)s
    esac
    _describe -t commands 'runstead' found
    [[ ${words[CURRENT]} == -* ]] || _files
}
if [[ $funcstack[1] == _runstead ]]; then _runstead "$@"; else compdef _runstead runstead; fi
"""


def _zsh(tree: Dict[str, Command]) -> str:
    values, words = [], []
    for place, command in tree.items():
        described = " ".join(
            _in_quotes("%s:%s" % (name.replace(":", "\\:"), text))
            for name, text in [*command.commands, *command.options]
        )
        words.append('        "%s") found=(%s) ;;' % (place, described))
        for option, choices in command.values.items():
            if choices:
                do = "found=(%s); _describe 'value' found; return" % " ".join(map(_in_quotes, choices))
            elif option in NAMED:
                do = 'found=(${(f)"$(%s)"}); compadd -a found; return' % _names(option, "zsh")
            else:
                do = "_files; return" if option in FILES else "return"
            values.append('        "%s %s") %s ;;' % (place, option, do))
    paths = "|".join('"%s"' % place for place in tree if place)
    return ZSH % {"paths": paths, "values": "\n".join(values), "words": "\n".join(words)}


def _fish(tree: Dict[str, Command]) -> str:
    rows = ["# fish completion of runstead", "complete -c runstead -f"]
    for command in tree.values():
        heads = [name for name, _ in tree[""].commands]
        below = [name for name, _ in command.commands]
        if not command.path:
            where = "not __fish_seen_subcommand_from " + " ".join(heads)
        else:
            where = "; and ".join("__fish_seen_subcommand_from " + word for word in command.path)
        first = where
        if command.path and below:
            first += "; and not __fish_seen_subcommand_from " + " ".join(below)
        for name, text in command.commands:
            rows.append("complete -c runstead -n %s -a %s -d %s" % (_in_quotes(first), name, _in_quotes(text)))
        for option, text in command.options:
            kind = "-l " + option[2:] if option.startswith("--") else "-s " + option[1:]
            choices = command.values.get(option, ())
            if choices or option in NAMED:
                kind += " -x -a " + _in_quotes(" ".join(choices or ["(%s)" % _names(option, "fish")]))
            elif option in command.values:
                kind += " -r -F" if option in FILES else " -x"
            rows.append("complete -c runstead -n %s %s -d %s" % (_in_quotes(where), kind, _in_quotes(text)))
        if command.path and not below:
            rows.append("complete -c runstead -n %s -F" % _in_quotes(where))
    return "\n".join(rows) + "\n"


def _names(option: str, shell: str) -> str:
    return "runstead completion %s --names %s 2>/dev/null" % (shell, NAMED[option])


def _in_quotes(text: str) -> str:
    return "'%s'" % text.replace("'", "'\\''")
