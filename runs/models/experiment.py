from typing import ClassVar

from django.conf import settings
from django.db import models
from django.utils import timezone

from studio.workspaces.models import Workspace, name_rule


class Experiment(models.Model):
    """A named group of runs."""

    workspace = models.ForeignKey(Workspace, models.CASCADE, related_name="experiments")
    name = models.CharField(max_length=255, validators=[name_rule])
    title = models.CharField(max_length=500, blank=True)
    """The name that a client of MLflow gave it, when that is none that an address can have; else empty."""
    description = models.TextField(blank=True)
    tags = models.JSONField(default=dict, blank=True)
    """Name → text, or null for a bare tag."""
    primary_metric = models.CharField(max_length=250, blank=True)
    """The metric by which its runs are compared; empty: none chosen."""
    maximize = models.BooleanField(default=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)
    last_run_at = models.DateTimeField(null=True, db_index=True)
    archived_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["workspace", "name"], name="one_experiment_of_a_name")]

    def __str__(self) -> str:
        return self.name
