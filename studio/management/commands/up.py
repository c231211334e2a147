import contextlib
import fcntl
import os
import secrets
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, connection, connections
from rich.console import Console
from rich.text import Text

from studio import doorbell
from studio.hardening import hide_from_neighbours
from studio.processes import ProcessGroup, Service, StartFailed

COLOURS = {"web": "cyan", "worker": "green", "reconcile": "blue", "queue": "magenta", "demo": "yellow"}


class Command(BaseCommand):
    help = "Run the whole studio in the foreground: queue server, workers, reconciler, web. Ctrl-C stops it."
    requires_system_checks = []  # run below, after the data directory is ready

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument(
            "--demo", action="store_true", help="run the example to its end, then stop; exit 0 if it completed"
        )
        parser.add_argument("--no-example", action="store_true", help="do not run the example on the first start")

    def handle(self, *args: Any, **options: Any) -> None:
        hide_from_neighbours()
        self.console = Console(highlight=False, soft_wrap=True)
        began = time.monotonic()
        with only_one(settings.DATA_DIR / "up.lock"):
            port_is_free(settings.HOST, settings.PORT)
            self.console.print("[bold]Runstead[/bold]")
            self.step("Data directory", str(settings.DATA_DIR))
            call_command("check", fail_level="ERROR", stdout=StringIO())
            try:
                call_command("migrate", verbosity=0, interactive=False)
            except OperationalError as error:
                raise CommandError(f"The database ({connection.vendor}) refused: {error}") from error
            self.step("Database", connection.vendor)
            self.collect_static()
            first = call_command("first_start", stdout=StringIO())
            group = ProcessGroup(self.line)
            try:
                self.serve(group, began)
                completed = self.example(group, bool(first == "first"), options)
                if options["demo"]:
                    raise SystemExit(0 if completed else 1)
                while not group.stopping:
                    group.tend()
            except StartFailed as error:
                raise CommandError(str(error)) from error
            finally:
                self.console.print("\nStopping")
                group.stop()
                self.console.print("Stopped. Runs that are executing go on and are found again at the next start.")

    def serve(self, group: ProcessGroup, began: float) -> None:
        manage = [sys.executable, str(settings.BASE_DIR / "manage.py")]
        connections.close_all()  # nothing may be shared with the processes started below
        if settings.REDIS_EMBEDDED:
            queue = group.start(Service("queue", doorbell.command()))
            group.wait_until(doorbell.answers, queue, 10)
            self.step("Queue server", "embedded, on a private socket")
        elif not doorbell.answers():
            raise StartFailed(
                "RUNSTEAD_REDIS_URL: the queue server does not answer. Start it, or unset the variable to use the embedded one."
            )
        group.start(Service("reconcile", [*manage, "reconcile"]))
        for number in range(settings.WORKERS):
            group.start(Service(f"worker-{number + 1}", [*manage, "work"]))
        web = group.start(
            Service(
                "web",
                [
                    sys.executable, "-m", "granian", "--interface", "wsgi", "--host", settings.HOST, "--port", str(settings.PORT),
                    "--workers", str(settings.WEB_WORKERS), "--blocking-threads", str(settings.WEB_THREADS), "--respawn-failed-workers",
                    "--workers-kill-timeout", "5", "--no-ws", "--log-level", "error", "studio.wsgi:application",
                ],
                {"PYTHONPATH": str(settings.BASE_DIR)},
            )
        )  # fmt: skip
        group.wait_until(web_answers, web, 60)
        self.step("Workers", f"{settings.WORKERS}")
        self.step("Web", f"ready after {time.monotonic() - began:.1f} s")
        self.console.print()
        self.console.print(f"  Open  [bold]{settings.PUBLIC_URL}/[/bold]")
        link = str(call_command("sign_in_link", "--if-needed", stdout=StringIO()))
        connections.close_all()
        if link:
            self.console.print(f"  Sign in once with this link, then choose a password:\n        [bold]{link}[/bold]")
        self.console.print("  Ctrl-C stops the studio.\n")

    def example(self, group: ProcessGroup, first: bool, options: dict[str, Any]) -> bool:
        """On the first start, or when asked to, run the example in view of the terminal."""
        if options["no_example"] or not (first or options["demo"]):
            return True
        argv = [sys.executable, str(settings.BASE_DIR / "manage.py"), "demo"]
        # Not one of the services: it ends, and is not started again.
        demo = group.start(Service("demo", argv))
        group.services.remove(demo)
        while demo.alive and not group.stopping:
            group.tend()
        if demo.alive and demo.process is not None:
            demo.process.terminate()
        group.pump(0.2)
        return bool(demo.process and demo.process.poll() == 0)

    def collect_static(self) -> None:
        """Gather static files when any of them is newer than the last gathering."""
        stamp = Path(settings.STATIC_ROOT) / ".collected"
        newest = 0.0
        for finder in get_finders():
            for path, storage in finder.list(None):
                with contextlib.suppress(OSError):
                    newest = max(newest, Path(storage.path(path)).stat().st_mtime)
        if not stamp.exists() or stamp.stat().st_mtime < newest:
            call_command("collectstatic", verbosity=0, interactive=False)
            stamp.touch()
        self.step("Pages", "ready")

    def step(self, what: str, how: str) -> None:
        self.console.print(Text.assemble(("  ✓ ", "green"), f"{what:<16}", (how, "dim")))

    def line(self, name: str, text: str) -> None:
        if name == "demo":
            self.console.print(Text("  ").append(Text.from_ansi(text)))
            return
        colour = COLOURS.get(name.partition("-")[0], "white")
        with contextlib.suppress(OSError):  # a terminal that is gone, a full disk under the file: the studio goes on
            self.console.print(Text.assemble((f"  {name:<10} ", colour), Text.from_ansi(text)))


@contextlib.contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Hold the data directory: two studios must not share one embedded queue server."""
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise CommandError(
                f"A studio is already running on {path.parent} (process {file.read().strip()}). "
                "Stop it, or choose another RUNSTEAD_DATA_DIR."
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def port_is_free(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), port))
        except socket.gaierror:
            raise CommandError(f"RUNSTEAD_HOST={host}: this machine has no such address. Try 127.0.0.1.") from None
        except OSError as error:
            raise CommandError(
                f"Cannot listen on {host}:{port}: {error.strerror}. Choose another port, for example: RUNSTEAD_PORT=8001 make up"
            ) from error


def web_answers() -> bool:
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.HOST, settings.HOST)  # noqa: S104 compared, not bound
    url = f"http://{host}:{settings.PORT}/healthz?{secrets.token_hex(2)}"
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
