"""What can be told about a run before it starts, without asking its target: warnings that do not block.

Everything comes from rows and stored contents, so that checking costs milliseconds at each key. What the target itself says is
``runs.examining``'s.
"""

import ast
import re
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

from django.db.models import Count, Q
from django.utils import timezone

from environments import service_only
from environments.definition import Definition
from environments.models import Build, BuildStatus, ComputeTarget, EnvironmentVersion, Pool
from environments.options import TITLES, kind_of
from environments.pools import Node, lacking, nodes
from runs import snapshots
from runs.config import ScriptRunConfig
from runs.fitting import misfit
from runs.forms import RunForm
from runs.models import Run, Snapshot
from runs.pools import UNPLACED
from runs.snapshots import read_file
from runs.status import ACTIVE, RunStatus
from studio.blobs import BlobMissing
from studio.templatetags.studio import relative
from studio.workspaces.models import Workspace

MAX_SCRIPT_BYTES = 250_000  # a hostile one of so many takes half a second
MAX_NAMED = 3
FILE = re.compile(
    r"[\w.@+-]+(?:/[\w.@+-]+)*\.(?:py|ya?ml|json|toml|ini|cfg|conf|txt|csv|tsv|parquet|npz?|pt|pth|ckpt|h5|pkl|onnx)\Z"
)
SECRET_FILE = re.compile(
    r"\.env(\.(?!example$|sample$|template$).*)?\Z|id_(rsa|dsa|ecdsa|ed25519)\Z|.*\.(pem|p12|pfx|keystore)\Z|\.netrc\Z|\.pgpass\Z"
)
USED = {"interpreter": "an interpreter", "conda_environment": "a conda environment"}
"""Kind of an environment that is on the target already → what that is."""
WRITTEN = ("outputs/", "logs/", "./outputs/", "./logs/")
WAITS = Q(status__in=[RunStatus.NOT_STARTED, RunStatus.PREPARING, RunStatus.QUEUED])


@dataclass(frozen=True)
class Check:
    """``level``: ``ok``, ``run`` (will be done), ``warn``, ``todo`` (not filled in yet) or ``fail`` (blocks the start)."""

    level: str
    text: str
    detail: str = ""
    about: str = ""
    """``environment`` for what is shown beside that field as well."""
    fix: str = ""
    """What to do about it; every warning and failure has one."""


@dataclass
class Wanted:
    """A run that somebody thinks of starting: as far as it is known yet, right or not."""

    workspace: Workspace
    config: ScriptRunConfig
    snapshot: Snapshot | None = None
    target: ComputeTarget | None = None
    """What is asked before the start. For a pool the member that the run would go to now."""
    version: EnvironmentVersion | None = None
    pool: Pool | None = None
    members: tuple[Node, ...] = ()
    """Of the pool those that the run can be on."""

    @classmethod
    def of(cls, form: RunForm) -> Self:
        """What a form asks for whose ``is_valid()`` was called."""
        found = cls(form.workspace, form.config, form.snapshot_row, version=form.version)
        found.send_to(form.place)
        if form.paths is not None:
            found.__dict__["paths"] = form.paths  # read already
        return found

    def send_to(self, place: ComputeTarget | Pool | None) -> None:
        """Say where it goes; the environment and the configuration are there already."""
        if not isinstance(place, Pool):
            self.target = place
            return
        self.pool = place
        self.members = tuple(node for node in nodes(place) if node.target.detached_at is None and self.fits(node))
        ready = [node for node in self.members if node.usable]
        room = [node for node in ready if node.free and node.gpus_free >= self.config.gpus]
        chosen = next(iter(room or ready or self.members), None)
        self.target = chosen.target if chosen else None

    def fits(self, node: Node) -> bool:
        asked = {"gpus": self.config.gpus, "framework": self.config.framework, "spark": self.config.spark}
        return self.version is None or not misfit(node.target, self.version, **asked)  # type: ignore[arg-type]

    @cached_property
    def paths(self) -> set[str] | None:
        """Files of the snapshot; None where there is none, or its contents are gone."""
        if self.snapshot is None:
            return None
        try:
            return {entry.path for entry in snapshots.files(self.snapshot)}
        except BlobMissing:
            return None


@dataclass(frozen=True)
class Busy:
    """How busy a target is."""

    target: ComputeTarget
    running: int
    waiting: int

    @property
    def kind(self) -> str:
        """As the pages of Compute call it."""
        return TITLES[kind_of(self.target.transport, self.target.launcher, self.target.options)]

    @property
    def free(self) -> int:
        return max(0, self.target.slots - self.running) if self.target.takes_runs else 0

    @property
    def blocks(self) -> list[str]:
        taken = min(self.running, self.target.slots)
        rest = "free" if self.target.takes_runs else "off"
        return [] if self.target.slots > 16 else [""] * taken + [rest] * (self.target.slots - taken)

    @property
    def words(self) -> str:
        """When a run that is started now would start."""
        if self.target.unreachable_since is not None:
            return "starts when the target answers again"
        if self.target.quarantined_at is not None:
            return "starts when an owner resumes the target"
        if self.free > self.waiting:
            return "starts at once"
        ahead = self.waiting + max(0, self.running - self.target.slots + 1)
        return f"{ahead} run{'s' if ahead != 1 else ''} ahead"


