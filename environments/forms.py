"""What people type about environments, checked with the same rules as the API."""

from collections.abc import Mapping
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from environments.definition import Definition, DefinitionError
from environments.models import Environment
from environments.registry import visible
from environments.target_forms import as_size, lines_of, parse_size
from studio.workspaces.models import Workspace, name_rule

RESERVED_NAMES = {"new", "builds", "check"}
CURATED_PREFIX = "azureml-"
MAX_TEXT = 200_000

# Kind → its name, and what it means.
KINDS = {
    "packages": ("Packages", "A virtual environment of pip packages, built on the target"),
    "conda": ("Conda", "Channels and conda packages, with pip packages on top"),
    "dockerfile": ("Dockerfile", "An image built from your text, used as it is"),
    "image": ("Existing image", "From a registry or the target's engine, used as it is"),
    "interpreter": ("Existing interpreter", "A Python on the target. You see to its packages"),
    "conda_environment": ("Existing conda environment", "One that is on the target, used as it is"),
}
INDEX = {"index_url", "extra_index_urls", "index_secret"}
REGISTRY = {"registry_address", "registry_username", "registry_secret"}
BASE = {"base_image", "base_dockerfile"}
PIP = {"packages", "python_version"} | INDEX | BASE | REGISTRY
# Kind → the fields that belong to it, beside those of every kind. What belongs to another may be left typed in.
USES: dict[str, set[str]] = {
    "packages": PIP,
    "conda": PIP | {"conda_channels", "conda_packages"},
    "dockerfile": {"dockerfile", "interpreter_path"} | REGISTRY,
    "image": {"image", "interpreter_path"} | REGISTRY,
    "interpreter": {"interpreter_path"},
    "conda_environment": {"conda_environment"},
}
EVERY_KIND = {"shm_size", "docker_arguments", "spark_packages", "spark_repositories", "variables"}
FOLDS = {
    "index": INDEX,
    "image": BASE | REGISTRY,
    "docker": {"shm_size", "docker_arguments"},
    "spark": {"spark_packages", "spark_repositories"},
}
# Where the rules name a field otherwise than the form does; of two places the one that the kind shows.
SHOWN_AT = {
    "base_image": ("image", "base_image"),
    "dockerfile": ("dockerfile", "base_dockerfile"),
    "registry": ("registry_address",),
    "registry.address": ("registry_address",),
    "registry.username": ("registry_username",),
    "registry.secret": ("registry_secret",),
    "docker": ("docker_arguments",),
    "docker.arguments": ("docker_arguments",),
    "docker.shm_bytes": ("shm_size",),
    "spark": ("spark_packages",),
    "spark.packages": ("spark_packages",),
    "spark.repositories": ("spark_repositories",),
}


def text(label: str, length: int = 255, *, strip: bool = True) -> forms.CharField:
    return forms.CharField(label=label, max_length=length, required=False, strip=strip)


