"""The rules of an environment's fields. Each takes a value and returns what is kept, or raises ValueError with the rule and the fix."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from environments import conda, docker_arguments, dockerfile
from environments import requirements as pip
from environments.addresses import check_address
from environments.option_rules import COORDINATE, sentence, shown
from environments.package_rules import MAX_ADDRESSES, check_secret_name
from environments.variables import check_variables

T = TypeVar("T", bound=Sequence[str])
Line = tuple[int, str, str]
"""Number from 1, the line, and what is wrong with it and how to mend it."""

PYTHON_VERSION = re.compile(r"3\.\d{1,2}(\.\d{1,3})?\Z")
REGISTRY = re.compile(r"(?:[A-Za-z0-9-]{1,63}\.)*[A-Za-z0-9-]{1,63}(?::[0-9]{1,5})?\Z")
MAX_VARIABLES = 200
MAX_COORDINATES = 100
MIN_SHM = 64 * 1024
MAX_SHM = 2**50


class LineError(ValueError):
    """``lines`` are wrong."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self.lines = list(lines)
        number, _, message = self.lines[0]
        more = f" ({len(self.lines) - 1} more)" if len(self.lines) > 1 else ""
        super().__init__(f"Line {number}: {message}{more}")


class Found:
    """What is wrong, by field. Of several mistakes in one field the first is told."""

    def __init__(self) -> None:
        self.errors: dict[str, str] = {}
        self.lines: dict[str, list[Line]] = {}

    def add(self, field: str, message: str) -> None:
        self.errors.setdefault(field, message)

    def check(self, field: str, rule: Callable[[str], object], value: str) -> None:
        """An empty value is none."""
        if value:
            try:
                rule(value)
            except ValueError as error:
                self.add(field, sentence(error))

    def parse(self, field: str, rule: "Callable[[T], T]", value: T) -> T:
        """What ``rule`` makes of lines. It raises LineError."""
        if value:
            try:
                return rule(value)
            except LineError as error:
                self.lines[field] = error.lines
                self.add(field, str(error))
        return value

    def each(self, field: str, rule: Callable[[str], object], values: tuple[str, ...]) -> tuple[str, ...]:
        """The texts without those that are blank."""
        wrong: list[Line] = []
        kept = {number: value.strip() for number, value in enumerate(values, 1) if value.strip()}
        if len(kept) > MAX_ADDRESSES:
            self.add(field, f"{len(kept)} of them; the limit is {MAX_ADDRESSES}. Remove what is not needed.")
            return values
        seen: dict[str, int] = {}
        for number, value in kept.items():
            try:
                rule(value)
                if value in seen:
                    raise ValueError(f"it is on line {seen[value]} already. Keep one of them.")
                seen[value] = number
            except ValueError as error:
                wrong.append((number, value[:200], str(error)))
        if wrong:
            self.lines[field] = wrong
            self.add(field, str(LineError(wrong)))
        return tuple(kept.values())