def busy(targets: Sequence[ComputeTarget]) -> list[Busy]:
    """One query for all targets."""
    rows = Run.objects.filter(target__in=[target.pk for target in targets], status__in=sorted(ACTIVE))
    counts = {
        row["target"]: row
        for row in rows.values("target").annotate(
            waiting=Count("pk", filter=WAITS), running=Count("pk", filter=~WAITS & Q(launched=True))
        )
    }
    none = {"running": 0, "waiting": 0}
    return [
        Busy(target, counts.get(target.pk, none)["running"], counts.get(target.pk, none)["waiting"])
        for target in targets
    ]


@dataclass(frozen=True)
class PoolBusy:
    """How busy a pool is."""

    target: Pool
    """By the name that the same has of a target."""
    nodes: Sequence[Node]

    @property
    def usable(self) -> int:
        return sum(node.usable for node in self.nodes)

    @property
    def free(self) -> int:
        return sum(node.free for node in self.nodes)

    @property
    def words(self) -> str:
        """When a run that is started now would start."""
        if not self.usable:
            return "starts when one of its targets is usable again"
        waiting = Run.objects.filter(UNPLACED, pool=self.target).count()
        if self.free and not waiting:
            return "starts at once"
        return f"{waiting} run{'s' if waiting != 1 else ''} ahead"


def preflight(wanted: Wanted) -> list[Check]:
    """The dry checks."""
    return [
        *check_script(wanted),
        *check_files(wanted),
        *check_secrets(wanted.paths or set()),
        *(check_pool(wanted) if wanted.pool is not None else check_environment(wanted.version, wanted.target)),
        *(() if wanted.pool is not None else check_target(wanted.target)),
    ]


def check_script(wanted: Wanted) -> list[Check]:
    if wanted.snapshot is None or wanted.paths is None:
        return [Check("todo", "Choose the project folder")]
    if wanted.config.shell_line:
        return [Check("ok", "The command is a line for a shell, bash or sh on the target")]
    if wanted.config.framework == "command":
        return [Check("ok", f"The command has {len(wanted.config.command)} words")] if wanted.config.command else []
    script = wanted.config.script
    if not script:
        return [Check("todo", "Name the script to run")]
    if script not in wanted.paths:
        return []  # the form's own error says so
    where = f"{script} is in the folder"
    if not script.endswith(".py"):
        return [Check("ok", where)]
    problem = syntax_problem(wanted.snapshot, script)
    if problem:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        detail = f"Read with Python {version}. Another one on the target may accept it."
        return [Check("warn", problem, detail, fix="Correct that line, then choose the folder again.")]
    return [Check("ok", f"{where} and parses")]


def syntax_problem(snapshot: Snapshot, script: str) -> str:
    """Where the script is no Python, in words; empty when nothing is found."""
    try:
        source = read_file(snapshot, script)
    except (KeyError, BlobMissing):
        return f"{script} cannot be read any more"
    if len(source) > MAX_SCRIPT_BYTES:
        return ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(source, filename=script)
    except SyntaxError as error:
        return f"{script}, line {error.lineno or 1}: {error.msg}"
    except (ValueError, RecursionError, MemoryError):
        return f"{script} cannot be parsed: it is nested too deeply or holds a NUL"
    return ""


def check_secrets(paths: set[str]) -> list[Check]:
    """Files that usually hold passwords or keys: a snapshot keeps them, and every member can read it."""
    found = sorted(path for path in paths if SECRET_FILE.match(path.rsplit("/", 1)[-1]))
    if not found:
        return []
    named = ", ".join(found[:MAX_NAMED]) + (f" and {len(found) - MAX_NAMED} more" if len(found) > MAX_NAMED else "")
    fix = "List it in .runignore, and use a secret of the workspace instead."
    return [
        Check("warn", f"{named} may hold a password or a key", "Members can read every file of a snapshot.", fix=fix)
    ]


def check_files(wanted: Wanted) -> list[Check]:
    """Arguments that look like files of the project should be there."""
    paths = wanted.paths or set()
    if not paths:
        return []
    missing: list[str] = []
    found = 0
    for argument in wanted.config.words:
        name = argument.partition("=")[2] if argument.startswith("-") else argument
        if not FILE.match(name) or name.startswith(WRITTEN) or name == wanted.config.script:
            continue
        if name.removeprefix("./") in paths:
            found += 1
        elif name not in missing:
            missing.append(name)
    checks = [
        Check(
            "warn",
            f"{name} is not in the snapshot",
            "The script will not find it, unless it makes it or another path is meant.",
            fix="Put it into the folder, or correct the argument.",
        )
        for name in missing[:MAX_NAMED]
    ]
    if len(missing) > MAX_NAMED:
        more = f"{len(missing) - MAX_NAMED} more files in the arguments are not in the snapshot"
        checks.append(Check("warn", more, fix="Put them into the folder, or correct the arguments."))
    if found and not missing:
        checks.append(
            Check(
                "ok",
                f"{found} file{'s' if found > 1 else ''} named in the arguments {'are' if found > 1 else 'is'} there",
            )
        )
    return checks


