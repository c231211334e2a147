"""How many processes a run has, and what Spark is told: the classes of the reference, as plain data for the studio."""

from __future__ import annotations

from .errors import UserError
from .needed import mapping, whole
from .warned import warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional

    from .run_configuration import RunConfiguration

_DISTRIBUTION = ("process_count", "worker_count", "parameter_server_count", "backend", "node_count")
_SPARK = ("conf", "packages", "repositories", "deploy_mode")
SPARK_DEFAULTS = {"spark.app.name": "Azure ML Experiment", "spark.yarn.maxAppAttempts": 1}
"""What the reference sets. Left as it is it is not sent: the studio names the application after the run, and starts it once."""
_MPI = ("mpi", "openmpi", "intelmpi")
_COMMUNICATORS = {
    "None": "", "Mpi": "", "OpenMpi": "", "IntelMpi": "", "Nccl": "PyTorch", "Gloo": "PyTorch", "Ucc": "PyTorch",
    "ParameterServer": "TensorFlow",
}  # fmt: skip
"""Those of the reference, and the framework that one of them needs."""


class MpiConfiguration:
    """`process_count_per_node` processes, started by mpirun on the target."""

    def __init__(self, process_count_per_node: int = 1, node_count: int = 1) -> None:
        self.process_count_per_node = process_count_per_node
        self.node_count = node_count


class PyTorchConfiguration:
    """`process_count` processes, started by torchrun; None: one for each GPU of the run, else one."""

    def __init__(
        self, communication_backend: str = "Nccl", process_count: Optional[int] = None, node_count: int = 1
    ) -> None:
        self.communication_backend = communication_backend
        self.process_count = process_count
        self.node_count = node_count


class TensorflowConfiguration:
    """Workers and parameter servers, each with its TF_CONFIG."""

    def __init__(self, worker_count: int = 1, parameter_server_count: int = 1) -> None:
        self.worker_count = worker_count
        self.parameter_server_count = parameter_server_count


class SparkConfiguration:
    """What spark-submit is told beyond the target's own settings, and over them."""

    def __init__(self, configuration: Optional[Dict[str, Any]] = None) -> None:
        self.configuration: Dict[str, Any] = {**SPARK_DEFAULTS, **mapping("configuration", configuration)}
        """Setting → value: `spark.executor.memory`: `2g`."""
        self.packages: List[str] = []
        """`group:artifact:version`"""
        self.repositories: List[str] = []
        self.deploy_mode = ""


def apply(run_config: RunConfiguration, job: Any) -> None:
    """Set framework, communicator and section as a `distributed_job_config` says. Raises UserError."""
    if isinstance(job, MpiConfiguration):
        run_config.communicator, run_config.mpi = "Mpi", job
    elif isinstance(job, PyTorchConfiguration):
        run_config.framework, run_config.pytorch = "PyTorch", job
        run_config.communicator = job.communication_backend
    elif isinstance(job, TensorflowConfiguration):
        run_config.framework, run_config.tensorflow = "TensorFlow", job
        run_config.communicator = "ParameterServer"
    else:
        raise UserError(
            "distributed_job_config: a MpiConfiguration, PyTorchConfiguration or TensorflowConfiguration is needed, got %r."
            % (job,)
        )
    run_config.node_count = getattr(job, "node_count", 1)


def read(run_config: RunConfiguration, distribution: Dict[str, Any], spark: Dict[str, Any]) -> None:
    """Set the sections as a file or a command line gives them, by the API's names. Raises UserError."""
    for part, given, known in (("distribution", distribution, _DISTRIBUTION), ("spark", spark, _SPARK)):
        for name in given:
            if name not in known:
                raise UserError("%s.%s: there is no such field. Use: %s." % (part, name, ", ".join(known)))
    count = distribution.get("process_count")
    # None is left to the studio: one for each GPU of the run.
    run_config.mpi.process_count_per_node = run_config.pytorch.process_count = count
    run_config.pytorch.communication_backend = distribution.get("backend", run_config.pytorch.communication_backend)
    servers = distribution.get("parameter_server_count", 1)
    run_config.tensorflow = TensorflowConfiguration(distribution.get("worker_count", 1), servers)
    run_config.node_count = distribution.get("node_count", 1)
    run_config.spark.configuration = dict(mapping("spark.conf", spark.get("conf")))
    run_config.spark.packages = list(spark.get("packages") or [])
    run_config.spark.repositories = list(spark.get("repositories") or [])
    run_config.spark.deploy_mode = spark.get("deploy_mode") or ""


def fields(run_config: RunConfiguration) -> Dict[str, Any]:
    """`framework`, `distribution` and `spark` as the API takes them. Raises UserError."""
    framework = str(run_config.framework).lower()
    _check_communicator(framework, str(run_config.communicator or "None"))
    if framework == "python" and str(run_config.communicator).lower() in _MPI:
        framework = "mpi"
    distribution: Dict[str, Any] = {}
    nodes = whole("node_count", run_config.node_count)
    if framework == "mpi":
        distribution["process_count"] = run_config.mpi.process_count_per_node
        nodes = max(nodes, whole("mpi.node_count", run_config.mpi.node_count))
    elif framework == "pytorch":
        distribution["process_count"] = run_config.pytorch.process_count
        distribution["backend"] = run_config.pytorch.communication_backend
        nodes = max(nodes, whole("pytorch.node_count", run_config.pytorch.node_count))
    elif framework == "tensorflow":
        distribution["worker_count"] = run_config.tensorflow.worker_count
        distribution["parameter_server_count"] = run_config.tensorflow.parameter_server_count
    if nodes != 1:
        distribution["node_count"] = nodes
    found: Dict[str, Any] = {"framework": framework}
    if distribution:
        found["distribution"] = {name: value for name, value in distribution.items() if value is not None}
    if framework == "pyspark":
        spark = run_config.spark
        settings = {
            str(name): _setting(value)
            for name, value in mapping("spark.configuration", spark.configuration).items()
            if SPARK_DEFAULTS.get(name) != value
        }
        given = {"conf": settings, "packages": list(spark.packages), "repositories": list(spark.repositories)}
        mode = spark.deploy_mode or run_config.hdi.deploy_mode
        found["spark"] = {name: value for name, value in {**given, "deploy_mode": mode}.items() if value}
    return found


def _check_communicator(framework: str, given: str) -> None:
    """One that nobody knows would be one plain process."""
    known = {name.lower(): name for name in _COMMUNICATORS}
    if given.lower() not in known:
        import difflib  # only on a mistake

        near = difflib.get_close_matches(given.lower(), known, 1)
        hint = "Did you mean %s?" % known[near[0]] if near else "Use %s." % ", ".join(_COMMUNICATORS)
        raise UserError("communicator: %r is not known. %s" % (given, hint))
    needed = _COMMUNICATORS[known[given.lower()]]
    if framework == "python" and needed:
        warn("communicator: %s means nothing with framework Python. Set run_config.framework = %r." % (given, needed))


def _setting(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
