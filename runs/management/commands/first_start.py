import json
import os
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from environments.setup import first_start as prepare_environments
from studio.accounts.models import Token
from studio.setup import first_start as prepare_studio
from studio.workspaces.models import Role

CLIENT_FILE = "local-client.json"


class Command(BaseCommand):
    help = "Make what every studio has: a workspace, an owner, the local target, the curated environments. May be repeated."
    requires_system_checks = []  # `up` has run them; loading every page would cost a second

    def handle(self, *args: Any, **options: Any) -> str:
        made = prepare_studio()
        prepare_environments(made.workspace)
        self.local_client(made.workspace, made.owner)
        return "first" if not made.workspace.runs.exists() else ""

    def local_client(self, workspace: Any, owner: Any) -> None:
        """A private file by which programs of this user on this machine find the studio."""
        path = settings.DATA_DIR / CLIENT_FILE
        secret = None
        if path.exists():
            try:
                secret = json.loads(path.read_text()).get("token")
            except ValueError:
                secret = None
        if not secret or Token.find(secret) is None:
            _, secret = Token.issue(user=owner, workspace=workspace, name="This machine", scope=Role.OWNER)
        text = json.dumps({"url": settings.PUBLIC_URL, "workspace": workspace.slug, "token": secret})
        write_private(path, text)
        config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "runstead"
        config.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(config / "studio.json", json.dumps({"client": str(path), "home": str(settings.BASE_DIR)}))


def write_private(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)
