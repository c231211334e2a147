"""Conda's package specifications (MatchSpec), channels, and environments that are on a target already."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from environments.addresses import check_address

MAX_LINES = 2_000
MAX_LINE = 500

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")
_CHANNEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*\Z")
_SUBDIRS = re.compile(r"(noarch|(linux|osx|win|freebsd|emscripten|wasi|zos)-[A-Za-z0-9_]+)\Z")
# One bound: an operator, and a version with or without a star; '1!2.0+local_3' is a version.
_BOUND = re.compile(r"(==|>=|<=|!=|~=|>|<|=)?\s*([A-Za-z0-9_][A-Za-z0-9_.!+-]*?(?:\.?\*)?|\*)\Z")
_BUILD = re.compile(r"[A-Za-z0-9_.*+]{1,128}\Z")
_ENVIRONMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,127}\Z")
_EXAMPLE = "numpy, numpy=1.26, 'numpy>=1.2,<2' or conda-forge::numpy"


class CondaError(ValueError):
    """Bad lines. ``lines`` holds (line number from 1, the line, what is wrong and how to mend it)."""

    def __init__(self, lines: Sequence[tuple[int, str, str]]) -> None:
        self.lines = list(lines)
        super().__init__("; ".join(f"line {number}: {message}" for number, _, message in self.lines))


@dataclass(frozen=True)
class Spec:
    """One specification, in parts. Texts are empty where it says nothing."""

    name: str
    """Lower case, as conda compares it."""
    channel: str = ""
    version: str = ""
    """In one spelling: ``1.26.*`` for ``=1.26``, bounds sorted."""
    build: str = ""

    def __str__(self) -> str:
        channel = f"{self.channel}::" if self.channel else ""
        version = f" {self.version or '*'}" if self.version or self.build else ""
        return f"{channel}{self.name}{version}{' ' + self.build if self.build else ''}"


def parse(lines: Sequence[str]) -> tuple[str, ...]:
    """The specifications in ``lines``, as written but without comments and blank lines.

    Raises CondaError that names every bad line.
    """
    if len(lines) > MAX_LINES:
        raise CondaError([(MAX_LINES + 1, "", f"more than {MAX_LINES:,} lines. Remove what is not needed.")])
    bad: list[tuple[int, str, str]] = []
    found: list[str] = []
    first_line: dict[str, int] = {}
    for number, raw in enumerate(lines, 1):
        line = re.sub(r"(?:^|(?<=\s))#.*$", "", raw.removeprefix("\ufeff")).strip()
        if not line:
            continue
        try:
            spec = check(line)
            if spec.name in first_line:
                raise ValueError(
                    f"{spec.name} is already on line {first_line[spec.name]}. Keep one of them; bounds are joined by a comma."
                )
            first_line[spec.name] = number
            found.append(line)
        except ValueError as error:
            bad.append((number, raw.strip()[:200], str(error)))
    if bad:
        raise CondaError(bad)
    return tuple(found)


def check(line: str) -> Spec:
    """One specification, or ValueError with the rule and the fix."""
    if len(line) > MAX_LINE:
        raise ValueError(f"longer than {MAX_LINE} characters. Shorten it.")
    if re.search(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]", line):
        raise ValueError("holds a control character. Type the line again.")
    if "$" in line or "`" in line:
        raise ValueError("variables and commands are not expanded here. Write the value itself.")
    if option := re.search(r"(?:^|\s)(-[^\s=]*)", line):
        raise ValueError(
            f"{option[1]} is an option, and a line is one specification. Write {_EXAMPLE}; channels have a field of their own."
        )
    if (
        re.match(r"[A-Za-z+]+://", line)
        or line.startswith(("@", "/", ".", "~"))
        or line.endswith((".conda", ".tar.bz2"))
    ):
        raise ValueError(
            f"an address or a file is not a specification. Write {_EXAMPLE}, and its channel in conda_channels."
        )
    channel, colons, rest = line.rpartition("::")
    if colons:
        channel = _channel_of(channel)
    if "[" in rest:
        return _bracketed(channel, rest)
    match = re.match(r"([^\s=<>!~\[\],;|]*)\s*(.*)\Z", rest)
    assert match is not None, "every text has a beginning"
    name, version, build = match[1], match[2].strip(), ""
    if version:
        version, build = _parts(name, version)
    return Spec(_name(name, line), channel, version, build)


def _parts(name: str, text: str) -> tuple[str, str]:
    """Version and build of what follows the name: ``=1.26=py311_0``, ``1.26.* py311_0``, ``>=1.2, <2``."""
    if text.startswith(",") or text.endswith((",", "|")):
        raise ValueError(f"{text!r} is not a version. Write {_EXAMPLE}.")
    words = re.sub(r"\s*([,|])\s*", r"\1", text)
    words = re.sub(r"([<>=!~])\s+", r"\1", words)
    version, _, build = words.partition(" ")
    exact = re.match(r"(==?)([^=<>!~,| ]+)=([^=<>!~,| ]+)\Z", words)
    if exact:
        version, build = f"=={exact[2]}", exact[3]
    build = build.strip()
    if build and not _BUILD.match(build):
        raise ValueError(
            f"{build[:60]!r} is not a build. A line is one package: name, or name version build. Write {_EXAMPLE}."
        )
    return _version(version), build


def _version(text: str) -> str:
    """A version in one spelling. Raises ValueError for what is none."""
    alternatives = []
    for alternative in text.split("|"):
        bounds = set()
        for bound in alternative.split(","):
            match = _BOUND.match(bound)
            if match is None:
                raise ValueError(f"{bound[:60]!r} is not a version. Write {_EXAMPLE}.")
            sign, version = match[1] or "==", match[2].lower()
            if version == "*":
                if sign != "==" or match[1]:
                    raise ValueError(f"{bound[:60]!r} bounds nothing. Leave the version out, or write one.")
                bounds.add("*")
            elif version.endswith("*"):
                if sign in {">", "<", ">=", "<=", "~="}:
                    raise ValueError(f"{bound[:60]!r}: a bound has no '*'. Write {sign}{version.rstrip('.*')}.")
                version = version.rstrip("*").rstrip(".") + ".*"
                bounds.add(f"!={version}" if sign == "!=" else version)
            else:
                bounds.add(f"{version}.*" if sign == "=" else f"{sign}{version}")
        alternatives.append(",".join(sorted(bounds - {"*"} or bounds)))
    found = "|".join(sorted(set(alternatives)))
    return "" if found == "*" else found


def _bracketed(channel: str, text: str) -> Spec:
    """``numpy[version='>=1.2,<2', build=py311*]``."""
    match = re.fullmatch(r"([^\s\[\]]+)\s*\[([^\[\]]*)\]", text)
    if match is None:
        raise ValueError(f"the brackets are not closed, or something follows them. Write {_EXAMPLE}.")
    found = {"version": "", "build": ""}
    given = set()
    pairs = re.findall(r"\s*(\w+)\s*=\s*('[^']*'|\"[^\"]*\"|[^\s,'\"]+)\s*(?:,|\Z)", match[2])
    if re.sub(r"\s*\w+\s*=\s*('[^']*'|\"[^\"]*\"|[^\s,'\"]+)\s*(,|\Z)", "", match[2]).strip() or not pairs:
        raise ValueError(f"{match[2][:60]!r} is not read. Write {match[1]}[version='>=1.2,<2', build='py311*'].")
    for key, quoted in pairs:
        value = quoted.strip("'\"")
        if key not in {"version", "build", "channel"}:
            raise ValueError(f"{key} is not taken in brackets. Use version, build or channel.")
        if key in given:
            raise ValueError(f"{key} is there twice. Keep one.")
        given.add(key)
        if key == "channel":
            channel = _channel_of(value)
        elif key == "version":
            found[key] = _parts("", value)[0] if value else ""
        elif not _BUILD.match(value):
            raise ValueError(f"{value[:60]!r} is not a build. It reads like py311h_0 or py311*.")
        else:
            found[key] = value
    return Spec(_name(match[1], text), channel, found["version"], found["build"])


def _name(name: str, line: str) -> str:
    if name.startswith("__"):
        raise ValueError(f"{name} stands for a part of the machine and is not installed. Remove the line.")
    if "*" in name:
        raise ValueError(f"{name!r} names no single package. Write its whole name.")
    if not _NAME.match(name):
        raise ValueError(f"{(name or line)[:60]!r} is not a package's name. Write {_EXAMPLE}.")
    return name.lower()


def _channel_of(text: str) -> str:
    """The channel before '::', perhaps with a platform."""
    if not _CHANNEL.match(text):
        raise ValueError(
            f"{text[:60]!r} is not a channel's name. Write conda-forge::numpy; an address belongs into conda_channels."
        )
    base, slash, subdir = text.rpartition("/")
    if slash and _SUBDIRS.match(subdir):
        raise ValueError(
            f"{text} names the platform, which is the target's. Write {base}::name, so that the environment works on others too."
        )
    return text


def check_channel(text: str) -> None:
    """A channel's name, an address, or file:///folder; else ValueError with the rule and the fix."""
    like = "conda-forge, https://host/channel or file:///srv/channel"
    if not text.strip():
        raise ValueError(f"the channel has no name. Write {like}.")
    if "://" in text or text.startswith(("/", "-", "~", ".")):
        check_address(text, like)
    elif not _CHANNEL.match(text) or len(text) > 200:
        raise ValueError(f"{text[:60]!r} is not a channel's name. Write {like}.")


def check_environment(text: str) -> str:
    """What is wrong with the name or path of a conda environment on a target; empty when nothing is."""
    if re.search(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", text):
        return "The name holds a control character. Type it again."
    if text.startswith("-"):
        return f"{text[:60]!r} begins with '-', which programs take for an option. Write the environment's name or its whole path."
    if len(text) > 1_000:
        return "The path is longer than 1,000 characters. Use a shorter one."
    if "/" in text:
        if not text.startswith("/") or ".." in text.split("/"):
            return f"{text[:60]!r} must be an absolute path on the target, without '..': /opt/conda/envs/vision."
    elif not _ENVIRONMENT.match(text):
        return f"{text[:60]!r} is neither a name as 'conda env list' shows it nor an absolute path. Write vision or /opt/conda/envs/vision."
    return ""


def name_of(line: str) -> str:
    """The package that a valid specification names."""
    return check(line).name


def normal(line: str) -> str:
    """The same text for all spellings of one specification: what the build key is made of."""
    return str(check(line))
