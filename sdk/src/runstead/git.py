"""Facts of the git repository that a project folder lies in. Asked of the `git` command, with the programs that a repository's
own configuration may name turned off, also those of its submodules: submitting a folder must not execute what is in it."""

from __future__ import annotations

import os
import re
import subprocess
import warnings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List, Optional, Tuple

FACTS = ("repository_uri", "branch", "commit", "dirty")
GIT = ("git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=" + os.devnull)
# A partial clone would fetch what it lacks by any command that its configuration names.
ALWAYS = {
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
}
# Where git calls us from a hook, these speak of its own repository and not of the folder's.
NEVER = (
    "GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_NAMESPACE", "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
)  # fmt: skip
GITLINK = "160000 "
SECONDS = 10
USER = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*://)[^/]*@")
SSH_PASSWORD = re.compile(r"^(ssh://[^/@:]*):[^/]*@", re.IGNORECASE)


def facts(folder: str) -> Dict[str, str]:
    """repository_uri (credentials masked), branch, commit, dirty ("True" or "False", of this folder); none outside a repository.

    `AZUREML_GIT_<NAME>` overrides each. Warns when git will not read the repository because it is somebody else's.
    """
    found = _read(folder)
    for name in FACTS:
        override = os.environ.get("AZUREML_GIT_" + name.upper())
        if override:
            found[name] = override
    if "repository_uri" in found:
        found["repository_uri"] = _masked(found["repository_uri"])
    return found


def _masked(address: str) -> str:
    if "://" not in address:
        return address
    address = address.partition("?")[0].partition("#")[0]
    if address.lower().startswith("ssh://"):
        return SSH_PASSWORD.sub(r"\1:***@", address)
    return USER.sub(r"\1***@", address)


def _read(folder: str) -> Dict[str, str]:
    inside, said = _asked(folder, "rev-parse", "--is-inside-work-tree")
    if inside != "true":
        if "dubious ownership" in said or "unsafe repository" in said:
            warnings.warn(
                "git: the repository of %s belongs to another account, so git tells nothing of it and the run is without its commit. "
                "If you trust it: git config --global --add safe.directory %s" % (folder, os.path.realpath(folder)),
                stacklevel=3,
            )
        return {}
    found: Dict[str, str] = {}
    commit = _git(folder, "rev-parse", "--verify", "-q", "HEAD")
    branch = _git(folder, "symbolic-ref", "--short", "-q", "HEAD")
    address = _remote(folder, branch or "")
    for name, value in (("commit", commit), ("branch", branch), ("repository_uri", address)):
        if value:
            found[name] = value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    dirty = _dirty(folder)
    if dirty is not None:
        found["dirty"] = str(dirty)
    return found


def _dirty(folder: str, depth: int = 0) -> Optional[bool]:
    """Whether anything of the folder differs from its commit, in submodules too; None when git does not tell."""
    options = _no_filters(folder)
    if options is None or depth > 10:
        return None
    # git would look into submodules by itself, and execute what their configurations name.
    changes = _git(folder, *options, "status", "--porcelain", "--ignore-submodules=dirty", "--", ".")
    listed = _git(folder, "ls-files", "--stage", "-z", "--", ".")
    if changes is None or listed is None:
        return None
    dirty: Optional[bool] = bool(changes)
    for entry in listed.split("\0"):
        inner = os.path.join(folder, entry.partition("\t")[2])
        if entry.startswith(GITLINK) and os.path.exists(os.path.join(inner, ".git")):
            dirty = dirty or _dirty(inner, depth + 1)
    return dirty


def _no_filters(folder: str) -> Optional[List[str]]:
    """Options that empty the filters of the repository's own configuration; those of the person are theirs to run. None when one
    has a name that cannot be emptied."""
    pattern = r"^filter\..*\.(clean|process)$"
    found, said = _asked(folder, "config", "-z", "--show-scope", "--name-only", "--get-regexp", pattern)
    if said:
        return None  # a git before 2.26, which would tell of fewer
    words = (found or "").split("\0")
    names = [name for scope, name in zip(words[::2], words[1::2]) if scope in ("local", "worktree")]
    if any("=" in name for name in names):
        return None
    return [option for name in names for option in ("-c", name + "=")]


def _remote(folder: str, branch: str) -> Optional[str]:
    remotes = (_git(folder, "remote") or "").split()
    own = _git(folder, "config", "--get", "branch.%s.remote" % branch) if branch else None
    for name in (own, "origin", *remotes[:1]):
        if name in remotes:
            return _git(folder, "config", "--get", "remote.%s.url" % name)
    return None


def _git(folder: str, *arguments: str) -> Optional[str]:
    return _asked(folder, *arguments)[0]


def _asked(folder: str, *arguments: str) -> Tuple[Optional[str], str]:
    """What a git command prints, None when it fails, is not there or takes too long; and what it says of that."""
    environment = {**{name: value for name, value in os.environ.items() if name not in NEVER}, **ALWAYS}
    try:
        done = subprocess.run(
            [*GIT, *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None, ""
    text = done.stdout.decode("utf-8", "surrogateescape").strip()
    return (text if done.returncode == 0 else None), done.stderr.decode("utf-8", "replace")
