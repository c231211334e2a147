"""Facts of the git repository that a project folder lies in, as properties of a run.

Asked of the ``git`` command. A repository's own configuration may name programs to run; they are turned off,
because submitting a folder must not execute what is in it.
"""

import os
import re
import subprocess
from collections.abc import Mapping
from typing import Any

TIMEOUT = 10
FACTS = ("repository_uri", "branch", "commit", "dirty")
MLFLOW = {"repository_uri": "repoURL", "branch": "branch", "commit": "commit"}
MAX_FACT = 2000
GIT = ("git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "protocol.allow=never")
HTTP_USER = re.compile(r"^([a-z][a-z0-9+.-]*://)[^/]*@", re.IGNORECASE)
SSH_USER = re.compile(r"^(ssh://[^/@:]*):[^/]*@", re.IGNORECASE)


def gitinfo(folder: str | os.PathLike[str]) -> dict[str, str]:
    """Properties ``azureml.git.*`` and ``mlflow.source.git.*``; none when the folder is in no repository."""
    facts = read(folder)
    for name in FACTS:
        override = os.environ.get(f"AZUREML_GIT_{name.upper()}")
        if override:
            facts[name] = override
    return properties(facts)


def properties(facts: Mapping[str, Any]) -> dict[str, str]:
    """Facts, also those that a browser read, as properties: known names only, credentials masked."""
    kept = {}
    for name in FACTS:
        value = facts.get(name)
        if isinstance(value, str) and value and len(value) <= MAX_FACT and value.isprintable():
            kept[name] = mask(value) if name == "repository_uri" else value
    result = {f"azureml.git.{name}": value for name, value in kept.items()}
    result.update({f"mlflow.source.git.{MLFLOW[name]}": kept[name] for name in MLFLOW if name in kept})
    return result


def mask(address: str) -> str:
    """A repository's address without user, password, token or query."""
    if "://" not in address:
        return address  # git@host:path, or a folder: no place for a password
    address = address.partition("?")[0].partition("#")[0]
    if address.lower().startswith("ssh://"):
        return SSH_USER.sub(r"\1:***@", address)
    return HTTP_USER.sub(r"\1***@", address)


def read(folder: str | os.PathLike[str]) -> dict[str, str]:
    """The facts that git tells: repository_uri, branch, commit, dirty ("True" or "False", of this folder
    only)."""
    if _git(folder, "rev-parse", "--is-inside-work-tree") != "true":
        return {}
    facts: dict[str, str] = {}
    commit = _git(folder, "rev-parse", "--verify", "-q", "HEAD")
    if commit:
        facts["commit"] = commit
    branch = _git(folder, "symbolic-ref", "--short", "-q", "HEAD")
    if branch:
        facts["branch"] = branch
    address = _remote(folder, branch or "")
    if address:
        facts["repository_uri"] = address
    changes = _git(folder, *_no_filters(folder), "status", "--porcelain", "--", ".")
    if changes is not None:
        facts["dirty"] = str(bool(changes))
    return facts


def _no_filters(folder: str | os.PathLike[str]) -> list[str]:
    """Options that empty the filters of the repository's own configuration; those of the person's are theirs
    to run."""
    names = _git(folder, "config", "--local", "--name-only", "--get-regexp", r"^filter\..*\.(clean|process)$")
    return [option for name in (names or "").splitlines() for option in ("-c", f"{name}=")]


def _remote(folder: str | os.PathLike[str], branch: str) -> str | None:
    """The address of the branch's own remote, else of ``origin``, else of the first."""
    remotes = (_git(folder, "remote") or "").split()
    own = _git(folder, "config", "--get", f"branch.{branch}.remote") if branch else None
    for name in (own, "origin", *remotes[:1]):
        if name in remotes:
            return _git(folder, "config", "--get", f"remote.{name}.url")
    return None


def _git(folder: str | os.PathLike[str], *arguments: str) -> str | None:
    """What a git command prints, without the last line break; None when it fails, is not there, or takes too
    long."""
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            [*GIT, *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace").strip() if done.returncode == 0 else None
