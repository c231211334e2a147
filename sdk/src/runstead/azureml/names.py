"""Which name of which module of the reference is which of ours: `module`, or `module:name` where it is called otherwise."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict


def _of(home: str, *names: str) -> Dict[str, str]:
    return dict.fromkeys(names, home)


_RUN = {
    **_of("run", "Run"),
    "_OfflineRun": "offline:OfflineRun",
    "get_run": "run:get_run",
    "ScriptRun": "submitted:SubmittedRun",
}
_CONDA = _of("conda_dependencies", "CondaDependencies")
_COMPUTE = {
    **_of("compute", "ComputeTarget"),
    **_of("compute_kinds", "RemoteCompute", "HDInsightCompute", "DockerCompute"),
}
_POOL = _of("pool", "AmlCompute")
_CLOUD = _of(
    "not_yet",
    "AksCompute",
    "BatchCompute",
    "DatabricksCompute",
    "DataFactoryCompute",
    "AdlaCompute",
    "ComputeInstance",
    "SynapseCompute",
    "KubernetesCompute",
)
_SECTIONS = _of("sections", "DockerSection", "PythonSection", "SparkSection", "SparkPackage", "ContainerRegistry")
_DATA = _of("not_yet", "Dataset", "Datastore")
_SERVICES = _of("not_yet", "Webservice", "AciWebservice", "AksWebservice", "AksEndpoint", "LocalWebservice")
_OUTPUTS = _of("not_yet", "OutputFileDatasetConfig", "OutputTabularDatasetConfig", "OutputDatasetConfig")
_LINKED = _of("not_yet", "LinkedService", "SynapseWorkspaceLinkedServiceConfiguration")
_PIPELINE = _of(
    "not_yet", "Pipeline", "PipelineData", "PipelineParameter", "PipelineRun", "PipelineStep", "PipelineDataset", "PipelineEndpoint",
    "PublishedPipeline", "Schedule", "ScheduleRecurrence", "StepRun", "StepSequence", "TrainingOutput", "InputPortBinding",
    "OutputPortBinding",
)  # fmt: skip
_STEPS = _of(
    "not_yet", "PythonScriptStep", "CommandStep", "EstimatorStep", "MpiStep", "HyperDriveStep", "HyperDriveStepRun", "AutoMLStep",
    "AutoMLStepRun", "ParallelRunStep", "ParallelRunConfig", "DataTransferStep", "DatabricksStep", "RScriptStep", "SynapseSparkStep",
    "AdlaStep", "AzureBatchStep", "ModuleStep",
)  # fmt: skip
_OPEN = _of(
    "not_yet", "MNIST", "Diabetes", "NycTlcGreen", "NycTlcYellow", "NycTlcFhv", "NoaaIsdWeather", "NoaaGfsWeather", "PublicHolidays",
    "PublicHolidaysOffline", "BostonSafety", "ChicagoSafety", "NycSafety", "SanFranciscoSafety", "SeattleSafety", "OjSalesSimulated",
    "UsPopulationCounty", "UsPopulationZip", "UsLaborCPI", "UsLaborEHENational", "UsLaborEHEState", "UsLaborLAUS", "UsLaborLFS",
    "UsLaborPPICommodity", "UsLaborPPIIndustry",
)  # fmt: skip
_EXPRESSIONS = _of(
    "not_yet", "choice", "randint", "uniform", "quniform", "loguniform", "qloguniform", "normal", "qnormal", "lognormal",
    "qlognormal",
)  # fmt: skip
_SAMPLING = _of(
    "not_yet", "RandomParameterSampling", "GridParameterSampling", "BayesianParameterSampling", "HyperParameterSampling"
)
_POLICIES = _of(
    "not_yet", "BanditPolicy", "MedianStoppingPolicy", "TruncationSelectionPolicy", "NoTerminationPolicy", "EarlyTerminationPolicy"
)  # fmt: skip
_SWEEP = _of("not_yet", "HyperDriveConfig", "HyperDriveRunConfig", "HyperDriveRun", "PrimaryMetricGoal")
_ERRORS = _of(
    "errors", "ActivityFailedException", "AzureMLException", "ComputeTargetException", "ExperimentExecutionException",
    "ModelNotFoundException", "ModelPathNotFoundException", "ProjectSystemException", "RunConfigurationException",
    "RunEnvironmentException", "ServiceException", "SnapshotException", "TrainingException", "UserErrorException",
    "WebserviceException", "WorkspaceException",
)  # fmt: skip

MODULES: Dict[str, Dict[str, str]] = {
    "azureml": {},
    "azureml.core": {
        **_of("workspace", "Workspace"),
        **_of("experiment", "Experiment"),
        **_of("run", "Run"),
        **_of("script_run_config", "ScriptRunConfig"),
        **_of("run_configuration", "RunConfiguration"),
        **_of("environment", "Environment"),
        **_of("compute", "ComputeTarget"),
        **_of("model", "Model"),
        **_of("sections", "ContainerRegistry"),
        **_DATA,
        **_of("not_yet", "Webservice", "Image"),
        **_LINKED,
        **_of("keyvault", "Keyvault"),
        "get_run": "run:get_run",
        "ScriptRun": "submitted:SubmittedRun",
        "VERSION": "azureml.version",
        "__version__": "azureml.version:VERSION",
    },
    "azureml.core.run": _RUN,
    "azureml.core.script_run": {"ScriptRun": "submitted:SubmittedRun"},
    "azureml.core.workspace": _of("workspace", "Workspace"),
    "azureml.core.experiment": _of("experiment", "Experiment"),
    "azureml.core.environment": {
        **_of("environment", "Environment", "ImageBuildDetails"),
        **_of("azureml.version", "DEFAULT_CPU_IMAGE", "DEFAULT_GPU_IMAGE"),
        **_CONDA,
        **_SECTIONS,
    },
    "azureml.core.authentication": _of(
        "authentication",
        "InteractiveLoginAuthentication",
        "ServicePrincipalAuthentication",
        "AzureCliAuthentication",
        "MsiAuthentication",
        "TokenAuthentication",
    ),
    "azureml.core.keyvault": _of("keyvault", "Keyvault"),
    "azureml.core.conda_dependencies": {**_CONDA, **_of("azureml.version", "TENSORFLOW_DEFAULT_VERSION")},
    "azureml.core.container_registry": _of("sections", "ContainerRegistry"),
    "azureml.core.runconfig": {
        **_of("run_configuration", "RunConfiguration"),
        **_of("run_sections", "HistoryConfiguration", "HdiConfiguration", "AmlComputeConfiguration"),
        **_of(
            "distributed", "MpiConfiguration", "PyTorchConfiguration", "TensorflowConfiguration", "SparkConfiguration"
        ),
        **_of("sections", "DockerConfiguration"),
        **_of("not_yet", "Data", "OutputData", "DataReferenceConfiguration", "EnvironmentDefinition"),
        **_of("azureml.version", "DEFAULT_CPU_IMAGE", "DEFAULT_GPU_IMAGE"),
        **_CONDA,
        **_SECTIONS,
    },
    "azureml.core.script_run_config": _of("script_run_config", "ScriptRunConfig"),
    "azureml.core.compute": {**_COMPUTE, **_POOL, **_CLOUD},
    "azureml.core.compute_target": _of("compute", "ComputeTarget", "ComputeTargetException"),
    "azureml.core.model": {**_of("model", "Model"), **_of("not_yet", "InferenceConfig")},
    "azureml.core.dataset": _of("not_yet", "Dataset"),
    "azureml.core.datastore": _of("not_yet", "Datastore"),
    "azureml.core.image": _of("not_yet", "Image", "ContainerImage"),
    "azureml.core.linked_service": _LINKED,
    "azureml.core.profile": _of("not_yet", "ModelProfile"),
    "azureml.core.resource_configuration": _of("not_yet", "ResourceConfiguration"),
    "azureml.core.webservice": _SERVICES,
    "azureml.core.webservice.aci": _of("not_yet", "AciWebservice"),
    "azureml.core.webservice.aks": _of("not_yet", "AksWebservice", "AksEndpoint"),
    "azureml.core.webservice.local": _of("not_yet", "LocalWebservice"),
    "azureml.core.webservice.webservice": _of("not_yet", "Webservice"),
    "azureml.data": {**_OUTPUTS, **_of("not_yet", "FileDataset", "TabularDataset", "DataType")},
    "azureml.data.abstract_dataset": _of("not_yet", "AbstractDataset"),
    "azureml.data.abstract_datastore": _of("not_yet", "AbstractDatastore"),
    "azureml.data.azure_storage_datastore": _of("not_yet", "AzureBlobDatastore", "AzureFileDatastore"),
    "azureml.data.data_reference": _of("not_yet", "DataReference"),
    "azureml.data.datapath": _of("not_yet", "DataPath", "DataPathComputeBinding"),
    "azureml.data.dataset_consumption_config": _of("not_yet", "DatasetConsumptionConfig"),
    "azureml.data.dataset_factory": _of("not_yet", "TabularDatasetFactory", "FileDatasetFactory", "DataType"),
    "azureml.data.file_dataset": _of("not_yet", "FileDataset"),
    "azureml.data.output_dataset_config": _OUTPUTS,
    "azureml.data.tabular_dataset": _of("not_yet", "TabularDataset"),
    "azureml.exceptions": _ERRORS,
    "azureml.train": {},
    "azureml.train.estimator": {
        **_of("estimator", "Estimator", "Mpi", "Gloo", "Nccl", "ParameterServer"),
        "MMLBaseEstimator": "estimator:Estimator",
        **_of("not_yet", "Horovod"),
    },
    "azureml.train.dnn": {
        **_of("estimator", "PyTorch", "TensorFlow", "Mpi", "Gloo", "Nccl", "ParameterServer"),
        **_of("not_yet", "Chainer", "Horovod"),
    },
    "azureml.train.sklearn": _of("estimator", "SKLearn"),
    "azureml.train.hyperdrive": {**_SWEEP, **_SAMPLING, **_POLICIES, **_EXPRESSIONS},
    "azureml.train.hyperdrive.run": _SWEEP,
    "azureml.train.hyperdrive.runconfig": _SWEEP,
    "azureml.train.hyperdrive.sampling": _SAMPLING,
    "azureml.train.hyperdrive.policy": _POLICIES,
    "azureml.train.hyperdrive.parameter_expressions": _EXPRESSIONS,
    "azureml.train.automl": _of("not_yet", "AutoMLConfig"),
    "azureml.train.automl.automlconfig": _of("not_yet", "AutoMLConfig"),
    "azureml.train.automl.run": _of("not_yet", "AutoMLRun"),
    "azureml.pipeline": {},
    "azureml.pipeline.core": {**_PIPELINE, **_OUTPUTS},
    "azureml.pipeline.core.graph": _PIPELINE,
    "azureml.pipeline.core.pipeline": _PIPELINE,
    "azureml.pipeline.core.run": _PIPELINE,
    "azureml.pipeline.core.schedule": _PIPELINE,
    "azureml.pipeline.steps": _STEPS,
    "azureml.mlflow": _of("not_yet", "register_model", "get_portal_url"),
    "azureml.tensorboard": _of("not_yet", "Tensorboard"),
    "azureml.tensorboard.export": _of("not_yet", "export_to_tensorboard"),
    "azureml.opendatasets": _OPEN,
    "azureml.widgets": _of("widgets", "RunDetails"),
    "azureml.telemetry": _of("azureml.telemetry", "set_diagnostics_collection"),
}
OF_THEIR_OWN = ("azureml.opendatasets",)
"""Those that need no service: where the real one is installed, it is found in a run too."""
