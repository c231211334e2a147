"""Facts of the git repository that a project folder lies in, as properties of a run.

Asked of the ``git`` command. A repository's own configuration may name programs to run; they are turned off, also in submodules,
because submitting a folder must not execute what is in it. The client does the same (``sdk/src/runstead/git.py``).
"""

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TIMEOUT = 10
FACTS = ("repository_uri", "branch", "commit", "dirty")
MLFLOW = {"repository_uri": "repoURL", "branch": "branch", "commit": "commit"}
MAX_FACT = 2000
GIT = ("git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")
# A partial clone would fetch what it lacks by any command that its configuration names.
ALWAYS = {
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
}
# Where git calls us from a hook, these speak of its own repository and not of the folder's.
NEVER = frozenset({
    "GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_NAMESPACE", "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
})  # fmt: skip
GITLINK = "160000 "
MAX_NESTED = 10
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
    dirty = _dirty(folder)
    if dirty is not None:
        facts["dirty"] = str(dirty)
    return {name: value.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for name, value in facts.items()}


def _dirty(folder: str | os.PathLike[str], depth: int = 0) -> bool | None:
    """Whether anything of the folder differs from its commit, in submodules too; None when git does not tell."""
    options = _no_filters(folder)
    if options is None or depth > MAX_NESTED:
        return None
    # git would look into submodules by itself, and execute what their configurations name.
    changes = _git(folder, *options, "status", "--porcelain", "--ignore-submodules=dirty", "--", ".")
    listed = _git(folder, "ls-files", "--stage", "-z", "--", ".")
    if changes is None or listed is None:
        return None
    dirty: bool | None = bool(changes)
    for entry in listed.split("\0"):
        inner = Path(folder, entry.partition("\t")[2])
        if entry.startswith(GITLINK) and (inner / ".git").exists():
            dirty = dirty or _dirty(inner, depth + 1)
    return dirty


def _no_filters(folder: str | os.PathLike[str]) -> list[str] | None:
    """Options that empty the filters of the repository's own configuration; those of the person are theirs to run. None when one
    has a name that cannot be emptied."""
    pattern = r"^filter\..*\.(clean|process)$"
    found, said = _asked(folder, "config", "-z", "--show-scope", "--name-only", "--get-regexp", pattern)
    if said:
        return None  # a git before 2.26, which would tell of fewer
    words = (found or "").split("\0")
    names = [name for scope, name in zip(words[::2], words[1::2], strict=False) if scope in {"local", "worktree"}]
    if any("=" in name for name in names):
        return None
    return [option for name in names for option in ("-c", f"{name}=")]


def _remote(folder: str | os.PathLike[str], branch: str) -> str | None:
    """The address of the branch's own remote, else of ``origin``, else of the first."""
    remotes = (_git(folder, "remote") or "").split()
    own = _git(folder, "config", "--get", f"branch.{branch}.remote") if branch else None
    for name in (own, "origin", *remotes[:1]):
        if name in remotes:
            return _git(folder, "config", "--get", f"remote.{name}.url")
    return None


def _git(folder: str | os.PathLike[str], *arguments: str) -> str | None:
    return _asked(folder, *arguments)[0]


def _asked(folder: str | os.PathLike[str], *arguments: str) -> tuple[str | None, str]:
    """What a git command prints, None when it fails, is not there or takes too long; and what it says of that."""
    environment = {**{name: value for name, value in os.environ.items() if name not in NEVER}, **ALWAYS}
    try:
        done = subprocess.run(
            [*GIT, *arguments], cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, check=False
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None, ""
    text = done.stdout.decode("utf-8", "surrogateescape").strip()
    return (text if done.returncode == 0 else None), done.stderr.decode("utf-8", "replace")
