"""The same run as a command line, as Python and as YAML; and YAML read back into the form.

A snippet names secrets and never holds a value of one: the request does not know them.
"""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from runs.config import ScriptRunConfig
from runs.distribution import COUNTS, process_count
from runs.shell_lines import command, spelled
from runs.shellwords import QuoteError
from runs.units import duration_text, parse_duration, parse_size, size_text

DEFAULT_GRACE = ScriptRunConfig.grace_seconds
# Fields of ``distribution`` → options of the command line.
DISTRIBUTION = {
    "process_count": "--processes",
    "backend": "--backend",
    "worker_count": "--workers",
    "parameter_server_count": "--parameter-servers",
}
WIDTH = 46
MAX_YAML = 256 * 1024
MAX_ITEMS = 10_000
SURROGATE = re.compile("[\ud800-\udfff]")
UNPLAIN = re.compile("[\x00-\x1f\x7f-\xa0\u2028\u2029\ufeff]")
PLAIN = re.compile(r"[A-Za-z0-9._-]+\Z")


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """What a person asks for, in the words of the command line."""

    experiment: str
    target: str
    environment: str
    """``name:version``."""
    config: ScriptRunConfig
    name: str = ""
    tags: Mapping[str, str | None] = field(default_factory=dict)
    notes: str = ""
    priority: int = 0
    folder: str = ""
    """The project folder's name; the snippets expect it below the working directory."""

    @property
    def source(self) -> str:
        """The folder as the snippets name it; anything but a plain name is left to the reader as ``.``."""
        return f"./{self.folder}" if PLAIN.match(self.folder) and self.folder not in {".", ".."} else "."


def cli_options(request: RunRequest) -> list[list[str]]:
    """The options of ``runstead run``, each with its value."""
    config = request.config
    options = [["--experiment", request.experiment]]
    if request.name:
        options.append(["--name", request.name])
    options.append(["--target", request.target])
    options.append(["--env", request.environment])
    if config.framework != "python":
        options.append(["--framework", config.framework])
    options += [
        [option, str(config.distribution[name])] for name, option in DISTRIBUTION.items() if name in config.distribution
    ]
    options += [["--spark-conf", f"{name}={value}"] for name, value in config.spark.get("conf", {}).items()]
    options += [["--spark-package", value] for value in config.spark.get("packages", [])]
    options += [["--spark-repository", value] for value in config.spark.get("repositories", [])]
    options.append(["--deploy-mode", config.spark.get("deploy_mode", "")])
    options += [["--set", f"{name}={value}"] for name, value in config.variables.items()]
    options += [["--secret", f"{name}={secret}"] for name, secret in config.secrets.items()]
    options += [["--tag", name if value is None else f"{name}={value}"] for name, value in request.tags.items()]
    if config.max_run_duration_seconds is not None:
        options.append(["--time-limit", duration_text(config.max_run_duration_seconds, "")])
    if config.memory_bytes is not None:
        options.append(["--memory", size_text(config.memory_bytes, "")])
    if config.gpus:
        options.append(["--gpus", str(config.gpus)])
    if config.grace_seconds != DEFAULT_GRACE:
        options.append(["--grace", duration_text(config.grace_seconds, "")])
    if request.priority:
        options.append(["--priority", str(request.priority)])
    options.append(["--notes", request.notes])
    return [option for option in options if option[1]]


def cli_argv(request: RunRequest) -> list[str]:
    """The whole command line as a program receives it."""
    options = [part for option in cli_options(request) for part in _joined(option)]
    return ["runstead", "run", request.source, *options, "--", *_line(request.config)]


def _line(config: ScriptRunConfig) -> list[str]:
    """What stands behind ``--``."""
    if not config.command:
        return [config.script, *config.arguments]
    found = spelled(config.command)
    return [found] if isinstance(found, str) else found


def _joined(option: list[str]) -> list[str]:
    # A value that looks like an option would be taken for one.
    return [f"{option[0]}={option[1]}"] if option[1].startswith("-") else option


def cli(request: RunRequest) -> str:
    """The command line for a POSIX shell, one option a line."""
    rows = [shlex.join(["runstead", "run", request.source])]
    rows += ["  " + shlex.join(_joined(option)) for option in cli_options(request)]
    rows += _wrapped("  -- ", "     ", [shlex.quote(word) for word in _line(request.config)])
    return " \\\n".join(rows)


def _wrapped(first: str, rest: str, words: list[str]) -> list[str]:
    rows: list[str] = []
    row = ""
    for word in words:
        if row and len(row) + len(word) >= WIDTH:
            rows.append(row)
            row = ""
        row = f"{row} {word}" if row else word
    rows.append(row)
    return [(first if not number else rest) + row for number, row in enumerate(rows)]


