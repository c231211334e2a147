"""The form that starts a run: what a person typed, validated into a ``ScriptRunConfig`` and what goes with it.

Every message names the rule and the fix and belongs to a field. Nothing typed is changed or lost: a rejected form shows the
texts as they were.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet
from django.http import QueryDict

from environments.models import ComputeTarget, EnvironmentVersion, Label, Pool
from environments.pools import find_place
from environments.registry import NoSuchEnvironment, named
from runs import gitinfo, shell_lines, shellwords, snapshots
from runs.config import ConfigError, ScriptRunConfig
from runs.fitting import pool_misfit, too_many_gpus
from runs.framework_form import PARTS, FrameworkForm, Text, framework_values
from runs.models import Run, Snapshot
from runs.snippets import DEFAULT_GRACE, RunRequest
from runs.submission import MAX_PRIORITY
from runs.tags import format_tags, parse_tags
from runs.units import duration_text, parse_duration, parse_size, size_text
from studio.blobs import BlobMissing
from studio.database import storable
from studio.workspaces.models import Workspace, name_rule

MAX_TEXT = 4_000_000
MAX_ROWS = 500
MAX_GIT = 20_000
REQUEST_ID = re.compile(r"[0-9a-f-]{16,64}\Z")
# Names in ScriptRunConfig and submission → names of the form's fields.
FIELDS = {
    "max_run_duration_seconds": "time_limit",
    "memory_bytes": "memory",
    "grace_seconds": "grace",
    "secrets": "variables",
    **PARTS,
}
PREFERRED = ("train.py", "main.py", "run.py")


class RunForm(FrameworkForm):
    """``cleaned`` values after ``is_valid()``: ``config``, ``snapshot_row``, ``place`` (a target or a pool), ``version``, ``tag_values``, …"""

    field_order = ("snapshot", "git", "script", "experiment", "arguments", "command")
    """Those of the base class follow."""

    snapshot = Text()
    git = Text()
    script = Text()
    experiment = Text()
    arguments = Text()
    command = Text()
    target = Text()
    environment = Text()
    time_limit = Text()
    memory = Text()
    gpus = Text()
    grace = Text()
    priority = Text()
    variables = Text()
    name = Text()
    tags = Text()
    notes = Text()
    copied_from = Text()
    request_id = Text()

    def __init__(
        self, workspace: Workspace, data: QueryDict | None = None, initial: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(data, initial=dict(initial or {}))
        self.workspace = workspace
        self.config = ScriptRunConfig()
        self.paths: set[str] | None = None
        self.snapshot_row: Snapshot | None = None
        self.place: ComputeTarget | Pool | None = None
        self.version: EnvironmentVersion | None = None
        self.copied: Run | None = None
        self.tag_values: dict[str, str | None] = {}
        self.properties: dict[str, str] = {}
        self.priority_value = 0

    @property
    def rows(self) -> list[dict[str, str]]:
        """The variables as they were typed: ``name``, ``kind`` (value or secret), ``value``, ``secret``."""
        if not self.is_bound:
            return list(self.initial.get("rows", []))
        data: Any = self.data
        columns = [data.getlist(f"var_{part}")[: MAX_ROWS + 1] for part in ("name", "kind", "value", "secret")]
        count = max(map(len, columns), default=0)
        padded = [column + [""] * (count - len(column)) for column in columns]
        rows = [dict(zip(("name", "kind", "value", "secret"), row, strict=True)) for row in zip(*padded, strict=True)]
        return [row for row in rows if any(row[part].strip() for part in ("name", "value", "secret"))]

    # One method a field: its message stands beside it.

    def clean_snapshot(self) -> str:
        digest = str(self.cleaned_data["snapshot"]).strip()
        if not digest:
            raise ValidationError("Choose the project folder, or an earlier snapshot.")
        self.snapshot_row = Snapshot.objects.filter(workspace=self.workspace, digest=digest).first()
        if self.snapshot_row is None:
            raise ValidationError("There is no such snapshot in this workspace. Choose the folder again.")
        try:
            self.paths = {entry.path for entry in snapshots.files(self.snapshot_row)}
        except BlobMissing:
            raise ValidationError("The files of this snapshot are no longer kept. Choose the folder again.") from None
        return digest

    def clean_git(self) -> str:
        """Facts that the browser read. They are decoration: what is not understood is left out."""
        text = str(self.cleaned_data["git"])
        try:
            facts = json.loads(text) if text and len(text) <= MAX_GIT else {}
        except (ValueError, RecursionError):
            facts = {}
        self.properties = gitinfo.properties(facts) if isinstance(facts, dict) else {}
        return text

    def clean_experiment(self) -> str:
        name = str(self.cleaned_data["experiment"]).strip()
        if not name:
            raise ValidationError("Name the experiment that this run belongs to, for example baseline.")
        try:
            name_rule(name)
        except ValidationError as error:
            raise ValidationError(f"{name[:60]!r} is not a name. {error.message}") from None
        return name

    def clean_target(self) -> str:
        name = str(self.cleaned_data["target"]).strip()
        self.place = find_place(self.workspace, name) if name else None
        if self.place is None:
            pools = Pool.objects.there().filter(workspace=self.workspace).values_list("name", flat=True)
            names = ", ".join([*targets_of(self.workspace).values_list("name", flat=True)[:5], *pools[:5]])
            what = f"There is no target {name[:60]!r}." if name else "No target is chosen."
            raise ValidationError(
                f"{what} {f'Choose one of: {names}.' if names else 'Attach one under Compute first.'}"
            )
        if isinstance(self.place, ComputeTarget) and not self.place.enabled:
            raise ValidationError(
                f"{name} is being drained and takes no new runs. Choose another target, or resume it under Compute."
            )
        return name

    def clean_environment(self) -> str:
        text = str(self.cleaned_data["environment"]).strip()
        if not text:
            raise ValidationError("Choose the environment that the script needs.")
        try:
            self.version = named(self.workspace, text)
        except NoSuchEnvironment as error:
            raise ValidationError(str(error)) from None
        return text

    def clean_arguments(self) -> tuple[str, ...]:
        return self._words("arguments") if self.framework_name != "command" else ()

    def clean_command(self) -> tuple[str, ...]:
        return self._words("command", shell_lines.command) if self.framework_name == "command" else ()

    def _words(self, name: str, read: "Callable[[str], Sequence[str]]" = shellwords.split) -> tuple[str, ...]:
        text = str(self.cleaned_data[name])
        if len(text) > MAX_TEXT:
            raise ValidationError(
                f"This has {len(text):,} characters; the limit is {MAX_TEXT:,}. Put long values in a file."
            )
        try:
            # A browser sends every line break as CR LF.
            return tuple(read(text.replace("\r\n", "\n")))
        except shellwords.QuoteError as error:
            raise ValidationError(str(error)) from None

    def clean_time_limit(self) -> int | None:
        text = str(self.cleaned_data["time_limit"]).strip()
        return _parsed(parse_duration, text) if text else None

    def clean_memory(self) -> int | None:
        text = str(self.cleaned_data["memory"]).strip()
        return _parsed(parse_size, text) if text else None

    def clean_gpus(self) -> int:
        text = str(self.cleaned_data["gpus"]).strip() or "0"
        if not (text.isascii() and text.isdigit() and len(text) < 6):
            raise ValidationError(f"{text[:40]!r} is not a number of GPUs. Write a whole number, or nothing for none.")
        return int(text)

    def clean_grace(self) -> int:
        text = str(self.cleaned_data["grace"]).strip()
        return _parsed(parse_duration, text) if text else DEFAULT_GRACE

    def clean_priority(self) -> int:
        text = str(self.cleaned_data["priority"]).strip() or "0"
        try:
            value = int(text[:12])
        except ValueError:
            value = MAX_PRIORITY + 1
        if abs(value) > MAX_PRIORITY:
            raise ValidationError(
                f"{text[:40]!r} is not a priority. Write a whole number; higher starts first, 0 is usual."
            )
        self.priority_value = value
        return value

    def clean_name(self) -> str:
        name = " ".join(str(self.cleaned_data["name"]).split())
        if len(name) > 255:
            raise ValidationError(
                f"The name has {len(name)} characters; the limit is 255. Shorten it, and put the rest in the notes."
            )
        return name

    def clean_tags(self) -> dict[str, str | None]:
        try:
            self.tag_values = parse_tags(str(self.cleaned_data["tags"]))
        except ValueError as error:
            raise ValidationError(str(error)) from None
        return self.tag_values

    def clean_notes(self) -> str:
        notes = str(self.cleaned_data["notes"]).replace("\r\n", "\n")
        if len(notes) > 100_000:
            raise ValidationError(
                f"The notes have {len(notes):,} characters; the limit is 100,000. Put the rest in a file."
            )
        return notes

    def clean_copied_from(self) -> str:
        text = str(self.cleaned_data["copied_from"]).strip()
        if text.isascii() and text.isdigit() and len(text) < 18:
            self.copied = Run.objects.filter(workspace=self.workspace, number=int(text)).first()
        return text

    def clean_request_id(self) -> str | None:
        text = str(self.cleaned_data["request_id"]).strip()
        return text if REQUEST_ID.match(text) else None

    def clean(self) -> dict[str, Any]:
        data = dict(self.cleaned_data)
        values, secrets = self._variables()
        framework = data.get("framework", "python")
        self.config = ScriptRunConfig(
            script="" if framework == "command" else str(data.get("script", "")).strip(),
            arguments=data.get("arguments") or (),
            command=data.get("command") or (),
            framework=framework,
            distribution=self.distribution(data),
            spark=self.spark(data),
            variables=values,
            secrets=secrets,
            max_run_duration_seconds=data.get("time_limit"),
            memory_bytes=data.get("memory"),
            gpus=data.get("gpus") or 0,
            grace_seconds=DEFAULT_GRACE if data.get("grace") is None else data["grace"],
        )
        try:
            self.config = self.config.validated(self.paths)
        except ConfigError as error:
            self.reject(error)
        target = self.place if isinstance(self.place, ComputeTarget) else None
        if target is not None and self.config.gpus > target.gpus and "gpus" not in self.errors:
            self.add_error("gpus", too_many_gpus(target))
        if isinstance(self.place, Pool) and self.version is not None and not self.errors:
            asked: dict[str, Any] = {"framework": self.config.framework, "spark": self.config.spark}
            errors = pool_misfit(self.place, self.version, gpus=self.config.gpus, **asked)
            if errors:
                self.reject(ConfigError(errors))
        known = set(self.workspace.secrets.filter(name__in=secrets.values()).values_list("name", flat=True))
        for variable, secret in secrets.items():
            if secret not in known and "variables" not in self.errors:
                self.add_error(
                    "variables", f"{variable}: there is no secret named {secret[:60]!r}. Add it in Settings, Secrets."
                )
        return data

    def _variables(self) -> tuple[dict[str, str], dict[str, str]]:
        values: dict[str, str] = {}
        secrets: dict[str, str] = {}
        rows = self.rows
        if len(rows) > MAX_ROWS:
            self.add_error("variables", f"More than {MAX_ROWS} variables are given. Put them in a file.")
            return {}, {}
        for row in rows:
            name = row["name"].strip()
            if not name:
                self.add_error("variables", "A variable has no name. Name it, or remove its row.")
            elif name in values or name in secrets:
                self.add_error("variables", f"{name[:60]} is given twice. Keep one.")
            elif row["kind"] == "secret":
                if not row["secret"].strip():
                    self.add_error("variables", f"{name[:60]}: choose the secret that it takes its value from.")
                secrets[name] = row["secret"].strip()
            else:
                values[name] = row["value"].replace("\r\n", "\n")
        return values, secrets

    def reject(self, error: ConfigError) -> None:
        """Put the messages of the configuration or of the submission beside their fields."""
        for name, message in error.errors.items():
            field = FIELDS.get(name, name)
            if field not in self.errors:
                self.add_error(field if field in self.fields else None, message)

    def as_request(self) -> RunRequest:
        """What the snippets show: of a field that is wrong, nothing. Call after ``is_valid()``."""
        data = self.cleaned_data
        return RunRequest(
            experiment=data.get("experiment", ""),
            target=data.get("target", ""),
            environment=data.get("environment", ""),
            config=self.config,
            name=data.get("name", ""),
            tags=self.tag_values,
            notes=data.get("notes", ""),
            priority=self.priority_value,
            folder=self.snapshot_row.name if self.snapshot_row else "",
        )


def _parsed(parse: Any, text: str) -> int:
    try:
        return int(parse(text))
    except ValueError as error:
        raise ValidationError(str(error)) from None


def targets_of(workspace: Workspace) -> "QuerySet[ComputeTarget]":
    return ComputeTarget.objects.attached().filter(workspace=workspace).order_by("name")


def versions_of(workspace: Workspace) -> "QuerySet[EnvironmentVersion]":
    """The versions that runs of this workspace may name, its own before the curated ones."""
    mine = Q(environment__workspace=workspace) | Q(environment__workspace=None)
    rows = EnvironmentVersion.objects.filter(mine).select_related("environment")
    return rows.order_by("environment__workspace_id", "environment__name", "-number")


def find_version(workspace: Workspace, text: str) -> EnvironmentVersion | None:
    """What ``name``, ``name:version`` or ``name@label`` means; None where it means nothing."""
    try:
        return named(workspace, text)
    except NoSuchEnvironment:
        return None


def offered_environments(workspace: Workspace, chosen: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """Group → (what to write, words), the workspace's own first: the latest version of every environment that is not archived,
    its labels, and what is chosen."""
    latest: dict[str, EnvironmentVersion] = {}
    for row in versions_of(workspace).filter(environment__archived_at=None, archived_at=None):
        kept = latest.get(row.environment.name)
        if kept is None or (kept.environment.workspace_id is None and row.environment.workspace_id is not None):
            latest[row.environment.name] = row
    groups: dict[str, list[tuple[str, str]]] = {"This workspace": [], "Curated": []}
    labels: dict[int, list[Label]] = {}
    shown = [row.environment_id for row in latest.values()]
    for label in Label.objects.filter(environment__in=shown).select_related("version"):
        labels.setdefault(label.environment_id, []).append(label)
    for name, row in sorted(latest.items(), key=lambda item: item[0].lower()):
        group = groups["Curated" if row.environment.curated else "This workspace"]
        group.append((str(row), f"{name} · version {row.number}"))
        group += [
            (f"{name}@{label.name}", f"{name} @{label.name} · version {label.version.number}")
            for label in labels.get(row.environment_id, ())
        ]
    if chosen and all(chosen != value for group in groups.values() for value, _ in group):
        meant = find_version(workspace, chosen)
        if meant is not None:
            words = f"{meant.environment.name} · version {meant.number}"
            groups["Chosen"] = [(chosen, words if chosen == str(meant) else f"{chosen} · {words}")]
    return [(title, rows) for title, rows in groups.items() if rows]


def guess_script(paths: "set[str]") -> str:
    """The file that is most likely meant: train.py, main.py, or the only one in Python."""
    for name in PREFERRED:
        if name in paths:
            return name
    scripts = sorted(path for path in paths if path.endswith(".py"))
    top = [path for path in scripts if "/" not in path]
    return scripts[0] if len(scripts) == 1 else top[0] if len(top) == 1 else ""


def values_of(run: Run) -> dict[str, Any]:
    """The form filled in from a run."""
    config = ScriptRunConfig.from_json(run.config)
    return {
        **values_from(
            {
                "experiment": run.experiment.name,
                "target": run.asked,
                "environment": str(run.environment) if run.environment else "",
                "framework": config.framework,
                "distribution": config.distribution,
                "spark": config.spark,
                "script": config.script,
                "arguments": list(config.arguments),
                "command": list(config.command),
                "variables": config.variables,
                "secrets": config.secrets,
                "tags": {tag.name: tag.value for tag in run.tags.all()},
                "time_limit": config.max_run_duration_seconds,
                "memory": config.memory_bytes,
                "gpus": config.gpus,
                "grace": config.grace_seconds,
                "priority": run.priority,
            }
        ),
        "snapshot": run.snapshot.digest if run.snapshot else "",
        "copied_from": str(run.number),
    }


def values_from(given: Mapping[str, Any]) -> dict[str, Any]:
    """The form's texts for values as ``runs.snippets.from_yaml`` returns them."""
    limit, memory, grace = given.get("time_limit"), given.get("memory"), given.get("grace")
    given_variables = storable(given.get("variables", {}))  # a field holds text only
    rows = [{"name": k, "kind": "value", "value": v, "secret": ""} for k, v in given_variables.items()]
    rows += [{"name": k, "kind": "secret", "value": "", "secret": v} for k, v in given.get("secrets", {}).items()]
    return {
        **{
            name: str(given.get(name, ""))
            for name in ("experiment", "target", "environment", "script", "name", "notes")
        },
        **framework_values(given),
        "arguments": shellwords.lines(given.get("arguments", [])),
        "command": shell_lines.lines(given.get("command", [])),
        "time_limit": duration_text(limit) if limit is not None else "",
        "memory": size_text(memory) if memory is not None else "",
        "gpus": str(given["gpus"]) if given.get("gpus") else "",
        "grace": duration_text(grace) if grace is not None and grace != DEFAULT_GRACE else "",
        "priority": str(given["priority"]) if given.get("priority") else "",
        "tags": format_tags(given.get("tags", {})),
        "rows": rows,
    }
