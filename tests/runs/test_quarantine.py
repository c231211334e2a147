"""A machine that fails run after run is left alone; scripts with mistakes, and people who mend them, are not taken for one."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from environments import attaching
from environments.models import ComputeTarget
from runs import quarantine, queue
from runs.config import ScriptRunConfig
from runs.models import Run, RunEvent
from runs.status import EndReason, RunStatus
from studio.accounts.models import User
from studio.models import AuditEvent
from studio.workspaces.models import Workspace
from tests.runs.factory import make_run, make_target


@pytest.fixture
def target(workspace: Workspace) -> ComputeTarget:
    return make_target(workspace, "box")


def end(
    target: ComputeTarget,
    reason: EndReason,
    *,
    after: float = 1,
    script: str = "train.py",
    command: str = "",
    **fields: Any,
) -> Run:
    """A run that has just ended there, weighed as the attendant weighs it."""
    began = timezone.now() - timedelta(seconds=after)
    config = ScriptRunConfig(framework="command", command=(command,)) if command else ScriptRunConfig(script=script)
    fields.setdefault("started_at", began)
    run = make_run(
        target.workspace, target=target, config=config, status=RunStatus.FINALIZING, reason=reason, launched=True,
        finalizing_at=began + timedelta(seconds=after), **fields,
    )  # fmt: skip
    assert run.move_to(reason.status)
    quarantine.weigh(run)
    target.refresh_from_db()
    return run


def test_five_in_a_row_that_the_machine_caused_quarantine_it_and_say_why(target: ComputeTarget) -> None:
    error = {"message": "No space left on device"}
    runs = [end(target, EndReason.DISK_FULL, after=300, error=error) for _ in range(4)]
    assert target.quarantined_at is None
    runs.append(end(target, EndReason.DISK_FULL, error=error))
    assert target.quarantined_at is not None
    assert target.quarantine_reason == (
        "5 runs failed there one after the other (#1, #2, #3, #4, #5); all of them: No space left on device."
    )
    assert RunEvent.objects.get(run=runs[-1], new="").detail.startswith("box was quarantined: 5 runs failed")
    line = AuditEvent.objects.get()
    assert (line.action, line.subject, line.user) == ("target.quarantine", "box", None)
    # What was running there may fail as well: that is no second quarantine.
    end(target, EndReason.DISK_FULL)
    assert AuditEvent.objects.count() == 1


def test_nothing_starts_in_quarantine_and_a_person_who_resumes_begins_the_count_anew(
    target: ComputeTarget, owner: User
) -> None:
    for _ in range(5):
        end(target, EndReason.DISK_FULL)
    waits = make_run(target.workspace, target=target, status=RunStatus.QUEUED)
    assert queue.choose(target, [waits]) == [] and queue.of_interest(target, []) == []
    attaching.set_enabled(target, owner, True)
    target.refresh_from_db()
    assert [run for run, _ in queue.choose(target, [waits])] == [waits]
    assert "after the quarantine: 5 runs failed" in AuditEvent.objects.get(action="target.resume").detail
    for _ in range(4):
        end(target, EndReason.DISK_FULL)
    assert target.quarantined_at is None
    end(target, EndReason.DISK_FULL)
    assert target.quarantined_at is not None


@pytest.mark.parametrize("good", [EndReason.EXITED, EndReason.CANCELED, EndReason.TIMED_OUT])
def test_a_run_that_went_well_in_between_proves_the_machine(target: ComputeTarget, good: EndReason) -> None:
    for _ in range(3):
        for _ in range(4):
            end(target, EndReason.DISK_FULL)
        end(target, good)
    assert target.quarantined_at is None and target.failures == []


def test_a_run_that_went_well_counts_though_the_attendant_did_not_see_it_start(target: ComputeTarget) -> None:
    end(target, EndReason.DISK_FULL)
    run = make_run(
        target.workspace, target=target, status=RunStatus.FINALIZING, reason=EndReason.EXITED, launched=True
    )  # fmt: skip
    Run.objects.filter(pk=run.pk).update(started_at=timezone.now())  # by another of its objects
    assert run.move_to(RunStatus.COMPLETED)
    quarantine.weigh(run)
    target.refresh_from_db()
    assert target.failures == []


def test_a_run_cancelled_before_it_started_proves_nothing(target: ComputeTarget) -> None:
    for _ in range(4):
        end(target, EndReason.DISK_FULL)
    end(target, EndReason.CANCELED, started_at=None)
    end(target, EndReason.DISK_FULL)
    assert target.quarantined_at is not None


def test_one_script_with_a_mistake_does_not_quarantine_a_machine_however_often_it_is_mended(
    target: ComputeTarget,
) -> None:
    for attempt in range(8):
        end(target, EndReason.EXIT_CODE, files={"train.py": b"import nothing%d" % attempt})
    assert target.quarantined_at is None


def test_a_command_that_does_not_exist_is_its_writers_mistake(target: ComputeTarget) -> None:
    for _ in range(8):
        end(target, EndReason.LAUNCH_REJECTED, command="trian")
    assert target.quarantined_at is None


def test_scripts_of_several_experiments_that_all_fail_at_once_are_the_machines_fault(target: ComputeTarget) -> None:
    for number in range(5):
        error = {"type": "RuntimeError", "message": "CUDA error: no device" if number else "odd"}
        end(target, EndReason.EXIT_CODE, experiment=f"e{number % 2}", error=error)
    assert target.quarantined_at is not None
    assert "4 of them: CUDA error: no device." in target.quarantine_reason


def test_a_machine_that_can_write_nothing_is_left_alone_though_each_error_names_another_run(
    target: ComputeTarget,
) -> None:
    for number in range(5):
        error = {"type": "HostError", "message": f"[Errno 30] Read-only file system: '/r/runs/{number:032x}/spec.json'"}
        end(target, EndReason.STUDIO_ERROR, script=f"{number % 2}.py", error=error, started_at=None)
    assert target.quarantined_at is not None
    assert "all of them: [Errno 30] Read-only file system: '/r/runs/…/spec.json'." in target.quarantine_reason


def test_mistakes_of_several_scripts_are_their_writers(target: ComputeTarget) -> None:
    typed = {"type": "SyntaxError", "message": "invalid syntax"}
    for number in range(8):
        end(target, EndReason.EXIT_CODE, script=f"{number % 2}.py", error=typed)
    assert target.failures == []
    for number in range(8):  # each of another kind: no machine does that
        end(
            target,
            EndReason.EXIT_CODE,
            script=f"{number % 3}.py",
            error={"type": "RuntimeError", "message": f"wish {number % 4}"},
        )
    for _ in range(4):  # most of one kind, and all these of one script
        end(target, EndReason.SIGNAL, script="0.py")
    end(target, EndReason.EXIT_CODE, script="1.py")
    assert target.quarantined_at is None


def test_scripts_that_ran_for_a_while_before_they_failed_say_nothing_about_the_machine(target: ComputeTarget) -> None:
    for number in range(8):
        end(target, EndReason.EXIT_CODE, after=quarantine.AT_ONCE_SECONDS + 1, experiment=f"e{number}")
        end(target, EndReason.OUT_OF_MEMORY, experiment=f"e{number}")
        end(target, EndReason.ENVIRONMENT_FAILED, experiment=f"e{number}")
    assert target.quarantined_at is None


def test_one_restart_that_ends_all_runs_is_no_quarantine_but_a_machine_that_keeps_restarting_is(
    target: ComputeTarget,
) -> None:
    for _ in range(8):
        end(target, EndReason.TARGET_REBOOTED, after=3600)
    assert target.quarantined_at is None
    for _ in range(5):
        end(target, EndReason.TARGET_REBOOTED, after=5)
    assert target.quarantined_at is not None
