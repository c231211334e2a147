"""Files that people have already, read as definitions: requirements.txt, environment.yml, Dockerfiles, and a definition's own YAML
or JSON. No Django: the form, the API and the command line read the same. What is wrong is named at the line of the file.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from environments import conda, documents
from environments.definition import Definition
from environments.documents import DocumentError, Many, Named, Node
from environments.requirements import without_comment
from environments.source import FIELDS, Line, Source

KINDS = ("requirements", "conda", "dockerfile", "definition")
CONDA_FIELDS = ("name", "channels", "dependencies", "variables", "prefix")
ABOUT = ("name", "description")
EXAMPLE_INDEX = "--index-url https://host/simple"
EMPTY = "The text is empty. Choose another file, or paste its lines."

_INSTRUCTION = re.compile(
    r"(?i:FROM|ARG)\s+\S|(?:ADD|CMD|COPY|ENTRYPOINT|ENV|LABEL|RUN|USER|WORKDIR|SHELL)\s+[^\s=<>!~;@#]"
)
_NAMED = re.compile(r"(['\"]?)[A-Za-z_][\w.-]*\1\s*:(\s|\Z)")
_INDEX = re.compile(r"(-i|--index-url|--extra-index-url)(?:\s*=\s*|\s+|\Z)(.*)\Z")
_EXACT_PYTHON = re.compile(r"(?:==)?([23]\.\d{1,2}(?:\.\d{1,3})?)(?:\.\*)?\Z")


class FormatError(ValueError):
    """Bad input. ``lines`` holds (number from 1 in the file, the line, the rule and the fix), and ``by_field`` the same by field.

    ``errors`` maps a field of a definition (or ``name``, ``description``, ``text``, ``format``) → its first message with its line;
    ``elsewhere`` are those of them that are about no line.
    """

    def __init__(self, bad: Mapping[str, Sequence[Line]], elsewhere: Mapping[str, str] | None = None) -> None:
        self.by_field = {name: sorted(lines) for name, lines in bad.items()}
        self.lines = sorted(line for lines in bad.values() for line in lines)
        self.elsewhere = dict(elsewhere or {})
        self.errors = {name: first(lines) for name, lines in self.by_field.items()} | self.elsewhere
        super().__init__("; ".join(f"{name}: {message}" for name, message in self.errors.items()))


def first(lines: Sequence[Line]) -> str:
    number, _, message = lines[0]
    return f"Line {number}: {message}{f' ({len(lines) - 1} more)' if len(lines) > 1 else ''}"


@dataclass(frozen=True, kw_only=True)
class Read:
    """What a text says. ``definition`` is validated; ``kind`` is one of KINDS."""

    kind: str
    definition: Definition
    name: str = ""
    description: str = ""
    notes: list[str] = field(default_factory=list)
    """What was left out or taken for something, in sentences."""


def to_yaml(definition: Definition, *, name: str = "", description: str = "") -> str:
    """YAML that ``read`` takes back: name, description, and the fields of ``Definition.to_json``."""
    about = {"name": name, "description": description}
    return documents.dumped({**{key: value for key, value in about.items() if value}, **definition.to_json()})


def read(text: str | bytes, kind: str = "", file_name: str = "") -> Read:
    """What a file says. Without ``kind`` (one of KINDS) it is known by the file's name, or by what is in it. Raises FormatError."""
    if kind and kind not in KINDS:
        raise FormatError({}, {"format": f"{kind[:40]!r} is not a format. Use {', '.join(KINDS)}, or leave it out."})
    source = Source("")
    try:
        source = Source(documents.decoded(text))
        kind = take(source, kind or guess(source.text, file_name), file_name)
    except DocumentError as error:
        if not error.line:
            raise FormatError({}, {"text": str(error)}) from None
        shown = error.shown or source.lines[min(error.line, len(source.lines)) - 1]
        raise FormatError({"text": [(error.line, shown.strip()[:200], str(error))]}) from None
    definition = source.validated()
    if source.bad or source.elsewhere:
        raise FormatError(source.bad, source.elsewhere)
    return Read(kind=kind, definition=definition, notes=source.notes, **source.about)


