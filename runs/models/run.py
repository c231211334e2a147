"""The run itself. ``Run.move_to`` is the only writer of a status."""

import secrets
import time
from typing import Any, ClassVar, Literal

from django.conf import settings
from django.db import models, transaction
from django.db.models import Q
from django.dispatch import Signal
from django.utils import timezone

from environments.models import Build, ComputeTarget, EnvironmentVersion, Pool
from runs.models.experiment import Experiment
from runs.models.snapshot import Snapshot
from runs.status import FINAL, EndReason, RunKind, RunStatus, moves
from studio.database import BytesDecoder, BytesEncoder, storable
from studio.workspaces.models import Workspace

slot_freed = Signal()
"""Sent in the transaction in which a run gives its slot back; gets ``target_id``."""


def new_attempt() -> str:
    """The id of one attempt to execute a run: the name of its directory on the target."""
    return secrets.token_hex(16)


def new_uid(experiment: str) -> str:
    """``<experiment>_<epoch>_<8 hex>``, as the article's system names its runs."""
    return f"{experiment}_{int(time.time())}_{secrets.token_hex(4)}"


class Run(models.Model):
    """One execution: of a script on a target, or of something that a client tells of while it happens elsewhere."""

    workspace = models.ForeignKey(Workspace, models.CASCADE, related_name="runs")
    number = models.PositiveBigIntegerField()
    """Counts from 1 in the workspace and never changes."""
    uid = models.CharField(max_length=300, unique=True)
    kind = models.CharField(max_length=12, choices=RunKind, default=RunKind.SCRIPT)
    experiment = models.ForeignKey(Experiment, models.CASCADE, related_name="runs")
    parent = models.ForeignKey("self", models.CASCADE, null=True, related_name="children")
    told_by = models.ForeignKey("self", models.CASCADE, null=True, related_name="+", db_index=False)
    """The run of a script that began this one below itself, and whose records tell of it (``runs.metrics.children``)."""
    copied_from = models.ForeignKey("self", models.SET_NULL, null=True, related_name="+")
    """The run whose form was used again."""
    name = models.CharField(max_length=255)
    notes = models.TextField(blank=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="runs")
    archived_at = models.DateTimeField(null=True, blank=True)

    # What was asked for. Of an interactive run: nothing.
    target = models.ForeignKey(ComputeTarget, models.PROTECT, null=True, related_name="runs")
    """Null: an interactive run, or one that waits in its pool until it is placed."""
    pool = models.ForeignKey(Pool, models.PROTECT, null=True, related_name="runs")
    """The pool that it was sent to. Until it is launched it may go back there from its target; see ``runs.pools``."""
    environment = models.ForeignKey(EnvironmentVersion, models.PROTECT, null=True, related_name="runs")
    snapshot = models.ForeignKey(Snapshot, models.PROTECT, null=True, related_name="runs")
    config = models.JSONField(default=dict, encoder=BytesEncoder, decoder=BytesDecoder)
    """As ``runs.config.ScriptRunConfig.to_json`` writes it."""
    priority = models.IntegerField(default=0)
    gpus = models.PositiveIntegerField(default=0)
    """As ``config`` says: how many GPUs it is given. A column, so that the queue can be read quickly."""
    properties = models.JSONField(default=dict)
    """Immutable facts: git, snapshot id."""
    request_id = models.CharField(max_length=64, null=True)
    """Idempotency key of the submit: a repeated one returns this run."""

    # How it goes.
    status = models.CharField(max_length=20, choices=RunStatus, default=RunStatus.NOT_STARTED)
    reason = models.CharField(max_length=24, choices=EndReason, blank=True)
    error = models.JSONField(default=dict)
    """``{"type", "message", "line", "detail"}`` of a run that failed; empty otherwise."""
    exit_code = models.IntegerField(null=True)
    signal = models.IntegerField(null=True)
    waiting_for = models.CharField(max_length=300, blank=True)
    """Why a queued or preparing run waits, in words."""
    created_at = models.DateTimeField(default=timezone.now)
    prepared_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    finalizing_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    cancel_requested_at = models.DateTimeField(null=True)
    canceled_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    unreachable_since = models.DateTimeField(null=True)
    """Set while the target does not answer, or the client of an interactive run is not heard of. Shown as 'No heartbeat'."""
    heard_at = models.DateTimeField(null=True)
    """When the client of an interactive run was last heard of; null for one that promised no heartbeat. See ``runs.silence``."""

    # The attempt on the target, and how far the studio has read it.
    attempt = models.CharField(max_length=32, blank=True, db_index=True)
    """Saved before any remote action; empty until the attendant takes the run."""
    launched = models.BooleanField(default=False)
    """A launch may have been sent: from here on the target is asked, never sent again blindly."""
    granted = models.JSONField(default=dict)
    """What the run was given when it was launched: ``{"gpus": ["0", "2"]}``. Saved with ``launched``, and held until it ends."""
    build = models.ForeignKey(Build, models.SET_NULL, null=True, related_name="runs")
    final = models.JSONField(null=True)
    """The target's exit record, once seen."""
    records_offset = models.BigIntegerField(default=0)
    samples_offset = models.BigIntegerField(default=0)
    times_offset = models.BigIntegerField(default=0)
    bad_records = models.PositiveIntegerField(default=0)
    """Lines of the records file that were no records."""
    log_complete = models.BooleanField(null=True)
    """Whether size and SHA-256 of the kept log equal the target's; null until it ended."""
    cleaned_at = models.DateTimeField(null=True)
    """When its directory on the target was removed."""

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["workspace", "number"], name="one_run_of_a_number"),
            models.UniqueConstraint(fields=["workspace", "request_id"], name="one_run_of_a_request"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["workspace", "-number", "parent"], condition=Q(archived_at=None), name="run_newest"),
            models.Index(fields=["experiment", "-number"], name="run_of_experiment"),
            models.Index(fields=["experiment", "-started_at"], name="run_of_experiment_by_start"),
            models.Index(fields=["workspace", "status", "-number"], name="run_by_status"),
            models.Index(fields=["workspace", "-started_at"], name="run_by_start"),
            # What waits and runs on a target, with all that the queue asks of ten thousand rows. The condition names no value, or
            # SQLite could not prove that it holds; and its column is in the index, or the rows would be read for it.
            models.Index(
                fields=[
                    "target",
                    "ended_at",
                    "experiment",
                    "-priority",
                    "number",
                    "gpus",
                    "launched",
                    "status",
                    "build",
                ],
                condition=Q(ended_at=None),
                name="run_active",
            ),
            # What a pool has going on. Its pages count it while they are open, and its history may be long.
            models.Index(fields=["pool", "launched", "status"], condition=Q(ended_at=None), name="run_of_pool"),
            # What waits in a pool. Like the one above, its condition names no value.
            models.Index(
                fields=["pool", "-priority", "number"], condition=Q(ended_at=None, target=None), name="run_unplaced"
            ),
            models.Index(fields=["workspace", "name"], name="run_by_name"),
            models.Index(fields=["told_by"], condition=Q(told_by__isnull=False), name="run_told_by"),
            models.Index(fields=["heard_at"], condition=Q(heard_at__isnull=False, ended_at=None), name="run_heard"),
            models.Index(fields=["workspace", "-ended_at"], condition=Q(status=RunStatus.FAILED), name="run_failed"),
        ]

    def __str__(self) -> str:
        return f"#{self.number} {self.name}"

    @property
    def is_final(self) -> bool:
        return self.status in FINAL

    @property
    def is_interactive(self) -> bool:
        return self.kind == RunKind.INTERACTIVE

    @property
    def place(self) -> str:
        """Where it is executed, in a word; empty when that is not known. Of one that waits in a pool, the pool."""
        if self.told_by_id is not None:
            return "In its script"
        return str(RunKind.INTERACTIVE.label) if self.is_interactive else str(self.target or self.pool or "")

    @property
    def asked(self) -> str:
        """The name that it was sent to: its pool's, or its target's; empty for an interactive run."""
        return str(self.pool or self.target or "")

    def move_to(
        self, new: RunStatus, *, reason: EndReason | Literal[""] | None = None, only: Q | None = None, **fields: Any
    ) -> bool:
        """Change the status, if nobody else did meanwhile, together with ``fields``, and note it.

        ``only``: what else must hold of the row. Returns whether this call moved it; False means that the row has another status
        than this object, or that ``only`` does not hold: stop. Raises ValueError for a move that the table does not allow.
        """
        old = RunStatus(self.status)
        if new not in moves(self.kind, old):
            raise ValueError(f"run {self.pk}: {old} → {new} is not an allowed move")
        if reason is not None:
            fields["reason"] = str(reason)
        fields |= {
            name: storable(fields[name]) for name in ("error", "final") if name in fields
        }  # words of a script or target
        now = timezone.now()
        stamp = {
            RunStatus.QUEUED: "prepared_at",
            RunStatus.FINALIZING: "finalizing_at",
            RunStatus.CANCEL_REQUESTED: "cancel_requested_at",
        }.get(new, "ended_at" if new in FINAL else None)
        if stamp and stamp not in fields:
            fields[stamp] = now
        if new in FINAL:
            fields.setdefault("waiting_for", "")
            fields.setdefault("unreachable_since", None)
        with transaction.atomic():
            if not Run.objects.filter(only or Q(), pk=self.pk, status=old).update(status=new, **fields):
                return False
            RunEvent.objects.create(run_id=self.pk, at=now, old=old, new=new, reason=fields.get("reason", ""))
        self.status = new
        for name, value in fields.items():
            setattr(self, name, value)
        if self.target_id is not None and (new in FINAL or new == RunStatus.FINALIZING):
            slot_freed.send(sender=Run, target_id=self.target_id)
        return True

    @property
    def as_held(self) -> Q:
        """That the row is still of the attempt and on the target which this object knows. A run of a pool may have gone elsewhere
        before it was launched: who prepares or starts it there writes nothing then."""
        return Q(target=self.target_id, attempt=self.attempt)


