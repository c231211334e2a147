"""What kinds of runs there are, what states a run may be in, which moves are allowed, and what an ending means."""

from django.db import models


class RunKind(models.TextChoices):
    SCRIPT = "script", "Script"
    """Submitted: its script is executed on a target."""
    INTERACTIVE = "interactive", "Interactive"
    """Begun, told of and ended by a client that runs somewhere else; see ``runs.outside``."""


class RunStatus(models.TextChoices):
    NOT_STARTED = "NotStarted"
    PREPARING = "Preparing"
    QUEUED = "Queued"
    RUNNING = "Running"
    FINALIZING = "Finalizing"
    CANCEL_REQUESTED = "CancelRequested"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELED = "Canceled"


S = RunStatus
FINAL = frozenset({S.COMPLETED, S.FAILED, S.CANCELED})
ACTIVE = frozenset(set(S) - FINAL)
# It has not been started: a run of a pool may still go to another target, if it was not launched either.
WAITING = frozenset({S.NOT_STARTED, S.PREPARING, S.QUEUED})
# A run on its target: launched, or perhaps launched. These take a slot.
STARTED = frozenset({S.RUNNING, S.FINALIZING})

MOVES: dict[RunStatus, frozenset[RunStatus]] = {
    S.NOT_STARTED: frozenset({S.PREPARING, S.CANCEL_REQUESTED, S.FAILED, S.CANCELED}),
    # Back to NotStarted: a run of a pool whose target cannot start it any more goes elsewhere, if it was not launched.
    S.PREPARING: frozenset({S.QUEUED, S.NOT_STARTED, S.CANCEL_REQUESTED, S.FAILED, S.CANCELED}),
    S.QUEUED: frozenset({S.RUNNING, S.NOT_STARTED, S.FINALIZING, S.CANCEL_REQUESTED, S.FAILED, S.CANCELED}),
    S.RUNNING: frozenset({S.FINALIZING, S.CANCEL_REQUESTED, S.FAILED}),
    S.FINALIZING: frozenset({S.COMPLETED, S.FAILED, S.CANCELED}),
    S.CANCEL_REQUESTED: frozenset({S.FINALIZING, S.COMPLETED, S.FAILED, S.CANCELED}),
    S.COMPLETED: frozenset(),
    S.FAILED: frozenset(),
    S.CANCELED: frozenset(),
}
# Of a run that a client begins and ends. It may be taken up again after its end, as a client of MLflow does with a run's id.
OUTSIDE_MOVES: dict[RunStatus, frozenset[RunStatus]] = {
    S.RUNNING: FINAL | {S.CANCEL_REQUESTED},
    S.CANCEL_REQUESTED: FINAL,
    **dict.fromkeys(FINAL, frozenset({S.RUNNING})),
}


def moves(kind: str, status: str) -> frozenset[RunStatus]:
    """Where a run of a kind may go from a status."""
    table = OUTSIDE_MOVES if kind == RunKind.INTERACTIVE else MOVES
    return table.get(RunStatus(status), frozenset())


class EndReason(models.TextChoices):
    EXITED = "exited", "The script ended with exit code 0"
    EXIT_CODE = "exit_code", "The script ended with an error"
    SIGNAL = "signal", "The script was ended by a signal"
    CANCELED = "canceled", "Canceled"
    TIMED_OUT = "timed_out", "The time limit was reached"
    OUT_OF_MEMORY = "out_of_memory", "Out of memory"
    DISK_FULL = "disk_full", "The disk of the target is full"
    ENVIRONMENT_FAILED = "environment_failed", "The environment could not be built"
    LAUNCH_REJECTED = "launch_rejected", "The script could not be started"
    TARGET_REBOOTED = "target_rebooted", "The target was restarted"
    SUPERVISOR_LOST = "supervisor_lost", "The run's supervisor was killed"
    STUDIO_ERROR = "studio_error", "The studio made an error"
    REPORTED_COMPLETED = "reported_completed", "Its program said that it is complete"
    REPORTED_FAILED = "reported_failed", "Its program said that it failed"
    CLIENT_LOST = "client_lost", "Its program was not heard of any more"

    @property
    def status(self) -> RunStatus:
        """The final status that follows from this reason."""
        if self in {EndReason.EXITED, EndReason.REPORTED_COMPLETED}:
            return S.COMPLETED
        # Over its time limit a run is cancelled, as users of the article's system expect.
        return S.CANCELED if self in {EndReason.CANCELED, EndReason.TIMED_OUT} else S.FAILED


REPORTED = {
    S.COMPLETED: EndReason.REPORTED_COMPLETED,
    S.FAILED: EndReason.REPORTED_FAILED,
    S.CANCELED: EndReason.CANCELED,
}
"""The reason of an end that somebody told: the client of an interactive run, or the script that such a run belongs to."""
