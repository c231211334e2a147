"""One view for all calls: who calls, which call it is, and its answer or refusal as MLflow's JSON."""

import logging
import secrets
from collections.abc import Callable
from typing import Any

from django.db import DataError
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from runs.mlflow import (
    artifacts,
    experiments,
    found,
    history,
    importing,
    models,
    records,
    registry,
    run_calls,
    versions,
)
from runs.mlflow.auth import Caller, authenticate
from runs.mlflow.fields import Call
from runs.mlflow.problems import Problem
from studio.database import AWAY
from studio.workspaces.models import Role

log = logging.getLogger("runstead.mlflow")
Handler = Callable[[Call], Any]
VERSION = "3.0.0"
"""Of MLflow's protocol, as far as clients ask for it."""
READ, WRITE, OWN = Role.READER, Role.CONTRIBUTOR, Role.OWNER
"""What cannot be undone needs an owner, as in the REST API."""

CALLS: dict[tuple[str, str], tuple[Role, Handler]] = {
    ("POST", "runs/log-metric"): (WRITE, records.log_metric),
    ("POST", "runs/log-batch"): (WRITE, records.log_batch),
    ("POST", "runs/log-parameter"): (WRITE, records.log_param),
    ("POST", "runs/set-tag"): (WRITE, records.set_tag),
    ("POST", "runs/delete-tag"): (WRITE, records.delete_tag),
    ("POST", "runs/log-model"): (WRITE, records.log_model),
    ("POST", "runs/create"): (WRITE, run_calls.create_run),
    ("GET", "runs/get"): (READ, run_calls.get_run),
    ("POST", "runs/update"): (WRITE, run_calls.update_run),
    ("POST", "runs/delete"): (WRITE, run_calls.delete_run),
    ("POST", "runs/restore"): (WRITE, run_calls.restore_run),
    ("POST", "runs/search"): (READ, found.search_runs),
    ("POST", "runs/log-inputs"): (WRITE, run_calls.log_inputs),
    ("GET", "runs/held"): (READ, importing.held),
    ("POST", "runs/outputs"): (WRITE, run_calls.log_outputs),
    ("GET", "metrics/get-history"): (READ, history.get_history),
    ("GET", "metrics/get-history-bulk"): (READ, history.get_history_bulk),
    ("GET", "metrics/get-history-bulk-interval"): (READ, history.get_history_interval),
    ("GET", "artifacts/list"): (READ, artifacts.list_of_run),
    ("POST", "experiments/create"): (WRITE, experiments.create_experiment),
    ("GET", "experiments/get"): (READ, experiments.get_experiment),
    ("GET", "experiments/get-by-name"): (READ, experiments.get_by_name),
    ("POST", "experiments/search"): (READ, experiments.search_experiments),
    ("GET", "experiments/search"): (READ, experiments.search_experiments),
    ("POST", "experiments/update"): (WRITE, experiments.update_experiment),
    ("POST", "experiments/delete"): (WRITE, experiments.delete_experiment),
    ("POST", "experiments/restore"): (WRITE, experiments.restore_experiment),
    ("POST", "experiments/set-experiment-tag"): (WRITE, experiments.set_experiment_tag),
    ("POST", "experiments/delete-experiment-tag"): (WRITE, experiments.delete_experiment_tag),
    ("POST", "logged-models"): (WRITE, models.create_model),
    ("POST", "logged-models/search"): (READ, models.search_models),
    ("POST", "registered-models/create"): (WRITE, registry.create_model),
    ("GET", "registered-models/get"): (READ, registry.get_model),
    ("POST", "registered-models/rename"): (WRITE, registry.rename_model),
    ("PATCH", "registered-models/update"): (WRITE, registry.update_model),
    ("DELETE", "registered-models/delete"): (OWN, registry.delete_model),
    ("GET", "registered-models/search"): (READ, registry.search_models),
    ("POST", "registered-models/get-latest-versions"): (READ, registry.latest_versions),
    ("GET", "registered-models/get-latest-versions"): (READ, registry.latest_versions),
    ("POST", "registered-models/set-tag"): (WRITE, registry.set_tag),
    ("DELETE", "registered-models/delete-tag"): (WRITE, registry.delete_tag),
    ("POST", "registered-models/alias"): (WRITE, registry.set_alias),
    ("DELETE", "registered-models/alias"): (WRITE, registry.delete_alias),
    ("GET", "registered-models/alias"): (READ, registry.get_by_alias),
    ("POST", "model-versions/create"): (WRITE, versions.create_version),
    ("GET", "model-versions/get"): (READ, versions.get_version),
    ("PATCH", "model-versions/update"): (WRITE, versions.update_version),
    ("DELETE", "model-versions/delete"): (OWN, versions.delete_version),
    ("GET", "model-versions/search"): (READ, versions.search_versions),
    ("GET", "model-versions/get-download-uri"): (READ, versions.download_uri),
    ("POST", "model-versions/transition-stage"): (WRITE, versions.transition),
    ("POST", "model-versions/set-tag"): (WRITE, versions.set_version_tag),
    ("DELETE", "model-versions/delete-tag"): (WRITE, versions.delete_version_tag),
}
# Calls on one logged model, by what follows its id.
OF_MODEL: dict[tuple[str, str], tuple[Role, Handler]] = {
    ("GET", ""): (READ, models.get_model),
    ("PATCH", ""): (WRITE, models.finalize_model),
    ("DELETE", ""): (WRITE, models.delete_model),
    ("PATCH", "tags"): (WRITE, models.set_model_tags),
    ("DELETE", "tags"): (WRITE, models.delete_model_tag),
    ("POST", "params"): (WRITE, models.log_model_params),
    ("GET", "artifacts/directories"): (READ, artifacts.list_of_model),
}
FILES: dict[str, tuple[Role, Handler]] = {
    "GET": (READ, artifacts.download), "HEAD": (READ, artifacts.download), "PUT": (WRITE, artifacts.upload),
    "DELETE": (OWN, artifacts.delete),
}  # fmt: skip


