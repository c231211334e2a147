"""How environments are made. A new kind is a file here, a line below, and a word in ``Definition.builder``."""

from environments.builders import interpreter, venv
from environments.builders.base import Builder, Place, Step

BUILDERS: dict[str, Builder] = {"interpreter": interpreter.plan, "venv": venv.plan}

__all__ = ["BUILDERS", "Builder", "Place", "Step"]
