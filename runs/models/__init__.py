"""The history: experiments, snapshots, runs and what they logged and produced."""

from runs.models.artifact import Artifact
from runs.models.experiment import Experiment
from runs.models.log import LogChunk, LogStream
from runs.models.logged import LoggedModel, RunInput, RunModel
from runs.models.metric import MetricChunk, MetricSeries, MetricValue
from runs.models.registered import ModelVersion, ModelWish, RegisteredModel
from runs.models.run import GivenUp, Run, RunEvent, RunParameter, RunTag
from runs.models.snapshot import Snapshot

__all__ = [
    "Artifact", "Experiment", "GivenUp", "LogChunk", "LogStream", "LoggedModel", "MetricChunk", "MetricSeries", "MetricValue",
    "ModelVersion", "ModelWish", "RegisteredModel", "Run", "RunEvent", "RunInput", "RunModel", "RunParameter", "RunTag", "Snapshot",
]  # fmt: skip
