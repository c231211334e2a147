"""A virtual environment with pip packages: by uv where the target has it or can be sent it, else by venv and pip. They are resolved
once, and installed from the lock everywhere."""

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
        what = "1 package and what it needs" if count == 1 else f"{count} packages and what they need"
        steps.append(step(f"Resolve {what}", "resolve", env))
        steps.append(step(f"Install {'it' if count == 1 else 'them'} with {'uv' if uv else 'pip'}", "install", env))
    steps.append(step("Record what was installed", "record", env))
    return steps
