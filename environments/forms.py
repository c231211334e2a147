"""What people type about environments, checked with the same rules as the API."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from environments.definition import Definition, DefinitionError
from environments.models import Environment
from environments.registry import visible
from studio.workspaces.models import Workspace, name_rule

RESERVED_NAMES = {"new", "builds", "check"}
CURATED_PREFIX = "azureml-"
KINDS = (("packages", "Packages"), ("interpreter", "Existing interpreter"))
MAX_TEXT = 200_000


class EnvironmentForm(forms.Form):
    """A definition as people type it. ``lines`` holds what is wrong with single package lines.

    With ``environment`` the form makes its next version: the name is settled then.
    """

    name = forms.CharField(max_length=255, required=False)
    description = forms.CharField(max_length=500, required=False)
    kind = forms.ChoiceField(choices=KINDS, initial="packages")
    python_version = forms.CharField(max_length=20, required=False)
    packages = forms.CharField(max_length=MAX_TEXT, required=False, strip=False)
    interpreter_path = forms.CharField(max_length=4096, required=False)
    variables = forms.CharField(max_length=MAX_TEXT, required=False, strip=False)

    def __init__(self, workspace: Workspace, environment: Environment | None, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.workspace = workspace
        self.environment = environment
        self.lines: list[tuple[int, str, str]] = []
        self.definition: Definition | None = None

    def clean_name(self) -> str:
        name = str(self.cleaned_data["name"])
        if self.environment is not None:
            return self.environment.name
        if not name:
            raise ValidationError("Name the environment, for example vision-3.")
        name_rule(name)
        if name.lower() in RESERVED_NAMES:
            raise ValidationError(f"'{name}' is an address of the studio itself. Choose another name.")
        if name.lower().startswith(CURATED_PREFIX):
            raise ValidationError(
                "Names that begin with AzureML- are those of curated environments. Choose another one."
            )
        taken = visible(self.workspace).filter(name__iexact=name).first()
        if taken is not None:
            where = "a curated environment" if taken.curated else "in this workspace already"
            raise ValidationError(f"{taken.name} is {where}. Choose another name, or make a new version of it.")
        return name

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        # What belongs to the other kind may be left typed in; it is hidden, and not part of this definition.
        interpreter = data.get("kind") == "interpreter"
        variables: dict[str, str] = {}
        try:
            variables = parse_variables(str(data.get("variables", "")))
        except DefinitionError as error:
            self.add_error("variables", error.errors["variables"])
        try:
            self.definition = Definition(
                user_managed=interpreter,
                interpreter_path=str(data.get("interpreter_path", "")).strip() if interpreter else "",
                python_version="" if interpreter else str(data.get("python_version", "")).strip(),
                packages=() if interpreter else tuple(str(data.get("packages", "")).splitlines()),
                variables=variables,
            ).validated()
        except DefinitionError as error:
            self.lines = error.lines
            for field, message in error.errors.items():
                self.add_error(field, message)
        return data


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
    return {
        "kind": "interpreter" if definition.user_managed else "packages",
        "python_version": definition.python_version,
        "packages": "\n".join(definition.packages),
        "interpreter_path": definition.interpreter_path,
        "variables": "\n".join(f"{name}={value}" for name, value in definition.variables.items()),
    }
