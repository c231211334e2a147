"""A model that a script asks for: a record in its run's folder. The studio makes the version when the run's files are collected."""

from __future__ import annotations

import os
import time
import uuid
import warnings

from .errors import ModelPathNotFoundException, UserError
from .inside import OnlyOutside, in_run
from .logged import checked
from .model import Model
from .needed import file_path
from .scalars import name_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Mapping, Optional

LONGEST = 255


class WishedModel(Model):
    """What is known of a model before it is made: all but its version, and what follows from that."""

    def __init__(
        self, run: Any, name: str, path: str, tags: Dict[str, Any], properties: Dict[str, str], description: str
    ) -> None:
        self._run = run
        self._row = {
            "name": name, "version": None, "run_id": run.id, "path": path, "tags": tags, "properties": properties,
            "description": description,
        }  # fmt: skip

    @property
    def version(self) -> None:  # type: ignore[override]
        """None: the studio numbers it when the run has ended. From outside: `Model(ws, name)`, `Model.list(ws, run_id=…)`."""
        return None

    @property
    def id(self) -> str:
        """Its name alone, while there is no version."""
        return self.name

    @property
    def run(self) -> Any:
        """The run that asked for it."""
        return self._run

    def _later(self, *args: Any, **kwargs: Any) -> Any:
        raise OnlyOutside(
            "The model %s becomes a version when the run has ended. Ask then, from outside: Model(ws, %r)."
            % (self.name, self.name)
        )

    workspace = created_time = created_by = url = property(_later)  # type: ignore[assignment]
    download = _ask = _later

    def __repr__(self) -> str:
        return "Model(name=%r, version=None, run_id=%r)" % (self.name, self.run_id)


def wish(
    run: Any,
    name: str,
    path: str,
    tags: Optional[Mapping[str, Any]],
    properties: Mapping[str, Any],
    description: Optional[str],
) -> WishedModel:
    """Write the wish down. Raises UserError, and ModelPathNotFoundException."""
    plain = isinstance(name, str) and 0 < len(name) <= LONGEST and name.isprintable() and name == name.strip()
    if not plain or set(name) & {"/", ":"} or name in (".", ".."):
        raise UserError(
            "model_name: %r is no name. Use 1 to %d printable characters without '/' and ':'." % (name, LONGEST)
        )
    name_text(name)
    if description is not None and not isinstance(description, str):
        raise UserError("description: a text is needed, got %s." % type(description).__name__)
    own_tags = {key: None if value is None else text for key, value, text in checked("tags", tags or {}, 5000)}
    own_properties = {key: text for key, _, text in checked("properties", properties, 10_000)}
    path = _relative(run, file_path("model_path", path))
    _look(run, path)
    run._put(
        op="model",
        id=uuid.uuid4().hex[:16],
        k=name,
        path=path[2:] if path.startswith("./") else path,
        v={"tags": own_tags, "properties": own_properties, "description": description or ""},
        t=time.time(),
    )
    return WishedModel(run, name, path, own_tags, own_properties, description or "")


def _relative(run: Any, path: str) -> str:
    """The path as the run's files are called. One that is absolute may lead into its folder. Raises ModelPathNotFoundException."""
    plain = path.replace(os.sep, "/").strip("/")
    if not os.path.isabs(path) or os.path.exists(in_run(run, plain)):
        return plain
    code = os.path.realpath(os.path.join(run._writer.run_dir, "code"))
    full = os.path.realpath(path)
    if full.startswith(code + os.sep):
        return os.path.relpath(full, code).replace(os.sep, "/")
    raise ModelPathNotFoundException(
        "model_path: %s is not in the run's folder. Give a path among its files, for example outputs/model.pkl." % path
    )


def _look(run: Any, path: str) -> None:
    """Say now what would be told only when the script has ended."""
    top = run
    while True:
        if os.path.exists(in_run(top, path)):
            return
        if not top._key:
            break
        top = top._root  # a child's may be one of the script's own
    if os.path.exists(os.path.join(top._writer.run_dir, "code", *path.split("/"))) or os.path.exists(path):
        raise ModelPathNotFoundException(
            "model_path: %s is a file here that the run does not keep. Write it below outputs/, or keep it first: "
            "run.upload_file(%r, %r)." % (path, path, path)
        )
    warnings.warn(
        "model_path: the run has no file %s yet. It becomes a model if it is there when the script ends." % path,
        stacklevel=4,
    )
