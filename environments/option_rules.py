"""The rules that single options of a target follow. Each takes what was given and returns the value to keep, or raises ValueError
with a sentence that says the rule and the fix."""

import ipaddress
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from environments.variables import check_variables

_HOST = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62}[A-Za-z0-9_])?(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})?)*\.?\Z"
)
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+\\$-]{0,63}\Z")
_KEY_TYPES = ("ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")
_HOST_KEY = re.compile(rf"(?:{'|'.join(map(re.escape, _KEY_TYPES))}) [A-Za-z0-9+/]{{40,4000}}={{0,3}}\Z")
_PROGRAM = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,63}\Z")
# A name of the registry's grammar: host:port/path/name:tag@digest. {python} stands for a version.
_IMAGE = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5}(?=/))?(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?\Z"
)
_NETWORK = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}\Z")
_MASTER = re.compile(
    r"(?:spark://(?:[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:]+\]):\d{1,5}(?:,(?:[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:]+\]):\d{1,5})*"
    r"|yarn|k8s://(?:https?://)?[A-Za-z0-9_.:\[\]-]+|local(?:\[(?:\d{1,4}|\*)(?:,\d{1,3})?\])?)\Z"
)
_CONF = re.compile(r"spark\.[A-Za-z0-9_.-]{1,200}\Z")
COORDINATE = re.compile(r"[A-Za-z0-9_.-]+:[A-Za-z0-9_.-]+:[A-Za-z0-9_.+-]+\Z")
URL = re.compile(r"(?:https?|file)://[^\s\"'`\\<>@]{1,1000}\Z")
_FORBIDDEN_MOUNTS = (
    "/proc",
    "/sys",
    "/dev",
    "/run/docker.sock",
    "/var/run/docker.sock",
    "/run/containerd",
    "/var/lib/docker",
    "/boot",
    "/etc",
    "/bin",
    "/sbin",
    "/lib",
    "/lib64",
    "/usr",
)
_FORBIDDEN_TARGETS = ("/proc", "/sys", "/dev", "/etc", "/bin", "/sbin", "/lib", "/lib64", "/usr")


def shown(value: Any) -> str:
    """A value in a message: whole, or its beginning, with what cannot be seen written out."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…" + text[0]


def sentence(error: ValueError) -> str:
    """What a rule said, as a sentence of its own; behind the number of a line it begins small."""
    text = str(error)
    return text[:1].upper() + text[1:]


def check_host(value: Any) -> str:
    """A host name, also an international one (kept as it is looked up: xn--), an IPv4 or an IPv6 address."""
    text = _text(value)
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    address, _, zone = bare.partition("%")
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        pass
    else:
        if zone and not (found.version == 6 and re.fullmatch(r"[A-Za-z0-9_.-]{1,15}", zone)):
            raise ValueError(f"{shown(text)} has a zone that is no interface's name. Write it like fe80::1%eth0.")
        return bare
    if text.startswith("-"):
        raise ValueError(f"{shown(text)} begins with '-'. A host's name begins with a letter or digit.")
    if "@" in text:
        raise ValueError(f"{shown(text)} holds '@'. The user has a field of its own.")
    if "/" in text:
        raise ValueError(f"{shown(text)} holds '/'. Give the bare name: gpu-box-3.example.org.")
    if re.fullmatch(r"[^:]*:\d+", text):
        raise ValueError(f"{shown(text)} holds a port. The port has a field of its own.")
    if re.fullmatch(r"[\d.]+", text):
        raise ValueError(f"{shown(text)} is no IPv4 address. It has four numbers from 0 to 255.")
    if not text.isascii():
        try:
            text = text.encode("idna").decode("ascii")
        except UnicodeError:
            raise ValueError(f"{shown(value)} is not a host's name. Use letters, digits, '-' and '.'.") from None
    if not _HOST.match(text):
        raise ValueError(
            f"{shown(value)} is not a host's name. Use letters, digits, '-' and '.', without spaces or quotes."
        )
    return text


def check_user(value: Any) -> str:
    """A user's name on a target."""
    text = _text(value)
    if text.startswith("-"):
        raise ValueError(f"{shown(text)} begins with '-'. A user's name begins with a letter, a digit or '_'.")
    if not _USER.match(text):
        raise ValueError(
            f"{shown(text)} is not a user's name. Use letters, digits, '_', '-' and '.', without spaces or quotes."
        )
    return text


def check_port(value: Any) -> int:
    """1 to 65,535."""
    port = _whole(value)
    if not 1 <= port <= 65535:
        raise ValueError(f"{port} is not a port. Use 1 to 65535; SSH usually listens on 22.")
    return port


def check_path(value: Any) -> str:
    """An absolute path, without what would lead out of it or break a line."""
    text = _text(value)
    if not text.startswith("/"):
        raise ValueError(f"{shown(text)} is not absolute. Begin with '/'.")
    if ".." in text.split("/"):
        raise ValueError(f"{shown(text)} holds '..'. Write out where it leads.")
    if len(text.encode()) > 1000:
        raise ValueError("The path is longer than 1,000 bytes. Use a shorter one.")
    return "/" + "/".join(part for part in text.split("/") if part not in ("", "."))


