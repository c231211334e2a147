from typing import ClassVar

from django.db import models
from django.db.models import Q

from environments.models import Build
from runs.models.run import Run


class LogStream(models.Model):
    """One log: of a run (``log``, or a file below ``logs/``) or of an environment build."""

    run = models.ForeignKey(Run, models.CASCADE, null=True, related_name="streams")
    build = models.ForeignKey(Build, models.CASCADE, null=True, related_name="streams")
    name = models.CharField(max_length=400, default="log")
    size = models.BigIntegerField(default=0)
    """Bytes held; the offset at which the next chunk must begin."""
    lines = models.BigIntegerField(default=0)
    """Line breaks held."""
    total = models.BigIntegerField(null=True)
    """Bytes that the script wrote, known at the end; more than ``size`` when the cap cut it."""
    errors = models.PositiveIntegerField(default=0)
    warnings = models.PositiveIntegerField(default=0)
    updated_at = models.DateTimeField(auto_now=True)
    sealed = models.CharField(max_length=64, blank=True)
    """Digest of the compressed object that holds the whole log after the end; empty while chunks hold it."""
    index = models.BinaryField(default=b"")
    """Of a sealed log: where its frames begin; see ``runs.logs``."""

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["run", "name"], condition=Q(build=None), name="one_stream_of_a_run"),
            models.UniqueConstraint(fields=["build", "name"], condition=Q(run=None), name="one_stream_of_a_build"),
        ]

    def __str__(self) -> str:
        return f"{self.run or self.build}: {self.name}"


class LogChunk(models.Model):
    """Live bytes of a log, appended at their offset or not at all."""

    stream = models.ForeignKey(LogStream, models.CASCADE, related_name="chunks")
    offset = models.BigIntegerField()
    length = models.IntegerField()
    first_line = models.BigIntegerField()
    """Line breaks before this chunk."""
    lines = models.IntegerField()
    """Line breaks in it."""
    data = models.BinaryField()
    """The bytes as one zstd frame."""
    times = models.BinaryField(default=b"")
    """When they were written: 16-byte entries (offset u64, unix time f64), little endian, as in ``log.times``."""

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["stream", "offset"], name="one_chunk_at_an_offset")]
        indexes: ClassVar = [models.Index(fields=["stream", "first_line"], name="chunk_by_line")]

    def __str__(self) -> str:
        return f"{self.stream_id}@{self.offset}"
