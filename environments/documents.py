"""Texts that people send, as characters; YAML and JSON as trees whose values know their lines; and YAML written.

A definition needs little of YAML, and no more is read: no tags, no anchors, no name twice, no second document. What is refused is
refused at its line while the text is still being read, so that it costs neither time nor memory.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import yaml

MAX_BYTES = 1_000_000
MAX_DEPTH = 12
MAX_NODES = 20_000

# Where libyaml is not there, the same in Python.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MARKS = (
    (b"\xff\xfe\x00\x00", "utf-32"), (b"\x00\x00\xfe\xff", "utf-32"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"),
)  # fmt: skip
# Tabs and line feeds are text. Next line and the separators would be lines to some programs and not to others.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff\ud800-\udfff]")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_WORDS = {"null": "nothing", "bool": "true or false", "int": "a number", "float": "a number"}


class DocumentError(ValueError):
    """``line`` from 1, or 0: the whole text. ``shown``: the line, where the text could not be made characters of."""

    def __init__(self, line: int, message: str, shown: str = "") -> None:
        self.line = line
        self.shown = shown
        super().__init__(message)


def decoded(data: str | bytes) -> str:
    """The characters, with line feeds between lines. Raises DocumentError."""
    if len(data) > MAX_BYTES or (isinstance(data, str) and len(data.encode("utf-8", "surrogatepass")) > MAX_BYTES):
        raise DocumentError(
            0, f"The text is larger than {MAX_BYTES:,} bytes. Send the file that names the packages, and no other."
        )
    text = data if isinstance(data, str) else _characters(data)
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    if wrong := _UNSEEN.search(text):
        what = f"U+{ord(wrong[0]):04X}, a character that cannot be seen. Type the line again"
        if wrong[0] == "\0":
            what = "NUL, which no text has. Send a text file; one in UTF-16 has to be saved as UTF-8"
        raise _at(text, wrong.start(), f"holds {what}.")
    if "\ufffd" in text:
        what = "holds a character that could not be read. Save the file as UTF-8, or type it again."
        raise _at(text, text.index("\ufffd"), what)
    return text


def _at(text: str, place: int, message: str) -> DocumentError:
    start, end = text.rfind("\n", 0, place) + 1, text.find("\n", place)
    shown = text[start : end if end >= 0 else None][:200]
    return DocumentError(text.count("\n", 0, place) + 1, message, _UNSEEN.sub("\ufffd", shown))


def _characters(data: bytes) -> str:
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            raise DocumentError(0, f"The file is not valid {encoding.upper()}. Save it as UTF-8.") from None
        before = data[: error.start].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        start = max(data.rfind(sign, 0, error.start) for sign in (b"\n", b"\r")) + 1
        shown = re.split(rb"[\r\n]", data[start : error.start + 200])[0]
        raise DocumentError(
            before.count(b"\n") + 1,
            f"is not UTF-8: byte {data[error.start]:#04x}. Save the file as UTF-8.",
            shown.decode("utf-8", "replace"),
        ) from None


@dataclass(frozen=True, slots=True)
class Text:
    """A single value, as it is written: ``3.10`` stays ``3.10``."""

    line: int
    value: str
    what: str = "a text"
    """What it would be taken for, in words."""
    literal: bool = False
    """A block behind ``|``: its first line is the one after ``line``."""
    last: int = 0
    """Of a value without quotes: the line on which it ends."""


@dataclass(frozen=True, slots=True)
class Many:
    what: ClassVar[str] = "a list"
    line: int
    items: "list[Node]" = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Named:
    what: ClassVar[str] = "names with values"
    line: int
    items: "dict[str, Node]" = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    """Name → its line."""

    def add(self, key: "Node", value: "Node") -> None:
        if not isinstance(key, Text):
            raise DocumentError(key.line, f"a name is expected before the ':', not {key.what}. Write name: value.")
        if key.value in self.items:
            raise DocumentError(
                key.line, f"{key.value[:60]} is there twice, first on line {self.lines[key.value]}. Keep one."
            )
        self.items[key.value] = value
        self.lines[key.value] = key.line


Node = Text | Many | Named


def plain(node: Node) -> Any:
    """As Python has it. Numbers that are no whole decimal number stay texts."""
    if isinstance(node, Many):
        return [plain(item) for item in node.items]
    if isinstance(node, Named):
        return {name: plain(item) for name, item in node.items.items()}
    if node.what == "a number" and re.fullmatch(r"0|-?[1-9][0-9]{0,17}", node.value):
        return int(node.value)
    if node.what == "true or false":
        return truth(node)
    return None if node.what == "nothing" else node.value


def truth(node: Text) -> bool:
    return node.value.lower() in {"true", "yes", "on"}


class _Counted:
    """How much was read, so that a small text cannot become a large tree."""

    def __init__(self) -> None:
        self.nodes = 0

    def count(self, line: int, depth: int) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise DocumentError(line, f"more than {MAX_NODES:,} values. Remove what is not needed.")
        if depth > MAX_DEPTH:
            raise DocumentError(line, f"nested more than {MAX_DEPTH} levels deep, which no environment is.")


# -- YAML ------------------------------------------------------------------------------------------------------------------


def of_yaml(text: str) -> Node | None:
    """The tree of a text without control characters; None of one that holds nothing. Raises DocumentError."""
    try:
        return _Yaml(text).document()
    except yaml.MarkedYAMLError as error:
        raise _told(error, text.split("\n")) from None
    except yaml.YAMLError as error:
        raise DocumentError(0, f"This is no YAML that can be read: {' '.join(str(error).split())}.") from None


def _line(mark: Any) -> int:
    """PyYAML counts from 0."""
    return int(mark.line) + 1


class _Yaml(_Counted):
    """From events, not from what YAML's own construction makes of them: that would resolve tags and aliases first."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.events: Iterator[yaml.Event] = yaml.parse(text, Loader=_LOADER)

    def document(self) -> Node | None:
        found: Node | None = None
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent) and found is not None:
                raise DocumentError(_line(event.start_mark), "a second document begins here ('---'). Send one.")
            if isinstance(event, yaml.NodeEvent):
                found = self.node(event, 1)
        return found

    def next(self) -> yaml.Event:
        return next(self.events)

    def node(self, event: yaml.Event, depth: int) -> Node:
        line = _line(event.start_mark)
        self.count(line, depth)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise DocumentError(
                line,
                "anchors and aliases (&name, *name) are not read. Write the value itself, a text with & or * in quotes.",
            )
        if getattr(event, "tag", None):
            raise DocumentError(
                line, "tags (!name) are not read. Remove it, or put a text that begins with ! in quotes."
            )
        if isinstance(event, yaml.ScalarEvent):
            return _scalar(event, line)
        if isinstance(event, yaml.SequenceStartEvent):
            many = Many(line)
            while not isinstance(event := self.next(), yaml.SequenceEndEvent):
                many.items.append(self.node(event, depth + 1))
            return many
        named = Named(line)
        while not isinstance(event := self.next(), yaml.MappingEndEvent):
            key = self.node(event, depth + 1)
            named.add(key, self.node(self.next(), depth + 1))
        return named