def guess(text: str, file_name: str = "") -> str:
    """``requirements`` or ``dockerfile``; empty: YAML or JSON, whose fields will tell."""
    name = re.split(r"[/\\]", file_name)[-1].lower()
    if "dockerfile" in name or "containerfile" in name:
        return "dockerfile"
    if name.endswith((".yml", ".yaml", ".json")):
        return ""
    lines = (line.strip() for line in text.split("\n"))
    begins = next((line for line in lines if line and not line.startswith("#")), "")
    if begins.startswith(("{", "[", "---", "%", "- ")) or _NAMED.match(begins):
        return ""
    return "dockerfile" if _INSTRUCTION.match(begins) else "requirements"


def take(source: Source, kind: str, file_name: str) -> str:
    """Have the source know what its text says; the kind that it is. Raises DocumentError."""
    if not source.text.strip():
        raise DocumentError(0, EMPTY)
    if kind == "requirements":
        for number, line in logical(source.lines):
            take_pip(source, number, line)
        if not source.values["packages"]:
            source.notes.append("It names no packages: the environment is a clean one.")
        return kind
    if kind == "dockerfile":
        source.values |= {"user_managed": True, "dockerfile": source.text}
        source.items["dockerfile"] = list(range(1, len(source.lines) + 1))
        return kind
    is_json = file_name.lower().endswith(".json") or re.match(r'\s*\{\s*["}]', source.text)
    root = documents.of_json(source.text) if is_json else documents.of_yaml(source.text)
    if root is None:
        raise DocumentError(0, EMPTY)
    if not isinstance(root, Named):
        raise DocumentError(
            root.line, f"names with values are expected, not {root.what}. Begin with name: value lines."
        )
    if not kind:
        kind = "conda" if root.items.keys() & {"dependencies", "channels", "prefix"} else "definition"
    (take_conda if kind == "conda" else take_definition)(source, root)
    return kind


def logical(lines: Sequence[str]) -> Iterator[tuple[int, str]]:
    """(number, line) of a requirements file, lines that go on behind a backslash joined; without blank lines and comments."""
    place = 0
    while place < len(lines):
        number, line = place + 1, lines[place]
        place += 1
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        while line.endswith("\\") and place < len(lines) and not lines[place].lstrip().startswith("#"):
            line = f"{line[:-1].rstrip()} {lines[place].strip()}"
            place += 1
        yield number, line.strip()


# What pip takes.


def take_pip(source: Source, number: int, line: str) -> None:
    """A requirement, or the address of an index."""
    option = _INDEX.match(without_comment(line))
    if option is None:
        source.values["packages"].append(line)
        source.items["packages"].append(number)
        return
    address = option[2].strip()
    further = option[1] == "--extra-index-url"
    name = "extra_index_urls" if further else "index_url"
    if not address or " " in address:
        source.refuse(name, number, f"{option[1]} needs one address, and a line of its own: {EXAMPLE_INDEX}.")
    elif further:
        source.at.setdefault(name, number)
        source.values[name].append(address)
        source.items[name].append(number)
        source.notes.append(f"Line {number}: packages may also come from {address}.")
    elif name in source.at:
        source.refuse(
            name, number, f"an index is already on line {source.at[name]}. Keep one; others are --extra-index-url."
        )
    else:
        source.values[name] = address
        source.at[name] = number
        source.notes.append(f"Line {number}: packages come from {address} instead of the target's own index.")


# Conda's file.


def take_conda(source: Source, root: Named) -> None:
    for name, node in source.known(root, CONDA_FIELDS, "a field of a conda file"):
        if name == "name":
            source.about[name] = source.text_of(name, node)
        elif name == "channels":
            take_channels(source, node)
        elif name == "dependencies":
            take_dependencies(source, node)
        elif name == "variables":
            source.at[name] = root.lines[name]
            source.values[name] = source.pairs_of(name, node)
        else:
            source.notes.append(
                f"Line {node.line}: the prefix is left out. Each target has its own folder for environments."
            )
    without_conda(source)


