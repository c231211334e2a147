"""A virtual environment with pip packages: by uv where the target has it, else by venv and pip."""

from environments.builders.base import Place, Step, step
from environments.definition import Definition


def plan(definition: Definition, place: Place) -> list[Step]:
    uv = place.tool("uv")
    env = {
        "UV_CACHE_DIR": f"{place.root}/cache/uv",
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_NO_PROGRESS": "1",
        "PIP_CACHE_DIR": f"{place.root}/cache/pip",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_PROGRESS_BAR": "off",
    }
    python = f"Python {definition.python_version}" if definition.python_version else "the machine's own Python 3"
    count = len(definition.packages)
    steps = [step(f"Create a virtual environment with {python}", "create", env)]
    if count:
        title = (
            f"Install {count} {'package' if count == 1 else 'packages'} and what they need with {'uv' if uv else 'pip'}"
        )
        steps.append(step(title, "install", env))
    steps.append(step("Record what was installed", "record", env))
    return steps