def _scalar(event: yaml.ScalarEvent, line: int) -> Text:
    value: str = event.value
    if _UNSTORABLE.search(value):
        raise DocumentError(line, "holds NUL or half of a surrogate pair, which no text has. Remove it.")
    if not event.implicit[0]:
        return Text(line, value, literal=event.style == "|")
    known = yaml.SafeLoader.yaml_implicit_resolvers.get(value[:1], [])
    tag = next((tag for tag, pattern in known if pattern.match(value)), "")
    return Text(line, value, _WORDS.get(tag.rpartition(":")[2], "a text"), last=_line(event.end_mark))


def _told(error: yaml.MarkedYAMLError, lines: list[str]) -> DocumentError:
    """YAML's own words are about its grammar. Those that people meet are said with the fix."""
    problem, context = str(error.problem or ""), str(error.context or "")
    mark = error.problem_mark or error.context_mark
    if error.context_mark is not None and ("end of stream" in problem or "could not find expected ':'" in problem):
        mark = error.context_mark
    number = min(_line(mark), len(lines)) if mark else 0
    line = lines[number - 1] if number else ""
    there = line[mark.column : mark.column + 1] if mark else ""
    what = f"this is no YAML: {problem or context}. Correct the line"
    if "cannot start any token" in problem:
        tab = "\t" in line[: len(line) - len(line.lstrip())]
        what = (
            "is indented with a tab. YAML takes spaces only"
            if tab
            else f"{there!r} cannot begin a value. Put the value in quotes"
        )
    elif "mapping values are not allowed" in problem:
        what = "there is a ':' too many, or none on the line before. Put a text that holds ': ' in quotes"
    elif "could not find expected ':'" in problem:
        what = "a ':' is missing. Write name: value, or begin an item of a list with '- '"
    elif "end of stream" in problem:
        what = "what is opened here, a quote or a bracket, is not closed. Close it"
    elif "',' or" in problem:
        opened = f" on line {_line(error.context_mark)}" if error.context_mark else ""
        what = f"a ',' or a closing bracket is missing. The bracket is opened{opened}"
    elif "did not find expected" in problem or "<block end>" in problem:
        what = "does not fit the lines above it. What belongs together begins in the same column"
    return DocumentError(number, f"{what}.")


