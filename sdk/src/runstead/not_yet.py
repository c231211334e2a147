"""Names of the reference that do nothing here yet: they can be imported, and say so when they are used."""

from __future__ import annotations

from .errors import NotYet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict

_SWEEPS = "sweeps are not there yet. Submit a run for each choice, for example in a loop, as children of one run: run.submit_child(config)."
_DATA = (
    "data stores and data sets are not there yet. Send the data with the folder, or read it where the target has it."
)
_SERVING = "models are registered and downloaded, and not served yet."
_CLOUD = "it is a machine of a cloud. Attach a machine that you have: ComputeTarget.attach."
_CLOUD_PARTS = "it is a part of a cloud, and there is none here."
_PIPELINES = "pipelines are not there yet. Submit the runs one after the other, each after wait_for_completion()."

_AUTOML = "models are not searched for here yet. Submit a script that does it, with a library of your choice."
_OPEN = "it comes with a package of its own. Add azureml-opendatasets to pip_packages, or install it here."

WHY: Dict[str, str] = {
    **dict.fromkeys(
        (
            "HyperDriveConfig", "HyperDriveRunConfig", "HyperDriveRun", "RandomParameterSampling", "GridParameterSampling",
            "BayesianParameterSampling", "BanditPolicy", "MedianStoppingPolicy", "TruncationSelectionPolicy", "NoTerminationPolicy",
            "HyperParameterSampling", "EarlyTerminationPolicy",
            "choice", "randint", "uniform", "quniform", "loguniform", "qloguniform", "normal", "qnormal", "lognormal", "qlognormal",
        ),
        _SWEEPS,
    ),
    **dict.fromkeys(
        (
            "Dataset", "Datastore", "Data", "OutputData", "DataReferenceConfiguration", "DataReference", "OutputFileDatasetConfig",
            "OutputDatasetConfig", "OutputTabularDatasetConfig", "FileDataset", "TabularDataset", "DataType", "DataPath",
            "DataPathComputeBinding", "DatasetConsumptionConfig", "TabularDatasetFactory", "FileDatasetFactory", "AzureBlobDatastore",
            "AzureFileDatastore", "AbstractDataset", "AbstractDatastore",
        ),
        _DATA,
    ),
    **dict.fromkeys(
        (
            "Webservice", "AciWebservice", "AksWebservice", "AksEndpoint", "LocalWebservice", "InferenceConfig", "Image", "ContainerImage",
            "ModelProfile",
        ),
        _SERVING,
    ),
    **dict.fromkeys(
        ("AksCompute", "BatchCompute", "DatabricksCompute", "DataFactoryCompute", "AdlaCompute", "ComputeInstance", "SynapseCompute"),
        _CLOUD,
    ),
    "KubernetesCompute": "clusters of Kubernetes are no targets yet. Attach a machine that you have: ComputeTarget.attach.",
    **dict.fromkeys(
        (
            "Pipeline", "PipelineData", "PipelineParameter", "PipelineRun", "PipelineStep", "PipelineDataset", "PipelineEndpoint",
            "PublishedPipeline", "Schedule", "ScheduleRecurrence", "StepRun", "StepSequence", "TrainingOutput", "InputPortBinding",
            "OutputPortBinding", "PythonScriptStep", "CommandStep", "EstimatorStep", "MpiStep", "HyperDriveStep", "HyperDriveStepRun",
            "AutoMLStep", "AutoMLStepRun", "ParallelRunStep", "ParallelRunConfig", "DataTransferStep", "DatabricksStep", "RScriptStep",
            "SynapseSparkStep", "AdlaStep", "AzureBatchStep", "ModuleStep",
        ),
        _PIPELINES,
    ),
    **dict.fromkeys(("AutoMLConfig", "AutoMLRun"), _AUTOML),
    **dict.fromkeys(("LinkedService", "SynapseWorkspaceLinkedServiceConfiguration"), _CLOUD_PARTS),
    "ResourceConfiguration": "what a model needs to be served is not kept, and models are not served yet.",
    "Horovod": "its processes are started by mpirun here: distributed_training=Mpi(), or MpiConfiguration(process_count_per_node=…).",
    "EnvironmentDefinition": "its name was changed. Take Environment(name), which has python, docker and spark.",
    **dict.fromkeys(
        ("Tensorboard", "export_to_tensorboard"),
        "metrics are on the run's page. Write event files below outputs/, fetch them with run.download_files() and start tensorboard there.",
    ),
    **dict.fromkeys(
        ("register_model", "get_portal_url"), "MLflow itself does it: mlflow.set_tracking_uri(ws.get_mlflow_tracking_uri(with_auth=True))."
    ),
    **dict.fromkeys(
        (
            "MNIST", "Diabetes", "NycTlcGreen", "NycTlcYellow", "NycTlcFhv", "NoaaIsdWeather", "NoaaGfsWeather", "PublicHolidays",
            "PublicHolidaysOffline", "BostonSafety", "ChicagoSafety", "NycSafety", "SanFranciscoSafety", "SeattleSafety", "OjSalesSimulated",
            "UsPopulationCounty", "UsPopulationZip", "UsLaborCPI", "UsLaborEHENational", "UsLaborEHEState", "UsLaborLAUS", "UsLaborLFS",
            "UsLaborPPICommodity", "UsLaborPPIIndustry",
        ),
        _OPEN,
    ),
    **dict.fromkeys(
        ("Workspace.datastores", "Workspace.datasets", "Workspace.get_default_datastore", "Workspace.set_default_datastore"), _DATA
    ),
    **dict.fromkeys(
        ("Model.deploy", "Model.package", "Model.profile", "Model.print_configuration", "Workspace.webservices", "Workspace.images"), _SERVING
    ),
    **dict.fromkeys(
        ("Workspace.get_default_compute_target", "Workspace.set_default_compute_target"),
        "no target is the default of a workspace. Name one: ScriptRunConfig(…, compute_target='local').",
    ),
    **dict.fromkeys(("Workspace.delete", "Workspace.update"), "it is done on the studio's pages: a token is for one workspace alone."),
    "Workspace.linked_services": _CLOUD_PARTS,
    "Environment.databricks": "it means nothing here: list the packages under python or spark.",
    "Environment.r": "environments of R are not made yet. Take an image that has R: Environment.from_docker_image(…).",
    "Chainer": "its support ended. Use Estimator with pip_packages=['chainer'].",
}  # fmt: skip


