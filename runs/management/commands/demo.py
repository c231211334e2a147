import time
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console

from environments.models import ComputeTarget, Environment
from runs import logs
from runs.config import ScriptRunConfig
from runs.header import WORDS
from runs.models import LogStream, MetricSeries, Run
from runs.snapshots import submit_folder
from runs.status import RunStatus
from runs.submission import submit
from studio.setup import first_start

FOLDER = "examples/digits"


class Command(BaseCommand):
    help = "Submit the digits example to this machine and follow it to its end. Exits with 1 unless it completed."
    requires_system_checks = []  # `up` has run them; loading every page would cost a second

    def handle(self, *args: Any, **options: Any) -> None:
        self.console = Console(highlight=False, soft_wrap=True, force_terminal=True)
        run = self.submit()
        self.console.print(
            f"[bold]First run[/bold]  {run.name}  {settings.PUBLIC_URL}/{run.workspace.slug}/runs/{run.number}"
        )
        self.follow(run)
        if run.status != RunStatus.COMPLETED:
            message = run.error.get("message", run.get_reason_display())
            raise CommandError(f"The example ended as {run.status}: {message}")
        self.console.print(f"[green]Completed[/green] in {self.seconds(run)} s, {run.artifacts.count()} outputs")
        for series in MetricSeries.objects.filter(run=run, system=False).order_by("name"):
            self.console.print(f"  {series.name} {series.last:.4g}")

    def submit(self) -> Run:
        made = first_start()
        workspace, user = made.workspace, made.owner
        snapshot, _ = submit_folder(workspace, settings.BASE_DIR / FOLDER, user)
        environment = Environment.objects.get(workspace=None, name="scikit-learn")
        return submit(
            workspace=workspace,
            user=user,
            experiment="digits",
            target=ComputeTarget.objects.get(workspace=workspace, name="local"),
            environment=environment.versions.first(),
            snapshot=snapshot,
            config=ScriptRunConfig(script="train.py", arguments=("--epochs", "40", "--lr", "0.002")).validated(),
            name="first-run",
        )

    def follow(self, run: Run) -> None:
        """Print states and log lines as they come; refresh ``run`` to its end."""
        offset, shown = 0, ""
        while True:
            run.refresh_from_db()
            state = f"{WORDS.get(run.status, run.status)}  {run.waiting_for}".strip()
            if state != shown:
                self.console.print(f"[dim]{state}[/dim]")
                shown = state
            stream = LogStream.objects.filter(run=run, name="log").first()
            if stream is not None and stream.size > offset:
                data = logs.Reader(stream).read(offset, stream.size - offset)
                # Whole lines only, until the end.
                whole = data if run.is_final else data[: data.rfind(b"\n") + 1]
                offset += len(whole)
                for line in whole.decode("utf-8", "replace").splitlines():
                    self.console.print(f"  {line}", markup=False)
            if run.is_final:
                return
            time.sleep(0.1)

    @staticmethod
    def seconds(run: Run) -> str:
        if run.started_at is None or run.ended_at is None:
            return "?"
        return f"{(run.ended_at - run.started_at).total_seconds():.1f}"
