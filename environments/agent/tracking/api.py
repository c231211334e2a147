"""The calls of MLflow's REST protocol that make sense inside one run; others are refused with the reason."""

import json
import os

from .artifacts import Artifacts, check_path
from .fields import (
    NOTE,
    RUN_NAME,
    check_integer,
    check_items,
    check_name,
    check_point,
    check_text,
    metric_json,
    metric_lines,
    record_line,
    tag_line,
)
from .http import File, Text
from .models import Models
from .problems import Problem, invalid
from .records import Records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional

    from .http import Request

    Body = Dict[str, Any]

PREFIX = b"/api/2.0/mlflow/"
FILES = b"/api/2.0/mlflow-artifacts/artifacts"
MAX_ITEMS = 1000
DEFAULT_PAGE = 25000
LOG_MODEL = "mlflow.log-model.history"
STATUSES = ("RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED")
NESTED = (
    "This process belongs to run %s, and a run cannot start another one from inside yet. Log to the current "
    "run (mlflow.start_run() without nested=True, once per process), or submit the other run by itself."
)


class Api(object):
    """Answers for one run. `handle` may be called from any thread."""

    def __init__(self, context: "Any") -> None:
        self.token: "str" = context.token
        tracking = context.tracking
        self._run_id = str(tracking["run_id"])
        self._experiment_id = str(tracking["experiment_id"])
        self._experiment = str(tracking["experiment"])
        self._user = str(tracking.get("user") or "")
        self._started = int(context.started_at * 1000)
        self._status = "RUNNING"
        self._ended: "Optional[int]" = None
        self._records = Records(os.path.join(context.run_dir, "records.jsonl"))
        self._artifacts = Artifacts(context.run_dir)
        self._inputs: "List[Body]" = []
        self._models = Models(self._experiment_id, self._run_id, self._uri)
        self._posts: "Dict[bytes, Callable[[Body], Any]]" = {
            PREFIX + name: handler
            for name, handler in (
                (b"runs/log-metric", self._log_metric),
                (b"runs/log-batch", self._log_batch),
                (b"runs/log-parameter", self._log_param),
                (b"runs/set-tag", self._set_tag),
                (b"runs/delete-tag", self._delete_tag),
                (b"runs/update", self._update_run),
                (b"runs/create", self._create_run),
                (b"runs/search", self._search_runs),
                (b"runs/log-model", self._log_model),
                (b"runs/log-inputs", self._log_inputs),
                (b"runs/outputs", self._log_outputs),
                (b"experiments/search", self._search_experiments),
                (b"experiments/create", self._create_experiment),
            )
        }
        self._gets: "Dict[bytes, Callable[[Dict[str, str]], Any]]" = {
            PREFIX + b"runs/get": self._get_run,
            PREFIX + b"metrics/get-history": self._history,
            PREFIX + b"artifacts/list": self._list_artifacts,
            PREFIX + b"experiments/get": self._get_experiment,
            PREFIX + b"experiments/get-by-name": self._get_experiment_by_name,
            b"/api/3.0/mlflow/server-info": self._server_info,
            b"/health": lambda query: Text("OK"),
            b"/version": lambda query: Text("3.0.0"),
        }

    def handle(self, request: "Request") -> "Any":
        """Answer to a request: a dict, File, Text, or None for an empty object. Raises Problem."""
        path = request.raw_path
        if request.method == "POST":
            handler = self._posts.get(path)
            if handler is not None:
                return handler(request.json())
        elif request.method == "GET" and path in self._gets:
            return self._gets[path](request.query())
        if path == FILES or path.startswith(FILES + b"/"):
            return self._file(request)
        if path.startswith(PREFIX + b"logged-models"):
            return self._models.handle(request, path[len(PREFIX) + len(b"logged-models") :])
        raise Problem(
            "ENDPOINT_NOT_FOUND",
            "%s %s is not offered inside a run. It takes metrics, parameters, tags, artifacts and models of "
            "the current run." % (request.method, path.decode("latin-1")[:200]),
        )

    def _own(self, run_id: object) -> None:
        if run_id != self._run_id:
            shown = run_id if isinstance(run_id, str) else repr(run_id)
            raise Problem(
                "RESOURCE_DOES_NOT_EXIST",
                "Run '%s' not found: inside a run only the run itself (%s) can be read and written."
                % (shown[:300], self._run_id),
            )

    def _own_body(self, body: "Body") -> None:
        self._own(body.get("run_id") or body.get("run_uuid"))

    def _uri(self, path: str = "") -> str:
        return "mlflow-artifacts:/%s/artifacts%s" % (self._run_id, "/" + path if path else "")

    # Writing

    def _log_metric(self, body: "Body") -> None:
        self._own_body(body)
        self._records.append("".join(metric_lines([check_point(body)])).encode())

    def _log_param(self, body: "Body") -> None:
        self._own_body(body)
        name, value = check_name(body.get("key"), "key"), check_text(body.get("value", ""), "value")
        self._records.set_params({name: value}, record_line({"op": "param", "k": name, "v": value}).encode())

    def _set_tag(self, body: "Body") -> None:
        self._own_body(body)
        self._records.append(
            tag_line(check_name(body.get("key"), "key"), check_text(body.get("value", ""), "value")).encode()
        )

    def _delete_tag(self, body: "Body") -> None:
        self._own_body(body)
        name = check_name(body.get("key"), "key")
        self._records.refresh()
        if name not in self._records.tags:
            raise Problem("RESOURCE_DOES_NOT_EXIST", "No tag with name: %s in run with id %s" % (name, self._run_id))
        self._records.append(record_line({"op": "untag", "k": name}).encode())

    def _log_batch(self, body: "Body") -> None:
        self._own_body(body)
        metrics, params, tags = (check_items(body, field) for field in ("metrics", "params", "tags"))
        if len(metrics) + len(params) + len(tags) > MAX_ITEMS:
            count = len(metrics) + len(params) + len(tags)
            raise invalid("metrics, params, tags", count, "a batch has at most %d items together." % MAX_ITEMS)
        # Everything is checked before anything is written, and it is written at once.
        lines = metric_lines([check_point(item, "metrics[%d]." % place) for place, item in enumerate(metrics)])
        found: "Dict[str, str]" = {}
        for place, item in enumerate(params):
            name = check_name(item.get("key"), "params[%d].key" % place)
            value = check_text(item.get("value", ""), "params[%d].value" % place)
            if found.setdefault(name, value) != value:
                raise invalid(
                    "params[%d].value" % place,
                    value,
                    "param '%s' has another value in the same batch." % name,
                )
            lines.append(record_line({"op": "param", "k": name, "v": value}))
        for place, item in enumerate(tags):
            name = check_name(item.get("key"), "tags[%d].key" % place)
            lines.append(tag_line(name, check_text(item.get("value", ""), "tags[%d].value" % place)))
        if lines:
            self._records.set_params(found, "".join(lines).encode())

    def _update_run(self, body: "Body") -> "Body":
        self._own_body(body)
        status = body.get("status", self._status)
        if status not in STATUSES:
            raise invalid("status", status, "one of %s." % ", ".join(STATUSES))
        lines = []
        if body.get("run_name"):
            lines.append(record_line({"op": "name", "v": check_text(body["run_name"], "run_name")}))
        if status in ("FAILED", "KILLED"):
            # How the run ended is for the exit of its process to say; what the script said of itself is kept
            # as a tag.
            lines.append(record_line({"op": "tag", "k": "mlflow.status", "v": status}))
        if lines:
            self._records.append("".join(lines).encode())
        self._status = status
        self._ended = check_integer(body["end_time"], "end_time", 0) if body.get("end_time") else None
        return {"run_info": self._run()["info"]}

    def _create_run(self, body: "Body") -> None:
        raise Problem("RESOURCE_CONFLICT", NESTED % self._run_id)

    def _log_model(self, body: "Body") -> None:
        self._own_body(body)
        try:
            model = json.loads(check_text(body.get("model_json"), "model_json"))
        except ValueError:
            raise invalid("model_json", body.get("model_json"), "JSON is needed.")
        self._records.refresh()
        try:
            history = json.loads(self._records.tags.get(LOG_MODEL, "[]"))
        except ValueError:
            history = []
        self._records.append(tag_line(LOG_MODEL, check_text(json.dumps(history + [model]), "model_json")).encode())

    def _log_inputs(self, body: "Body") -> None:
        self._own_body(body)
        lines = []
        datasets = check_items(body, "datasets")
        for place, item in enumerate(datasets):
            dataset = item.get("dataset")
            if not isinstance(dataset, dict):
                raise invalid("datasets[%d].dataset" % place, dataset, "an object is needed.")
            name = check_name(dataset.get("name"), "datasets[%d].dataset.name" % place)
            tags = {tag.get("key"): tag.get("value") for tag in check_items(item, "tags")}
            value = {key: str(dataset.get(key, ""))[:5000] for key in ("name", "digest", "source_type", "source")}
            value["context"] = str(tags.get("mlflow.data.context") or "")[:500]
            lines.append(record_line({"op": "property", "k": "mlflow.dataset.%s" % name, "v": json.dumps(value)}))
        if lines:
            self._records.append("".join(lines).encode())
            self._inputs += datasets

    def _log_outputs(self, body: "Body") -> None:
        self._own_body(body)
        self._models.outputs += check_items(body, "models")

    # Reading

    def _run(self) -> "Body":
        records = self._records
        records.refresh()
        name = records.name or self._run_id
        tags = dict(records.tags)
        tags[RUN_NAME] = name
        if records.note:
            tags[NOTE] = records.note
        info: "Body" = {
            "run_id": self._run_id,
            "run_uuid": self._run_id,
            "run_name": name,
            "experiment_id": self._experiment_id,
            "user_id": self._user,
            "status": self._status,
            "start_time": self._started,
            "lifecycle_stage": "active",
            "artifact_uri": self._uri(),
        }
        if self._ended is not None:
            info["end_time"] = self._ended
        data = {
            "metrics": [metric_json(key, *point) for key, point in list(records.latest.items())],
            "params": [{"key": key, "value": value} for key, value in list(records.params.items())],
            "tags": [{"key": key, "value": value} for key, value in tags.items()],
        }
        outputs = {"model_outputs": self._models.outputs}
        return {"info": info, "data": data, "inputs": {"dataset_inputs": self._inputs}, "outputs": outputs}

    def _get_run(self, query: "Dict[str, str]") -> "Body":
        self._own(query.get("run_id") or query.get("run_uuid"))
        return {"run": self._run()}

    def _search_runs(self, body: "Body") -> "Body":
        if body.get("filter"):
            raise Problem(
                "NOT_IMPLEMENTED",
                "Inside a run only the run itself is known, so there is nothing to filter. Search in the studio.",
            )
        ids = body.get("experiment_ids") or []
        return {"runs": [self._run()] if self._experiment_id in ids else []}

    def _history(self, query: "Dict[str, str]") -> "Body":
        self._own(query.get("run_id") or query.get("run_uuid"))
        name = query.get("metric_key", "")
        if not name:
            raise Problem("INVALID_PARAMETER_VALUE", "Missing value for required parameter 'metric_key'.")
        most = check_integer(query.get("max_results", DEFAULT_PAGE), "max_results", 1)
        found, token = self._records.history(name, min(most, DEFAULT_PAGE), query.get("page_token", ""))
        answer: "Body" = {"metrics": [metric_json(name, step, at, value) for value, step, at in found]}
        if token:
            answer["next_page_token"] = token
        return answer

    def _list_artifacts(self, query: "Dict[str, str]") -> "Body":
        self._own(query.get("run_id") or query.get("run_uuid"))
        base = query.get("path", "")
        files = self._artifacts.list(base)
        return {
            "root_uri": self._uri(),
            "files": [dict(item, path="%s/%s" % (base, item["path"]) if base else item["path"]) for item in files],
        }

    def _experiment_json(self) -> "Body":
        return {
            "experiment_id": self._experiment_id,
            "name": self._experiment,
            "artifact_location": "mlflow-artifacts:/",
            "lifecycle_stage": "active",
            "creation_time": self._started,
            "last_update_time": self._started,
        }

    def _get_experiment(self, query: "Dict[str, str]") -> "Body":
        if query.get("experiment_id") != self._experiment_id:
            raise Problem("RESOURCE_DOES_NOT_EXIST", "No Experiment with id=%s exists" % query.get("experiment_id", ""))
        return {"experiment": self._experiment_json()}

    def _get_experiment_by_name(self, query: "Dict[str, str]") -> "Body":
        if query.get("experiment_name") != self._experiment:
            raise Problem(
                "RESOURCE_DOES_NOT_EXIST",
                "Could not find experiment with name '%s'" % query.get("experiment_name", ""),
            )
        return {"experiment": self._experiment_json()}

    def _search_experiments(self, body: "Body") -> "Body":
        return {"experiments": [self._experiment_json()]}

    def _create_experiment(self, body: "Body") -> "Body":
        # A script written for another machine says `mlflow.set_experiment("…")`; here it runs in the
        # experiment it was submitted to.
        # The name is kept as a tag, and the script goes on.
        name = check_text(body.get("name"), "name")
        self._records.append(record_line({"op": "tag", "k": "mlflow.experiment", "v": name[:5000]}).encode())
        return {"experiment_id": self._experiment_id}

    def _server_info(self, query: "Dict[str, str]") -> "Body":
        return {"store_type": "runstead", "workspaces_enabled": False, "multipart_uploads_enabled": False}

    # Files

    def _file(self, request: "Request") -> "Any":
        path = request.path[len(FILES) :]
        if request.method == "GET" and path in ("", "/"):
            return {"files": self._artifacts.list(self._own_path(request.query().get("path", ""), empty=True))}
        own = self._own_path(path[1:])
        if request.method == "GET":
            fd = self._artifacts.open(own)
            return File(fd, os.fstat(fd).st_size)
        if request.method == "PUT":
            self._artifacts.write(own, request.pieces())
            self._records.append(record_line({"op": "artifact", "path": own}).encode())
            return None
        if request.method == "DELETE":
            self._artifacts.delete(own)
            return None
        raise Problem("ENDPOINT_NOT_FOUND", "%s is not offered for artifacts." % request.method)

    def _own_path(self, path: str, empty: bool = False) -> str:
        """`<run id>/artifacts/<path>` → `<path>`.

        Raises Problem for another run's and for what breaks the rules of paths.
        """
        run_id, _, rest = check_path(path.rstrip("/") if empty else path).partition("/")
        self._own(run_id)
        folder, _, inner = rest.partition("/")
        if folder != "artifacts":
            raise Problem("RESOURCE_DOES_NOT_EXIST", "There is no artifact %r." % path[:200])
        return check_path(inner, empty=empty)
