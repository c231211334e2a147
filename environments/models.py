"""Where runs execute: compute targets, and the software they need."""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import ClassVar

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import connection, models, transaction
from django.db.models import F, Q
from django.utils import timezone

from environments.owners import is_gone
from studio.credentials import decrypt, encrypt
from studio.workspaces.models import Workspace, name_rule


class ComputeTargetQuerySet(models.QuerySet["ComputeTarget"]):
    def attached(self) -> "ComputeTargetQuerySet":
        """Those that runs may be sent to: neither a draft of the wizard nor detached."""
        return self.filter(attached_at__isnull=False, detached_at=None)


class ComputeTarget(models.Model):
    """A place where runs execute: a transport × a launcher."""

    workspace = models.ForeignKey(Workspace, models.CASCADE, related_name="targets")
    name = models.CharField(max_length=255, validators=[name_rule])
    transport = models.CharField(max_length=16, default="local")
    launcher = models.CharField(max_length=16, default="process")
    options = models.JSONField(default=dict, blank=True)
    """Settings of the transport, the launcher and the frameworks, none of them secret; see ``environments.options``."""
    credentials = models.BinaryField(null=True, editable=False)
    """Encrypted JSON: password, private_key, passphrase. Written and used, never shown."""
    slots = models.PositiveIntegerField(default=1, validators=[MinValueValidator(1), MaxValueValidator(10_000)])
    """How many runs may execute at once."""
    gpu_slots = models.PositiveIntegerField(null=True, blank=True, validators=[MaxValueValidator(1024)])
    """How many GPUs runs may ask for. Null: as many as the last probe found."""
    enabled = models.BooleanField(default=True)
    """Off: draining. What runs goes on, nothing new starts."""
    quarantined_at = models.DateTimeField(null=True, blank=True)
    """Set when runs failed there one after the other: nothing new starts until a person resumes it."""
    quarantine_reason = models.TextField(blank=True)
    failures = models.JSONField(default=list, blank=True)
    """The newest of the failures in a row that may be the machine's; see ``runs.quarantine``. A run that goes well empties it."""
    created_at = models.DateTimeField(default=timezone.now)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+")
    attached_at = models.DateTimeField(null=True, blank=True, default=timezone.now)
    """Null: a draft that somebody has begun to attach."""
    detached_at = models.DateTimeField(null=True, blank=True)
    """The row stays, because runs name it; its credentials do not."""
    checked_at = models.DateTimeField(null=True, blank=True)
    steps = models.JSONField(default=list, blank=True)
    """The steps of the last connection test, as ``environments.doctor`` gives them."""
    facts = models.JSONField(default=dict, blank=True)
    """What the last probe found: cpus, memory, disk, gpus, python, isolation."""
    cleaning = models.JSONField(default=dict, blank=True)
    """What the last cleaning found and freed there; see ``environments.cleaning``."""
    clean_requested_at = models.DateTimeField(null=True, blank=True)
    """Somebody asked for a cleaning now. Null again when it was made."""
    last_seen_at = models.DateTimeField(null=True, blank=True)
    unreachable_since = models.DateTimeField(null=True, blank=True)
    last_error = models.TextField(blank=True)

    objects = ComputeTargetQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["workspace", "name"],
                condition=Q(attached_at__isnull=False, detached_at=None),
                name="one_target_of_a_name",
            )
        ]
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def gpus(self) -> int:
        """How many GPUs runs may be given."""
        return self.gpu_slots if self.gpu_slots is not None else len(self.facts.get("gpus") or [])

    @property
    def takes_runs(self) -> bool:
        """Whether anything new starts there: neither draining nor quarantined."""
        return self.enabled and self.quarantined_at is None

    def set_credentials(self, values: Mapping[str, str]) -> None:
        """Encrypt; the caller saves the row."""
        self.credentials = encrypt(json.dumps(dict(values))) if values else None

    def get_credentials(self) -> dict[str, str]:
        """For transports alone. Raises ImproperlyConfigured when the key file does not fit."""
        return dict(json.loads(decrypt(bytes(self.credentials)))) if self.credentials else {}


class PoolQuerySet(models.QuerySet["Pool"]):
    def there(self) -> "PoolQuerySet":
        """Those that were not removed."""
        return self.filter(removed_at=None)


