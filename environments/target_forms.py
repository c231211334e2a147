"""What people type about targets. The forms only translate: what may be said is in ``environments.options``, and
``environments.attaching`` decides. Secrets are never put into a page again."""

import re
from collections.abc import Mapping
from typing import Any

from django import forms
from django.utils.datastructures import MultiValueDict

from environments.models import ComputeTarget

UNITS = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
_SIZE = re.compile(r"(\d+(?:[.,]\d+)?)\s*([KMGT]?i?B?)\Z", re.IGNORECASE)
ACCESS = (("studio", "A key that the studio makes"), ("key", "Your own private key"), ("password", "Password"))
# Where the rules name a field otherwise than the form does.
SHOWN_AT = {
    "ssh.host": "host", "ssh.port": "port", "ssh.user": "user", "ssh": "host", "ssh.host_key": "host",
    "ssh.jump.host": "jump_host", "ssh.jump.port": "jump_port", "ssh.jump.user": "jump_user", "ssh.jump": "jump_host",
    "docker.socket": "socket", "docker.base_image": "base_image", "docker.memory_bytes": "memory", "docker.shm_bytes": "shm",
    "docker.pids": "pids", "docker.cpus": "cpus", "docker.network": "network", "docker.mounts": "mounts",
    "spark.master": "master", "spark.home": "spark_home", "spark.deploy_mode": "deploy_mode", "spark.conf": "conf",
    "spark.packages": "packages", "spark.repositories": "repositories",
    "packages.index_url": "index_url", "packages.extra_index_urls": "extra_index_urls", "packages.index_secret": "index_secret",
    "packages.find_links": "find_links", "packages.conda_channels": "conda_channels", "packages.offline": "offline",
    "cleaning.keep_days": "keep_days", "cleaning.environment_days": "environment_days", "cleaning.cache_bytes": "cache",
}  # fmt: skip


class TypedForm(forms.Form):
    """Fields of text; what the domain refuses is shown beside the field that it is about."""

    def take(self, errors: Mapping[str, str]) -> None:
        for field, message in errors.items():
            at = SHOWN_AT.get(field, field)
            self.add_error(at if at in self.fields else None, message)

    def typed(self) -> dict[str, str]:
        """As it was typed, right or wrong, without secrets."""
        return {name: str(self.data.get(name, "")) for name in self.fields if name not in SECRETS}

    @classmethod
    def of(cls, typed: Mapping[str, str]) -> "TypedForm":
        """A form that shows these values, with no word about them yet."""
        return cls(initial=dict(typed))


def text(length: int = 255, *, strip: bool = True, label: str | None = None) -> forms.CharField:
    return forms.CharField(max_length=length, required=False, strip=strip, label=label)


