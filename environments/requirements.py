"""Lines of a requirements file: PEP 508, and nothing that changes how packages are found or runs code."""

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from packaging.markers import UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

MAX_LINES = 2_000
MAX_LINE = 1_000

# A comment begins at a '#' that starts the line or follows white space: '#' is legal inside a URL.
_COMMENT = re.compile(r"(?:^|(?<=\s))#.*$")

_OPTIONS = (
    (
        re.compile(r"(-i|--index-url|--extra-index-url)\b"),
        "an index has a field of its own. Remove the line, and give its address as index_url or extra_index_urls.",
    ),
    (
        re.compile(r"(-f|--find-links|--no-index|--trusted-host)\b"),
        "folders of wheels, and whether anything else is asked, are the target's settings. Remove the line.",
    ),
    (
        re.compile(r"(-e|--editable)\b"),
        "an editable install needs a folder on the target. Put the code into the project folder: it is importable there.",
    ),
    (
        re.compile(r"(-r|--requirement|-c|--constraint)\b"),
        "another file is not read. Paste its lines here.",
    ),
)


class RequirementsError(ValueError):
    """Bad lines. ``lines`` holds (line number from 1, the line, what is wrong and how to mend it)."""

    def __init__(self, lines: Sequence[tuple[int, str, str]]) -> None:
        self.lines = list(lines)
        super().__init__("; ".join(f"line {number}: {message}" for number, _, message in self.lines))


def parse(lines: Sequence[str]) -> tuple[str, ...]:
    """The requirements in ``lines``, as written but without comments and blank lines.

    Raises RequirementsError that names every bad line.
    """
    bad: list[tuple[int, str, str]] = []
    found: list[str] = []
    first_line: dict[tuple[str, str], int] = {}
    if len(lines) > MAX_LINES:
        raise RequirementsError([(MAX_LINES + 1, "", f"more than {MAX_LINES:,} lines. Remove what is not needed.")])
    for number, raw in enumerate(lines, 1):
        line = without_comment(raw)
        if not line:
            continue
        try:
            requirement = check(line)
            place = (canonicalize_name(requirement.name), str(requirement.marker or ""))
            if place in first_line:
                raise ValueError(f"{requirement.name} is already on line {first_line[place]}. Keep one of them.")
            first_line[place] = number
            found.append(line)
        except ValueError as error:
            bad.append((number, raw.strip()[:200], str(error)))
    if bad:
        raise RequirementsError(bad)
    return tuple(found)


def without_comment(line: str) -> str:
    return _COMMENT.sub("", line.removeprefix("\ufeff")).strip()


def check(line: str) -> Requirement:
    """One requirement, or ValueError with the rule and the fix."""
    if len(line) > MAX_LINE:
        raise ValueError(f"longer than {MAX_LINE:,} characters. Shorten it.")
    if any(ord(c) < 32 or ord(c) == 127 for c in line):
        raise ValueError("holds a control character. Type the line again.")
    if "$" in line or "`" in line:
        raise ValueError("variables and commands are not expanded here. Write the value itself.")
    if line.endswith("\\") or " --hash" in line or line.startswith("--hash"):
        raise ValueError(
            "hashes and continued lines are not read. Write one 'name==version' a line; the build records exact versions."
        )
    if line.startswith("-"):
        for pattern, why in _OPTIONS:
            if option := pattern.match(line):
                raise ValueError(f"{option[0]}: {why}")
        raise ValueError(
            f"{line.split(maxsplit=1)[0]} is not an option known here. Write one package a line, such as scikit-learn==1.5.2."
        )
    if re.search(r"(^|@\s*)(git|hg|svn|bzr)\+", line):
        raise ValueError(
            "a version-control address is not installed. Put the code into the project folder, or name a released wheel."
        )
    if re.match(r"[a-z+]+://", line, re.IGNORECASE):
        raise ValueError(
            "an address needs its package's name before it: 'name @ https://host/name-1.0-py3-none-any.whl'."
        )
    if line.startswith((".", "/", "~")) or re.match(r"[A-Za-z]:\\", line):
        raise ValueError(
            "a path on a machine is not installed. Put the code into the project folder, or name a released package."
        )
    try:
        requirement = Requirement(line)
    except InvalidRequirement as error:
        what = str(error).splitlines()[0]
        raise ValueError(f"{what[0].lower()}{what[1:]}. Write it as name, name==1.2 or name>=1,<2 (PEP 508).") from None
    if requirement.url:
        _check_url(requirement.url)
    if requirement.marker is not None:
        try:
            requirement.marker.evaluate({"extra": ""})
        except UndefinedEnvironmentName as error:
            raise ValueError(f"the marker is not usable: {error}. See PEP 508 for the names.") from None
    return requirement


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        credentials = parts.username is not None or parts.password is not None
    except ValueError:
        raise ValueError("the address is not valid. Write 'name @ https://host/file.whl'.") from None
    if credentials or "@" in parts.netloc:
        raise ValueError(
            "the address holds credentials, which everybody who sees the environment could read. Remove them."
        )
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"an address must begin with https:// or http://, not {parts.scheme or 'nothing'}.")


def normal(line: str) -> str:
    """The same text for all spellings of one requirement: what the build key is made of."""
    requirement = Requirement(line)
    extras = ",".join(sorted(canonicalize_name(extra) for extra in requirement.extras))
    where = f" @ {requirement.url}" if requirement.url else ",".join(sorted(str(s) for s in requirement.specifier))
    return f"{canonicalize_name(requirement.name)}[{extras}]{where};{requirement.marker or ''}"
