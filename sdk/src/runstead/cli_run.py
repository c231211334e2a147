"""The command `runstead run`."""

from __future__ import annotations

import argparse
import os
import re
import sys

from .errors import UserError
from .progress import Bar
from .shell import add_json, print_json, tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Tuple

    from .script_run_config import ScriptRunConfig
    from .submitted import SubmittedRun

FRAMEWORKS = ("python", "pyspark", "pytorch", "tensorflow", "mpi", "command")
EXAMPLE = """example:
  runstead run ./digits --experiment digits --env scikit-learn --set SEED=7 --time-limit 6h --follow -- train.py --lr 0.1
"""


def add(commands: Any) -> None:
    """Add the command to those of `runstead`."""
    run = commands.add_parser(
        "run",
        help="send a folder and run a script in it",
        usage="runstead run [FOLDER] [options] -- SCRIPT [ARGUMENTS…]",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.hint = " The script and its arguments stand behind --, as in: runstead run . -- train.py --lr 0.1"
    run.add_argument("folder", nargs="?", metavar="FOLDER", help="the project folder (default: the working directory)")
    run.add_argument("-f", "--file", metavar="YAML", help="a run as the New run page shows it; options given here win")
    run.add_argument("--experiment", metavar="NAME", help="the group of runs (default: the folder's name)")
    run.add_argument("--name", metavar="TEXT", help="the run's name")
    run.add_argument("--target", metavar="NAME", help="the compute target, or a pool of them (default: local)")
    run.add_argument("--env", dest="environment", metavar="NAME[:VERSION]", help="the environment")
    run.add_argument(
        "--framework",
        metavar="NAME",
        type=str.lower,
        choices=FRAMEWORKS,
        help="python (default), pyspark, pytorch, tensorflow, mpi, or command: what follows -- is then the whole command line",
    )
    run.add_argument(
        "--processes", type=int, metavar="N", help="how many, with pytorch and mpi (default: the GPUs, else 1)"
    )
    run.add_argument("--backend", metavar="NAME", help="how PyTorch's processes talk: nccl (default), gloo")
    run.add_argument("--workers", type=int, metavar="N", help="how many, with tensorflow (default: 1)")
    run.add_argument("--parameter-servers", type=int, metavar="N", help="how many, with tensorflow (default: 1)")
    for option, form, text in (
        ("conf", "NAME=VALUE", "a setting of Spark"),
        ("package", "GROUP:NAME:VERSION", "a package for Spark"),
        ("repository", "URL", "where Spark finds packages"),
    ):
        run.add_argument("--spark-" + option, action="append", default=[], metavar=form, help=text)
    run.add_argument(
        "--deploy-mode",
        metavar="MODE",
        choices=("client", "cluster"),
        help="where Spark's driver runs: client, cluster",
    )
    run.add_argument(
        "--set", dest="variables", action="append", default=[], metavar="NAME=VALUE", help="a variable of the script"
    )
    run.add_argument(
        "--secret", dest="secrets", action="append", default=[], metavar="NAME=SECRET", help="a variable from a secret"
    )
    run.add_argument("--tag", dest="tags", action="append", default=[], metavar="NAME[=VALUE]", help="a tag of the run")
    run.add_argument("--time-limit", metavar="6h", help="the run is ended after this long")
    run.add_argument("--memory", metavar="8GB", help="the run is ended when it uses more")
    run.add_argument("--gpus", type=int, metavar="N", help="how many GPUs of the target it is given (default: none)")
    run.add_argument("--grace", metavar="30s", help="between asking the script to end and killing it (default: 10s)")
    run.add_argument("--priority", type=int, metavar="N", help="higher starts first (default: 0)")
    run.add_argument("--notes", metavar="TEXT", help="a text about the run")
    run.add_argument(
        "--follow", action="store_true", help="print the log until the run ends, then exit as the script did"
    )
    run.add_argument("--wait", action="store_true", help="wait until the run ends, then exit as the script did")
    add_json(run, "the run as JSON; with --follow the log goes to standard error")
    run.set_defaults(call=_run)


def _run(options: argparse.Namespace, line: Optional[List[str]]) -> int:
    from .client import Experiment, Workspace
    from .submitting import submit

    folder = options.folder or "."
    try:
        asked = _asked(options, line)
        source = _configured(folder, asked)
    except UserError as error:
        options.parser.error(str(error))  # wrong usage: nothing has been asked of the studio yet
    workspace = Workspace.from_config()
    experiment = Experiment(workspace, asked.get("experiment") or _experiment_of(folder))
    bar = Bar()

    def made(run: SubmittedRun) -> None:
        bar.end()
        if not options.json:
            print("Run %s  %s" % (run.number, run.get_portal_url()), flush=True)
        elif not (options.follow or options.wait):
            print_json(run._data)

    try:
        with bar:
            run = submit(
                experiment,
                source,
                asked.get("tags"),
                asked.get("name") or "",
                asked.get("notes") or "",
                bar.told if bar.shown else None,
                made=made,
            )
    except KeyboardInterrupt:
        tell("\nInterrupted. The same command again goes on where this one stopped, and makes one run.")
        raise
    if options.follow or options.wait:
        return _waited(workspace.transport, run.number, options)
    return 0


def _configured(folder: str, asked: Dict[str, Any]) -> ScriptRunConfig:
    from . import distributed
    from .client import RunConfiguration, ScriptRunConfig

    config = RunConfiguration(framework=asked.get("framework"))
    config.target = asked.get("target") or "local"
    config.environment = asked.get("environment") or None
    distributed.read(config, asked.get("distribution", {}), asked.get("spark", {}))
    config.environment_variables = asked.get("variables", {})
    config.secrets = asked.get("secrets", {})
    config.max_run_duration_seconds = asked.get("time_limit")
    config.memory_bytes = asked.get("memory")
    config.gpus = asked.get("gpus", 0)
    config.grace_seconds = asked.get("grace", config.grace_seconds)
    config.priority = asked.get("priority", 0)
    return ScriptRunConfig(
        folder, asked.get("script"), asked.get("arguments"), run_config=config, command=asked.get("command") or None
    )


def _waited(transport: Any, number: int, options: argparse.Namespace) -> int:
    from .following import exit_code, follow, wait

    if options.follow:
        out = sys.stderr.buffer if options.json else sys.stdout.buffer
        follow(transport, number, out)
    run = wait(transport, number, shown=not options.follow)
    if options.json:
        print_json(run)
    return exit_code(run)


def _asked(options: argparse.Namespace, line: Optional[List[str]]) -> Dict[str, Any]:
    """What the file says, with what the command line says over it."""
    from . import runfile
    from .units import seconds, size

    asked: Dict[str, Any] = runfile.read(options.file) if options.file else {}
    for name in ("experiment", "name", "target", "environment", "framework", "gpus", "priority", "notes"):
        if getattr(options, name) is not None:
            asked[name] = getattr(options, name)
    if options.time_limit is not None:
        asked["time_limit"] = seconds("--time-limit", options.time_limit)
    if options.grace is not None:
        asked["grace"] = seconds("--grace", options.grace)
    if options.memory is not None:
        asked["memory"] = size("--memory", options.memory)
    for name in ("variables", "secrets", "tags"):
        given = dict(_pair(name, text) for text in getattr(options, name))
        if given:
            asked[name] = {**asked.get(name, {}), **given}
    _distributed(options, asked)
    if line is not None:
        if not line:
            raise UserError("--: the script is missing behind it, for example: -- train.py --lr 0.1")
        for name in ("script", "arguments", "command"):
            asked.pop(name, None)
        if str(asked.get("framework", "python")).lower() == "command":
            asked["command"] = line
        else:
            asked["script"], asked["arguments"] = line[0], line[1:]
    if not asked.get("script") and not asked.get("command"):
        raise UserError("Name the script to run behind --, for example: runstead run . -- train.py --lr 0.1")
    return asked


def _distributed(options: argparse.Namespace, asked: Dict[str, Any]) -> None:
    counts = {
        "process_count": options.processes,
        "backend": options.backend,
        "worker_count": options.workers,
        "parameter_server_count": options.parameter_servers,
    }
    spark = {
        "conf": dict(_pair("spark_conf", text) for text in options.spark_conf),
        "packages": options.spark_package,
        "repositories": options.spark_repository,
        "deploy_mode": options.deploy_mode,
    }
    given = {name: value for name, value in counts.items() if value is not None}
    if given:
        asked["distribution"] = {**asked.get("distribution", {}), **given}
    told = {name: value for name, value in spark.items() if value}
    if told:
        asked["spark"] = {**asked.get("spark", {}), **told}


def _pair(name: str, text: str) -> Tuple[str, Optional[str]]:
    key, equals, value = text.partition("=")
    if not equals and name == "tags":
        return key, None
    if not equals or not key:
        option = {"variables": "--set", "secrets": "--secret", "tags": "--tag", "spark_conf": "--spark-conf"}[name]
        raise UserError("%s: %r needs the form NAME=VALUE." % (option, text))
    return key, value


def _experiment_of(folder: str) -> str:
    name = os.path.basename(os.path.realpath(folder))
    return re.sub(r"[^A-Za-z0-9_\-]+", "-", name).strip("-_")[:255] or "experiment"
