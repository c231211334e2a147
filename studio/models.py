"""Rows of the content-addressed store, see ``studio.blobs``; the audit of who did what; and what programs were answered."""

from typing import ClassVar

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.utils import timezone


class Pack(models.Model):
    """One stored object: a large content, or many small ones, so that 10,000 files are not 10,000 objects."""

    name = models.CharField(max_length=80, unique=True)
    size = models.BigIntegerField()
    created_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return self.name


class Blob(models.Model):
    """A content that a workspace has. Contents are shared inside a workspace only: naming a digest must never be enough
    to read what another workspace holds."""

    workspace = models.ForeignKey("workspaces.Workspace", models.CASCADE, related_name="+")
    digest = models.CharField(max_length=64)
    """SHA-256, lower-case hex."""
    size = models.BigIntegerField()
    """Bytes of the content itself."""
    pack = models.ForeignKey(Pack, models.PROTECT, related_name="blobs")
    offset = models.BigIntegerField(default=0)
    length = models.BigIntegerField()
    """Bytes as stored; fewer than ``size`` when compressed."""
    compressed = models.BooleanField(default=False)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["workspace", "digest"], name="one_blob_of_a_digest")]

    def __str__(self) -> str:
        return self.digest


class AuditEvent(models.Model):
    """Somebody changed something that others depend on; see ``studio.audit``."""

    at = models.DateTimeField(default=timezone.now)
    workspace = models.ForeignKey("workspaces.Workspace", models.CASCADE, null=True, related_name="audit")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    """Null: the studio itself."""
    action = models.CharField(max_length=64)
    """A verb with its object: ``target.attach``, ``target.drain``, ``token.create``."""
    subject = models.CharField(max_length=255, blank=True)
    """The name of what was changed, as it was then."""
    detail = models.TextField(blank=True)
    """What changed, in words. Never a secret."""

    class Meta:
        indexes: ClassVar = [models.Index(fields=["workspace", "-at"], name="audit_newest")]
        ordering = ["-at", "-pk"]

    def __str__(self) -> str:
        return f"{self.action} {self.subject}"


class Answer(models.Model):
    """What a request with an idempotency key was answered; see ``studio.once``. Forgotten after some days."""

    workspace = models.ForeignKey("workspaces.Workspace", models.CASCADE, related_name="+")
    key = models.CharField(max_length=64)
    operation = models.CharField(max_length=300)
    """Method and address."""
    digest = models.CharField(max_length=64)
    """SHA-256 of what was asked."""
    body = models.JSONField(null=True, encoder=DjangoJSONEncoder)
    at = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["workspace", "key"], name="one_answer_of_a_key")]

    def __str__(self) -> str:
        return f"{self.operation} {self.key}"
