"""What a build does beyond the environment itself where its runs may use Spark: see ``on_spark``."""

from collections.abc import Mapping
from typing import Any

from environments.builders.base import ON_SPARK, Step
from environments.definition import Definition


def plan(definition: Definition, spark: Mapping[str, Any] | None) -> list[Step]:
    """Steps that follow those of the environment. ``spark``: the target's Spark options, None where it has none."""
    steps: list[Step] = []
    if definition.spark.get("packages") or (spark or {}).get("packages"):
        steps.append(_step("Resolve the Spark packages", "jars"))
    if spark is not None and needs_archive(definition, spark):
        steps.append(_step("Pack the environment for Spark's executors", "archive"))
    return steps


def needs_archive(definition: Definition, spark: Mapping[str, Any]) -> bool:
    """Whether executors need more than the Python that their machines have: packages, and not on this machine alone."""
    if str(spark.get("master") or "local").startswith("local"):
        return False
    return definition.kind == "conda" or bool(definition.packages)


def _step(title: str, verb: str) -> Step:
    return {"title": title, "argv": ["python3", "-c", ON_SPARK, verb], "env": {}, "cwd": "."}