def take_channels(source: Source, node: Node) -> None:
    source.at["conda_channels"] = node.line
    names = source.texts_of("conda_channels", node)
    if "nodefaults" in names:
        lines = source.items["conda_channels"]
        source.items["conda_channels"] = [line for line, name in zip(lines, names, strict=True) if name != "nodefaults"]
        names = [name for name in names if name != "nodefaults"]
        source.notes.append("The channel nodefaults is left out: no channels are used but those that are named.")
    source.values["conda_channels"] = names


def take_dependencies(source: Source, node: Node) -> None:
    if not isinstance(node, Many):
        source.expected("conda_packages", node, "a list, one package a line behind '- '", "dependencies")
        return
    source.at["conda_packages"] = node.line
    kept = source.values["conda_packages"] = []
    numbers = source.items["conda_packages"] = []
    python = 0
    for item in node.items:
        if isinstance(item, Named):
            for name, found in source.known(item, ("pip",), "a list in dependencies"):
                take_pip_list(source, name, found)
            continue
        text = source.item_of("conda_packages", item)
        spec = spec_of(text)
        if spec is not None and spec.name == "python":
            if python:
                source.refuse("conda_packages", item.line, f"python is already on line {python}. Keep one.")
                continue
            python = item.line
            exact = _EXACT_PYTHON.match(spec.version)
            if exact and not spec.channel and not spec.build:
                source.values["python_version"], source.at["python_version"] = exact[1], python
                continue
        if text:
            kept.append(text)
            numbers.append(item.line)


def take_pip_list(source: Source, name: str, node: Node) -> None:
    if not isinstance(node, Many):
        source.expected("packages", node, "a list, one package a line behind '- '", name)
        return
    source.at.setdefault("packages", node.line)
    for item in node.items:
        if text := source.item_of("packages", item).strip():
            take_pip(source, item.line, text)


def without_conda(source: Source) -> None:
    """Where only Python and pip are asked of conda, pip alone makes the same environment, on more targets."""
    kept, numbers = source.values.get("conda_packages", []), source.items.get("conda_packages", [])
    specs = [spec_of(text) for text in kept]
    if all(spec and spec.name in {"python", "pip"} and (spec.name == "pip" or str(spec) == "python") for spec in specs):
        channels = ", and its channels are left out" if source.values.get("conda_channels") else ""
        source.values["conda_packages"] = source.values["conda_channels"] = []
        source.notes.append(
            f"Of conda it asks for nothing but Python and pip: it becomes an environment of pip packages{channels}."
        )
    elif source.values["packages"]:  # what every file says above its list for pip
        source.values["conda_packages"] = [text for text in kept if text != "pip"]
        source.items["conda_packages"] = [number for number, text in zip(numbers, kept, strict=True) if text != "pip"]


# A definition of ours.


def take_definition(source: Source, root: Named) -> None:
    """Name and description beside the fields, or beside ``definition``, which holds them."""
    inner = root.items.get("definition")
    beside = (*ABOUT, "definition") if inner is not None else (*ABOUT, *FIELDS)
    for name, node in source.known(root, beside, "a field of an environment"):
        if name in ABOUT:
            source.about[name] = source.text_of(name, node)
        elif name != "definition":
            source.take(root, name, node)
        elif isinstance(node, Named):
            for part, value in source.known(node, FIELDS, "a field of a definition"):
                source.take(node, part, value)
        else:
            source.expected(name, node, "the fields of a definition")


def spec_of(text: str) -> conda.Spec | None:
    """A conda specification in parts; None for what is none, which the rules will refuse."""
    try:
        return conda.check(text.strip())
    except ValueError:
        return None