class AddressForm(TypedForm):
    """Where it is and what it is called; the fields of the kinds that it is not are empty."""

    name = text()
    host = text()
    port = text(20)
    user = text()
    jump_host = text()
    jump_port = text(20)
    jump_user = text()
    root = text(1000)
    python = text(1000)
    sandbox = text(8)
    base_image = text()
    memory = text(40)
    cpus = text(20)
    shm = text(40)
    pids = text(20)
    network = text()
    mounts = text(20_000, strip=False)
    socket = text(1000)
    master = text(1000)
    spark_home = text(1000)
    deploy_mode = text(20)
    conf = text(100_000, strip=False)
    packages = text(20_000, strip=False)
    repositories = text(20_000, strip=False)
    index_url = text(2000)
    extra_index_urls = text(20_000, strip=False)
    index_secret = text()
    find_links = text(20_000, strip=False)
    conda_channels = text(20_000, strip=False)
    offline = text(8)
    keep_days = text(20)
    environment_days = text(20)
    cache = text(40)

    def options(self, kind: str) -> dict[str, Any]:
        """As ``environments.options`` takes them, sections complete; what cannot be read is an error of its field."""
        data = self.cleaned_data
        found: dict[str, Any] = {"root": data["root"] or None, "python": data["python"] or None}
        if kind in {"ssh", "spark-ssh"}:
            found["sandbox"] = data["sandbox"] == "on" or None
        if kind.endswith("ssh"):
            jump = {
                "host": data["jump_host"],
                "port": data["jump_port"] or 22,
                "user": data["jump_user"] or data["user"],
            }
            found["ssh"] = {
                "host": data["host"], "port": data["port"] or 22, "user": data["user"], "jump": jump if data["jump_host"] else None,
            }  # fmt: skip
        if kind.startswith("docker"):
            found["docker"] = {
                "base_image": data["base_image"] or None, "memory_bytes": self.size("memory"), "shm_bytes": self.size("shm"),
                "cpus": self.number("cpus"), "pids": self.number("pids"), "network": data["network"] or None,
                "socket": data["socket"] or None, "mounts": self.mounted(),
            }  # fmt: skip
        if kind.startswith("spark"):
            found["spark"] = {
                "master": data["master"], "home": data["spark_home"] or None, "deploy_mode": data["deploy_mode"] or "client",
                "conf": self.pairs("conf") or None, "packages": data["packages"].split() or None,
                "repositories": data["repositories"].split() or None,
            }  # fmt: skip
        packages = {
            "index_url": data["index_url"], "extra_index_urls": data["extra_index_urls"].split(), "index_secret": data["index_secret"],
            "find_links": lines_of(data["find_links"]), "conda_channels": data["conda_channels"].split(),
            "offline": data["offline"] == "on",
        }  # fmt: skip
        if any(packages.values()):
            found["packages"] = {name: value for name, value in packages.items() if value}
        cleaning = {
            "keep_days": self.number("keep_days"), "environment_days": self.number("environment_days"),
            "cache_bytes": self.size("cache"),
        }  # fmt: skip
        if any(value is not None for value in cleaning.values()):
            found["cleaning"] = cleaning
        return found

    def size(self, field: str) -> int | None:
        """``16 GB`` in bytes."""
        typed = self.cleaned_data[field]
        if not typed:
            return None
        try:
            return parse_size(typed)
        except ValueError as error:
            self.add_error(field, str(error))
            return None

    def number(self, field: str) -> float | None:
        typed = self.cleaned_data[field]
        if not typed:
            return None
        if not re.fullmatch(r"\d{1,12}([.,]\d{1,6})?", typed) or not typed.isascii():
            self.add_error(field, f"{typed!r} is not a number. Write it like 4 or 2.5.")
            return None
        value = float(typed.replace(",", "."))
        return int(value) if value.is_integer() else value

    def mounted(self) -> list[dict[str, Any]] | None:
        """``/on/the/machine:/in/the/run``, a line each; ``:rw`` at the end lets runs write there."""
        found = []
        for number, line in enumerate(self.cleaned_data["mounts"].splitlines(), 1):
            if not line.strip():
                continue
            source, *rest = line.strip().split(":")
            if not rest or len(rest) > 2 or (len(rest) == 2 and rest[1] not in {"ro", "rw"}):
                self.add_error(
                    "mounts",
                    f"Line {number}: write /on/the/machine:/in/the/run, and :rw behind it to let runs write there.",
                )
                return None
            found.append({"source": source, "target": rest[0], "read_only": rest[1:] != ["rw"]})
        return found or None

    def pairs(self, field: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for number, line in enumerate(self.cleaned_data[field].splitlines(), 1):
            if not line.strip():
                continue
            name, sign, value = line.strip().partition("=")
            if not sign:
                self.add_error(field, f"Line {number}: write name=value, for example spark.executor.memory=2g.")
                return {}
            found[name.strip()] = value.strip()
        return found


def typed_address(target: ComputeTarget) -> dict[str, str]:
    """A target's name and options as the form's fields show them."""
    options = target.options
    ssh, docker, spark = (options.get(name) or {} for name in ("ssh", "docker", "spark"))
    jump, own, cleaning = ssh.get("jump") or {}, options.get("packages") or {}, options.get("cleaning") or {}
    found = {
        "name": target.name, "root": options.get("root"), "python": options.get("python"),
        "host": ssh.get("host"), "port": ssh.get("port"), "user": ssh.get("user"),
        "jump_host": jump.get("host"), "jump_port": jump.get("port"), "jump_user": jump.get("user"),
        "base_image": docker.get("base_image"), "memory": as_size(docker.get("memory_bytes")), "cpus": docker.get("cpus"),
        "shm": as_size(docker.get("shm_bytes")), "pids": docker.get("pids"), "network": docker.get("network"),
        "socket": docker.get("socket"),
        "mounts": "\n".join(
            f"{mount['source']}:{mount['target']}{'' if mount['read_only'] else ':rw'}" for mount in docker.get("mounts") or ()
        ),
        "master": spark.get("master"), "spark_home": spark.get("home"), "deploy_mode": spark.get("deploy_mode"),
        "conf": "\n".join(f"{name}={value}" for name, value in (spark.get("conf") or {}).items()),
        "packages": "\n".join(spark.get("packages") or ()), "repositories": "\n".join(spark.get("repositories") or ()),
        "sandbox": "on" if options.get("sandbox") else "",
        "index_url": own.get("index_url"), "index_secret": own.get("index_secret"), "offline": "on" if own.get("offline") else "",
        **{name: "\n".join(own.get(name) or ()) for name in ("extra_index_urls", "find_links", "conda_channels")},
        "keep_days": cleaning.get("keep_days"), "environment_days": cleaning.get("environment_days"),
        "cache": as_size(cleaning.get("cache_bytes")),
    }  # fmt: skip
    return {name: "" if value is None else str(value) for name, value in found.items()}


def lines_of(typed: str) -> list[str]:
    return [line.strip() for line in typed.splitlines() if line.strip()]


def parse_size(typed: str) -> int:
    """``16 GB`` in bytes. Raises ValueError with the fix."""
    match = _SIZE.match(typed)
    if match is None:
        raise ValueError(f"{typed!r} is not a size. Write it like 16 GB or 512 MB.")
    unit = match[2].lower()
    return int(float(match[1].replace(",", ".")) * UNITS[unit if unit in UNITS else unit + "b"])


def as_size(size: float | None) -> str:
    """Bytes as people type them, and read back the same."""
    if size is None:
        return ""
    for unit in ("TB", "TiB", "GB", "GiB", "MB", "MiB", "KB", "KiB"):
        count = size / UNITS[unit.lower()]
        if count >= 1 and round(count, 3) * UNITS[unit.lower()] == size:
            return f"{round(count, 3):g} {unit}"
    return f"{size:.0f} B"


SECRETS = ("password", "private_key", "passphrase", "jump_password", "jump_private_key", "jump_passphrase")


class AccessForm(TypedForm):
    """How to sign in. Secrets are write-only: an empty field keeps what is stored."""

    access = forms.ChoiceField(choices=ACCESS, required=False)
    password = text(1000, strip=False)
    private_key = text(20_000, strip=False)
    passphrase = text(1000, strip=False)
    jump_password = text(1000, strip=False)
    jump_private_key = text(20_000, strip=False)
    jump_passphrase = text(1000, strip=False)

    def credentials(self) -> dict[str, str | None]:
        """As ``attaching.update`` takes them: None takes away what the chosen way does not need."""
        data = self.cleaned_data
        found: dict[str, str | None] = {name: data[name] for name in SECRETS if name.startswith("jump_")}
        if data["access"] == "key":
            found |= {"private_key": data["private_key"], "passphrase": data["passphrase"], "password": None}
        elif data["access"] == "password":
            found |= {"password": data["password"], "private_key": None, "passphrase": None}
        return found

    def missing(self, target: ComputeTarget) -> None:
        """What the chosen way needs, and is neither typed nor stored, is an error of its field."""
        stored = (
            set(target.get_credentials())
            if (target.options.get("ssh") or {}).get("access") == self.cleaned_data["access"]
            else set()
        )
        for access, field, message in (
            ("key", "private_key", "Paste the private key, from -----BEGIN to the last -----."),
            ("password", "password", "Type the password."),
        ):
            if self.cleaned_data["access"] == access and not self.cleaned_data[field] and field not in stored:
                self.add_error(field, message)


class SlotsForm(TypedForm):
    """How many runs at once, and how many GPUs they may have."""

    slots = text(20)
    gpu_slots = text(20)

    def values(self) -> dict[str, Any]:
        """As ``attaching.update`` takes them."""
        found: dict[str, Any] = {}
        for field, rule in (
            ("slots", "Write a whole number, 1 or more."),
            ("gpu_slots", "Write a whole number, or nothing."),
        ):
            typed = self.cleaned_data[field]
            if re.fullmatch(r"[0-9]{1,9}", typed):
                found[field] = int(typed)
            elif typed or field == "slots":
                self.add_error(field, rule)
            elif field in self.data:
                found[field] = ""
        return found


class PoolForm(TypedForm):
    """A pool: its name, its members in their order, and how many of them."""

    name = text()
    description = text(500)
    members = text(100_000, label="Targets")
    min_nodes = text(20, label="At least")
    max_nodes = text(20, label="At most")

    def values(self) -> dict[str, Any]:
        """As ``pools.create`` takes them, which judges what is no number. Of a form that is valid."""
        data = self.cleaned_data
        return {
            "name": data["name"],
            "description": data["description"],
            "members": [name for name in re.split(r"[\s,]+", data["members"]) if name],
            "min_nodes": whole(data["min_nodes"] or "0"),
            "max_nodes": whole(data["max_nodes"]) if data["max_nodes"] else None,
        }


def whole(typed: str) -> "int | str":
    return int(typed) if re.fullmatch(r"[0-9]{1,9}", typed) else typed


def posted(kind: type[TypedForm], data: "MultiValueDict[str, str]") -> Any:
    form = kind(data)
    form.is_valid()
    for name in form.fields:
        form.cleaned_data.setdefault(name, "")  # what is too long, say, is an error already
    return form
