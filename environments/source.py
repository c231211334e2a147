"""Values of a definition as they are read from a file: what each of them is, and the lines that they are on."""

import difflib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from environments import documents
from environments.definition import Definition, DefinitionError
from environments.documents import Many, Named, Node, Text
from environments.variables import check_variables

FIELDS = {one.name: one.type for one in fields(Definition)}
_EARLIER = re.compile(r"(?<= is already on line )\d+|(?<=\bit is on line )\d+(?= already\b)")

MAX_BAD = 100
"""Nobody reads what is wrong with more fields than this."""

Line = tuple[int, str, str]
"""Number from 1, the line, the rule and the fix."""


class Source:
    """A text while it is read: the values found, the lines they are on, and what is wrong so far."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.lines = text.split("\n")
        self.about: dict[str, str] = {}
        self.values: dict[str, Any] = {"packages": [], "extra_index_urls": []}
        self.notes: list[str] = []
        self.bad: dict[str, list[Line]] = {}
        """Field → what is wrong at which lines."""
        self.elsewhere: dict[str, str] = {}
        """Field → what is wrong and is said by no line."""
        self.at: dict[str, int] = {}
        """Field, or ``field.part`` → its line."""
        self.items: dict[str, list[int]] = {"packages": [], "extra_index_urls": []}
        """Field of several items or lines → the line of each."""

    def refuse(self, name: str, number: int, message: str) -> None:
        self.bad.setdefault(name, []).append((number, self.lines[number - 1].strip()[:200], message))

    def validated(self) -> Definition:
        """What the values make. What the rules refuse is in ``bad``, or in ``elsewhere``, and then the definition is none."""
        wanted: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in self.values.items() if value
        }
        try:
            return Definition(**wanted).validated()
        except DefinitionError as error:
            for name, message in error.errors.items():
                self.place(name, message, error.lines.get(name, []))
            return Definition()

    def place(self, name: str, message: str, lines: Sequence[Line]) -> None:
        """Have what the rules refuse of a field, or of its items, said at the lines of the file."""
        key = self.at.get(name) or self.at.get(name.partition(".")[0], 0)
        if name == "registry.secret":  # what stands for it, where somebody wrote a password instead
            key = self.at.get("registry.password", key)
        if name == "variables" and not lines:
            values: Mapping[str, str] = self.values.get(name, {})
            wrong = next((one for one in values if check_variables({one: values[one]}, {})), "")
            key = self.at.get(f"{name}.{wrong}", key)
        numbers = self.items.get(name, [])

        def number_of(item: int) -> int:
            return numbers[item - 1] if 0 < item <= len(numbers) else key

        found = [(number_of(item), self.said(name, item, wrong, number_of)) for item, _, wrong in lines]
        if not lines:
            found = [(key, message)]
        for number, wrong in found:
            if number:
                self.refuse(name, number, wrong)
            else:
                self.elsewhere[name] = message

    def said(self, name: str, item: int, wrong: str, number_of: Callable[[int], int]) -> str:
        """With the numbers of the file instead of those of the items, where the file has a line for each."""
        if name not in self.items:
            return f"in its line {item}: {wrong}" if item > 1 else wrong
        return _EARLIER.sub(lambda other: str(number_of(int(other[0]))), wrong)

    # Values, of the type that a field has. What has another type is refused at its line, and left out.

    def take(self, root: Named, name: str, node: Node) -> None:
        self.at[name] = root.lines[name]
        readers: Mapping[Any, Callable[[str, Node], Any]] = {
            bool: self.truth_of,
            str: self.text_of,
            tuple[str, ...]: self.texts_of,
            dict[str, str]: self.pairs_of,
            dict[str, list[str]]: self.lists_of,
            dict[str, Any]: self.anything_of,
        }
        self.values[name] = readers[FIELDS[name]](name, node)
        if isinstance(node, Text) and node.literal:
            self.items[name] = [node.line + place for place in range(1, node.value.count("\n") + 2)]

    def known(self, root: Named, names: Collection[str], what: str) -> Iterator[tuple[str, Node]]:
        """The parts of those names that say something."""
        for name, node in root.items.items():
            if len(self.bad) > MAX_BAD:
                return
            if name not in names:
                near = difflib.get_close_matches(name, names, 1)
                hint = f"Did you mean {near[0]}?" if near else f"Use: {', '.join(names)}."
                self.refuse(name[:60], root.lines[name], f"{name[:60]!r} is not {what}. {hint}")
            elif not (isinstance(node, Text) and node.what == "nothing"):
                yield name, node

    def expected(self, name: str, node: Node, what: str, called: str = "") -> None:
        """``called``: what the file calls the field."""
        self.refuse(name, node.line, f"{called or name}: expected {what}, got {node.what}.")

    def truth_of(self, name: str, node: Node) -> bool:
        if isinstance(node, Text) and node.what == "true or false":
            return documents.truth(node)
        self.expected(name, node, "true or false")
        return False

    def text_of(self, name: str, node: Node) -> str:
        """As it is written: ``3.10`` without quotes is a text here."""
        if isinstance(node, Text):
            return node.value
        self.expected(name, node, "a text")
        return ""

    def item_of(self, name: str, node: Node) -> str:
        """A text of a list; empty for what is none."""
        if isinstance(node, Text) and (node.what == "nothing" or not node.value.strip()):
            self.refuse(name, node.line, "an item without a text. Remove it.")
        elif not isinstance(node, Text) or node.what != "a text":
            self.refuse(name, node.line, f"an item must be a text, not {node.what}. Put it in quotes.")
        elif node.last > node.line:
            how = "Have every '-' of a list begin in the same column."
            self.refuse(name, node.line, f"line {node.line + 1} goes on with it. {how}")
        else:
            return node.value
        return ""

    def texts_of(self, name: str, node: Node) -> list[str]:
        if not isinstance(node, Many):
            self.expected(name, node, "a list of texts, one a line behind '- '")
            return []
        found = [(item.line, text) for item in node.items if (text := self.item_of(name, item))]
        self.items[name] = [line for line, _ in found]
        return [text for _, text in found]

    def pairs_of(self, name: str, node: Node) -> dict[str, str]:
        found: dict[str, str] = {}
        for key, item in self.parts_of(name, node):
            if isinstance(item, Text) and item.what == "nothing":
                self.refuse(name, item.line, f"{key[:60]} has no value. Write {key[:60]}: '' for an empty one.")
            else:
                found[key] = self.text_of(f"{name}.{key[:60]}", item)
        return found

    def lists_of(self, name: str, node: Node) -> dict[str, list[str]]:
        return {key: self.texts_of(f"{name}.{key}", item) for key, item in self.parts_of(name, node)}

    def anything_of(self, name: str, node: Node) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, item in self.parts_of(name, node):
            found[key] = documents.plain(item)
            if isinstance(item, Many):
                self.items[f"{name}.{key}"] = [one.line for one in item.items]
        return found

    def parts_of(self, name: str, node: Node) -> Iterator[tuple[str, Node]]:
        if not isinstance(node, Named):
            self.expected(name, node, "names with values, a name: value on each line")
            return
        for key, item in node.items.items():
            self.at[f"{name}.{key}"] = node.lines[key]
            yield key, item
