"""Why a run waits for its target, in words."""

from environments.models import ComputeTarget


def words(target: ComputeTarget, *, gpus: int, ahead: int, running: int, gpus_taken: int) -> str:
    """``gpus``: what the run asks for; ``ahead``: how many wait before it; ``running``: runs that hold a slot; ``gpus_taken``: how
    many GPUs they hold."""
    if target.unreachable_since is not None:
        return f"{target.name} does not answer."
    if target.quarantined_at is not None:
        why = f": {target.quarantine_reason.rstrip('.')}" if target.quarantine_reason else ""
        return f"{target.name} is quarantined{why}. Nothing new starts until an owner resumes it: runstead resume {target.name}."
    if not target.enabled:
        return f"{target.name} is draining: nothing new starts."
    needs = f"Needs {gpus} GPU{'s' if gpus > 1 else ''}"
    if gpus > target.gpus:
        return f"{needs}, and {target.name} has {target.gpus or 'none'}: cancel it, or give the target more."
    free, gpus_free = target.slots - running, max(0, target.gpus - gpus_taken)
    if free <= 0:
        line = f", {ahead} {'run' if ahead == 1 else 'runs'} ahead" if ahead else ", next in line"
        return f"All {target.slots} slots are busy{line}." if target.slots > 1 else f"The slot is busy{line}."
    if gpus > gpus_free:
        return f"{needs}, {gpus_free} free."
    if ahead >= free:
        return f"{ahead} {'run' if ahead == 1 else 'runs'} ahead."
    return "Starting."
