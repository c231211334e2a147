"""How environments are made. A new kind is a file here, a line below, and a word in ``Definition.builder``. Where runs
are containers, all environments are images."""

from environments.builders import conda, docker_image, interpreter, venv
from environments.builders.base import Builder, Place, Step

BUILDERS: dict[str, Builder] = {
    "conda": conda.plan,
    "docker_image": docker_image.plan,
    "interpreter": interpreter.plan,
    "venv": venv.plan,
}

__all__ = ["BUILDERS", "Builder", "Place", "Step"]
