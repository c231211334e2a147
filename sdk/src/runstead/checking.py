"""What can be told of a run before it is queued, its target itself asked."""

from __future__ import annotations

import copy

from .errors import UserError
from .folder import Folder
from .needed import workspace_of
from .upload import upload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List

    from .client import ScriptRunConfig, Workspace

MARKS = {"ok": "ok  ", "run": "--  ", "warn": "WARN", "fail": "FAIL"}


class RunCheck:
    """The answer: `passed`, `answered` (whether the target was heard), `checks`, each with `level` (`ok`, `run`: will be done,
    `warn`, `fail`: surely cannot run), `text`, `detail`, `fix`."""

    def __init__(self, data: Dict[str, Any]) -> None:
        self.passed = bool(data["passed"])
        self.answered = bool(data["answered"])
        self.seconds = float(data["seconds"])
        self.checks: List[Dict[str, str]] = list(data["checks"])

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        lines = []
        for check in self.checks:
            lines.append("%s  %s" % (MARKS.get(check["level"], check["level"]), check["text"]))
            lines += ["      %s" % check[part] for part in ("detail", "fix") if check[part]]
        return "\n".join(lines)


def check(workspace: Workspace, config: ScriptRunConfig) -> RunCheck:
    """Send what the studio lacks of the folder, and ask. The environment has to be registered, or a name. Raises UserError."""
    workspace_of(workspace)
    config = copy.deepcopy(config)
    body = config.request()
    environment = config.run_config.named_environment()
    if environment is not None:
        body["environment"] = environment
    body["snapshot"] = upload(workspace.transport, Folder(config.source_directory))
    answer = workspace.transport.request("POST", "runs/check", body).json()
    if not isinstance(answer, dict):
        raise UserError("runs/check: the studio answered something else. Is it older than this client?")
    return RunCheck(answer)