class RunEvent(models.Model):
    """One thing that happened to a run."""

    run = models.ForeignKey(Run, models.CASCADE, related_name="events")
    at = models.DateTimeField(default=timezone.now)
    old = models.CharField(max_length=20, blank=True)
    new = models.CharField(max_length=20, blank=True)
    reason = models.CharField(max_length=24, choices=EndReason, blank=True)
    detail = models.TextField(blank=True)

    class Meta:
        ordering = ["at", "pk"]

    def __str__(self) -> str:
        return f"{self.run_id}: {self.old} → {self.new}" if self.new else f"{self.run_id}: {self.detail}"


class GivenUp(models.Model):
    """An attempt that a pool took back before it was launched. Its directory on the target, which may hold secrets, is removed as soon
    as the target can be reached."""

    target = models.ForeignKey(ComputeTarget, models.CASCADE, related_name="+")
    attempt = models.CharField(max_length=32, unique=True)
    at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return self.attempt


class RunTag(models.Model):
    run = models.ForeignKey(Run, models.CASCADE, related_name="tags")
    workspace = models.ForeignKey(Workspace, models.CASCADE, related_name="+")
    name = models.CharField(max_length=250)
    value = models.CharField(max_length=8000, null=True)
    """Null: a bare tag."""

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["run", "name"], name="one_tag_of_a_name")]
        indexes: ClassVar = [models.Index(fields=["workspace", "name", "run"], name="tag_search")]

    def __str__(self) -> str:
        return self.name if self.value is None else f"{self.name}={self.value}"


class RunParameter(models.Model):
    """A parameter: from the script's arguments, or logged by it (which wins)."""

    run = models.ForeignKey(Run, models.CASCADE, related_name="parameters")
    workspace = models.ForeignKey(Workspace, models.CASCADE, related_name="+")
    name = models.CharField(max_length=250)
    value = models.TextField()
    head = models.CharField(max_length=100)
    """The first 100 characters of the value: what is indexed."""
    number = models.FloatField(null=True)
    """The value as a number, when it is one."""
    logged = models.BooleanField(default=False)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["run", "name"], name="one_parameter_of_a_name")]
        indexes: ClassVar = [
            models.Index(fields=["workspace", "name", "number", "run"], name="parameter_by_number"),
            models.Index(fields=["workspace", "name", "head", "run"], name="parameter_by_text"),
        ]

    def __str__(self) -> str:
        return f"{self.name}={self.head}"
