"""MLflow 3's logged models, as far as `log_model` and `load_model` inside one run need them.

Their files are artifacts of the run, in a folder of the model's name; what else is told about them is in
`MLmodel` there and
kept here for as long as the run lives.
"""

import os
import threading
import time

from .artifacts import check_path
from .problems import Problem, invalid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List

    from .http import Request

    Body = Dict[str, Any]

STATUSES = ("LOGGED_MODEL_UPLOAD_FAILED", "LOGGED_MODEL_PENDING", "LOGGED_MODEL_READY")


class Models(object):
    """The models that one run has logged. `uri(path)` gives the address of an artifact."""

    def __init__(self, experiment_id: str, run_id: str, uri: "Callable[[str], str]") -> None:
        self._experiment_id = experiment_id
        self._run_id = run_id
        self._uri = uri
        self._lock = threading.Lock()
        self._models: "Dict[str, Body]" = {}
        self._folders: "Dict[str, int]" = {}
        self.outputs: "List[Body]" = []

    def handle(self, request: "Request", path: bytes) -> "Body":
        """Answer to `logged-models<path>`. Raises Problem."""
        parts = path.decode("latin-1").split("/")[1:]
        method = request.method
        with self._lock:
            if method == "POST" and not parts:
                return {"model": self._create(request.json())}
            if method == "POST" and parts == ["search"]:
                return {"models": list(self._models.values())}
            if parts:
                model = self._models.get(parts[0])
                if model is None:
                    raise Problem(
                        "RESOURCE_DOES_NOT_EXIST",
                        "Logged model with ID '%s' not found in this run." % parts[0][:200],
                    )
                if len(parts) == 1 and method == "GET":
                    return {"model": model}
                if len(parts) == 1 and method == "PATCH":
                    return {"model": self._finalize(model, request.json())}
                if parts[1:] == ["tags"] and method == "PATCH":
                    _merge(model["info"]["tags"], request.json().get("tags"), "tags")
                    return {"model": model}
                if parts[1:] == ["params"] and method == "POST":
                    _merge(model["data"]["params"], request.json().get("params"), "params")
                    return {"model": model}
        raise Problem(
            "ENDPOINT_NOT_FOUND",
            "%s logged-models%s is not offered inside a run." % (method, path.decode("latin-1")[:200]),
        )

    def _create(self, body: "Body") -> "Body":
        if str(body.get("experiment_id")) != self._experiment_id:
            raise Problem(
                "RESOURCE_DOES_NOT_EXIST",
                "No Experiment with id=%s exists" % str(body.get("experiment_id"))[:200],
            )
        if body.get("source_run_id") not in (None, "", self._run_id):
            raise Problem("RESOURCE_DOES_NOT_EXIST", "Run '%s' not found." % str(body["source_run_id"])[:200])
        name = body.get("name") or "model"
        if not isinstance(name, str) or "/" in name:
            raise invalid("name", name, "a model's name is a text without '/'.")
        check_path(name)
        # Models of one name must not share a folder: the first has the plain name, the next ones a number.
        count = self._folders[name] = self._folders.get(name, 0) + 1
        folder = name if count == 1 else "%s-%d" % (name, count)
        now = int(time.time() * 1000)
        info: "Body" = {
            "model_id": "m-" + os.urandom(16).hex(),
            "experiment_id": self._experiment_id,
            "name": name,
            "creation_timestamp_ms": now,
            "last_updated_timestamp_ms": now,
            "artifact_uri": self._uri(folder),
            "status": "LOGGED_MODEL_PENDING",
            "model_type": str(body.get("model_type") or ""),
            "source_run_id": self._run_id,
            "tags": [],
        }
        model: "Body" = {"info": info, "data": {"params": [], "metrics": []}}
        _merge(info["tags"], body.get("tags"), "tags")
        _merge(model["data"]["params"], body.get("params"), "params")
        self._models[info["model_id"]] = model
        return model

    def _finalize(self, model: "Body", body: "Body") -> "Body":
        status = body.get("status")
        if status not in STATUSES:
            raise invalid("status", status, "one of %s." % ", ".join(STATUSES))
        model["info"]["status"] = status
        model["info"]["last_updated_timestamp_ms"] = int(time.time() * 1000)
        return model


def _merge(kept: "List[Body]", items: object, field: str) -> None:
    if items is None:
        return
    if not isinstance(items, list) or not all(
        isinstance(item, dict) and isinstance(item.get("key"), str) for item in items
    ):
        raise invalid(field, items, "a list of objects with a key and a value is needed.")
    found = {item["key"]: item for item in kept}
    found.update((item["key"], {"key": item["key"], "value": str(item.get("value", ""))}) for item in items)
    kept[:] = list(found.values())
