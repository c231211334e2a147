"""What states a run may be in, which moves are allowed, and what an ending means."""

from django.db import models


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
# A run on its target: launched, or perhaps launched. These take a slot.
STARTED = frozenset({S.RUNNING, S.FINALIZING})

MOVES: dict[RunStatus, frozenset[RunStatus]] = {
    S.NOT_STARTED: frozenset({S.PREPARING, S.CANCEL_REQUESTED, S.FAILED, S.CANCELED}),
    S.PREPARING: frozenset({S.QUEUED, S.CANCEL_REQUESTED, S.FAILED, S.CANCELED}),
    S.QUEUED: frozenset({S.RUNNING, S.FINALIZING, S.CANCEL_REQUESTED, S.FAILED, S.CANCELED}),
    S.RUNNING: frozenset({S.FINALIZING, S.CANCEL_REQUESTED, S.FAILED}),
    S.FINALIZING: frozenset({S.COMPLETED, S.FAILED, S.CANCELED}),
    S.CANCEL_REQUESTED: frozenset({S.FINALIZING, S.COMPLETED, S.FAILED, S.CANCELED}),
    S.COMPLETED: frozenset(),
    S.FAILED: frozenset(),
    S.CANCELED: frozenset(),
}


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

    @property
    def status(self) -> RunStatus:
        """The final status that follows from this reason."""
        if self is EndReason.EXITED:
            return S.COMPLETED
        # Over its time limit a run is cancelled, as users of the article's system expect.
        return S.CANCELED if self in {EndReason.CANCELED, EndReason.TIMED_OUT} else S.FAILED
