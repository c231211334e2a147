"""A run as a file: the YAML that the studio's New run page shows and accepts."""

from __future__ import annotations

from .errors import UserError
from .units import seconds, size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict

TEXTS = ("experiment", "name", "target", "environment", "framework", "script", "notes")
LISTS = ("arguments", "command")
MAPS = ("variables", "secrets")
OBJECTS = ("distribution", "spark")
FIELDS = (*TEXTS, *LISTS, *MAPS, *OBJECTS, "tags", "time_limit", "memory", "gpus", "grace", "priority")


def read(path: str) -> Dict[str, Any]:
    """The fields that the file sets, each of its type; durations in seconds, sizes in bytes.

    Raises UserError.
    """
    try:
        import yaml
    except ImportError:
        raise UserError("--file: reading YAML needs PyYAML, which is not installed here: pip install pyyaml.") from None
    try:
        with open(path, encoding="utf-8") as file:
            data = yaml.safe_load(file)
    except OSError as error:
        raise UserError("--file: %s cannot be read: %s." % (path, error.strerror)) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError("--file: %s is no YAML: %s." % (path, " ".join(str(error).split()))) from None
    if not isinstance(data, dict):
        raise UserError("--file: %s must hold 'field: value' lines, for example 'script: train.py'." % path)
    return {str(name): _field(str(name), value) for name, value in data.items() if value is not None}


def _field(name: str, value: Any) -> Any:
    if name not in FIELDS:
        import difflib

        close = difflib.get_close_matches(name, FIELDS, n=1)
        hint = "Did you mean %s?" % close[0] if close else "Use: %s." % ", ".join(FIELDS)
        raise UserError("%s: there is no such field. %s" % (name, hint))
    if name in TEXTS:
        return _text(name, value)
    if name == "command" and isinstance(value, str):
        return value
    if name in LISTS:
        if not isinstance(value, list):
            raise UserError("%s: a list is needed, one item a line beginning with '-'." % name)
        return [_text("%s, item %d" % (name, place), item) for place, item in enumerate(value, 1)]
    if name in MAPS:
        if not isinstance(value, dict):
            raise UserError("%s: NAME: value lines are needed." % name)
        return {str(key): _text("%s.%s" % (name, key), item) for key, item in value.items()}
    if name in OBJECTS:
        if not isinstance(value, dict):
            raise UserError("%s: name: value lines are needed." % name)
        return {str(key): item for key, item in value.items()}
    if name == "tags":
        if isinstance(value, list):
            return {_text("tags", item): None for item in value}
        if not isinstance(value, dict):
            raise UserError("tags: name: value lines or a list are needed.")
        return {str(key): None if item is None else _text("tags.%s" % key, item) for key, item in value.items()}
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if name in {"gpus", "priority"} or not isinstance(value, str):
        raise UserError("%s: a whole number is needed, got %r." % (name, value))
    return size(name, value) if name == "memory" else seconds(name, value)


def _text(field: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise UserError("%s: a text is needed, got %r. Put it in quotes." % (field, value))
    return str(value)
