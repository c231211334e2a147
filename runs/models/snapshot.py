from typing import ClassVar

from django.conf import settings
from django.db import models
from django.utils import timezone

from studio.workspaces.models import Workspace


class Snapshot(models.Model):
    """An immutable copy of a project folder. Its id is the SHA-256 of its manifest, which is itself a blob."""

    workspace = models.ForeignKey(Workspace, models.CASCADE, related_name="snapshots")
    digest = models.CharField(max_length=64)
    name = models.CharField(max_length=255, blank=True)
    """The folder's name when it was first sent."""
    file_count = models.PositiveIntegerField()
    size = models.BigIntegerField()
    """Bytes of all files together."""
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["workspace", "digest"], name="one_snapshot_of_a_digest")
        ]
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return self.digest[:7]

    @property
    def short(self) -> str:
        return self.digest[:7]
