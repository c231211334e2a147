"""The REST API, below ``/api/v1/``. Every operation names who may call it; a test walks all of them."""

import logging
import secrets

from django.conf import settings
from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.db import DataError
from django.http import Http404, HttpRequest, HttpResponse, UnreadablePostError
from ninja.errors import HttpError, ValidationError

from environments.api import environments
from environments.build_api import builds, locks
from runs.api import router as runs
from runs.build_log_api import router as build_logs
from runs.config import ConfigError
from runs.experiment_api import router as experiments
from runs.model_api import router as models
from runs.snapshot_api import router as snapshots
from runs.target_api import router as targets
from studio.blobs import BlobMissing
from studio.openapi import Api
from studio.rest import Member, Person, Problem, not_found, refused
from studio.workspaces.api import router as secret_names
from studio.workspaces.own_api import router as own
from studio.workspaces.token_api import router as tokens

log = logging.getLogger("runstead.api")
api = Api(title="Runstead", version="1", urls_namespace="api", docs_url=None)
ROUTERS = {
    "/{slug}/snapshots": snapshots,
    "/{slug}/experiments": experiments,
    "/{slug}/runs": runs,
    "/{slug}/models": models,
    "/{slug}/environments": environments,
    "/{slug}/environments/{reference}/builds": builds,
    "/{slug}/environments/{reference}/builds/{target}/log": build_logs,
    "/{slug}/environments/{reference}/locks": locks,
    "/{slug}/targets": targets,
    "/{slug}/secrets": secret_names,
    "/{slug}/tokens": tokens,
    "": own,
}
for _prefix, _router in ROUTERS.items():
    api.add_router(_prefix, _router)


@api.exception_handler(Problem)
def on_problem(request: HttpRequest, error: Problem) -> HttpResponse:
    return error.response()


@api.exception_handler(ValidationError)
def on_invalid(request: HttpRequest, error: ValidationError) -> HttpResponse:
    """Name the fields by the words of whoever sent them: ``environment``, not ``body.data.environment``."""
    errors = []
    for item in error.errors:
        where = [str(part) for part in item["loc"] if part not in {"body", "query", "path", "header", "data"}]
        errors.append({"field": ".".join(where), "rule": f"{item['msg']}.", "fix": "Send it as documented."})
    return Problem(422, "; ".join(f"{e['field']}: {e['rule']}" for e in errors), errors).response()


@api.exception_handler(HttpError)
def on_http(request: HttpRequest, error: HttpError) -> HttpResponse:
    return Problem.of(error.status_code, "body", f"{error}.", "Send JSON as documented.").response()


@api.exception_handler(RequestDataTooBig)
def on_large(request: HttpRequest, error: RequestDataTooBig) -> HttpResponse:
    limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    return Problem.of(413, "body", f"It has more than {limit:,} bytes.", "Send less at once.").response()


@api.exception_handler(UnreadablePostError)
def on_cut(request: HttpRequest, error: UnreadablePostError) -> HttpResponse:
    return Problem.of(400, "body", "The connection was cut.", "Send it again.").response()


@api.exception_handler(ConfigError)
def on_config(request: HttpRequest, error: ConfigError) -> HttpResponse:
    return refused(error.errors).response()


@api.exception_handler(BlobMissing)
def on_gone(request: HttpRequest, error: BlobMissing) -> HttpResponse:
    return Problem.of(410, "", "Its content is no longer kept.", "There is nothing to read.").response()


@api.exception_handler(Http404)
def on_missing(request: HttpRequest, error: Http404) -> HttpResponse:
    return not_found("object").response()


@api.exception_handler(PermissionDenied)
def on_denied(request: HttpRequest, error: PermissionDenied) -> HttpResponse:
    return Problem.of(403, "", str(error) or "This is not yours to do.", "Ask an owner.").response()


@api.exception_handler(DataError)
def on_unstorable(request: HttpRequest, error: DataError) -> HttpResponse:
    rule = "It holds a character that no text can have (NUL), or is longer or larger than its field takes."
    return Problem.of(422, "body", rule, "Shorten it, or remove the character.").response()


@api.exception_handler(Exception)
def on_failure(request: HttpRequest, error: Exception) -> HttpResponse:
    """An error of ours: told with an id that is in the log, and nothing else."""
    incident = secrets.token_hex(5)
    log.exception("API %s %s failed, incident %s", request.method, request.path, incident, exc_info=error)
    detail = f"The studio made an error. Its id is {incident}; an administrator finds it in the log."
    return Problem(500, detail, id=incident).response()


def policy_of(call: object) -> str:
    """The lowest role that a check lets in; ``signed_in`` for anybody who is known; empty when it is none of ours."""
    return str(call.role) if isinstance(call, Member) else "signed_in" if isinstance(call, Person) else ""


def policies() -> dict[str, dict[str, str]]:
    """Address pattern → method → the lowest role that may call it. Raises when an operation has no policy."""
    found: dict[str, dict[str, str]] = {}
    for prefix, router in ROUTERS.items():
        for path, view in router.path_operations.items():
            for operation in view.operations:
                roles = [role for call in operation.auth_callbacks if (role := policy_of(call))]
                if len(roles) != 1 or len(operation.auth_callbacks) != 1:
                    raise AssertionError(f"{operation.methods} {prefix}{path} does not say who may call it")
                found.setdefault(f"{prefix}{path}", {}).update(dict.fromkeys(operation.methods, roles[0]))
    return found