class EnvironmentForm(forms.Form):
    """A definition as people type it. ``lines`` holds, by field, what is wrong with its single lines.

    With ``environment`` the form makes its next version: the name is settled then.
    """

    name = text("Name")
    description = text("Description", 500)
    kind = forms.ChoiceField(choices=[(value, words[0]) for value, words in KINDS.items()], initial="packages")
    packages = text("Packages", MAX_TEXT, strip=False)
    python_version = text("Python version", 20)
    conda_channels = text("Channels", 20_000, strip=False)
    conda_packages = text("Conda packages", MAX_TEXT, strip=False)
    conda_environment = text("Conda environment", 4096)
    dockerfile = text("Dockerfile", MAX_TEXT, strip=False)
    image = text("Image", 1000)
    interpreter_path = text("Interpreter", 4096)
    index_url = text("Index address", 2000)
    extra_index_urls = text("Further indexes", 20_000, strip=False)
    index_secret = text("Secret for them")
    base_image = text("Base image", 1000)
    base_dockerfile = text("Or a Dockerfile for it", MAX_TEXT, strip=False)
    registry_address = text("Registry")
    registry_username = text("User")
    registry_secret = text("Password")
    shm_size = text("Shared memory", 40)
    docker_arguments = text("Arguments of docker run", 20_000, strip=False)
    spark_packages = text("Spark packages", 20_000, strip=False)
    spark_repositories = text("Repositories", 20_000, strip=False)
    variables = text("Environment variables", MAX_TEXT, strip=False)

    def __init__(self, workspace: Workspace, environment: Environment | None, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.workspace = workspace
        self.environment = environment
        self.lines: dict[str, list[tuple[int, str, str]]] = {}
        self.definition: Definition | None = None

    @property
    def chosen(self) -> str:
        """The kind that is shown; one that does not exist is none."""
        kind = str(self["kind"].value() or "packages")
        return kind if kind in KINDS else "packages"

    @property
    def problems(self) -> list[tuple[str, str, str]]:
        """Field, its label, and what is wrong: for the summary. What belongs to no field has neither."""
        shown = [(name, str(self.fields[name].label)) if name in self.fields else ("", "") for name in self.errors]
        return [(*where, str(errors[0])) for where, errors in zip(shown, self.errors.values(), strict=True)]

    @property
    def folds(self) -> dict[str, bool]:
        """Whether a folded part says something, and is open."""
        return {part: any(self[name].value() or name in self.errors for name in names) for part, names in FOLDS.items()}

    def clean_name(self) -> str:
        if self.environment is not None:
            return self.environment.name
        return free(self.workspace, str(self.cleaned_data["name"]))

    def clean_index_secret(self) -> str:
        return self.known_secret("index_secret")

    def clean_registry_secret(self) -> str:
        return self.known_secret("registry_secret")

    def known_secret(self, field: str) -> str:
        name = str(self.cleaned_data[field])
        if name and not self.workspace.secrets.filter(name=name).exists():
            raise ValidationError(
                f"There is no secret named {name[:60]!r} in this workspace. Add it in Settings, Secrets."
            )
        return name

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        kind = str(data.get("kind") or "packages")
        # What belongs to another kind may be left typed in; it is hidden, and not part of this definition.
        used = USES[kind] | EVERY_KIND
        for field in set(self.errors) - used - {"name", "description", "kind"}:
            del self.errors[field]
        values = {name: data.get(name, "") if name in used else "" for name in self.fields}
        docker: dict[str, Any] = {}
        variables: dict[str, str] = {}
        if values["shm_size"]:
            try:
                docker["shm_bytes"] = parse_size(values["shm_size"])
            except ValueError as error:
                self.add_error("shm_size", str(error))
        if arguments := lines_of(values["docker_arguments"]):
            docker["arguments"] = arguments
        try:
            variables = parse_variables(values["variables"])
        except DefinitionError as error:
            self.add_error("variables", error.errors["variables"])
        registry = {part: values[f"registry_{part}"] for part in ("address", "username", "secret")}
        spark = {part: lines_of(values[f"spark_{part}"]) for part in ("packages", "repositories")}
        try:
            self.definition = Definition(
                user_managed=kind not in {"packages", "conda"},
                interpreter_path=values["interpreter_path"],
                python_version=values["python_version"],
                packages=tuple(values["packages"].splitlines()),
                index_url=values["index_url"],
                extra_index_urls=tuple(lines_of(values["extra_index_urls"])),
                index_secret=values["index_secret"],
                conda_environment=values["conda_environment"],
                conda_channels=tuple(lines_of(values["conda_channels"])),
                conda_packages=tuple(values["conda_packages"].splitlines()),
                base_image=values["image"] or values["base_image"],
                dockerfile=(values["dockerfile"] or values["base_dockerfile"]).replace("\r\n", "\n"),
                registry={part: value for part, value in registry.items() if value},
                docker=docker,
                spark={part: value for part, value in spark.items() if value},
                variables=variables,
            ).validated()
        except DefinitionError as error:
            self.take(error, kind)
        self.require(kind, values)
        return data

    def take(self, error: DefinitionError, kind: str) -> None:
        """Put what the rules refuse beside the field that shows it."""
        for name, message in error.errors.items():
            places = SHOWN_AT.get(name, (name,))
            field = next((place for place in places if place in USES[kind] | EVERY_KIND), places[0])
            if name in error.lines:
                self.lines[field] = error.lines[name]
            if field not in self.errors:
                self.add_error(field if field in self.fields else None, message)

    def require(self, kind: str, values: Mapping[str, str]) -> None:
        """What a kind cannot do without."""
        needed = {
            "dockerfile": ("dockerfile", "Write or paste the Dockerfile, or choose another kind."),
            "image": ("image", "Name the image, for example python:3.11-slim, or choose another kind."),
            "conda_environment": ("conda_environment", "Name the conda environment, or give its absolute path."),
            "conda": ("conda_packages", "Name a conda package, for example python=3.11, or choose Packages."),
        }
        field, message = needed.get(kind, ("", ""))
        given = values.get(field, "").strip() or (kind == "conda" and values["conda_channels"].strip())
        if field and not given and field not in self.errors:
            self.add_error(field, message)


def free(workspace: Workspace, name: str) -> str:
    """A name that a new environment may have. Raises ValidationError with the rule and the fix."""
    if not name:
        raise ValidationError("Name the environment, for example vision-3.")
    name_rule(name)
    if name.lower() in RESERVED_NAMES:
        raise ValidationError(f"'{name}' is an address of the studio itself. Choose another name.")
    if name.lower().startswith(CURATED_PREFIX):
        raise ValidationError("Names that begin with AzureML- are those of curated environments. Choose another one.")
    taken = visible(workspace).filter(name__iexact=name).first()
    if taken is not None:
        where = "a curated environment" if taken.curated else "in this workspace already"
        raise ValidationError(f"{taken.name} is {where}. Choose another name, or make a new version of it.")
    return name


def parse_variables(text: str) -> dict[str, str]:
    """``NAME=value`` lines. Raises DefinitionError naming the line."""
    found: dict[str, str] = {}
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        name, sign, value = line.partition("=")
        if not sign:
            raise DefinitionError({"variables": f"Line {number}: write NAME=value, for example OMP_NUM_THREADS=4."})
        if name.strip() in found:
            raise DefinitionError({"variables": f"Line {number}: {name.strip()} is given twice. Keep one."})
        found[name.strip()] = value.strip()
    return found


def typed(definition: Definition) -> dict[str, str]:
    """A definition as the form's fields show it."""
    kind = ("dockerfile" if definition.dockerfile else "image") if definition.kind == "image" else definition.kind
    as_it_is = definition.kind == "image"
    return {
        "kind": kind,
        "packages": "\n".join(definition.packages),
        "python_version": definition.python_version,
        "conda_channels": "\n".join(definition.conda_channels),
        "conda_packages": "\n".join(definition.conda_packages),
        "conda_environment": definition.conda_environment,
        "dockerfile": definition.dockerfile if as_it_is else "",
        "base_dockerfile": "" if as_it_is else definition.dockerfile,
        "image": definition.base_image if as_it_is else "",
        "base_image": "" if as_it_is else definition.base_image,
        "interpreter_path": definition.interpreter_path,
        "index_url": definition.index_url,
        "extra_index_urls": "\n".join(definition.extra_index_urls),
        "index_secret": definition.index_secret,
        **{f"registry_{part}": definition.registry.get(part, "") for part in ("address", "username", "secret")},
        "shm_size": as_size(definition.docker.get("shm_bytes")),
        "docker_arguments": "\n".join(definition.docker.get("arguments", ())),
        **{f"spark_{part}": "\n".join(definition.spark.get(part, ())) for part in ("packages", "repositories")},
        "variables": "\n".join(f"{name}={value}" for name, value in definition.variables.items()),
    }
