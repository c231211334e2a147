"""Rows of the content-addressed store; see ``studio.blobs``."""

from typing import ClassVar

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
