"""The command `runstead`."""

from __future__ import annotations

import importlib
import json
import os
import sys
import warnings

from . import __version__
from .errors import RunsteadError
from .shell import Parser

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, List, Optional, Sequence

# Command → the module that adds it. Only the module of the command that is called is loaded.
HOMES = {
    "run": "cli_run",
    "runs": "cli_runs",
    "show": "cli_runs",
    "logs": "cli_logs",
    "cancel": "cli_runs",
    "download": "cli_download",
    "open": "cli_runs",
    "models": "cli_models",
    "envs": "cli_envs",
    "import": "import_mlflow",
    "targets": "cli_targets",
    "attach": "cli_targets",
    "doctor": "cli_targets",
    "drain": "cli_targets",
    "resume": "cli_targets",
    "key": "cli_targets",
    "detach": "cli_targets",
    "login": "cli_login",
    "logout": "cli_login",
    "up": "cli_up",
    "init": "cli_init",
    "completion": "cli_completion",
}
EPILOG = """exit codes: 0 done; 1 refused, failed or not reached; 2 wrong usage; 130 Ctrl-C. With --wait and --follow that of the script.
"""


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command; returns the exit code: 0, that of a run that was waited for, 1 for refusals, 2 for wrong usage,
    130 for Ctrl-C.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    # What follows `--` is the script's own and is never looked at here.
    line: Optional[List[str]] = None
    if "--" in words:
        place = words.index("--")
        words, line = words[:place], words[place + 1 :]
    named = next((word for word in words if not word.startswith("-")), "")
    parser = _parser(named)
    options, unknown = parser.parse_known_args(words)
    if unknown or (line is not None and options.command != "run"):
        options.parser.unknown(unknown or ["--"])
    as_json = getattr(options, "json", False)
    options.json = as_json
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = _show_warning
        try:
            return int(options.call(options, line))
        except BrokenPipeError:
            # Whoever read our output has left: say nothing more, also not at the interpreter's end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except (RunsteadError, OSError) as error:
            if as_json:
                problem = {
                    "error": str(error),
                    "status": getattr(error, "status", None),
                    "errors": getattr(error, "errors", []),
                }
                print(json.dumps(problem), file=sys.stderr)
            else:
                print("runstead: %s" % error, file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 130


def _show_warning(message: Any, *_: Any, **__: Any) -> None:
    print("runstead: note: %s" % message, file=sys.stderr)


def _parser(command: str = "") -> Parser:
    """The parser of one command, or of all when there is no such one."""
    parser = Parser(
        prog="runstead", description="Submit training runs to a Runstead studio, and follow them.", epilog=EPILOG
    )
    parser.add_argument("--version", action="version", version="runstead " + __version__)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", parser_class=Parser)
    commands.required = True
    modules = [HOMES[command]] if command in HOMES else list(dict.fromkeys(HOMES.values()))
    for module in modules:
        importlib.import_module("." + module, __package__).add(commands)
    for one in commands.choices.values():
        _remember(one)
    return parser


def _remember(parser: Any) -> None:
    """Have each parser set itself as the one that was used, so that an unknown option is compared with its own."""
    parser.set_defaults(parser=parser)
    for action in parser._actions:
        if isinstance(action.choices, dict):
            for inner in action.choices.values():
                _remember(inner)
