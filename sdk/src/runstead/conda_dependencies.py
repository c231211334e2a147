"""`CondaDependencies`: Python version, conda packages, pip packages, and where they come from."""

from __future__ import annotations

import json
import os
import re

from .errors import UserError
from .needed import file_path
from .warned import warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterator, List, Optional, Sequence, Union

FILE_NAME = "conda_dependencies.yml"
_PYTHON = re.compile(r"(?:[\w.-]+::)?python\s*(?:=|==|\s)\s*(3\.\d{1,2}(?:\.\d{1,3})?)(?:\.?\*)?\Z")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_NO_EFFECT = (
    "--pre",
    "--no-cache-dir",
    "--upgrade",
    "-U",
    "--quiet",
    "-q",
    "--verbose",
    "-v",
    "--no-input",
    "--disable-pip-version-check",
)
_INDEX = ("--index-url", "-i", "--extra-index-url")
# Texts that YAML reads as something else, or that hold what has a meaning in it.
_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./=<>!~+\[\],;*^$ -]*(?:::?[A-Za-z0-9_./-]+)*\Z")


class CondaDependencies:
    """What conda and pip install. Without conda packages and channels only pip is needed, and used."""

    def __init__(self, conda_dependencies_file_path: Union[str, os.PathLike[str], None] = None) -> None:
        """Empty, or as a conda file says. Raises UserError."""
        self.name = ""
        self.python_version = ""
        """3.x or 3.x.y; empty: the target's own Python."""
        self._channels: List[str] = []
        self._conda: List[str] = []
        self._pip: List[str] = []
        self.index_url = ""
        self.extra_index_urls: List[str] = []
        self.index_secret = ""
        """Name of the workspace's secret that holds `user:password` for these addresses."""
        self.variables: Dict[str, str] = {}
        """What the file's `variables` say."""
        if conda_dependencies_file_path is not None:
            self._read(file_path("conda_dependencies_file_path", conda_dependencies_file_path))

    @staticmethod
    def create(
        pip_indexurl: Optional[str] = None,
        pip_packages: Optional[Sequence[str]] = None,
        conda_packages: Optional[Sequence[str]] = None,
        python_version: Optional[str] = None,
        pin_sdk_version: bool = True,
    ) -> CondaDependencies:
        """From lists. `pin_sdk_version` is there for scripts of other systems: nothing of ours is installed. Raises UserError."""
        made = CondaDependencies()
        for text in _texts("conda_packages", conda_packages):
            made.add_conda_package(text)
        for text in _texts("pip_packages", pip_packages):
            made.add_pip_package(text)
        if python_version is not None:
            made._set_python("python_version", python_version)
        if pip_indexurl is not None:
            made.set_pip_index_url(pip_indexurl)
        return made

    # What is in it.

    @property
    def conda_channels(self) -> Iterator[str]:
        return iter(list(self._channels))

    @property
    def conda_packages(self) -> Iterator[str]:
        return iter(list(self._conda))

    @property
    def pip_packages(self) -> Iterator[str]:
        return iter(list(self._pip))

    @property
    def pip_options(self) -> Iterator[str]:
        options = ["--index-url " + self.index_url] if self.index_url else []
        return iter([*options, *("--extra-index-url " + url for url in self.extra_index_urls)])

    def get_python_version(self) -> Optional[str]:
        """`3.11`, or None when the target's own is taken."""
        return self.python_version or None

    @staticmethod
    def merge_requirements(requirements: Sequence[str]) -> List[str]:
        """Requirements of pip with those of one name made one: `numpy>=1.20` and `numpy<2` become `numpy>=1.20,<2`. Raises UserError."""
        made: Dict[str, List[str]] = {}
        for text in _texts("requirements", requirements):
            whole = re.match(r"([A-Za-z0-9][\w.-]*(?:\s*\[[^\]]*\])?)\s*([^;@]*)\Z", text)
            parts = made.setdefault(_named(text) if whole else text, [whole.group(1) if whole else text])
            for one in whole.group(2).split(",") if whole else ():
                _add(parts, one.strip()) if one.strip() else None
        return [parts[0] + ",".join(parts[1:]) for parts in made.values()]

    # How it is changed. Each raises UserError.

    def add_channel(self, channel: str) -> None:
        """Look for packages there too."""
        _add(self._channels, _text("channel", channel, "conda-forge"))

    def remove_channel(self, channel: str) -> None:
        """No longer look there."""
        self._channels = [one for one in self._channels if one != channel]

    def add_conda_package(self, conda_package: str) -> None:
        """A package of conda; one of the same name is replaced. `python=3.11` sets the Python version."""
        text = _text("conda_package", conda_package)
        match = _PYTHON.match(text)
        if match:
            self.python_version = match.group(1)
            return
        self.remove_conda_package(text)
        self._conda.append(text)

    def remove_conda_package(self, conda_package: str) -> None:
        """Leave out the package of this name."""
        name = _named(conda_package)
        self._conda = [one for one in self._conda if _named(one) != name]

    def add_pip_package(self, pip_package: str) -> None:
        """A requirement of pip; one of the same name is replaced. `--index-url URL` sets where packages come from."""
        text = _text("pip_package", pip_package)
        option = re.match(r"(--?[a-z-]+)[\s=]+(\S+)\Z", text)
        if option and option.group(1) in _INDEX:
            if option.group(1) == "--extra-index-url":
                _add(self.extra_index_urls, option.group(2))
            else:
                self.index_url = option.group(2)
            return
        if "://" not in text:
            self.remove_pip_package(text)
        self._pip.append(text)

    def remove_pip_package(self, pip_package: str) -> None:
        """Leave out the requirement of this name."""
        name = _named(pip_package)
        self._pip = [one for one in self._pip if one != pip_package and ("://" in one or _named(one) != name)]

    def set_python_version(self, version: str) -> None:
        """3.x or 3.x.y."""
        self._set_python("version", version)

    def _set_python(self, field: str, version: Any) -> None:
        if isinstance(version, (int, float)) and not isinstance(version, bool):
            # As a number 3.10 is 3.1, which nobody means.
            told = {3: "3.11", 3.1: "3.10", 3.2: "3.20"}.get(version, repr(version))
            raise UserError("%s: a text is needed, got the number %r: write '%s'." % (field, version, told))
        text = _text(field, version, "3.11")
        if not re.match(r"3\.\d{1,2}(\.\d{1,3})?\Z", text):
            raise UserError("%s: %r is no Python version. Write 3.11 or 3.11.7." % (field, text))
        self.python_version = text

    def set_pip_index_url(self, index_url: str) -> None:
        """Take packages from this index."""
        self.index_url = _text("index_url", index_url, "https://pypi.example.org/simple")

    def set_pip_option(self, pip_option: str) -> None:
        """`--index-url URL` or `--extra-index-url URL`. `--pre` and what says how pip talks or caches is left out with a warning."""
        text = _text("pip_option", pip_option, "--extra-index-url https://pypi.example.org/simple")
        if text in _NO_EFFECT:
            instead = (
                ": a version that is no release yet is taken where a requirement names one, such as numpy>=2.0rc1"
                if text == "--pre"
                else ""
            )
            warn("pip_option: %s means nothing here and is left out%s." % (text, instead))
            return
        if not text.startswith(_INDEX):
            raise UserError("pip_option: %r is not known. Use --index-url or --extra-index-url." % text)
        self.add_pip_package(text)

    def remove_pip_option(self, pip_option: str) -> None:
        """Take back `--index-url` or `--extra-index-url`."""
        word = pip_option.split(maxsplit=1)[0].split("=", maxsplit=1)[0] if pip_option.strip() else ""
        if word in ("--index-url", "-i"):
            self.index_url = ""
        elif word == "--extra-index-url":
            self.extra_index_urls = []

    def set_pip_requirements(self, pip_requirements: Sequence[str]) -> None:
        """Replace all requirements of pip by these."""
        self._pip = []
        for text in _texts("pip_requirements", pip_requirements):
            self.add_pip_package(text)

    # As a file.

    def as_dict(self) -> Dict[str, Any]:
        """As conda's file has it."""
        dependencies: List[Any] = ["python=" + self.python_version] if self.python_version else []
        dependencies += self._conda
        pip = [*self.pip_options, *self._pip]
        if pip:
            if not any(_named(one) == "pip" for one in self._conda):
                dependencies.append("pip")
            dependencies.append({"pip": pip})
        found: Dict[str, Any] = {"name": self.name or "project_environment"}
        if self._channels:
            found["channels"] = list(self._channels)
        found["dependencies"] = dependencies
        if self.variables:
            found["variables"] = dict(self.variables)
        return found

    def serialize_to_string(self) -> str:
        """The text of a conda file."""
        data = self.as_dict()
        lines = ["name: " + _scalar(data["name"])]
        for part in ("channels", "dependencies"):
            if part not in data:
                continue
            lines.append(part + ":" if data[part] else part + ": []")
            for item in data[part]:
                if isinstance(item, dict):
                    lines += ["- pip:", *("  - " + _scalar(text) for text in item["pip"])]
                else:
                    lines.append("- " + _scalar(item))
        if "variables" in data:
            lines += ["variables:", *("  %s: %s" % (key, _quoted(value)) for key, value in data["variables"].items())]
        return "\n".join(lines) + "\n"

    def save(self, path: Union[str, os.PathLike[str], None] = None) -> str:
        """Write the file (a folder: `conda_dependencies.yml` in it); its path."""
        place = os.fspath(path) if path is not None else FILE_NAME
        if os.path.isdir(place):
            place = os.path.join(place, FILE_NAME)
        with open(place, "w", encoding="utf-8") as file:
            file.write(self.serialize_to_string())
        return place

    def save_to_file(self, base_directory: str, conda_file_path: Optional[str] = None) -> str:
        """Write the file below `base_directory`; its path there."""
        name = conda_file_path or FILE_NAME
        self.save(os.path.join(base_directory, name))
        return name

    def _read(self, path: str) -> None:
        try:
            with open(path, encoding="utf-8") as file:
                text = file.read()
        except OSError as error:
            raise UserError("file_path: %s cannot be read: %s." % (path, error.strerror)) from None
        except UnicodeDecodeError:
            raise UserError("file_path: %s is no text in UTF-8." % path) from None
        self._take(_loaded(text, path), path)

    def _take(self, data: Any, path: str) -> None:
        if not isinstance(data, dict):
            raise UserError("file_path: %s must hold 'name: …' and 'dependencies: …'." % path)
        known = ("name", "channels", "dependencies", "variables", "prefix")
        for part in data:
            if part not in known:
                raise UserError("file_path: %s: %r is not known in it. Use: %s." % (path, part, ", ".join(known)))
        if data.get("name") is not None:
            self.name = str(data["name"])
        for channel in _list(path, "channels", data):
            self.add_channel(channel)
        items = _list(path, "dependencies", data)
        lists_pip = any(isinstance(item, dict) for item in items)
        for item in items:
            if item == "pip" and lists_pip:
                continue  # what every file says above its list for pip
            if isinstance(item, dict):
                if set(item) != {"pip"}:
                    raise UserError("file_path: %s: of lists in dependencies only 'pip:' is known." % path)
                for text in _list(path, "pip", item):
                    self.add_pip_package(text)
            else:
                self.add_conda_package(item)
        variables = data.get("variables") or {}
        if not isinstance(variables, dict):
            raise UserError("file_path: %s: variables needs 'NAME: value' lines." % path)
        self.variables = {str(name): str(value) for name, value in variables.items()}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CondaDependencies) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "CondaDependencies(%r)" % (self.as_dict(),)