def check_host_key(value: Any) -> str:
    """A pinned host key, ``type base64``."""
    text = " ".join(_text(value).split(" ")[:2])
    if not _HOST_KEY.match(text):
        raise ValueError(f"This is no host key. It reads like '{_KEY_TYPES[0]} AAAA…'; ssh-keyscan prints it.")
    return text


def check_image(value: Any) -> str:
    """The name of an image, and nothing that an engine's command line could take for an option."""
    text = _text(value)
    if text.startswith("-") or any(c.isspace() for c in text):
        raise ValueError(
            f"{shown(text)} is not an image's name. Name the image alone, without options: python:3.12-slim."
        )
    if len(text) > 255 or not _IMAGE.match(text.replace("{python}", "3")):
        raise ValueError(
            f"{shown(text)} is not an image's name. It reads like python:3.12-slim or host:5000/team/name:tag."
        )
    return text


def check_master(value: Any) -> str:
    """Where a Spark cluster is."""
    text = _text(value)
    if not _MASTER.match(text):
        raise ValueError(f"{shown(text)} is no Spark master. Use spark://host:7077, yarn, k8s://host:port or local[*].")
    ports = re.findall(r":(\d+)(?=,|\Z)", text)
    if any(not 1 <= int(port) <= 65535 for port in ports):
        raise ValueError(f"{shown(text)} has a port that is none. Use 1 to 65535; a master usually listens on 7077.")
    return text


def check_root(value: Any, data_dir: str = "") -> str:
    """The folder of a target. ``data_dir``: the studio's own on the same machine, of which only ``local`` is for targets."""
    text = _text(value)
    if text.startswith("~/"):
        if ".." in text.split("/"):
            raise ValueError(f"{shown(text)} holds '..'. Write out where it leads.")
        rest = check_path(text[1:])
        if rest == "/":
            raise ValueError("'~/' is the home folder itself. Name a folder in it: ~/.runstead.")
        return "~" + rest
    if text.startswith("~"):
        raise ValueError(f"{shown(text)} is another user's home. Begin with '/' or '~/'.")
    path = check_path(text)
    if path == "/" or path.split("/")[1] in {"proc", "sys", "dev", "boot", "etc", "bin", "sbin", "lib", "usr"}:
        raise ValueError(
            f"{shown(path)} belongs to the system. Name a folder for the studio alone, for example /srv/runstead."
        )
    if data_dir:
        real, own = _real(path), _real(data_dir)
        if _below(own, (real,)) or (_below(real, (own,)) and not _below(real, (f"{own}/local",))):
            raise ValueError(
                f"{shown(path)} holds the studio's own files. Name a folder beside them, or leave it empty."
            )
    return path


