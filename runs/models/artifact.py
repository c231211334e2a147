from typing import ClassVar

from django.db import models

from runs.models.run import Run


class Artifact(models.Model):
    """A file that a run produced. Its content is a blob of the workspace."""

    run = models.ForeignKey(Run, models.CASCADE, related_name="artifacts")
    path = models.CharField(max_length=1024)
    size = models.BigIntegerField()
    mode = models.IntegerField(default=0o644)
    digest = models.CharField(max_length=64, blank=True)
    """Empty: listed but not collected; ``skipped`` says why."""
    skipped = models.CharField(max_length=200, blank=True)
    modified_at = models.DateTimeField(null=True)
    sent = models.BooleanField(default=False)
    """Sent by a client; what is collected from a target at the end takes the place of what was collected before, not of this."""

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["run", "path"], name="one_artifact_of_a_path")]
        ordering = ["path"]

    def __str__(self) -> str:
        return self.path

    @property
    def filename(self) -> str:
        return self.path.rpartition("/")[2]
