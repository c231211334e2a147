"""An interpreter, or a conda environment, that is on the target already. Nothing is built; that it works is checked before a run
needs it."""

from environments.builders import conda
from environments.builders.base import Place, Step, step
from environments.definition import Definition


def plan(definition: Definition, place: Place) -> list[Step]:
    if definition.conda_environment:
        return [conda.step(f"Look for the conda environment {definition.conda_environment}", "existing", {})]
    name = definition.interpreter_path or "the machine's own Python 3"
    return [step(f"Check {name}", "interpreter")]
