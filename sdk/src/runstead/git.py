"""Facts of the git repository that a project folder lies in. Asked of the `git` command, with the programs that a repository's
own configuration may name turned off: submitting a folder must not execute what is in it."""

from __future__ import annotations

import os
import re
import subprocess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List, Optional

FACTS = ("repository_uri", "branch", "commit", "dirty")
GIT = ("git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=" + os.devnull, "-c", "protocol.allow=never")
SECONDS = 10
USER = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*://)[^/]*@")
SSH_PASSWORD = re.compile(r"^(ssh://[^/@:]*):[^/]*@", re.IGNORECASE)


def facts(folder: str) -> Dict[str, str]:
    """repository_uri (credentials masked), branch, commit, dirty ("True" or "False", of this folder); none outside a repository.

    `AZUREML_GIT_<NAME>` overrides each.
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
    if _git(folder, "rev-parse", "--is-inside-work-tree") != "true":
        return {}
    found: Dict[str, str] = {}
    commit = _git(folder, "rev-parse", "--verify", "-q", "HEAD")
    branch = _git(folder, "symbolic-ref", "--short", "-q", "HEAD")
    address = _remote(folder, branch or "")
    for name, value in (("commit", commit), ("branch", branch), ("repository_uri", address)):
        if value:
            found[name] = value
    changes = _git(folder, *_no_filters(folder), "status", "--porcelain", "--", ".")
    if changes is not None:
        found["dirty"] = str(bool(changes))
    return found


def _no_filters(folder: str) -> List[str]:
    names = _git(folder, "config", "--local", "--name-only", "--get-regexp", r"^filter\..*\.(clean|process)$")
    return [option for name in (names or "").splitlines() for option in ("-c", name + "=")]


def _remote(folder: str, branch: str) -> Optional[str]:
    remotes = (_git(folder, "remote") or "").split()
    own = _git(folder, "config", "--get", "branch.%s.remote" % branch) if branch else None
    for name in (own, "origin", *remotes[:1]):
        if name in remotes:
            return _git(folder, "config", "--get", "remote.%s.url" % name)
    return None


def _git(folder: str, *arguments: str) -> Optional[str]:
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            [*GIT, *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace").strip() if done.returncode == 0 else None
