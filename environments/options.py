"""What a compute target's options may say. Plain data in, plain data out; nothing here reaches a target.

The fields are named by their way, with dots: ``ssh.host``, ``docker.mounts``. Every message gives the rule and the fix.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from environments.option_rules import (
    COORDINATE,
    URL,
    check_access,
    check_between,
    check_conf,
    check_cpus,
    check_deploy_mode,
    check_each,
    check_host,
    check_host_key,
    check_image,
    check_master,
    check_mounts,
    check_network,
    check_number,
    check_path,
    check_port,
    check_public_key,
    check_python,
    check_root,
    check_sandbox,
    check_spark_variables,
    check_user,
    sentence,
    shown,
)
from environments.package_rules import (
    check_channel,
    check_index,
    check_offline,
    check_secret_name,
    check_texts,
    check_wheels,
)

DEFAULT_ROOT = "~/.runstead"
KINDS = {
    "here": ("local", "process"),
    "ssh": ("ssh", "process"),
    "docker": ("local", "docker"),
    "docker-ssh": ("ssh", "docker"),
    "spark": ("local", "process"),
    "spark-ssh": ("ssh", "process"),
}
"""Kinds of targets as people choose them → (transport, launcher). The two of Spark have options for it besides."""
TITLES = {
    "here": "This machine",
    "ssh": "Remote machine",
    "docker": "Docker",
    "docker-ssh": "Docker, remote",
    "spark": "Spark cluster",
    "spark-ssh": "Spark cluster, remote",
}

LEAST_MEMORY = 64 * 1024**2


class OptionsError(ValueError):
    """Options that cannot be used. ``errors``: field, with dots → what is wrong and what to do."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{field}: {message}" for field, message in errors.items()))
        self.errors = dict(errors)


def validate(
    transport: str, launcher: str, options: Mapping[str, Any], *, data_dir: str = "", partial: bool = False
) -> dict[str, Any]:
    """The options, checked and with their defaults filled in. Raises OptionsError.

    ``data_dir``: the studio's own folder, of which a container on this machine may see nothing. ``partial``: for a draft, of which
    only what is there is checked and nothing is filled in.
    """
    check = _Check(partial)
    found: dict[str, Any] = {}
    if transport not in {"local", "ssh"}:
        check.errors["transport"] = f"{shown(transport)} is not known. Use local or ssh."
    if launcher not in {"process", "docker"}:
        check.errors["launcher"] = f"{shown(launcher)} is not known. Use process or docker."
    known = of_kind(transport, launcher, options)
    for name, value in options.items():
        if name not in known and value is not None:
            check.errors[str(name)] = f"{shown(name)} is not an option of a {transport} {launcher} target. Remove it."
    here = data_dir if transport == "local" else ""
    check.take(
        found, options, "root", lambda value: check_root(value, here), DEFAULT_ROOT if transport == "ssh" else None
    )
    check.take(found, options, "python", check_python, None)
    if transport == "ssh" and launcher == "process":
        check.take(found, options, "sandbox", check_sandbox, None)
    if transport == "ssh":
        check.section(found, options, "ssh", lambda values: _ssh(check, values))
    if launcher == "docker":
        check.section(found, options, "docker", lambda values: _docker(check, values, here))
    elif "spark" in options:
        check.section(found, options, "spark", lambda values: _spark(check, values))
    if "packages" in options:
        check.section(found, options, "packages", lambda values: _packages(check, values))
    if "cleaning" in options:
        check.section(found, options, "cleaning", lambda values: _cleaning(check, values))
    if check.errors:
        raise OptionsError(check.errors)
    return found


def kind_of(transport: str, launcher: str, options: Mapping[str, Any]) -> str:
    """The kind as people chose it: a key of ``KINDS``."""
    first = "docker" if launcher == "docker" else "spark" if options.get("spark") is not None else ""
    if transport == "ssh":
        return f"{first}-ssh" if first else "ssh"
    return first or "here"


