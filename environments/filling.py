"""The form of an environment, filled in from a file that people have already."""

from dataclasses import dataclass, field

from django.core.files.uploadedfile import UploadedFile

from environments import documents, formats, service_only
from environments.definition import Definition, DefinitionError
from environments.forms import parse_variables, typed

MAX_SHOWN = 100
WORDS = {
    "requirements": "a requirements file",
    "conda": "a conda file",
    "dockerfile": "a Dockerfile",
    "definition": "an environment's definition",
}


@dataclass(frozen=True)
class Filled:
    """What a text said, or why it cannot be read."""

    text: str = ""
    """As it came; only of what could not be read, to be mended and sent again."""
    file_name: str = ""
    """Of what could not be read."""
    definition: Definition | None = None
    name: str = ""
    description: str = ""
    what: str = ""
    """Words for what was read."""
    errors: list[str] = field(default_factory=list)
    """Where there are lines, the first is about them."""
    lines: list[tuple[int, str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def fill(text: str, file: "UploadedFile[bytes] | None", file_name: str = "") -> Filled:
    """The definition that a file or a pasted text stands for. ``file_name``: of the file that the text was in, if any; a file that
    is sent itself has its own name, and comes before the text."""
    data: str | bytes = text
    if file is not None:
        # One byte more says that it is too large, and more need not be read.
        data, file_name = file.read(documents.MAX_BYTES + 1), file.name or ""
    elif not text.strip():
        return Filled(errors=["Choose a file, or paste its text here."])
    try:
        read = formats.read(data, file_name=file_name)
    except formats.FormatError as error:
        errors = list(error.elsewhere.values())
        if error.lines:
            errors.insert(0, f"{len(error.lines)} of the lines cannot be used.")
        if len(error.lines) > MAX_SHOWN:
            errors.append(f"{len(error.lines):,} lines cannot be used; these are the first {MAX_SHOWN}.")
        return Filled(text=shown(data), file_name=file_name, errors=errors, lines=error.lines[:MAX_SHOWN])
    words = WORDS[read.kind]
    return Filled(
        definition=read.definition,
        name=read.name,
        description=read.description,
        what=f"{file_name}, read as {words}" if file_name else words,
        notes=read.notes + untypable(read.definition) + [note for note in [service_only.note(read.definition)] if note],
    )


def untypable(definition: Definition) -> list[str]:
    """What the form shows otherwise than it was read."""
    try:
        if parse_variables(typed(definition)["variables"]) == definition.variables:
            return []
    except DefinitionError:  # a line of a value that looks like no variable
        pass
    return [
        "A variable has several lines, or spaces at its ends, which cannot be typed here: look it over, or register the file with "
        "runstead envs register."
    ]


def shown(data: str | bytes) -> str:
    """A text to mend; nothing of what is no text, or too large to be mended in a form."""
    if len(data) > documents.MAX_BYTES:
        return ""
    if isinstance(data, str):
        return data
    try:
        return documents.decoded(data)
    except documents.DocumentError:
        return ""
