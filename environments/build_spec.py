"""``spec.json`` of a build's attempt: what is to be made, for the programs that make it on the target."""

import os
import re
import secrets
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from environments import engine, service_only
from environments.builders import BUILDERS, Place, spark
from environments.builders.base import Step
from environments.definition import Definition
from environments.models import Build, ComputeTarget, Lock
from environments.target import isolated
from studio.credentials import identity
from studio.workspaces.models import Secret, Workspace

BUILD_SECONDS = 2 * 3600
BUILD_LOG_BYTES = 64 * 1024**2
INDEX_AUTH, REGISTRY_AUTH = "RUNSTEAD_INDEX_AUTH", "RUNSTEAD_REGISTRY_AUTH"
# Of the studio's own variables, those that say how packages are fetched. They go to the local target only: another machine
# has its own network and its own settings.
PASSED = re.compile(r"(UV|PIP)_|(?i:(https?|no|all)_proxy)$|SSL_CERT_(FILE|DIR)$|REQUESTS_CA_BUNDLE$|CURL_CA_BUNDLE$")
NOT_PASSED = re.compile(
    r"UV_(CACHE_DIR|PROJECT|PYTHON|SYSTEM|BREAK|RUN_|TOOL_)|PIP_(TARGET|PREFIX|USER|ROOT|REQUIRE_VIRTUALENV|CACHE_DIR)"
)


class CannotBuild(Exception):
    """What the definition relies on is not there; trying again does not help. The text is for people, with the fix."""


def spec(build: Build, target: ComputeTarget, root: str, uv: str = "") -> dict[str, Any]:
    """``spec.json`` of the build's attempt. ``root``: the target's root folder; ``uv``: path of the one to use there. Raises CannotBuild."""
    assert build.version is not None, "a build is begun only for a version that asks for it"
    local = target.transport == "local"
    asked = Definition.from_json(build.version.definition)
    definition = service_only.installed(asked)
    index, index_auth = index_of(definition, target)
    builder = definition.builder
    place = Place(
        root=root,
        key=build.key,
        attempt=build.attempt,
        tools={**(target.facts.get("tools") or {}), "uv": uv},
        avoid=sys.prefix if local and sys.prefix != sys.base_prefix else "",
        locks=locks_of(target.workspace_id, build.key),
        index=index,
        spark=target.options.get("spark"),
        platform_hint=build.platform,
    )
    if target.launcher == "docker":
        builder, network = "docker_image", (target.options.get("docker") or {}).get("network") or "default"
        place = replace(
            place,
            socket=engine.socket_of(target.options),
            base_image=engine.base_image(target.options, definition.python_version),
            network="default" if network == "none" else network,  # packages come from somewhere
        )
    elif definition.needs_engine:
        raise CannotBuild(
            f"{target.name} starts processes, and this environment is an image. Choose a target with a container engine."
        )
    for_spark = [] if place.socket else spark.plan(definition, place.spark)
    passed = passed_variables(os.environ) if local else {}
    # An address with a user's name in it is a secret: masked in the log, and removed from the file once the build has started.
    private = {name: value for name, value in passed.items() if "@" in value}
    auth = {INDEX_AUTH: index_auth, REGISTRY_AUTH: registry_auth(definition, target.workspace)}
    return {
        "attempt": build.attempt,
        "kind": "build",
        "build": place.wish(definition),
        "steps": [*left_out(asked), *BUILDERS[builder](definition, place), *for_spark],
        "env": {name: value for name, value in passed.items() if name not in private},
        "secrets": {**private, **{name: value for name, value in auth.items() if value}},
        "limits": {"log_bytes": BUILD_LOG_BYTES, "seconds": BUILD_SECONDS, "memory_bytes": None},
        "grace": 5,
        "token": secrets.token_hex(16),
        "sample_seconds": 10,
        "isolate": isolated(target, root),
        "studio": identity(),
    }


def left_out(definition: Definition) -> list[Step]:
    """A step that says in the log which packages are not installed, where there are any."""
    note = service_only.note(definition)
    if not note:
        return []
    count = len(service_only.left_out(definition))
    title = f"Leave out {'1 package' if count == 1 else f'{count} packages'} of Azure Machine Learning's service"
    return [{"title": title, "argv": ["python3", "-c", "import sys; print(sys.argv[1])", note], "env": {}, "cwd": "."}]


def locks_of(workspace_id: int, key: str) -> dict[str, str]:
    """What the key was resolved to in this workspace, platform → text; the newest last."""
    rows = Lock.objects.filter(workspace=workspace_id, key=key).order_by("created_at", "pk")
    return dict(rows.values_list("platform", "text"))


def index_of(definition: Definition, target: ComputeTarget) -> tuple[dict[str, Any], str]:
    """Where packages come from, field by field the definition's word before the target's, and ``user:password`` for the addresses
    listed as ``private``. A target that is offline asks none but its own. Raises CannotBuild."""
    own: Mapping[str, Any] = target.options.get("packages") or {}
    offline = bool(own.get("offline"))
    wished = Definition() if offline else definition
    named = [url for url in (wished.index_url, *wished.extra_index_urls) if url]
    main = wished.index_url or str(own.get("index_url") or "")
    extra = list(wished.extra_index_urls or own.get("extra_index_urls") or [])
    asked = [url for url in (main, *extra) if url]
    # A secret goes to the addresses it was named for: the definition's to its own, the target's to the target's.
    of_definition = bool(named and wished.index_secret)
    secret = wished.index_secret if of_definition else str(own.get("index_secret") or "")
    private = [url for url in asked if (url in named) == of_definition] if secret else []
    index = {
        "index_url": main,
        "extra_index_urls": extra,
        "find_links": list(own.get("find_links") or []),
        "offline": offline,
        "conda_channels": list(own.get("conda_channels") or []),
        "private": private,
    }
    return index, reveal(target.workspace, secret, "package index") if private else ""


def registry_auth(definition: Definition, workspace: Workspace) -> str:
    """``user:password`` of the definition's image registry; empty where it needs none. Raises CannotBuild."""
    name = definition.registry.get("secret", "")
    if not name:
        return ""
    value = reveal(workspace, name, "image registry")
    user = definition.registry.get("username", "")
    return f"{user}:{value}" if user else value


def reveal(workspace: Workspace, name: str, what: str) -> str:
    """The value of a secret of the workspace. Raises CannotBuild where there is none of that name."""
    row = Secret.objects.filter(workspace=workspace, name=name).first()
    if row is None:
        raise CannotBuild(
            f"There is no secret named {name} in the workspace {workspace.name}, which this environment's {what} needs. "
            "Add it under Settings, or name another one in the environment."
        )
    return row.reveal()


def passed_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """Those that say how packages are fetched."""
    return {name: value for name, value in variables.items() if PASSED.match(name) and not NOT_PASSED.match(name)}