def tracking(view: Callable[..., Any]) -> Callable[..., HttpResponseBase]:
    """A view that a token opens and nothing else; what it raises is answered in MLflow's form."""

    def guarded(request: HttpRequest, workspace: str = "", **parts: str) -> HttpResponseBase:
        try:
            caller = authenticate(request)
            if workspace and workspace != caller.workspace.slug:
                raise Problem("RESOURCE_DOES_NOT_EXIST", "There is no such workspace for this token.")
            answer = view(request, caller, **parts)
            return answer if isinstance(answer, HttpResponseBase) else JsonResponse(answer or {})
        except Problem as problem:
            return problem.response()
        except DataError:
            return Problem("INVALID_PARAMETER_VALUE", "A value is longer or larger than its field takes.").response()
        except AWAY:
            return Problem("TEMPORARILY_UNAVAILABLE", "The studio's database is busy. Try again.").response()
        except Exception:
            incident = secrets.token_hex(5)
            log.exception("%s %s failed, incident %s", request.method, request.path, incident)
            return Problem(
                "INTERNAL_ERROR", f"The studio made an error. An administrator finds its id in the log: {incident}."
            ).response()

    guarded.policy = "token"  # type: ignore[attr-defined]
    return csrf_exempt(guarded)


@tracking
def call(request: HttpRequest, caller: Caller, name: str) -> Any:
    """``api/2.0/mlflow/<name>``."""
    method = str(request.method)
    found = CALLS.get((method, name))
    parts: tuple[str, ...] = ()
    if found is None and name.startswith("logged-models/"):
        uid, _, rest = name.removeprefix("logged-models/").partition("/")
        parts = (uid,)
        if rest.startswith("tags/"):
            rest, _, key = rest.partition("/")
            parts = (uid, key)
        found = OF_MODEL.get((method, rest))
    if found is None:
        raise Problem("ENDPOINT_NOT_FOUND", f"{method} {name[:200]} is not offered by the studio.")
    role, handler = found
    caller.needs(role)
    return handler(Call(request, caller, parts))


@tracking
def artifact_root(request: HttpRequest, caller: Caller) -> Any:
    if request.method != "GET":
        raise Problem("ENDPOINT_NOT_FOUND", f"{request.method} needs the path of an artifact.")
    return artifacts.list_artifacts(Call(request, caller))


@tracking
def artifact(request: HttpRequest, caller: Caller, path: str) -> Any:
    if (found := FILES.get(str(request.method))) is None:
        raise Problem("ENDPOINT_NOT_FOUND", f"{request.method} is not offered for artifacts.")
    role, handler = found
    caller.needs(role)
    return handler(Call(request, caller, (path,)))


@tracking
def no_multipart(request: HttpRequest, caller: Caller, path: str) -> Any:
    return artifacts.no_multipart(Call(request, caller, (path,)))


@tracking
def server_info(request: HttpRequest, caller: Caller) -> Any:
    return {
        "store_type": "RunsteadStore", "workspaces_enabled": False, "trace_archival_enabled": False,
        "multipart_uploads_enabled": False, "multipart_downloads_enabled": False,
    }  # fmt: skip


def version(request: HttpRequest, workspace: str = "") -> HttpResponse:
    return HttpResponse(VERSION, content_type="text/plain")


def health(request: HttpRequest, workspace: str = "") -> HttpResponse:
    return HttpResponse("OK", content_type="text/plain")


version.policy = health.policy = "public"  # type: ignore[attr-defined]
