"""Outside a run: prints what would be logged, and keeps nothing but what `get_…` needs."""

from __future__ import annotations

import json
import tempfile

from . import files
from .inside import OnlyOutside
from .run import ScriptRun

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional


class OfflineRun(ScriptRun):
    """The same calls and the same checks as in a run; the records go to a folder that lives as long as the
    process.
    """

    def __init__(self) -> None:
        # Kept so that reading back works as in a run; removed when the process ends.
        self._folder = tempfile.TemporaryDirectory(prefix="runstead-offline-")
        super().__init__(self._folder.name)

    @property
    def id(self) -> str:
        return "OfflineRun"

    @property
    def experiment(self) -> Any:  # type: ignore[override]
        raise _belongs_to_none()

    @property
    def workspace(self) -> Any:  # type: ignore[override]
        raise _belongs_to_none()

    def upload_file(self, name: str, path_or_stream: Any, datastore_name: Optional[str] = None) -> None:
        """Keep a copy as long as the process lives."""
        super().upload_file(name, path_or_stream)
        name = files.plain_name(name)
        if not files.place(self._folder.name, name)[1]:  # of others there is a record, which is printed
            self._say({"op": "artifact", "path": name})

    def _line(self, line: str) -> None:
        super()._line(line)
        self._say(json.loads(line))

    def _put(self, **record: Any) -> None:
        super()._put(**record)
        self._say(record)

    def _say(self, record: Any) -> None:
        whose = ""
        if record.get("op") == "of":
            whose, record = "child %s: " % record["c"], record["r"]
        kind, name = record.get("op", "metric"), record.get("k", "")
        value = record.get("path") or record.get("v", "")
        step = " (step %d)" % record["s"] if "s" in record else ""
        shown = (
            ""
            if kind in ("untag", "child")
            else "%s%s" % ("" if not name else " = ", value if isinstance(value, str) else json.dumps(value))
        )
        print("[not in a run] %s%s %s%s%s" % (whose, kind, name, shown, step), flush=True)


def _belongs_to_none() -> OnlyOutside:
    return OnlyOutside(
        "This process does not belong to a run, so it has no experiment and no workspace: use Workspace.from_config()."
    )