class PrimaryMetricGoal:
    """Whether more or less of a sweep's metric is better."""

    MAXIMIZE = "MAXIMIZE"
    MINIMIZE = "MINIMIZE"


class _Meta(type):
    """So that its static methods, such as `Dataset.get_by_name`, say it too."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise _refusal(cls.__name__)


def __getattr__(name: str) -> Any:
    if name not in WHY:
        raise AttributeError("module %r has no attribute %r" % (__name__, name))

    def refuse(cls: Any, *_: Any, **__: Any) -> Any:
        raise _refusal(name)

    made = _Meta(name, (), {"__new__": refuse, "__doc__": WHY[name], "__module__": __name__})
    globals()[name] = made
    return made


class _Missing(NotYet, AttributeError):
    """Of an attribute: `hasattr` and whatever looks at all attributes take it as one that is not there."""


def member(name: str) -> Any:
    """A property that says why it is not there."""

    def refuse(self: Any) -> Any:
        raise _Missing("%s: %s" % (name, WHY[name]))

    return property(refuse, doc="Not there yet: %s" % WHY[name])


def method(name: str) -> Any:
    """A method, static or not, that says why it is not there."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise _refusal(name)

    refuse.__doc__, refuse.__name__, refuse.__qualname__ = "Not there yet: %s" % WHY[name], name.partition(".")[2], name
    return staticmethod(refuse)


def _refusal(name: str) -> NotYet:
    return NotYet("%s: %s" % (name, WHY[name]))