class Pool(models.Model):
    """Attached targets under one name: a run sent to it goes to the first of them with a free slot.

    It is no target: it has no connection and nobody attends it. Its name is of the same name space as theirs; see
    ``environments.pools``.
    """

    workspace = models.ForeignKey(Workspace, models.CASCADE, related_name="pools")
    name = models.CharField(max_length=255, validators=[name_rule])
    description = models.TextField(blank=True)
    min_nodes = models.PositiveIntegerField(default=0)
    """With fewer usable members than this the pool says so. Nothing is started for it."""
    max_nodes = models.PositiveIntegerField(null=True, blank=True, validators=[MinValueValidator(1)])
    """On so many members at once its runs may be. Null: on all."""
    created_at = models.DateTimeField(default=timezone.now)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+")
    updated_at = models.DateTimeField(default=timezone.now)
    removed_at = models.DateTimeField(null=True, blank=True)
    """The row stays, because runs name it."""

    objects = PoolQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["workspace", "name"], condition=Q(removed_at=None), name="one_pool_of_a_name"
            )
        ]
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class PoolMember(models.Model):
    """A target in a pool, and its place in the order in which they are asked."""

    pool = models.ForeignKey(Pool, models.CASCADE, related_name="members")
    target = models.ForeignKey(ComputeTarget, models.CASCADE, related_name="pool_members")
    position = models.PositiveIntegerField()

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["pool", "target"], name="one_place_of_a_target")]
        ordering = ["position"]

    def __str__(self) -> str:
        return f"{self.target} of {self.pool}"


class Lease(models.Model):
    """Who attends a target. The token only grows: an owner with an older one has lost, whatever it still believes."""

    TTL = timedelta(seconds=5)

    target = models.OneToOneField(ComputeTarget, models.CASCADE, primary_key=True, related_name="lease")
    owner = models.CharField(max_length=64, blank=True)
    token = models.PositiveBigIntegerField(default=0)
    expires_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.target_id} by {self.owner} until {self.expires_at:%H:%M:%S}"

    @staticmethod
    def now() -> datetime:
        """The time by the clock that all owners share: the database's, where it has one of its own. Machines whose clocks differ by
        more than TTL would else take each other's leases, in turns, for ever."""
        if connection.vendor == "sqlite":
            return timezone.now()
        with connection.cursor() as cursor:
            cursor.execute("SELECT clock_timestamp()")
            found: datetime = cursor.fetchone()[0]
            return found

    @classmethod
    def take(cls, target_id: int, owner: str) -> "int | None":
        """Take the lease if it is free; return the new fencing token, else None."""
        now = cls.now()
        with transaction.atomic():
            cls.objects.get_or_create(target_id=target_id, defaults={"expires_at": now})
            # A lease that ends later than any can is from before the clock was set back.
            over = Q(owner="") | Q(expires_at__lte=now) | Q(expires_at__gt=now + 2 * cls.TTL)
            holder = cls.objects.values_list("owner", flat=True).get(target_id=target_id)
            if is_gone(holder):
                over |= Q(owner=holder)
            free = cls.objects.filter(over, target_id=target_id)
            if not free.update(owner=owner, token=F("token") + 1, expires_at=now + cls.TTL):
                return None
            return int(cls.objects.values_list("token", flat=True).get(target_id=target_id))

    @classmethod
    def renew(cls, owner: str, held: "dict[int, int]") -> set[int]:
        """Extend the leases (target id → token) that are still ours; return the target ids of these."""
        kept: set[int] = set()
        if not held:
            return kept
        until = cls.now() + cls.TTL
        for target_id, token in held.items():
            if cls.objects.filter(target_id=target_id, owner=owner, token=token).update(expires_at=until):
                kept.add(target_id)
        return kept

    @classmethod
    def holds(cls, target_id: int, token: int) -> bool:
        """Ask inside the transaction that writes: whether the token is still the newest."""
        return cls.objects.select_for_update().filter(target_id=target_id, token=token).exists()

    @classmethod
    def release(cls, target_id: int, token: int) -> None:
        cls.objects.filter(target_id=target_id, token=token).update(owner="", expires_at=cls.now())

    @classmethod
    def live(cls, now: datetime) -> "models.QuerySet[Lease]":
        return cls.objects.filter(expires_at__gt=now, expires_at__lte=now + 2 * cls.TTL).exclude(owner="")

    @classmethod
    def attended(cls) -> set[int]:
        """Ids of the targets whose lease somebody holds who is not known to be dead."""
        return {pk for pk, owner in cls.live(cls.now()).values_list("target_id", "owner") if not is_gone(owner)}