def requirements(lines: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return pip.parse(lines)
    except pip.RequirementsError as error:
        raise LineError(error.lines) from None


def conda_packages(lines: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return conda.parse(lines)
    except conda.CondaError as error:
        raise LineError(error.lines) from None


def check_python_version(text: str) -> None:
    if not PYTHON_VERSION.match(text):
        raise ValueError(f"{text[:40]!r} is not a Python version. Write 3.11 or 3.11.7, or leave it empty.")


def check_interpreter(path: str) -> None:
    """An absolute path on a target, or a program's name."""
    if any(ord(c) < 32 or ord(c) == 127 for c in path):
        raise ValueError("The path holds a control character. Type it again.")
    if len(path) > 4096:
        raise ValueError("The path is longer than 4,096 characters. Use a shorter one.")
    if path.startswith("-"):
        raise ValueError(f"{path!r} begins with '-', which programs take for an option. Write the whole path.")
    if "/" in path:
        if not path.startswith("/") or ".." in path.split("/"):
            raise ValueError(f"{path!r} must be an absolute path on the target, without '..': /usr/bin/python3.")
    elif not re.match(r"[A-Za-z0-9_.-]+\Z", path):
        raise ValueError(
            f"{path!r} is neither an absolute path nor a program's name. Write /usr/bin/python3 or python3."
        )


def check_conda_environment(text: str) -> None:
    if message := conda.check_environment(text):
        raise ValueError(message)


def dockerfile_text(text: str) -> str:
    if wrong := dockerfile.check(text):
        raise LineError(wrong)
    return text


def check_registry(found: Found, registry: Mapping[str, str]) -> None:
    """``address``, ``username``, ``secret``."""
    for part in registry:
        if part == "password":
            found.add(
                "registry.secret",
                "A password is never part of an environment. Keep it as a secret of the workspace (Settings, Secrets), and give its name.",
            )
        elif part not in {"address", "username", "secret"}:
            found.add(f"registry.{part}", "This is not known. Use address, username and secret.")
    address, username, secret = (registry.get(part, "") for part in ("address", "username", "secret"))
    if not any((address, username, secret)):
        return
    if not address:
        found.add("registry.address", "It is missing. Name the registry's host, for example registry.example.org:5000.")
    elif not REGISTRY.match(address):
        found.add(
            "registry.address",
            f"{shown(address)} is not a host. Write registry.example.org or registry.example.org:5000, without https:// and path.",
        )
    if username and (re.search(r"[\x00-\x20\x7f:]", username) or len(username) > 255):
        found.add("registry.username", "It holds a space, ':' or a control character. Write the user's name alone.")
    if username and not secret:
        found.add(
            "registry.secret", "The user needs a password. Keep it as a secret of the workspace, and give its name."
        )
    found.check("registry.secret", check_secret_name, secret)


def check_docker(found: Found, docker: Mapping[str, Any]) -> None:
    """``shm_bytes`` and ``arguments``."""
    for part in docker.keys() - {"shm_bytes", "arguments"}:
        found.add(f"docker.{part}", "This is not known. Use shm_bytes and arguments.")
    shm = docker.get("shm_bytes")
    if shm is not None and (isinstance(shm, bool) or not isinstance(shm, int) or not MIN_SHM <= shm <= MAX_SHM):
        found.add("docker.shm_bytes", f"{shown(shm)} is no size of shared memory. Give bytes, 64 KB at least.")
    arguments = docker.get("arguments", [])
    if not isinstance(arguments, list | tuple) or not all(isinstance(text, str) for text in arguments):
        found.add("docker.arguments", "A list of texts is needed, such as --shm-size=8g.")
        return
    try:
        asked = docker_arguments.parse(arguments)
    except docker_arguments.ArgumentsError as error:
        found.lines["docker.arguments"] = error.lines
        found.add("docker.arguments", str(LineError(error.lines)))
        return
    if shm is not None and asked.shm_bytes is not None:
        found.add("docker.arguments", "--shm-size is given as shared memory already. Keep one of them.")


def check_spark(found: Found, spark: Mapping[str, list[str]]) -> None:
    """``packages`` and ``repositories``."""
    for part in spark.keys() - {"packages", "repositories"}:
        found.add(f"spark.{part}", "This is not known. Use packages and repositories.")
    packages = tuple(spark.get("packages", ()))
    if len(packages) > MAX_COORDINATES:
        found.add("spark.packages", f"{len(packages)} of them; the limit is {MAX_COORDINATES}. Remove some.")
    else:
        found.parse("spark.packages", coordinates, packages)
    found.each("spark.repositories", check_repository, tuple(spark.get("repositories", ())))


def coordinates(lines: tuple[str, ...]) -> tuple[str, ...]:
    like = "org.apache.spark:spark-avro_2.13:4.1.0"
    wrong = [
        (number, text[:200], f"{shown(text)} is not group:artifact:version. Write it like {like}.")
        for number, text in enumerate(lines, 1)
        if not COORDINATE.match(text)
    ]
    if wrong:
        raise LineError(wrong)
    return lines


def check_repository(text: str) -> None:
    check_address(text, "https://repository.example.org/maven2")


def check_environment_variables(found: Found, variables: Mapping[str, str]) -> None:
    if len(variables) > MAX_VARIABLES:
        found.add(
            "variables", f"{len(variables)} variables; the limit is {MAX_VARIABLES}. Put them in a file of the project."
        )
        return
    for name, message in check_variables(variables, {}).items():
        found.add(name, message)
