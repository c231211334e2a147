"""An environment of conda packages, with pip packages above them. What makes it is found on the target; see ``on_conda``."""

from environments.builders.base import ON_CONDA, Place, Step
from environments.definition import Definition


def plan(definition: Definition, place: Place) -> list[Step]:
    env = {
        "UV_CACHE_DIR": f"{place.root}/cache/uv",
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_NO_PROGRESS": "1",
        "PIP_CACHE_DIR": f"{place.root}/cache/pip",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_PROGRESS_BAR": "off",
    }
    count, pip = len(definition.conda_packages), len(definition.packages)
    what = f" with {count} {'package' if count == 1 else 'packages'} and what they need" if count else ""
    steps = [step(f"Create a conda environment{what}", "create", env)]
    if pip:
        steps.append(step(f"Resolve {pip} pip {'package' if pip == 1 else 'packages'} above it", "resolve", env))
        steps.append(
            step(f"Install {'it' if pip == 1 else 'them'} with {'uv' if place.tool('uv') else 'pip'}", "install", env)
        )
    steps.append(step("Record what was installed", "record", env))
    return steps


def step(title: str, verb: str, env: dict[str, str]) -> Step:
    """A step that runs a verb of ``on_conda`` under the target's own Python."""
    return {"title": title, "argv": ["python3", "-c", ON_CONDA, verb], "env": env, "cwd": "."}
