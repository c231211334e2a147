"""An interpreter that is on the target already. Nothing is built; that it works is checked before a run needs it."""

from environments.builders.base import Place, Step, step
from environments.definition import Definition


def plan(definition: Definition, place: Place) -> list[Step]:
    name = definition.interpreter_path or "the machine's own Python 3"
    return [step(f"Check {name}", "interpreter")]
