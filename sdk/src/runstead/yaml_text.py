"""YAML as text: written here, so that nothing has to be installed for it; read by PyYAML."""

from __future__ import annotations

import json
import os
import re

from .errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, List

LARGEST = 1_000_000
_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*\Z")
_WORDS = ("y", "n", "yes", "no", "on", "off", "true", "false", "null", "none", "nan")


def write(value: Any) -> str:
    """The text of a dict of texts, numbers, truth values, None, lists and dicts."""
    return "\n".join(_block(value, "")) + "\n"


def _block(value: Any, indent: str) -> List[str]:
    lines: List[str] = []
    if isinstance(value, dict):
        for key, item in value.items():
            lines += _item("%s%s:" % (indent, _scalar(str(key))), item, indent + "  ")
    else:
        for item in value:
            lines += _item(indent + "-", item, indent + "  ")
    return lines


def _item(start: str, item: Any, indent: str) -> List[str]:
    if isinstance(item, (dict, list, tuple)):
        if item:
            return [start, *_block(item, indent)]
        return [start + (" {}" if isinstance(item, dict) else " []")]
    return ["%s %s" % (start, _scalar(item))]


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        plain = _PLAIN.match(value) and value.lower() not in _WORDS
        return value if plain else '"%s"' % "".join(_escaped(letter) for letter in value)
    text = json.dumps(value)
    if isinstance(value, float) and "e" in text and "." not in text:
        return text.replace("e", ".0e")  # without a point it is a text to YAML
    return text


def _escaped(letter: str) -> str:
    if letter in '"\\':
        return "\\" + letter
    if letter.isprintable():
        return letter
    code = ord(letter)
    return "\\x%02x" % code if code < 256 else "\\u%04x" % code if code < 65536 else "\\U%08x" % code


def read(field: str, path: str) -> Any:
    """What a file holds. `field`: the argument that names it. Raises UserError."""
    try:
        import yaml
    except ImportError:
        raise UserError(
            "%s: reading YAML needs PyYAML, which is not installed here: pip install pyyaml." % field
        ) from None
    try:
        if os.path.getsize(path) > LARGEST:
            raise UserError("%s: %s is larger than 1 MB." % (field, path))
        with open(path, encoding="utf-8") as file:
            text = file.read()
        if re.search(r"^\s*(?:- )?[&*]\S", text, re.M):
            raise UserError("%s: %s holds YAML aliases, which are not taken here." % (field, path))
        return yaml.safe_load(text)
    except OSError as error:
        raise UserError("%s: %s cannot be read: %s." % (field, path, error.strerror)) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError("%s: %s is no YAML: %s." % (field, path, " ".join(str(error).split()))) from None