def check_sandbox(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{shown(value)} is neither true nor false. Write true to keep runs apart from each other.")
    return value


def check_python(value: Any) -> str:
    text = _text(value)
    if "/" in text:
        return check_path(text)
    if not _PROGRAM.match(text):
        raise ValueError(f"{shown(text)} is not a program. Write python3, or an absolute path.")
    return text


def check_access(value: Any) -> str:
    if value not in {"studio", "key", "password"}:
        raise ValueError(f"{shown(value)} is not known. Use studio, key or password.")
    return str(value)


def check_mounts(value: Any, data_dir: str = "", socket: str = "") -> list[dict[str, Any]]:
    """What containers see of the machine. ``data_dir``: the studio's own folder, where the engine is on its machine; then links are
    followed too. ``socket``: of the engine."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ValueError("A list of mounts is needed, each with source and target.")
    found: list[dict[str, Any]] = []
    for mount in value:
        if not isinstance(mount, Mapping) or not {"source", "target"} <= set(mount) <= {
            "source",
            "target",
            "read_only",
        }:
            raise ValueError(f"{shown(mount)} is no mount. Each has source, target and perhaps read_only.")
        source, target = check_path(mount["source"]), check_path(mount["target"])
        if wrong := _shows_the_machine(source, data_dir, socket):
            raise ValueError(wrong)
        for other in found:  # what a script writes there may be a link by the time of the next run
            inner, outer = (
                (source, other["source"]) if len(source) > len(other["source"]) else (other["source"], source)
            )
            if inner != outer and _below(inner, (outer,)):
                raise ValueError(f"{inner} lies in {outer}, which is mounted too. Mount the outer folder alone.")
        if target == "/" or _below(target, _FORBIDDEN_TARGETS):
            raise ValueError(f"{target} belongs to the image. Mount it elsewhere, for example at /data.")
        if any(target == other["target"] for other in found):
            raise ValueError(f"{target} is there twice. Give each mount a place of its own.")
        if not isinstance(mount.get("read_only", True), bool):
            raise ValueError(f"{shown(mount['read_only'])} is neither true nor false: read_only of {source}.")
        found.append({"source": source, "target": target, "read_only": mount.get("read_only", True)})
    return found


def _shows_the_machine(source: str, data_dir: str, socket: str) -> str:
    """What is wrong with mounting a folder, as named or as its links lead; empty when nothing is."""
    kept = [*_FORBIDDEN_MOUNTS, *([socket] if socket else [])]
    own = {data_dir, _real(data_dir)} if data_dir else set()
    for place in (source, *([_real(source)] if data_dir and not _below(source, kept) else [])):
        led = source if place == source else f"{source} leads to {place}, which"
        if _touches(place, kept) or place.endswith(".sock"):
            return f"{led} would give a run the machine itself. Mount the folder with the data alone."
        if _touches(place, own):
            return f"{led} shows a run the studio's own files. Mount a folder beside them."
    return ""


def _touches(place: str, kept: Iterable[str]) -> bool:
    return place == "/" or any(_below(place, (path,)) or _below(path, (place,)) for path in kept)


def _real(path: str) -> str:
    """Where the links of a path on this machine lead."""
    try:
        return os.path.realpath(path)
    except OSError as error:
        raise ValueError(f"{shown(path)} cannot be looked at ({error.strerror}). Name another folder.") from None


def _below(path: str, folders: Sequence[str]) -> bool:
    return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders)


def check_cpus(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.01 <= value <= 4096:
        raise ValueError(f"{shown(value)} is no number of processors. Use 0.01 to 4096, for example 2.5.")
    return value


def check_network(value: Any) -> str:
    text = _text(value)
    if text == "host" or text.startswith("container:"):
        raise ValueError(
            f"{shown(text)} would give a run the machine's own network. Use bridge, none, or a network's name."
        )
    if not _NETWORK.match(text):
        raise ValueError(
            f"{shown(text)} is not a network's name. Use bridge, none, or letters, digits, '_', '-' and '.'."
        )
    return text


def check_deploy_mode(value: Any) -> str:
    if value not in {"client", "cluster"}:
        raise ValueError(f"{shown(value)} is not known. Use client or cluster.")
    return str(value)


def check_conf(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise ValueError("Names and values are needed, for example spark.executor.memory: 2g.")
    found = {}
    for name, text in value.items():
        if not isinstance(name, str) or not _CONF.match(name):
            raise ValueError(
                f"{shown(name)} is no setting of Spark. Its names begin with 'spark.' and hold letters, digits, '.', '_' and '-'."
            )
        if (
            not isinstance(text, (str, int, float))
            or len(str(text)) > 4000
            or re.search(r"[\x00-\x08\x0a-\x1f\x7f]", str(text))
        ):
            raise ValueError(f"The value of {name} is no text of one line. Write it as on the command line.")
        found[name] = str(text).lower() if isinstance(text, bool) else str(text)
    return found


def check_each(value: Any, rule: "re.Pattern[str]", like: str) -> list[str]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ValueError(f"A list is needed, each like {like}.")
    for text in value:
        if not isinstance(text, str) or not rule.match(text):
            raise ValueError(f"{shown(text)} does not read like {like}. Correct or remove it.")
    return list(value)


def check_spark_variables(value: Any) -> dict[str, str]:
    """What Spark's programs need to find on the target: JAVA_HOME, HADOOP_CONF_DIR."""
    if not isinstance(value, Mapping) or not all(isinstance(text, str) for pair in value.items() for text in pair):
        raise ValueError("Names and values are needed, for example JAVA_HOME: /opt/jdk-17.")
    if wrong := check_variables(value, {}):
        raise ValueError(wrong["variables"])
    return dict(value)


def check_number(value: Any, least: float, most: float, unit: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise ValueError(f"{shown(value)} is out of range. Use {least:,} to {most:,} {unit}.")
    return value


def check_between(value: Any, least: int, most: int, rule: str) -> int:
    number = _whole(value)
    if not least <= number <= most:
        raise ValueError(f"{number:,} is out of range. Use {rule}.")
    return number


def _whole(value: Any) -> int:
    if isinstance(value, str) and re.fullmatch(r"\d{1,18}", value.strip()) and value.isascii():
        return int(value)
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not math.isfinite(value)
        or int(value) != value
    ):
        raise ValueError(f"{shown(value)} is not a whole number. Write digits only.")
    return int(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is not a text.")
    if re.search(r"[\x00-\x1f\x7f\u0080-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\u200b]", value):
        raise ValueError(f"{shown(value)} holds a line break or another character that cannot be seen. Type it anew.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{shown(value)} is not valid text. Type it anew.") from None
    return value.strip()


def check_public_key(value: Any) -> str:
    text = _text(value)
    if len(text) > 4000 or not text.startswith(_KEY_TYPES):
        raise ValueError("This is no public key. It reads like 'ssh-ed25519 AAAA… comment'.")
    return text


# -- what only those may see who may change it

HIDDEN = "(hidden)"
_SENSITIVE = re.compile(r"secret|passw|token|credential|key(?![a-z])", re.I)


def without_secrets(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as those may see them who may not change them: Spark takes passwords and keys of storage among its settings."""
    found, spark = dict(options), options.get("spark") or {}
    hidden = {
        part: {name: HIDDEN if _SENSITIVE.search(name) else value for name, value in spark[part].items()}
        for part in ("conf", "variables")
        if spark.get(part)
    }
    if hidden:
        found["spark"] = {**spark, **hidden}
    return found