def check_environment(version: EnvironmentVersion | None, target: ComputeTarget | None) -> list[Check]:
    if version is None or target is None:
        return []
    build = Build.objects.filter(target=target, key=version.key).first()
    level, text, detail, fix = (
        "run",
        f"{version} is not on {target} yet",
        "It is built once, before the run starts.",
        "",
    )
    if build is not None and build.status == BuildStatus.READY:
        level, text, detail = "ok", f"{version} is built, and already on {target}", ""
    elif build is not None and build.status == BuildStatus.BUILDING:
        level, text, detail = "run", f"{version} is being built on {target}", "The run waits for it."
    elif build is not None and build.status == BuildStatus.FAILED:
        level, text, detail = "warn", f"The last build of {version} on {target} failed", build.error[:200]
        fix = "The run has it built again. Read the build's log, and correct the environment first."
    elif what := USED.get(Definition.from_json(version.definition).kind):
        text, detail = f"{version} uses {what} of {target}", "It is looked for when the run is prepared."
    checks = [Check(level, text, detail, "environment", fix)]
    if note := service_only.note(Definition.from_json(version.definition)):
        fix = "Nothing is to be done: from azureml.core import Run works in every run."
        checks.append(
            Check("ok", f"Packages of Azure Machine Learning's service are left out of {version}", note, fix=fix)
        )
    return checks


def check_target(target: ComputeTarget | None) -> list[Check]:
    if target is None:
        return []
    if target.quarantined_at is not None:
        text = f"{target} is quarantined: nothing starts there until it is resumed"
        return [Check("warn", text, target.quarantine_reason, fix="Resume it under Compute, or choose another target.")]
    if target.unreachable_since is not None:
        seen = (
            f"Last seen {relative((timezone.now() - target.last_seen_at).total_seconds())}."
            if target.last_seen_at
            else ""
        )
        fix = "Test its connection under Compute, or choose another target."
        return [Check("warn", f"{target} does not answer", f"{seen} The run waits until it does.".strip(), fix=fix)]
    (state,) = busy([target])
    room = (
        f"{state.free} of {target.slots} slots free" if state.free else f"all {target.slots} slots busy, {state.words}"
    )
    if target.last_seen_at is None:
        return [
            Check("run", f"{target} has not been asked yet, {room}", "It is tested when the first run is prepared.")
        ]
    answered = relative((timezone.now() - target.last_seen_at).total_seconds())
    return [Check("ok", f"{target} answered {answered}, {room}")]


def check_pool(wanted: Wanted) -> list[Check]:
    """What the members that the run can be on say: their builds of the environment, and their state."""
    pool, version, able = wanted.pool, wanted.version, wanted.members
    assert pool is not None
    if not able:
        return []  # the submission's own error says so
    everyone = nodes(pool)
    found: list[Check] = []
    if version is not None:
        ready = set(
            Build.objects.filter(
                target__in=[node.target.pk for node in able], key=version.key, status=BuildStatus.READY
            ).values_list("target_id", flat=True)
        )
        text = f"{version} is on {len(ready)} of {len(able)} targets of {pool}"
        rest = "" if len(ready) == len(able) else "On another one it is built once, before the run starts."
        if rest and (what := USED.get(Definition.from_json(version.definition).kind)):
            text = f"{version} uses {what} of the target that the run goes to"
            rest = "It is looked for when the run is prepared."
        found.append(Check("run" if rest else "ok", text, rest, "environment"))
    others = [node for node in everyone if node.target.detached_at is None and node not in able]
    if others:
        named = ", ".join(node.target.name for node in others[:MAX_NAMED])
        more = f" and {len(others) - MAX_NAMED} more" if len(others) > MAX_NAMED else ""
        found.append(Check("run", f"{named}{more} of {pool} cannot take this run", "It goes to the others."))
    usable = [node for node in able if node.usable]
    state = PoolBusy(pool, able)
    if not usable:
        told = ", ".join(f"{node.target.name} {node.trouble}" for node in able[:MAX_NAMED])
        fix = "Test or resume one of them under Compute, or choose another target."
        found.append(Check("warn", f"No target of {pool} is usable now", f"{told}. The run waits.", fix=fix))
    else:
        first = wanted.target
        slots = f"{state.free} slot{'' if state.free == 1 else 's'} free"
        room = f"{slots}, the first on {first}" if state.free else f"no slot free, {state.words}"
        are = "is" if len(usable) == 1 else "are"
        found.append(Check("ok", f"{len(usable)} of {len(able)} targets of {pool} {are} usable, {room}"))
    if usable and (missing := lacking(pool, everyone)):
        text = f"{pool} has too few usable targets: {pool.min_nodes - missing} of at least {pool.min_nodes}"
        found.append(
            Check("warn", text, "Runs go to those that are there.", fix="Test those that are away under Compute.")
        )
    return found