class Environment(models.Model):
    """A named definition of the software a run needs; what it says is in its versions."""

    workspace = models.ForeignKey(Workspace, models.CASCADE, null=True, related_name="environments")
    """Null: curated, offered in every workspace."""
    name = models.CharField(max_length=255, validators=[name_rule])
    description = models.TextField(blank=True)
    aliases = models.JSONField(default=list, blank=True)
    """Of curated ones: other names by which it is found, each a pattern as of ``fnmatch``."""
    created_at = models.DateTimeField(default=timezone.now)
    archived_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["workspace", "name"], name="one_environment_of_a_name"),
            models.UniqueConstraint(fields=["name"], condition=Q(workspace=None), name="one_curated_of_a_name"),
        ]
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def curated(self) -> bool:
        return self.workspace_id is None


class EnvironmentVersion(models.Model):
    """One immutable definition."""

    environment = models.ForeignKey(Environment, models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    definition = models.JSONField()
    """As ``environments.definition.Definition.to_json`` writes it."""
    salt = models.CharField(max_length=32, blank=True)
    """Of a refreshed version: makes its key, and so its lock, another than that of the same definition before."""
    key = models.CharField(max_length=64, db_index=True)
    """Digest of what changes the build, and nothing else."""
    created_at = models.DateTimeField(default=timezone.now)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+")
    archived_at = models.DateTimeField(null=True, blank=True)
    """Set: never the latest, and not offered; whoever names its number still gets it."""

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["environment", "number"], name="one_version_of_a_number")
        ]
        ordering = ["-number"]

    def __str__(self) -> str:
        return f"{self.environment.name}:{self.number}"


class Label(models.Model):
    """A name that points to one version and can be moved: ``vision@stable``."""

    environment = models.ForeignKey(Environment, models.CASCADE, related_name="labels")
    name = models.CharField(max_length=64, validators=[name_rule])
    version = models.ForeignKey(EnvironmentVersion, models.CASCADE, related_name="labels")

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["environment", "name"], name="one_label_of_a_name")]
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Lock(models.Model):
    """What one key was resolved to, once for each kind of machine. Every later build of the key in the workspace installs this."""

    workspace = models.ForeignKey(Workspace, models.CASCADE, related_name="+")
    key = models.CharField(max_length=64)
    platform = models.CharField(max_length=64)
    """What the exact packages depend on, as the builder names it: ``linux-x86_64-py3.11``."""
    text = models.TextField()
    """Exact requirements with their hashes, in the words of the installer that reads it."""
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["workspace", "key", "platform"], name="one_lock_of_a_key_and_platform")
        ]

    def __str__(self) -> str:
        return f"{self.key[:8]} for {self.platform}"


class BuildStatus(models.TextChoices):
    WAITING = "Waiting"
    BUILDING = "Building"
    READY = "Ready"
    FAILED = "Failed"


class Build(models.Model):
    """An environment made real on one target. One row per target and key: however many runs wait, one builds."""

    target = models.ForeignKey(ComputeTarget, models.CASCADE, related_name="builds")
    key = models.CharField(max_length=64)
    version = models.ForeignKey(EnvironmentVersion, models.SET_NULL, null=True, related_name="builds")
    """The version that asked first."""
    status = models.CharField(max_length=16, choices=BuildStatus, default=BuildStatus.WAITING)
    attempt = models.CharField(max_length=32, blank=True)
    """The directory under ``builds/`` on the target; saved before anything is sent there."""
    attempts = models.PositiveIntegerField(default=0)
    python = models.TextField(blank=True)
    """The interpreter that runs use, once ready: a path on the target, or inside the image."""
    image = models.CharField(max_length=255, blank=True)
    """Id of the Docker image on the target's engine; empty for environments that are folders."""
    platform = models.CharField(max_length=64, blank=True)
    """As in ``Lock``."""
    lock = models.TextField(blank=True)
    """What was installed, one exact requirement a line, without hashes."""
    packages = models.JSONField(default=list, blank=True)
    """The same, for people: ``{"name", "version", "license", "modules": [names that can be imported], "from": "pip" or "conda"}``."""
    extras = models.JSONField(default=dict, blank=True)
    """What else the builder made or relied on: ``archive`` and ``jars`` (paths on the target, for Spark), ``base`` (the image below)."""
    size = models.BigIntegerField(null=True)
    error = models.TextField(blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    used_at = models.DateTimeField(null=True)
    cancel_requested_at = models.DateTimeField(null=True)
    """Kept here until the build has ended, so that the wish survives whoever was to pass it on."""
    canceled_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["target", "key"], name="one_build_of_a_key")]

    def __str__(self) -> str:
        return f"{self.key[:8]} on {self.target}: {self.status}"
