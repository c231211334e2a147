"""How a framework forms the command line, and which variables a script finds."""

import re
from collections.abc import Mapping

from runs.config import FRAMEWORKS, ScriptRunConfig
from runs.models import Run

REFERENCE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))")


def expand(argument: str, variables: Mapping[str, str]) -> str:
    """Replace ``$NAME`` and ``${NAME}`` by the run's own variables; leave unknown names alone. There is no
    shell."""
    return REFERENCE.sub(lambda m: variables.get(m[1] or m[2], m[0]), argument)


def argv(config: ScriptRunConfig, python: str, variables: Mapping[str, str]) -> list[str]:
    """The program and its arguments. The script's path is a file's name and is never expanded."""
    line = FRAMEWORKS[config.framework](config, python)
    fixed = len(line) - len(config.arguments) if config.framework == "python" else 1
    return line[:fixed] + [expand(part, variables) for part in line[fixed:]]


def variables(run: Run, config: ScriptRunConfig) -> dict[str, str]:
    """What the script finds in its environment besides its own variables, by the names of the article's
    system."""
    root = run.parent or run
    return {
        **config.variables,
        "AZUREML_RUN_ID": run.uid,
        "AZUREML_ROOT_RUN_ID": root.uid,
        "AZUREML_ARM_WORKSPACE_NAME": run.workspace.slug,
        "AZUREML_ARM_PROJECT_NAME": run.experiment.name,
        "AZUREML_EXPERIMENT_ID": str(run.experiment_id),
        "AZUREML_OUTPUT_DIRECTORY": "outputs",
        "AZUREML_FRAMEWORK": config.framework,
        "AZUREML_COMMUNICATOR": "None",
        "RUNSTEAD_RUN_ID": run.uid,
        "RUNSTEAD_RUN_NUMBER": str(run.number),
        "RUNSTEAD_EXPERIMENT": run.experiment.name,
    }