def python(request: RunRequest) -> str:
    """The same run with the ``runstead`` package."""
    config = request.config
    name, _, version = request.environment.partition(":")
    fields = [("source_directory", repr(request.source))]
    if config.framework == "command":
        found = spelled(config.command)
        fields.append(("command", repr(found) if isinstance(found, str) else _listed(tuple(found))))
    else:
        fields.append(("script", repr(config.script)))
        if config.arguments:
            fields.append(("arguments", _listed(config.arguments)))
    fields.append(("compute_target", repr(request.target)))
    fields.append(("environment", f"Environment.get(ws, {name!r}, version={version!r})"))
    if job := _distributed(config):
        fields.append(("distributed_job_config", job))
    # Said in any case: left out, it is thirty days there.
    fields.append(("max_run_duration_seconds", repr(config.max_run_duration_seconds)))
    names = sorted({"Environment", "Experiment", "ScriptRunConfig", "Workspace", job.partition("(")[0]} - {""})
    rows = [
        f"from runstead import {', '.join(names)}",
        "",
        "ws = Workspace.from_config()",
    ]
    rows += ["config = ScriptRunConfig(", *(f"    {name}={value}," for name, value in fields), ")"]
    if config.framework == "pyspark":
        rows.append('config.run_config.framework = "PySpark"')
        for name, value in config.spark.items():
            rows.append(f"config.run_config.spark.{'configuration' if name == 'conf' else name} = {value!r}")
    for label, values in (("environment_variables", config.variables), ("secrets", config.secrets)):
        if values:
            rows.append(f"config.run_config.{label} = {values!r}")
    if config.memory_bytes is not None:
        rows.append(f"config.run_config.memory_bytes = {config.memory_bytes!r}")
    if config.gpus:
        rows.append(f"config.run_config.gpus = {config.gpus!r}")
    if config.grace_seconds != DEFAULT_GRACE:
        rows.append(f"config.run_config.grace_seconds = {config.grace_seconds!r}")
    if request.priority:
        rows.append(f"config.run_config.priority = {request.priority!r}")
    extra = ""
    if request.tags:
        extra += f", tags={dict(request.tags)!r}"
    if request.name:
        extra += f", display_name={request.name!r}"
    if request.notes:
        extra += f", notes={request.notes!r}"
    rows.append(f"run = Experiment(ws, {request.experiment!r}).submit(config{extra})")
    rows.append("run.wait_for_completion(show_output=True)")
    return "\n".join(rows)


def _distributed(config: ScriptRunConfig) -> str:
    """The configuration object of a distributed run, by the names of the reference."""
    given = config.distribution
    if config.framework == "mpi":
        return f"MpiConfiguration(process_count_per_node={process_count(given, config.gpus)})"
    names = {
        "pytorch": {"communication_backend": "backend", "process_count": "process_count"},
        "tensorflow": {"worker_count": "worker_count", "parameter_server_count": "parameter_server_count"},
    }.get(config.framework)
    if names is None:
        return ""
    parts = ", ".join(f"{theirs}={given[ours]!r}" for theirs, ours in names.items() if ours in given)
    return f"{'PyTorch' if config.framework == 'pytorch' else 'Tensorflow'}Configuration({parts})"


def _listed(words: tuple[str, ...]) -> str:
    flat = "[" + ", ".join(map(repr, words)) + "]"
    if len(flat) <= WIDTH:
        return flat
    return "[\n" + "".join(f"        {word!r},\n" for word in words) + "    ]"


def to_mapping(request: RunRequest) -> dict[str, Any]:
    """What YAML holds; only what is set."""
    config = request.config
    limit, memory = config.max_run_duration_seconds, config.memory_bytes
    found = {
        "experiment": request.experiment,
        "name": request.name,
        "target": request.target,
        "environment": request.environment,
        "framework": config.framework,
        "distribution": dict(config.distribution),
        "spark": dict(config.spark),
        "script": config.script,
        "arguments": list(config.arguments),
        "command": spelled(config.command),
        "variables": dict(config.variables),
        "secrets": dict(config.secrets),
        "tags": dict(request.tags),
        "time_limit": None if limit is None else duration_text(limit),
        "memory": None if memory is None else size_text(memory),
        "gpus": config.gpus,
        "grace": duration_text(config.grace_seconds) if config.grace_seconds != DEFAULT_GRACE else None,
        "priority": request.priority,
        "notes": request.notes,
    }
    return {name: value for name, value in found.items() if value}


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # YAML has more line breaks than people know of; only double quotes keep all of them apart.
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if UNPLAIN.search(text) else None)


_Dumper.add_representer(str, _represent)


def yaml_text(request: RunRequest) -> str:
    """The same run as a file, its first line the command that takes it."""
    head = f"# {shlex.join(['runstead', 'run', request.source, '--file', 'run.yaml'])}\n"
    return head + yaml.dump(
        to_mapping(request), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100, indent=2
    )


class YamlError(ValueError):
    """YAML that does not describe a run: where, which rule, how to mend it."""


