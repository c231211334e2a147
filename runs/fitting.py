"""Whether a run can be on a target at all, whatever that is doing now."""

from collections.abc import Mapping
from typing import Any

from environments.definition import Definition
from environments.models import ComputeTarget, EnvironmentVersion, Pool
from runs.distribution import check_place


def misfit(
    target: ComputeTarget, environment: EnvironmentVersion, *, gpus: int, framework: str, spark: Mapping[str, Any]
) -> dict[str, str]:
    """What of a run cannot be on the target: field → what is wrong."""
    errors: dict[str, str] = {}
    if target.launcher != "docker" and Definition.from_json(environment.definition).needs_engine:
        errors["environment"] = (
            f"{environment} is an image, and {target.name} has no container engine: it starts processes. "
            "Choose a target with one, or an environment of packages."
        )
    if gpus > target.gpus:
        errors["gpus"] = too_many_gpus(target)
    return errors | check_place(framework, spark, target.options)


def too_many_gpus(target: ComputeTarget) -> str:
    if not target.gpus:
        unknown = "" if target.facts else " as far as is known: nobody has tested it yet"
        return f"{target.name} has no GPU{unknown}. Leave this at 0, or choose another target."
    have = f"{target.gpus} GPU{'s' if target.gpus > 1 else ''}"
    return f"{target.name} has {have}. Ask for {target.gpus} at most, or choose another target."


def pool_misfit(
    pool: Pool, environment: EnvironmentVersion, *, gpus: int, framework: str, spark: Mapping[str, Any]
) -> dict[str, str]:
    """The same of a pool: what keeps a run from every one of its members. Members that are busy, draining or away count: they come
    back."""
    members = ComputeTarget.objects.attached().filter(pool_members__pool=pool).order_by("pool_members__position")
    targets = list(members)
    if not targets:
        return {
            "target": f"{pool.name} has no attached target any more. Add one under Compute, or choose another target."
        }
    found = [misfit(row, environment, gpus=gpus, framework=framework, spark=spark) for row in targets]
    if not all(found):
        return {}
    if all("gpus" in errors for errors in found):
        largest = max(targets, key=lambda row: row.gpus)
        if not largest.gpus:
            return {
                "gpus": f"No target of {pool.name} has a GPU as far as is known. Leave this at 0, or choose another target."
            }
        have = f"{largest.gpus} GPU{'s' if largest.gpus > 1 else ''}"
        return {
            "gpus": f"No target of {pool.name} has {gpus} GPUs: the largest, {largest.name}, has {have}. Ask for {largest.gpus} "
            "at most, or choose another target."
        }
    if all("environment" in errors for errors in found):
        return {
            "environment": f"{environment} is an image, and no target of {pool.name} has a container engine. Choose a target with "
            "one, or an environment of packages."
        }
    field, why = next(iter(found[0].items()))
    rest = " None of its other targets can take the run either." if len(targets) > 1 else ""
    return {field: f"No target of {pool.name} can take the run. {targets[0].name}: {why}{rest}"}