def _loaded(text: str, path: str) -> Any:
    try:
        import yaml
    except ImportError:
        raise UserError(
            "file_path: reading a conda file needs PyYAML, which is not installed here: pip install pyyaml."
        ) from None
    if len(text) > 1_000_000 or re.search(r"^\s*(?:- )?[&*]\S", text, re.M):
        raise UserError("file_path: %s is larger than 1 MB, or holds YAML aliases, which conda files have not." % path)
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError("file_path: %s is no YAML: %s." % (path, " ".join(str(error).split()))) from None


def _list(path: str, part: str, data: Dict[str, Any]) -> List[Any]:
    value = data.get(part) or []
    if not isinstance(value, list):
        raise UserError("file_path: %s: %s needs a list, one item a line beginning with '-'." % (path, part))
    return value


def _texts(field: str, values: Any) -> List[str]:
    if values is None:
        return []
    if isinstance(values, str) or not hasattr(values, "__iter__"):
        raise UserError("%s: a list of texts is needed, for example ['numpy'], got %r." % (field, values))
    return [_text(field, value) for value in values]


def _text(field: str, value: Any, example: str = "numpy") -> str:
    if not isinstance(value, str) or not value.strip():
        raise UserError("%s: a text is needed, for example '%s', got %r." % (field, example, value))
    return value.strip()


def _named(text: str) -> str:
    """The package's name in one form, of a requirement or of conda's specification."""
    match = _NAME.match(text.rpartition("::")[2].strip())
    return re.sub(r"[-_.]+", "-", match.group(0)).lower() if match else text


def _add(items: List[str], item: str) -> None:
    if item not in items:
        items.append(item)


def _scalar(text: str) -> str:
    return text if _PLAIN.match(text) and text.lower() not in _WORDS and " #" not in text else _quoted(text)


_WORDS = ("y", "n", "yes", "no", "on", "off", "true", "false", "null", "none", "nan")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