def from_yaml(text: str) -> dict[str, Any]:
    """Read what ``yaml_text`` wrote, or what a person wrote in its manner: the fields that are given, each of its type.

    ``time_limit`` and ``memory`` come as seconds and bytes. Raises YamlError.
    """
    if len(text) > MAX_YAML:
        raise YamlError(f"The YAML has {len(text):,} characters; the limit is {MAX_YAML:,}. Put long values in a file.")
    try:
        data = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"Line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise YamlError(f"{where}{error.problem or error.context}. Correct it and try again.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise YamlError(f"This is no YAML that can be read ({type(error).__name__}).") from None
    if not isinstance(data, dict):
        raise YamlError("Begin with field: value lines, for example 'script: train.py'.")
    unknown = [str(name) for name in data if name not in READERS]
    if unknown:
        raise YamlError(f"{unknown[0][:60]!r} is not a field of a run. Use: {', '.join(READERS)}.")
    found = {name: READERS[name](name, value) for name, value in data.items() if value is not None}
    if SURROGATE.search(repr_text(found)):
        raise YamlError("A text holds half of a surrogate pair, which is no character. Remove it.")
    return found


def repr_text(value: Any) -> str:
    """All texts in a value, one after the other."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return "".join(repr_text(part) for pair in value.items() for part in pair)
    if isinstance(value, list):
        return "".join(map(repr_text, value))
    return ""


def _text(name: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise YamlError(f"{name}: expected a text, got {_kind(value)}. Put it in quotes.")
    return str(value)


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise YamlError(f"{name}: expected a whole number, got {_kind(value)}.")
    return value


def _words(name: str, value: Any) -> list[str]:
    if not isinstance(value, list):
        raise YamlError(f"{name}: expected a list, one item a line beginning with '-', got {_kind(value)}.")
    if len(value) > MAX_ITEMS:
        raise YamlError(f"{name}: {len(value):,} items; the limit is {MAX_ITEMS:,}.")
    return [_text(f"{name}, item {number}", item) for number, item in enumerate(value, 1)]


def _command(name: str, value: Any) -> list[str]:
    try:
        return list(command(value if isinstance(value, str) else _words(name, value)))
    except QuoteError as error:
        raise YamlError(f"{name}: {error}") from None


def _pairs(name: str, value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise YamlError(f"{name}: expected NAME: value lines, got {_kind(value)}.")
    return {_text(name, key): _text(f"{name}.{key}", item) for key, item in value.items()}


def _object(name: str, value: Any) -> dict[str, Any]:
    """``distribution`` or ``spark``; what their fields may hold is checked with the rest of the run."""
    if not isinstance(value, dict):
        raise YamlError(f"{name}: expected name: value lines, got {_kind(value)}.")
    found: dict[str, Any] = {}
    for key, item in value.items():
        reader = OBJECTS[name].get(key)
        if reader is None:
            raise YamlError(f"{name}: {str(key)[:60]!r} is not known. Use: {', '.join(OBJECTS[name])}.")
        if item is not None:
            found[key] = reader(f"{name}.{key}", item)
    return found


def _tags(name: str, value: Any) -> dict[str, str | None]:
    if isinstance(value, list):
        return dict.fromkeys(_words(name, value))
    if not isinstance(value, dict):
        raise YamlError(f"{name}: expected name: value lines or a list, got {_kind(value)}.")
    return {_text(name, key): None if item is None else _text(f"{name}.{key}", item) for key, item in value.items()}


def _seconds(name: str, value: Any) -> int:
    try:
        return _whole(name, value) if not isinstance(value, str) else parse_duration(value)
    except ValueError as error:
        raise YamlError(f"{name}: {error}" if not isinstance(error, YamlError) else str(error)) from None


def _bytes(name: str, value: Any) -> int:
    try:
        return _whole(name, value) if not isinstance(value, str) else parse_size(value)
    except ValueError as error:
        raise YamlError(f"{name}: {error}" if not isinstance(error, YamlError) else str(error)) from None


def _kind(value: Any) -> str:
    names = {dict: "a mapping", list: "a list", bool: "true or false", str: "a text", type(None): "nothing"}
    return names.get(type(value), f"a value of type {type(value).__name__}")


OBJECTS: dict[str, dict[str, Any]] = {
    "distribution": {**dict.fromkeys(COUNTS, _whole), "backend": _text},
    "spark": {"conf": _pairs, "packages": _words, "repositories": _words, "deploy_mode": _text},
}
READERS: dict[str, Any] = {
    "experiment": _text, "name": _text, "target": _text, "environment": _text, "framework": _text, "script": _text,
    "distribution": _object, "spark": _object, "arguments": _words, "command": _command, "variables": _pairs, "secrets": _pairs, "tags": _tags, "time_limit": _seconds,
    "memory": _bytes, "gpus": _whole, "grace": _seconds, "priority": _whole, "notes": _text,
}  # fmt: skip
