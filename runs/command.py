"""The command line of a run, and which variables its script finds."""

import re
from collections.abc import Mapping
from dataclasses import replace

from runs.config import ScriptRunConfig
from runs.frameworks import FRAMEWORKS, Place
from runs.models import Run

REFERENCE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))")


def expand(argument: str, variables: Mapping[str, str]) -> str:
    """Replace ``$NAME`` and ``${NAME}`` by the run's own variables; leave unknown names alone. There is no
    shell, unless the command is a line for one."""
    return REFERENCE.sub(lambda m: variables.get(m[1] or m[2], m[0]), argument)


def argv(config: ScriptRunConfig, place: Place, variables: Mapping[str, str]) -> list[str]:
    """The program and its arguments. The script's path and the program are files' names and never expanded."""

    def expanded(words: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(expand(word, variables) for word in words)

    # A shell puts variables in itself, and so that their values cannot become commands.
    command = config.command if config.shell_line else config.command[:1] + expanded(config.command[1:])
    return FRAMEWORKS[config.framework].argv(
        replace(config, arguments=expanded(config.arguments), command=command), place
    )


def variables(run: Run, config: ScriptRunConfig) -> dict[str, str]:
    """What the script finds in its environment besides its own variables, by the names of the article's
    system."""
    root = run.parent or run
    framework = FRAMEWORKS[config.framework]
    return {
        **config.variables,
        "AZUREML_RUN_ID": run.uid,
        "AZUREML_ROOT_RUN_ID": root.uid,
        "AZUREML_ARM_WORKSPACE_NAME": run.workspace.slug,
        "AZUREML_ARM_PROJECT_NAME": run.experiment.name,
        "AZUREML_EXPERIMENT_ID": str(run.experiment_id),
        "AZUREML_OUTPUT_DIRECTORY": "outputs",
        "AZUREML_FRAMEWORK": framework.reference,
        "AZUREML_COMMUNICATOR": framework.communicator(config),
        "RUNSTEAD_RUN_ID": run.uid,
        "RUNSTEAD_RUN_NUMBER": str(run.number),
        "RUNSTEAD_EXPERIMENT": run.experiment.name,
    }
