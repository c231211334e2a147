"""What is submitted: script, arguments, and how to run them.

The names are those of the article's ``ScriptRunConfig`` and ``RunConfiguration``. Whoever builds one
validates it here, so that a page, the API and a YAML file answer the same to the same mistake.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from environments.variables import check_variables, is_bytes
from runs.distribution import check_distribution, check_spark
from runs.frameworks import FRAMEWORKS
from runs.shell_lines import line_of

MAX_ARGUMENT_BYTES = 100_000  # of one argument; the kernel takes 131,072 with its terminating NUL
MAX_ARGUMENTS_BYTES = 1_000_000
MAX_SECONDS = 365 * 24 * 3600


class ConfigError(ValueError):
    """Bad input: which field, which rule, and how to mend it. ``errors`` maps field → message."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        self.errors = dict(errors)
        super().__init__("; ".join(f"{name}: {message}" for name, message in self.errors.items()))


@dataclass(frozen=True, kw_only=True)
class ScriptRunConfig:
    script: str = ""
    """Path in the snapshot, with ``/``. Empty when ``command`` is given."""
    arguments: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    """The whole command line, instead of script and arguments (framework ``command``)."""
    framework: str = "python"
    distribution: dict[str, Any] = field(default_factory=dict)
    """How many processes: ``process_count``, ``worker_count``, ``parameter_server_count``, ``backend``; see
    ``runs.distribution``."""
    spark: dict[str, Any] = field(default_factory=dict)
    """What Spark is told beyond its target's options, and over them: ``conf``, ``packages``, ``repositories``, ``deploy_mode``."""
    variables: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    """Variable → name of the workspace's secret."""
    max_run_duration_seconds: int | None = None
    memory_bytes: int | None = None
    gpus: int = 0
    """How many GPUs the run is given; it finds them in CUDA_VISIBLE_DEVICES."""
    grace_seconds: int = 10
    """Between asking the script to end and killing it."""

    @property
    def shell_line(self) -> str:
        """The line that a shell on the target runs; empty where none is in between."""
        return line_of(self.command)

    @property
    def words(self) -> tuple[str, ...]:
        """What the program receives, as far as it is known before: of a line for the shell nothing."""
        return self.arguments if self.shell_line else (*self.arguments, *self.command[1:])

    def to_json(self) -> dict[str, Any]:
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read back what ``to_json`` wrote."""
        lists = {name: tuple(data.get(name, ())) for name in ("arguments", "command")}
        return cls(**{**data, **lists})

    def validated(self, files: "Sequence[str] | set[str] | None" = None) -> Self:
        """Return self, distribution and Spark settings in their one form, or raise ConfigError naming every
        wrong field. ``files``: the paths of the snapshot."""
        errors: dict[str, str] = {}
        distribution, spark = dict(self.distribution), dict(self.spark)
        if self.framework not in FRAMEWORKS:
            errors["framework"] = f"{self.framework!r} is not known. Use one of: {', '.join(FRAMEWORKS)}."
        elif self.framework == "command":
            if not self.command:
                errors["command"] = "Framework 'command' needs the command line to run."
            if self.script:
                errors["script"] = "Leave the script empty with framework 'command', or use framework 'python'."
        elif not self.script:
            errors["script"] = "Name the script to run, for example train.py."
        else:
            errors.update(check_script(self.script, files))
        if self.framework in FRAMEWORKS:
            distribution, wrong = check_distribution(self.framework, self.distribution)
            spark, refused = check_spark(self.framework, self.spark)
            errors.update(wrong | refused)
        errors.update(check_arguments("arguments", self.arguments))
        errors.update(check_arguments("command", self.command))
        errors.update(check_variables(self.variables, self.secrets))
        if self.max_run_duration_seconds is not None and not 1 <= self.max_run_duration_seconds <= MAX_SECONDS:
            errors["max_run_duration_seconds"] = "The time limit must be between 1 second and 365 days."
        if self.memory_bytes is not None and not 16 * 1024**2 <= self.memory_bytes <= 2**50:
            errors["memory_bytes"] = "The memory limit must be between 16 MB and 1 PB."
        if not 0 <= self.gpus <= 1024:
            errors["gpus"] = "A run may ask for 0 to 1,024 GPUs."
        if not 0 <= self.grace_seconds <= 3600:
            errors["grace_seconds"] = "The grace must be between 0 and 3,600 seconds."
        if errors:
            raise ConfigError(errors)
        return replace(self, distribution=distribution, spark=spark)


def check_script(script: str, files: "Sequence[str] | set[str] | None") -> dict[str, str]:
    if any(unicodedata.category(c) == "Cc" for c in script):
        return {"script": "The path holds a control character. Rename the file."}
    if script.startswith("/") or "\\" in script or any(part in {"", ".", ".."} for part in script.split("/")):
        return {"script": f"{script!r} must be a path inside the folder, with '/', without '..'."}
    if files is not None and script not in files:
        import difflib  # noqa: PLC0415 only on a mistake

        close = difflib.get_close_matches(script, list(files), n=1, cutoff=0.5)
        hint = f" Did you mean {close[0]}?" if close else ""
        return {"script": f"{script} is not in the snapshot.{hint}"}
    return {}


def check_arguments(name: str, values: Sequence[str]) -> dict[str, str]:
    total = 0
    for position, value in enumerate(values, 1):
        if not is_bytes(value):
            return {name: f"Argument {position} holds half of a surrogate pair, which is no text. Type it anew."}
        size = len(value.encode("utf-8", "surrogateescape"))
        total += size + 1
        if "\0" in value:
            return {name: f"Argument {position} holds a NUL, which no program can receive. Remove it."}
        if size > MAX_ARGUMENT_BYTES:
            return {
                name: f"Argument {position} has {size:,} bytes; the limit is {MAX_ARGUMENT_BYTES:,}. Put it in a file."
            }
    if total > MAX_ARGUMENTS_BYTES:
        return {
            name: f"All arguments together have {total:,} bytes; the limit is {MAX_ARGUMENTS_BYTES:,}. Put them in a file."
        }
    return {}
