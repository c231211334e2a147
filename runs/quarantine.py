"""A machine that fails run after run is left alone, before it has burnt the queue.

The failures that may be the machine's are counted on the target's row, in the order in which its runs end. ``QUARANTINE_AFTER`` of
them quarantine it: what runs goes on, nothing new is prepared or started, until a person resumes it. A run that completed, or that was
cancelled while its script ran, proves the machine and empties the count. All other ends change nothing.
"""

import re
from collections import Counter
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from environments.models import ComputeTarget
from runs.models import Run, RunEvent
from runs.status import EndReason, RunStatus
from studio import audit
from studio.queues import ring

AT_ONCE_SECONDS = 10
"""A script that fails later than this after its start has found a machine that works."""
SOON_SECONDS = 60
"""One restart ends all that runs on a machine and says nothing about what starts afterwards. A machine that loses runs which have
just begun is another matter."""

# Ends that a machine causes, whatever the script.
MACHINE = {EndReason.DISK_FULL}
SOON = {EndReason.SUPERVISOR_LOST, EndReason.TARGET_REBOOTED}
# Ends that a script causes as easily as a machine: they count only if most say the same, and of more than one script.
EITHER = {EndReason.EXIT_CODE, EndReason.SIGNAL, EndReason.LAUNCH_REJECTED}
MISTAKES = {
    "SyntaxError", "IndentationError", "TabError", "NameError", "UnboundLocalError", "AttributeError", "TypeError", "ValueError", "KeyError",
    "IndexError", "AssertionError", "ZeroDivisionError", "NotImplementedError",
}  # fmt: skip
"""Exceptions that are the program's own, whatever the machine."""


NAME = re.compile(r"[0-9a-f]{32,64}")
"""Of an attempt, an environment, a content."""


def weigh(run: Run) -> None:
    """Count the end of a run for or against its machine. Call in the transaction that ends it."""
    if run.target_id is None or not run.is_final or not settings.QUARANTINE_AFTER:
        return
    # The caller's object may be old in everything but its status.
    target_id, run = run.target_id, Run.objects.get(pk=run.pk)
    if run.status != RunStatus.FAILED:
        if run.started_at is not None:
            forgive(target_id)
        return
    kind = cause(run)
    if not kind:
        return
    with transaction.atomic():
        target = ComputeTarget.objects.select_for_update().get(pk=target_id)
        if target.quarantined_at is not None:
            return  # the rest of what ran there
        found = [*target.failures, entry(run, kind)][-settings.QUARANTINE_AFTER :]
        target.failures = found
        if len(found) < settings.QUARANTINE_AFTER or not is_machine(found):
            target.save(update_fields=["failures"])
            return
        target.quarantined_at = timezone.now()
        target.quarantine_reason = reason(found)
        target.failures = []
        target.save(update_fields=["failures", "quarantined_at", "quarantine_reason"])
        RunEvent.objects.create(run=run, detail=f"{target.name} was quarantined: {target.quarantine_reason}")
        audit.note(
            None, "target.quarantine", workspace=target.workspace, subject=target.name, detail=target.quarantine_reason
        )
        ring(target.pk)


def forgive(target_id: int) -> None:
    if ComputeTarget.objects.values_list("failures", flat=True).get(pk=target_id):
        ComputeTarget.objects.filter(pk=target_id).update(failures=[])


def cause(run: Run) -> str:
    """``machine`` or ``either`` when a failure counts, empty when it does not."""
    reason = EndReason(run.reason) if run.reason else None
    end = run.finalizing_at or run.ended_at
    lasted = (end - run.started_at).total_seconds() if run.started_at and end else 0.0
    if reason in MACHINE or (reason in SOON and lasted < SOON_SECONDS):
        return "machine"
    if reason is EndReason.STUDIO_ERROR:
        # What the target itself could not do while a run was prepared or collected, and no bug of the studio's.
        return "either" if (run.error or {}).get("type") == "HostError" else ""
    if reason not in EITHER or lasted >= AT_ONCE_SECONDS:
        return ""
    return "" if (run.error or {}).get("type") in MISTAKES else "either"


def entry(run: Run, kind: str) -> dict[str, Any]:
    error = run.error or {}
    words = str(error.get("message") or "") or (
        f"exit code {run.exit_code}" if run.exit_code is not None else EndReason(run.reason).label
    )
    words = NAME.sub("…", words)  # one failure of the machine reads alike, whichever attempt it hits
    # Whoever mends a script sends another snapshot each time: what stays is which script of which experiment it is.
    config = run.config or {}
    script = config.get("script") or " ".join(config.get("command", ())[:1])
    return {
        "number": run.number,
        "kind": kind,
        "what": " ".join(words.split())[:200],
        "script": f"{run.experiment_id} {script}",
    }


def is_machine(found: list[dict[str, Any]]) -> bool:
    if any(item["kind"] == "machine" for item in found):
        return True
    said, times = Counter(item["what"] for item in found).most_common(1)[0]
    return times > len(found) / 2 and len({item["script"] for item in found if item["what"] == said}) > 1


def reason(found: list[dict[str, Any]]) -> str:
    """Which runs, and the error that most of them share."""
    runs = ", ".join(f"#{item['number']}" for item in found)
    errors = [item["what"] for item in found]
    common = max(errors, key=errors.count)
    share = errors.count(common)
    those = "all of them" if share == len(errors) else f"{share} of them" if share > 1 else "the last"
    said = common if share > 1 else errors[-1]
    return f"{len(found)} runs failed there one after the other ({runs}); {those}: {said.rstrip('.')}."
