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
)
_SECTIONS = _of("sections", "DockerSection", "PythonSection", "SparkSection", "SparkPackage", "ContainerRegistry")
_DATA = _of("not_yet", "Dataset", "Datastore")
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
    "azureml.core.conda_dependencies": _CONDA,
    "azureml.core.container_registry": _of("sections", "ContainerRegistry"),
    "azureml.core.runconfig": {
        **_of("run_configuration", "RunConfiguration"),
        **_of("run_sections", "HistoryConfiguration", "HdiConfiguration", "AmlComputeConfiguration"),
        **_of(
            "distributed", "MpiConfiguration", "PyTorchConfiguration", "TensorflowConfiguration", "SparkConfiguration"
        ),
        **_of("sections", "DockerConfiguration"),
        **_of("not_yet", "Data", "OutputData", "DataReferenceConfiguration"),
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
    "azureml.exceptions": _ERRORS,
    "azureml.train": {},
    "azureml.train.estimator": _of("estimator", "Estimator", "Mpi", "Gloo", "Nccl", "ParameterServer"),
    "azureml.train.dnn": {
        **_of("estimator", "PyTorch", "TensorFlow", "Mpi", "Gloo", "Nccl", "ParameterServer"),
        **_of("not_yet", "Chainer"),
    },
    "azureml.train.sklearn": _of("estimator", "SKLearn"),
    "azureml.train.hyperdrive": {**_SWEEP, **_SAMPLING, **_POLICIES, **_EXPRESSIONS},
    "azureml.train.hyperdrive.run": _SWEEP,
    "azureml.train.hyperdrive.runconfig": _SWEEP,
    "azureml.train.hyperdrive.sampling": _SAMPLING,
    "azureml.train.hyperdrive.policy": _POLICIES,
    "azureml.train.hyperdrive.parameter_expressions": _EXPRESSIONS,
    "azureml.widgets": _of("widgets", "RunDetails"),
    "azureml.telemetry": _of("azureml.telemetry", "set_diagnostics_collection"),
}
