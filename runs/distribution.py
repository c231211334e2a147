"""How many processes a run has on its target, and what Spark is told: plain data, validated.

The names are those of the reference's PyTorchConfiguration, MpiConfiguration and TensorflowConfiguration. Several nodes are
another matter: here every process of a run is on its one target.
"""

from collections.abc import Mapping
from typing import Any

from environments.options import OptionsError, validate

MAX_PROCESSES = 1024
COUNTS = ("process_count", "worker_count", "parameter_server_count", "node_count")
# Framework → the fields of ``distribution`` that it reads.
FIELDS: dict[str, tuple[str, ...]] = {
    "pytorch": ("process_count", "backend", "node_count"),
    "mpi": ("process_count", "node_count"),
    "tensorflow": ("worker_count", "parameter_server_count", "node_count"),
}
BACKENDS = {"nccl": "Nccl", "gloo": "Gloo", "mpi": "Mpi", "ucc": "Ucc"}
SPARK = ("conf", "packages", "repositories", "deploy_mode")
# What the target, or a field of its own, says; each with where to say it.
SETTLED = {
    "spark.master": "It is the target's: choose another target.",
    "spark.submit.deployMode": "Use the deploy mode.",
    "spark.jars.packages": "Use the packages.",
    "spark.jars.repositories": "Use the repositories.",
}
COUNT_WORDS = {
    "process_count": "processes",
    "worker_count": "workers",
    "parameter_server_count": "parameter servers",
    "node_count": "nodes",
}


def check_distribution(framework: str, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """(``distribution`` as it is kept, field → what is wrong). Fields have ``distribution.`` before their name."""
    allowed = FIELDS.get(framework, ())
    kept: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for name, value in given.items():
        field = f"distribution.{name}"
        if value is None:
            continue
        if name not in {*COUNTS, "backend"}:
            errors[field] = f"{str(name)[:40]!r} is not known. Use one of: {', '.join((*COUNTS, 'backend'))}."
        elif name == "node_count":
            if value != 1:
                errors[field] = (
                    "A run has one node here: its target. Several nodes come with Slurm and Ray targets; for several processes "
                    "on one machine use process_count."
                )
        elif name not in allowed:
            reads = ", ".join(part for part in allowed if part != "node_count")
            errors[field] = (
                f"Framework {framework!r} reads {reads}. Remove it."
                if allowed
                else f"Framework {framework!r} starts one process. Remove it, or use pytorch, mpi or tensorflow."
            )
        elif name == "backend":
            if str(value).lower() in BACKENDS:
                kept[name] = BACKENDS[str(value).lower()]
            else:
                errors[field] = f"{str(value)[:40]!r} is not known. Use one of: {', '.join(BACKENDS)}."
        else:
            least = 0 if name == "parameter_server_count" else 1
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MAX_PROCESSES:
                errors[field] = (
                    f"{str(value)[:40]!r} is no number of {COUNT_WORDS[name]}. Use {least} to {MAX_PROCESSES:,}."
                )
            else:
                kept[name] = value
    return kept, errors


def check_spark(framework: str, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """(``spark`` as it is kept, field → what is wrong). The same rules as for the target's own Spark options."""
    given = {name: value for name, value in given.items() if value}
    if given and framework != "pyspark":
        return {}, {"spark": f"Framework {framework!r} has no use for Spark settings. Remove them, or use pyspark."}
    errors = {
        f"spark.{name}": f"{str(name)[:40]!r} is not known. Use one of: {', '.join(SPARK)}."
        for name in given
        if name not in SPARK
    }
    if errors:
        return {}, errors
    try:
        kept = dict(validate("local", "process", {"spark": given}, partial=True).get("spark", {}))
    except OptionsError as error:
        return {}, error.errors
    for name in kept.get("conf", {}):
        if name in SETTLED:
            return {}, {"spark.conf": f"{name} cannot be set here. {SETTLED[name]}"}
    return kept, {}


def spark_of(
    target: Mapping[str, Any], own: Mapping[str, Any], environment: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """A target's Spark options with an environment's packages and a run's own settings over them."""
    layers = (target, environment or {}, own)
    return {
        **target,
        **{name: value for name, value in own.items() if value},
        "conf": {**target.get("conf", {}), **own.get("conf", {})},
        **{
            name: list(dict.fromkeys(one for layer in layers for one in layer.get(name) or []))
            for name in ("packages", "repositories")
        },
    }


def check_place(framework: str, own: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, str]:
    """What cannot be on a target with these options: field → what is wrong."""
    if framework != "pyspark":
        return {}
    spark = spark_of(options.get("spark") or {}, own)
    master = str(spark.get("master") or "local[*]")
    if spark.get("deploy_mode") == "cluster" and master.startswith(("local", "spark://")):
        return {"spark.deploy_mode": f"{master} cannot place a Python driver in the cluster. Use client."}
    return {}


def process_count(distribution: Mapping[str, Any], gpus: int) -> int:
    """As many as asked for, else one for each GPU, else one."""
    return int(distribution.get("process_count") or gpus or 1)


def summary(framework: str, distribution: Mapping[str, Any], gpus: int) -> str:
    """The processes of a run in words; empty for frameworks that start one."""
    if framework in {"pytorch", "mpi"}:
        return counted(process_count(distribution, gpus), "process", "processes")
    if framework == "tensorflow":
        workers = counted(int(distribution.get("worker_count", 1)), "worker", "workers")
        return f"{workers}, {counted(int(distribution.get('parameter_server_count', 1)), 'parameter server', 'parameter servers')}"
    return ""


def counted(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"
