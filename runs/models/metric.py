from typing import ClassVar

from django.db import models
from django.utils import timezone

from runs.models.run import Run
from studio.workspaces.models import Workspace


class MetricSeries(models.Model):
    """A named series of numbers that a run logged, with what lists and filters need beside it."""

    run = models.ForeignKey(Run, models.CASCADE, related_name="series")
    workspace = models.ForeignKey(Workspace, models.CASCADE, related_name="+")
    name = models.CharField(max_length=250)
    system = models.BooleanField(default=False)
    """A resource sample (``system/cpu``), not something the script logged."""
    count = models.BigIntegerField(default=0)
    last = models.FloatField(null=True)
    """The value of the point with the highest step, of several the newest; null while it is not a number."""
    last_time = models.FloatField(null=True)
    """The unix time of that point."""
    low = models.FloatField(null=True)
    high = models.FloatField(null=True)
    low_step = models.BigIntegerField(null=True)
    high_step = models.BigIntegerField(null=True)
    last_step = models.BigIntegerField(null=True)
    ordered = models.BooleanField(default=True)
    """No step is lower than the one before: charts need not sort."""
    not_numbers = models.PositiveIntegerField(default=0)
    """Points that are NaN or infinite."""
    updated_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["run", "name"], name="one_series_of_a_name")]
        indexes: ClassVar = [models.Index(fields=["workspace", "name", "last", "run"], name="series_by_last")]

    def __str__(self) -> str:
        return f"{self.run_id}: {self.name}"


class MetricChunk(models.Model):
    """Points of a series as packed columns, little endian."""

    CAPACITY = 4096

    series = models.ForeignKey(MetricSeries, models.CASCADE, related_name="chunks")
    position = models.BigIntegerField()
    """Index of its first point in the series. A block of CAPACITY points is one row, or two while it grows."""
    count = models.IntegerField()
    steps = models.BinaryField()
    """``count`` × i64."""
    times = models.BinaryField()
    """``count`` × f64, unix time."""
    values = models.BinaryField()
    """``count`` × f64."""

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["series", "position"], name="one_chunk_at_a_position")]

    def __str__(self) -> str:
        return f"{self.series_id}@{self.position}"


class MetricValue(models.Model):
    """Something logged that is no number: a text, list, row, table, image or chart schema."""

    run = models.ForeignKey(Run, models.CASCADE, related_name="values")
    name = models.CharField(max_length=250)
    kind = models.CharField(max_length=12)
    data = models.JSONField()
    at = models.DateTimeField()

    class Meta:
        indexes: ClassVar = [models.Index(fields=["run", "name"], name="value_by_name")]

    def __str__(self) -> str:
        return f"{self.run_id}: {self.name} ({self.kind})"
