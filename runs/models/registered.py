from typing import ClassVar

from django.conf import settings
from django.db import models
from django.utils import timezone

from runs.models.run import Run
from studio.workspaces.models import Workspace


class RegisteredModel(models.Model):
    """A named series of model versions."""

    workspace = models.ForeignKey(Workspace, models.CASCADE, related_name="models")
    name = models.CharField(max_length=255)
    description = models.TextField(blank=True)
    tags = models.JSONField(default=dict, blank=True)
    """Name → text, or null for a bare tag."""
    last_number = models.PositiveIntegerField(default=0)
    """The number of the newest version. Numbers are never reused."""
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(default=timezone.now)
    archived_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["workspace", "name"], name="one_model_of_a_name")]

    def __str__(self) -> str:
        return self.name


class ModelVersion(models.Model):
    """Files of a run under a model's name. What it holds does not change, whatever becomes of the run's artifacts."""

    model = models.ForeignKey(RegisteredModel, models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    run = models.ForeignKey(Run, models.SET_NULL, null=True, related_name="model_versions")
    path = models.CharField(max_length=1024, blank=True)
    """The artifact of the run, or the folder of artifacts, that was registered."""
    files = models.JSONField(default=list)
    """``[path below the model, bytes, SHA-256]`` of each file, as they were when it was registered."""
    source = models.TextField(blank=True)
    """Where its client said that it comes from. A text to show and to give back, never opened."""
    description = models.TextField(blank=True)
    tags = models.JSONField(default=dict, blank=True)
    properties = models.JSONField(default=dict, blank=True)
    """Immutable facts."""
    stage = models.CharField(max_length=40, blank=True)
    aliases = models.JSONField(default=list, blank=True)
    """Names for this version, each held by one version of the model."""
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["model", "number"], name="one_version_of_a_model")]
        indexes: ClassVar = [models.Index(fields=["model", "-number"], name="model_version_newest")]
        ordering = ["-number"]

    def __str__(self) -> str:
        return f"{self.model.name}:{self.number}"

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(size for _, size, _ in self.files)


class ModelWish(models.Model):
    """A model that a script asked for. It becomes a version when the run's files have come home, see ``runs.wishes``."""

    run = models.ForeignKey(Run, models.CASCADE, related_name="model_wishes")
    """The run that shall have made it: the script's, or one that the script told of."""
    key = models.CharField(max_length=32)
    """Made by the script, so that a wish counts once however often it is read."""
    name = models.CharField(max_length=255)
    path = models.CharField(max_length=1024)
    description = models.TextField(blank=True)
    tags = models.JSONField(default=dict)
    properties = models.JSONField(default=dict)
    made_at = models.DateTimeField(default=timezone.now)
    settled_at = models.DateTimeField(null=True)
    """When it became a version, or could not."""

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["run", "key"], name="one_wish_of_a_key")]
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.name} from {self.path}"
