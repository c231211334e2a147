"""A studio that is nothing but its attendants, each in a process of its own that dies on purpose: ``python -m tests.faults.crashing``.

Forked and not started anew, so that a death costs no import. A job is one target of its own, with one run and one trap: the
attendant is killed (or kills the agent) at a named side effect, another one takes over, and what became of the run is told.
Reads one JSON object of jobs on stdin, writes a line of JSON for each that is done.
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.control import op_events, op_log, op_metrics, op_size, op_submit  # the first import: it sets Django up

from django.conf import settings  # isort: skip
import psutil
from django.core.management import call_command
from django.db import connections

from environments.models import ComputeTarget, Lease
from runs.house import House
from runs.models import Artifact, ModelVersion, Run
from runs.status import FINAL, RunStatus
from runs.submission import cancel
from studio import doorbell
from studio.workspaces.models import Workspace
from tests.faults.lossy import lose_replies
from tests.faults.remote import inner
from tests.faults.tripwire import Tripwire, agents, kill_self
from tests.waiting import until


@dataclass
class Job:
    folder: str
    """The project; what its script is told is in ``arguments``."""
    arguments: list[str]
    root: str
    """Of the target that is made for this job."""
    seen_as: str
    """The same folder as this machine names it."""
    notes: str
    """Where the side effects are written down."""
    trap: tuple[str, int] | None = None
    victim: str = "attendant"
    """Who dies: attendant or agent; or ``replies`` to launches, at random."""
    scenario: str = "complete"
    count: int = 1
    slots: int = 2
    seconds: float = 150
    """How long it may take."""
    config: dict[str, Any] = field(default_factory=dict)
    """What else the runs ask for."""
    transport: str = "local"
    launcher: str = "process"
    options: dict[str, Any] = field(default_factory=dict)
    credentials: dict[str, str] = field(default_factory=dict)


class OneHouse(House):
    """Attends one target, whoever else needs attention."""

    def __init__(self, target_id: int) -> None:
        super().__init__()
        self.only = target_id

    def open(self, target_ids: set[int]) -> None:
        super().open(target_ids & {self.only})

    def hear(self, target_id: int) -> None:
        if target_id == self.only:
            super().hear(target_id)


def fork(body: Any) -> int:
    """Run ``body`` in a child, which shares no connection with us and ends with it."""
    connections.close_all()
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        body()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def attend(target_id: int, job: Job, trap: tuple[str, int] | None) -> None:
    def spring() -> None:
        if job.victim == "attendant":
            kill_self()
        for process in agents(job.root):
            process.kill()
        Path(job.notes + ".sprung").touch()

    if job.victim == "replies":

        def tell(fate: str, runs: int) -> None:
            with Path(job.notes + ".fates").open("a") as file:
                file.write(f"{runs} {fate}\n")

        lose_replies(tell, random.Random(50))
    Tripwire(Path(job.notes), trap, spring).lay()
    OneHouse(target_id).run()


def ended(pid: int) -> str:
    """How a child of ours has ended, ``exited`` or ``killed``; empty while it has not."""
    found, status = os.waitpid(pid, os.WNOHANG)
    return "" if found != pid else "killed" if os.WIFSIGNALED(status) else "exited"


def carry_out(job: Job) -> dict[str, Any]:
    workspace = Workspace.objects.get(slug="default")
    target = ComputeTarget(
        workspace=workspace, name=Path(job.notes).name, slots=job.slots, transport=job.transport, launcher=job.launcher,
        options={**job.options, "root": job.root},
    )  # fmt: skip
    target.set_credentials(job.credentials)
    target.save()
    wish = {"arguments": job.arguments, "target": target.name, "grace_seconds": 1, **job.config}
    every = op_submit(job.folder, count=job.count, **wish)
    pk = every[-1]
    found: dict[str, Any] = {"trap": job.trap, "victim": job.victim, "hit": False}
    house = fork(lambda: attend(target.pk, job, job.trap))
    run = Run.objects.get(pk=pk)
    end, asked, over_at, recovered = time.monotonic() + job.seconds, False, 0.0, None
    died_at, visited = 0.0, []
    try:
        while time.monotonic() < end:
            time.sleep(0.03)
            run.refresh_from_db()
            if ended(house):
                found["hit"] = True
                died_at = time.monotonic()
                before = Lease.objects.filter(target=target).values_list("token", flat=True).first() or 0
                house = fork(lambda: attend(target.pk, job, None))
            if job.victim == "agent" and not found["hit"] and Path(job.notes + ".sprung").exists():
                found["hit"] = True
            if died_at and recovered is None and Lease.objects.filter(target=target, token__gt=before).exists():
                recovered = time.monotonic() - died_at
            if not asked and run.status == RunStatus.RUNNING and op_size(pk):
                asked = interfere(job, run)
            if run.status in FINAL:
                over_at = over_at or time.monotonic()
                over = time.monotonic() - over_at
                if run.cleaned_at is not None and (found["hit"] or over > 0.5):
                    break
                if over > 1 and job.scenario != "lost" and not visited:
                    # It died right after the last status. Who comes next to this target tidies up.
                    visited = op_submit(job.folder, arguments=[*job.arguments, "--lines", "1"], target=target.name)
                if over > (15 if visited else 1):
                    break
        until(lambda: not Run.objects.filter(pk__in=visited, cleaned_at=None).exists(), 15)
        if job.count > 1:
            until(lambda: not Run.objects.filter(pk__in=every, cleaned_at=None).exists(), job.seconds)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(house, signal.SIGTERM)
        last = until(lambda: ended(house), 15)
    # What an attendant does last it does when it is told to stop: to die there is to be met there.
    found["hit"] = found["hit"] or (job.victim == "attendant" and last == "killed")
    found["recovered"] = recovered
    if job.victim == "replies":
        found["fates"] = [line.split(" ", 1) for line in Path(job.notes + ".fates").read_text().splitlines()]
        found["runs"] = list(Run.objects.filter(pk__in=every).values("uid", "status"))
    row = Run.objects.filter(pk=pk).values("uid", "status", "reason", "log_complete", "error", "attempt").get()
    left = Path(job.seen_as) / "runs"
    return {
        **found, **row, "cleaned": run.cleaned_at is not None,
        "events": [new for _, new, _, _ in op_events(pk) if new],
        "log": op_log(pk), "metrics": op_metrics(pk),
        "artifacts": {a.path: [a.size, a.digest, a.skipped] for a in Artifact.objects.filter(run_id=pk)},
        "left": sorted(p.name for p in left.iterdir() if p.name[0] != ".") if left.is_dir() else [],
        "children": sorted(
            [child.name, child.status, child.artifacts.count(), op_metrics(child.pk).get("number")]
            for child in Run.objects.filter(told_by_id=pk)
        ),
        "models": ModelVersion.objects.filter(model__name=row["uid"]).count(),
        "agents": [p.pid for p in agents(job.root)],
    }  # fmt: skip


def interfere(job: Job, run: Run) -> bool:
    """What happens to the run while it executes, once."""
    if job.scenario == "cancel":
        return cancel(run, None)
    if job.scenario == "lost":
        return end_supervisor(Path(job.seen_as) / "runs" / run.attempt)
    return True


def end_supervisor(place: Path) -> bool:
    """Kill who has claimed a run, in whatever namespace it is; False when there is nobody yet."""
    with contextlib.suppress(OSError, ValueError):
        number = json.loads((place / "claim/owner.json").read_text())["pid"]
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                # An agent that looks whether the lock is free holds it for a moment, too.
                held = any(file.path == str(place / "sup.lock") for file in process.open_files())
                if held and inner(process.pid) == number:
                    process.kill()
                    return True
    return False


def work(jobs: list[Job], parallel: int) -> None:
    """Carry out all jobs, so many at a time, each in a process of its own."""
    waiting, running = list(enumerate(jobs)), {}
    while waiting or running:
        while waiting and len(running) < parallel:
            number, job = waiting.pop(0)
            path = Path(f"{job.notes}.result")
            running[fork(lambda job=job, path=path: path.write_text(json.dumps(carry_out(job), default=str)))] = (
                number,
                path,
            )
        pid, _ = os.wait()
        if pid in running:
            number, path = running.pop(pid)
            answer = json.loads(path.read_text()) if path.exists() else {"failed": True}
            print(json.dumps({"number": number, **answer}), flush=True)


def main() -> None:
    call_command("migrate", verbosity=0, interactive=False)
    call_command("first_start")
    bell = subprocess.Popen(doorbell.command(), stdin=subprocess.DEVNULL)
    try:
        until(doorbell.answers, 10)
        print(json.dumps({"ready": str(settings.DATA_DIR)}), flush=True)
        for line in sys.stdin:
            order = json.loads(line)
            work([Job(**job) for job in order["jobs"]], order["parallel"])
            print(json.dumps({"done": True}), flush=True)
    finally:
        bell.terminate()
        bell.wait()


if __name__ == "__main__":
    main()
