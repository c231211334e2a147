"""A definition as it is written elsewhere: as YAML that the form and the command line take, as JSON of the API, as Python."""

import json
from typing import Any

from environments.definition import Definition
from environments.formats import to_yaml
from environments.target_forms import as_size

WIDTH = 88


def of_version(name: str, description: str, definition: Definition) -> list[tuple[str, str]]:
    """Language → text. Names of secrets are in it, never a value of one."""
    data = {"name": name, "description": description, "definition": definition.to_json()}
    if not description:
        del data["description"]
    return [
        ("YAML", to_yaml(definition, name=name, description=description)),
        ("JSON", json.dumps(data, indent=2, ensure_ascii=False)),
        ("Python", to_python(name, definition)),
    ]


def to_python(name: str, definition: Definition) -> str:
    """A program that registers the same definition."""
    lines: list[str] = []
    names = {"Environment", "Workspace"}
    if definition.conda_environment:
        lines.append(f"env.python.conda_environment = {definition.conda_environment!r}")
    elif definition.user_managed:
        lines.append("env.python.user_managed_dependencies = True")
        if definition.interpreter_path:
            lines.append(f"env.python.interpreter_path = {definition.interpreter_path!r}")
    else:
        lines += dependencies(definition)
        names.add("CondaDependencies")
    if definition.base_image:
        lines.append(f"env.docker.base_image = {definition.base_image!r}")
    if definition.dockerfile:
        lines.append(f"env.docker.base_dockerfile = {long_text(definition.dockerfile)}")
    if definition.registry:
        names.add("ContainerRegistry")
        parts = ", ".join(f"{part}={value!r}" for part, value in definition.registry.items())
        lines.append(f"env.docker.base_image_registry = ContainerRegistry({parts})")
    if shm := definition.docker.get("shm_bytes"):
        lines.append(f"env.docker.shm_size = {shm}  # {as_size(shm)}")
    if arguments := definition.docker.get("arguments"):
        lines.append(f"env.docker.arguments = {listed(arguments)}")
    lines += [f"env.spark.{part} = {listed(values)}" for part, values in definition.spark.items()]
    if definition.variables:
        pairs = [f"{variable!r}: {value!r}" for variable, value in definition.variables.items()]
        lines.append(f"env.environment_variables = {joined('{', pairs, '}')}")
    head = f"from runstead import {', '.join(sorted(names))}\n\nws = Workspace.from_config()\nenv = Environment({name!r})\n"
    return head + "".join(f"{line}\n" for line in lines) + "env.register(ws)\n"


def dependencies(definition: Definition) -> list[str]:
    """The lines about packages."""
    given: dict[str, Any] = {
        "python_version": definition.python_version,
        "conda_packages": list(definition.conda_packages),
        "pip_packages": list(definition.packages),
        "pip_indexurl": definition.index_url,
    }
    arguments = [
        f"{part}={listed(value, 4) if isinstance(value, list) else repr(value)}"
        for part, value in given.items()
        if value
    ]
    lines = [
        f"env.python.conda_dependencies = CondaDependencies.create{joined('(', arguments, ')')}",
        *(f"env.python.conda_dependencies.add_channel({channel!r})" for channel in definition.conda_channels),
    ]
    if definition.extra_index_urls:
        lines.append(f"env.python.conda_dependencies.extra_index_urls = {listed(definition.extra_index_urls)}")
    if definition.index_secret:
        lines.append(f"env.python.conda_dependencies.index_secret = {definition.index_secret!r}")
    return lines


def listed(values: Any, indent: int = 0) -> str:
    return joined("[", [repr(value) for value in values], "]", indent)


def joined(before: str, parts: list[str], after: str, indent: int = 0) -> str:
    """On one line where that is short, else one part a line."""
    text = f"{before}{', '.join(parts)}{after}"
    if len(text) + indent <= WIDTH - 32 and "\n" not in text:
        return text
    pad = " " * indent
    return f"{before}\n" + "".join(f"{pad}    {part},\n" for part in parts) + f"{pad}{after}"


def long_text(text: str) -> str:
    """A text of several lines, which means the same when it is read back."""
    shown = text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    return f'"""\\\n{shown}"""' if "\n" in text and not shown.endswith('"') else repr(text)
