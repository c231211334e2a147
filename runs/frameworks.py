"""How each framework forms the command line of a run. Pure: what is known of the target comes in a ``Place``."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runs.distribution import BACKENDS, process_count
from runs.spark import submit_options

if TYPE_CHECKING:
    from runs.config import ScriptRunConfig


@dataclass(frozen=True, kw_only=True)
class Place:
    """What a command line needs to know of where it will run."""

    python: str
    """The environment's interpreter there."""
    launch: str = ""
    """Our launcher there: ``launch.py`` of the in-run package."""
    name: str = ""
    """The run's id: what a cluster lists it by."""
    spark: Mapping[str, Any] = field(default_factory=dict)
    """The target's Spark options; see ``environments.options``."""
    software: Mapping[str, Any] = field(default_factory=dict)
    """The environment's Spark packages and repositories, and what its build made of them: ``archive``, ``jars``, ``jars_of``."""


@dataclass(frozen=True)
class Framework:
    title: str
    """As people and the reference write it."""
    reference: str
    """What AZUREML_FRAMEWORK says."""
    argv: "Callable[[ScriptRunConfig, Place], list[str]]"
    env: "Callable[[ScriptRunConfig, Place], dict[str, str]]" = lambda config, place: {}
    """Variables that the framework's programs read; the run's own of the same name win."""
    communicator: "Callable[[ScriptRunConfig], str]" = lambda config: "None"
    """What AZUREML_COMMUNICATOR says."""


def _launch(place: Place, verb: str, *options: str) -> list[str]:
    # -I: no file of the project stands in for a module of the standard library.
    return [place.python, "-I", place.launch, verb, *options, "--"]


def _python(config: "ScriptRunConfig", place: Place) -> list[str]:
    return [place.python, "-u", config.script, *config.arguments]


def _command(config: "ScriptRunConfig", place: Place) -> list[str]:
    return list(config.command)


def _pytorch(config: "ScriptRunConfig", place: Place) -> list[str]:
    count = process_count(config.distribution, config.gpus)
    # Not --standalone: up to torch 2.0 that is one fixed port, and two runs on a machine would meet there. Underscores, because
    # older ones know no other spelling. They also looked after their processes every 5 s only.
    options = [
        "--nnodes=1", f"--nproc_per_node={count}", "--rdzv_backend=c10d", "--rdzv_endpoint=localhost:0", f"--rdzv_id={place.name}",
        "--monitor_interval=0.5",
    ]  # fmt: skip
    return [place.python, "-m", "torch.distributed.run", *options, config.script, *config.arguments]


def _mpi(config: "ScriptRunConfig", place: Place) -> list[str]:
    count = process_count(config.distribution, config.gpus)
    return [*_launch(place, "mpi", str(count)), config.script, *config.arguments]


def _mpi_env(config: "ScriptRunConfig", place: Place) -> dict[str, str]:
    # Variables instead of options, since other MPIs refuse options of Open MPI's; OMPI_ is for its version 4, PRTE_ from 5 on.
    # More ranks than cores, and several runs on a machine, are usual: count no slots, and tie no rank to a core that a rank of
    # another run is tied to as well. mpirun itself gives its ranks the same grace that the run has.
    return {
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "OMPI_MCA_rmaps_base_oversubscribe": "1",
        "OMPI_MCA_hwloc_base_binding_policy": "none",
        "OMPI_MCA_odls_base_sigkill_timeout": str(config.grace_seconds + 1),
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
        "PRTE_MCA_hwloc_default_binding_policy": "none",
        "PRTE_MCA_odls_base_sigkill_timeout": str(config.grace_seconds + 1),
    }


def _tensorflow(config: "ScriptRunConfig", place: Place) -> list[str]:
    workers, servers = _tensorflow_counts(config)
    return [*_launch(place, "processes", str(workers), str(servers)), config.script, *config.arguments]


def _tensorflow_counts(config: "ScriptRunConfig") -> tuple[int, int]:
    return int(config.distribution.get("worker_count", 1)), int(config.distribution.get("parameter_server_count", 1))


def _pyspark(config: "ScriptRunConfig", place: Place) -> list[str]:
    options = submit_options(config, place)
    return [*_launch(place, "spark", str(place.spark.get("home") or ""), *options), config.script, *config.arguments]


def _pyspark_env(config: "ScriptRunConfig", place: Place) -> dict[str, str]:
    return dict(place.spark.get("variables") or {})


FRAMEWORKS: dict[str, Framework] = {
    "python": Framework("Python", "Python", _python),
    "pyspark": Framework("PySpark", "PySpark", _pyspark, _pyspark_env),
    "pytorch": Framework(
        "PyTorch", "PyTorch", _pytorch, communicator=lambda config: config.distribution.get("backend") or BACKENDS["nccl"]
    ),
    "tensorflow": Framework(
        "TensorFlow", "TensorFlow", _tensorflow, communicator=lambda config: "ParameterServer" if _tensorflow_counts(config)[1] else "None"
    ),
    "mpi": Framework("MPI", "Python", _mpi, _mpi_env, lambda config: "OpenMpi"),
    "command": Framework("Command line", "Python", _command),
}  # fmt: skip
