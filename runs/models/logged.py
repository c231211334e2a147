"""What MLflow's clients tell of a run beside its metrics: the data it read, and the models that it made or used."""

import secrets
from typing import ClassVar

from django.db import models
from django.utils import timezone

from runs.models.experiment import Experiment
from runs.models.run import Run
from studio.workspaces.models import Workspace


def new_model_uid() -> str:
    return f"m-{secrets.token_hex(16)}"


class RunInput(models.Model):
    """A data set that a run read."""

    run = models.ForeignKey(Run, models.CASCADE, related_name="inputs")
    name = models.CharField(max_length=500)
    digest = models.CharField(max_length=36)
    data = models.JSONField(default=dict)
    """``{"source_type", "source", "schema", "profile"}``: texts of the client, never opened."""
    tags = models.JSONField(default=dict)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["run", "name", "digest"], name="one_input_of_a_digest")
        ]

    def __str__(self) -> str:
        return f"{self.run_id}: {self.name}"


class LoggedModel(models.Model):
    """A model as MLflow 3 logs it. Its files are artifacts of a run, in a folder of their own."""

    workspace = models.ForeignKey(Workspace, models.CASCADE, related_name="logged_models")
    experiment = models.ForeignKey(Experiment, models.CASCADE, related_name="logged_models")
    uid = models.CharField(max_length=40, unique=True, default=new_model_uid)
    name = models.CharField(max_length=255)
    run = models.ForeignKey(Run, models.CASCADE, null=True, related_name="logged_models")
    """The run that made it. Null: none did, and no file of it came yet."""
    own_run = models.BooleanField(default=False)
    """The run exists for the sake of its files only: the client named none."""
    folder = models.CharField(max_length=255)
    status = models.CharField(max_length=30, default="LOGGED_MODEL_PENDING")
    type = models.CharField(max_length=255, blank=True)
    tags = models.JSONField(default=dict)
    params = models.JSONField(default=dict)
    metrics = models.JSONField(default=list)
    """The newest point of each metric and data set, as MLflow writes it."""
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(default=timezone.now)
    deleted_at = models.DateTimeField(null=True)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["run", "folder"], name="one_logged_model_in_a_folder")]
        indexes: ClassVar = [models.Index(fields=["experiment", "-created_at"], name="logged_model_newest")]

    def __str__(self) -> str:
        return self.uid


class RunModel(models.Model):
    """A logged model that a run read or made."""

    run = models.ForeignKey(Run, models.CASCADE, related_name="used_models")
    model = models.ForeignKey(LoggedModel, models.CASCADE, related_name="uses")
    made = models.BooleanField()
    """An output of the run; False: an input."""
    step = models.BigIntegerField(default=0)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["run", "model", "made"], name="one_use_of_a_logged_model")
        ]

    def __str__(self) -> str:
        return f"{self.run_id}: {self.model_id}"