# -- JSON ------------------------------------------------------------------------------------------------------------------


def of_json(text: str) -> Node:
    """The tree of a text without control characters. Raises DocumentError."""
    return _Json(text).document()


class _Json(_Counted):
    """Python's own reader knows no lines and takes the last of two values of one name."""

    SPACE = re.compile(r"[ \t\n]*")
    WORD = re.compile(r"(?:true|false|null|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)(?![\w.+-])")
    STRINGS = json.JSONDecoder()

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.at = 0
        self.counted = (0, 1)
        """A place, and the line that it is on."""

    def line(self, place: int) -> int:
        before, number = self.counted
        if place < before:
            before, number = 0, 1
        self.counted = (place, number + self.text.count("\n", before, place))
        return self.counted[1]

    def refuse(self, message: str, place: int | None = None) -> DocumentError:
        return DocumentError(self.line(self.at if place is None else place), message)

    def document(self) -> Node:
        found = self.node(1)
        if self.peek():
            raise self.refuse("something follows the end of the JSON. Remove it.")
        return found

    def peek(self) -> str:
        """The next character that is no space; empty at the end."""
        space = self.SPACE.match(self.text, self.at)
        self.at = space.end() if space else self.at
        return self.text[self.at : self.at + 1]

    def node(self, depth: int) -> Node:
        sign = self.peek()
        line = self.line(self.at)
        self.count(line, depth)
        if sign == "{":
            named = Named(line)
            for _ in self.parts("}"):
                if self.peek() != '"':
                    raise self.refuse('a name in quotes is expected here. Write "name": value.')
                key = self.node(depth + 1)
                if self.peek() != ":":
                    raise self.refuse("a ':' is missing. Write \"name\": value.")
                self.at += 1
                named.add(key, self.node(depth + 1))
            return named
        if sign == "[":
            many = Many(line)
            many.items.extend(self.node(depth + 1) for _ in self.parts("]"))
            return many
        if sign == '"':
            return self.string(line)
        word = self.WORD.match(self.text, self.at)
        if word is None:
            raise self.refuse("a value is expected here. Put a text in double quotes.")
        self.at = word.end()
        what = {"true": "true or false", "false": "true or false", "null": "nothing"}.get(word[0], "a number")
        return Text(line, word[0], what)

    def parts(self, end: str) -> Iterator[None]:
        """Once for each part between a bracket and its end, which have commas between them."""
        opened = self.line(self.at)
        self.at += 1
        if self.peek() == end:
            self.at += 1
            return
        while True:
            yield
            sign = self.peek()
            if sign not in {",", end}:
                raise self.refuse(f"a ',' or {end!r} is missing. The bracket is opened on line {opened}.")
            self.at += 1
            if sign == end:
                return

    def string(self, line: int) -> Text:
        try:
            value, self.at = self.STRINGS.raw_decode(self.text, self.at)
        except json.JSONDecodeError as error:
            raise self.refuse(f"{error.msg[0].lower()}{error.msg[1:]} here. Correct the text.", error.pos) from None
        if _UNSTORABLE.search(value):
            raise DocumentError(line, "holds NUL or half of a surrogate pair, which no text has. Remove it.")
        return Text(line, value)


# -- written ---------------------------------------------------------------------------------------------------------------


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def analyze_scalar(self, scalar: str) -> Any:
        analysis = super().analyze_scalar(scalar)
        # PyYAML takes no block for a text with tabs, or with spaces at the end of a line. Dockerfiles have both.
        analysis.allow_block = analysis.allow_block or blockable(scalar)
        return analysis


def _represent(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if blockable(text) else '"' if _ESCAPED.search(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent)
# YAML has more line breaks than people know of; only double quotes keep all of them apart.
_ESCAPED = re.compile("[\x00-\x1f\x7f-\xa0\u2028\u2029\ufeff\ufffd-\uffff]")


def blockable(text: str) -> bool:
    """Whether a block of lines behind ``|`` says exactly this text."""
    first = text.lstrip("\n")
    return "\n" in first and first[0] not in " \t" and not _ESCAPED.search(text.replace("\n", "").replace("\t", ""))


def dumped(data: Any) -> str:
    """YAML that ``of_yaml`` reads back the same; a text of several lines as a block of lines. Halves of surrogate pairs, which YAML
    has not, are refused when it is read."""
    text: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=MAX_BYTES, indent=2)
    # It is only in double quotes; as itself it stands for a character that was lost.
    return text.replace("\ufffd", "\\uFFFD")