def of_kind(transport: str, launcher: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a draft's options that its kind has; what was typed for another kind is left out."""
    names = {"root", "python", "packages", "cleaning"}
    names |= {"ssh"} if transport == "ssh" else set()
    names |= {"docker"} if launcher == "docker" else {"spark"}
    names |= {"sandbox"} if (transport, launcher) == ("ssh", "process") else set()
    return {name: value for name, value in options.items() if name in names and value is not None}


class _Check:
    """Collects what is wrong, by field."""

    def __init__(self, partial: bool) -> None:
        self.errors: dict[str, str] = {}
        self.partial = partial
        self.within = ""

    def take(
        self, found: dict[str, Any], values: Mapping[str, Any], name: str, rule: Callable[[Any], Any], default: Any
    ) -> None:
        """Put a field that ``rule`` has checked into ``found``; what is not given gets the default, None: is left out."""
        value = values.get(name)
        if value is None or (value == "" and default is not None):
            if default is not None and not self.partial:
                found[name] = default
            return
        try:
            checked = rule(value)
        except ValueError as error:
            self.errors[self.within + name] = sentence(error)
            return
        if checked not in (None, ""):
            found[name] = checked

    def need(
        self, found: dict[str, Any], values: Mapping[str, Any], name: str, rule: Callable[[Any], Any], why: str
    ) -> None:
        """Like ``take``, for a field without which there is no target."""
        if values.get(name) in (None, ""):
            if not self.partial or name in values:
                self.errors[self.within + name] = why
            return
        self.take(found, values, name, rule, None)

    def section(
        self,
        found: dict[str, Any],
        values: Mapping[str, Any],
        name: str,
        read: Callable[[Mapping[str, Any]], dict[str, Any]],
    ) -> None:
        """A field that holds fields itself."""
        inner = values.get(name)
        if inner is None:
            if self.partial:
                return
            inner = {}
        if not isinstance(inner, Mapping):
            self.errors[self.within + name] = "An object with the names of its options is needed."
            return
        before, self.within = self.within, f"{self.within}{name}."
        found[name] = read(inner)
        self.within = before

    def only(self, values: Mapping[str, Any], names: Sequence[str]) -> None:
        for name in values:
            if name not in names:
                self.errors[f"{self.within}{name}"] = f"{shown(name)} is not an option here. Use: {', '.join(names)}."


def _ssh(check: _Check, values: Mapping[str, Any]) -> dict[str, Any]:
    check.only(values, ("host", "port", "user", "host_key", "jump", "access", "public_key"))
    found = _hop(check, values)
    check.take(found, values, "access", check_access, None)
    check.take(found, values, "public_key", check_public_key, None)
    if values.get("jump"):
        check.section(found, values, "jump", lambda jump: _jump(check, jump))
    elif "jump" in values or not check.partial:
        found["jump"] = None
    return found


def _jump(check: _Check, values: Mapping[str, Any]) -> dict[str, Any]:
    check.only(values, ("host", "port", "user", "host_key"))
    return _hop(check, values)


def _hop(check: _Check, values: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    check.need(found, values, "host", check_host, "Give the host's name or address, for example gpu-box-3.example.org.")
    check.take(found, values, "port", check_port, 22)
    check.need(found, values, "user", check_user, "Give the user to sign in as.")
    check.take(found, values, "host_key", lambda key: check_host_key(key) if key else "", "")
    return found


def _docker(check: _Check, values: Mapping[str, Any], data_dir: str) -> dict[str, Any]:
    for name in values:
        if str(name).replace("-", "_").lower() in {
            "privileged",
            "cap_add",
            "devices",
            "security_opt",
            "pid",
            "ipc",
            "uts",
            "userns",
            "pid_mode",
            "ipc_mode",
            "network_mode",
            "userns_mode",
        }:
            check.errors[f"{check.within}{name}"] = (
                f"{name} would take down the wall around a run. Containers of runs are never given it. Remove it."
            )
    names = ("socket", "base_image", "memory_bytes", "cpus", "shm_bytes", "pids", "network", "mounts")
    check.only({name: value for name, value in values.items() if f"{check.within}{name}" not in check.errors}, names)
    found: dict[str, Any] = {}
    check.take(found, values, "socket", check_path, None)
    check.take(found, values, "base_image", check_image, None)
    check.take(
        found, values, "memory_bytes", lambda value: check_between(value, LEAST_MEMORY, 2**50, "64 MB at least"), None
    )
    check.take(found, values, "shm_bytes", lambda value: check_between(value, 1024**2, 2**50, "1 MB at least"), None)
    check.take(
        found, values, "pids", lambda value: check_between(value, 16, 10**7, "16 at least: a script needs some"), None
    )
    check.take(found, values, "cpus", check_cpus, None)
    check.take(found, values, "network", check_network, None)
    if "mounts" in values:
        check.take(
            found, values, "mounts", lambda value: check_mounts(value, data_dir, str(found.get("socket", ""))), None
        )
    return found


def _spark(check: _Check, values: Mapping[str, Any]) -> dict[str, Any]:
    check.only(values, ("home", "master", "deploy_mode", "conf", "packages", "repositories", "variables"))
    found: dict[str, Any] = {}
    check.take(found, values, "home", check_path, None)
    check.need(found, values, "master", check_master, "Give the master, for example spark://host:7077 or yarn.")
    check.take(found, values, "deploy_mode", check_deploy_mode, "client")
    check.take(found, values, "conf", check_conf, None)
    check.take(found, values, "packages", lambda value: check_each(value, COORDINATE, "group:artifact:version"), None)
    check.take(found, values, "repositories", lambda value: check_each(value, URL, "https://host/path"), None)
    check.take(found, values, "variables", check_spark_variables, None)
    master = str(found.get("master", ""))
    if found.get("deploy_mode") == "cluster" and master.startswith(("local", "spark://")):
        check.errors["spark.deploy_mode"] = f"{master} cannot place a Python driver in the cluster. Use client."
    return found


def _packages(check: _Check, values: Mapping[str, Any]) -> dict[str, Any]:
    """Where environments of this target take packages from."""
    check.only(values, ("index_url", "extra_index_urls", "index_secret", "find_links", "conda_channels", "offline"))
    found: dict[str, Any] = {}
    check.take(found, values, "index_url", check_index, None)
    check.take(found, values, "extra_index_urls", lambda value: check_texts(value, check_index), None)
    check.take(found, values, "index_secret", check_secret_name, None)
    check.take(found, values, "find_links", lambda value: check_texts(value, check_wheels), None)
    check.take(found, values, "conda_channels", lambda value: check_texts(value, check_channel), None)
    check.take(found, values, "offline", check_offline, None)
    if found.get("index_secret") and not (found.get("index_url") or found.get("extra_index_urls")):
        check.errors |= {
            "packages.index_secret": "It is for the indexes named here, and there is none. Name one, or leave this empty."
        }
    return found


def _cleaning(check: _Check, values: Mapping[str, Any]) -> dict[str, Any]:
    names = {"keep_days": 7, "environment_days": 60, "cache_bytes": 20 * 10**9}
    check.only(values, tuple(names))
    found: dict[str, Any] = {}
    check.take(found, values, "keep_days", lambda value: check_number(value, 0, 3650, "days"), 7)
    check.take(found, values, "environment_days", lambda value: check_number(value, 1, 3650, "days"), 60)
    check.take(
        found, values, "cache_bytes", lambda value: check_number(value, 10**8, 10**16, "bytes"), names["cache_bytes"]
    )
    return found
