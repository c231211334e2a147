"""The description of the REST API, made true: what checks and handlers add to every operation stands in each of them."""

import re
from functools import cached_property
from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import NinjaAPI, Router
from ninja.openapi.schema import OpenAPISchema
from pydantic import BaseModel

from studio.rest import Problem, Refusal, unknown

EVERYWHERE = (401, 403, 404, 413, 415, 422, 429)
PROBLEM = "application/problem+json"
SLUG = {
    "in": "path", "name": "slug", "required": True, "schema": {"type": "string"},
    "description": "The workspace. One that you are not a member of answers 404.",
}  # fmt: skip
KEY = {
    "in": "header", "name": "Idempotency-Key", "required": False, "schema": {"type": "string", "minLength": 1, "maxLength": 64},
    "description": "A request that is sent again with the same key does nothing again and is answered as the first one was.",
}  # fmt: skip
VERSION = {"description": "The version of the studio.", "schema": {"type": "string"}}
# What makes something.
KEYED = (
    "/runs", "/runs/interactive", "/runs/{number}/records", "/models", "/tokens", "/experiments", "/snapshots", "/environments",
    "/environments/{reference}/clone", "/environments/{reference}/refresh", "/environments/{reference}/builds", "/targets",
    "/targets/{name}/key",
)  # fmt: skip


class Api(NinjaAPI):
    """The API, which refuses parameters that an operation does not know: a filter with a slip in its name would find everything."""

    def __init__(self, **options: Any) -> None:
        self._mounted: list[tuple[str, Router]] = []
        super().__init__(**options)

    def add_router(self, prefix: str, router: Router | str, **options: Any) -> None:
        super().add_router(prefix, router, **options)
        if isinstance(router, Router):
            self._mounted.append((prefix, router))

    @cached_property
    def queries(self) -> dict[tuple[str, str], frozenset[str]]:
        """Route and method → the parameters that its address may end with."""
        found: dict[tuple[str, str], frozenset[str]] = {}
        for prefix, router in self._mounted:
            for path, view in router.path_operations.items():
                for operation in view.operations:
                    names = frozenset(name for model in operation.models for name in asked_for(model))
                    found |= {(plain(prefix + path), method): names for method in operation.methods}
        return found

    def create_temporal_response(self, request: HttpRequest) -> HttpResponse:
        """Ninja asks for it when a request may go on, before it reads anything of it. Raises Problem."""
        match = request.resolver_match
        route = plain(match.route.partition("api/v1")[2]) if match else ""
        names = self.queries.get((route, request.method or ""))
        if names is not None and (errors := unknown(request.GET, names, "parameter")):
            raise Problem(422, "; ".join(f"{e['field']}: {e['rule']} {e['fix']}" for e in errors), errors)
        return super().create_temporal_response(request)

    def get_openapi_schema(
        self, *, path_prefix: str | None = None, path_params: dict[str, Any] | None = None
    ) -> OpenAPISchema:
        schema = super().get_openapi_schema(path_prefix=path_prefix, path_params=path_params)
        schema["components"].setdefault("schemas", {}).setdefault("Refusal", Refusal.model_json_schema())
        for path, operations in schema["paths"].items():
            for method, operation in operations.items():
                complete(path, method, operation)
        return schema


def plain(route: str) -> str:
    """An address pattern of Django or ninja with the names of its parts only."""
    return re.sub(r"[<{](?:\w+:)?(\w+)[>}]", r"{\1}", route)


def asked_for(model: type[BaseModel]) -> set[str]:
    """Names of parameters of an address; none for what comes otherwise."""
    if getattr(model, "__ninja_param_source__", "") != "query":
        return set()
    names = set()
    for name, field in model.model_fields.items():
        grouped = field.annotation
        if isinstance(grouped, type) and issubclass(grouped, BaseModel):
            names |= {inner.alias or part for part, inner in grouped.model_fields.items()}
        else:
            names.add(field.alias or name)
    return names


def complete(path: str, method: str, operation: dict[str, Any]) -> None:
    parameters = operation.setdefault("parameters", [])
    if "{slug}" in path:
        parameters.insert(0, SLUG)
    if method == "post" and path.partition("{slug}")[2] in KEYED:
        parameters.append(KEY)
    responses = operation["responses"]
    for code in EVERYWHERE:
        if code not in responses:
            body = {"application/json": {"schema": {"$ref": "#/components/schemas/Refusal"}}}
            responses[code] = {"description": "Refused", "content": body}
    for code, response in responses.items():
        response["headers"] = {"Runstead-Version": VERSION}
        if int(code) >= 400 and "content" in response:
            response["content"] = {PROBLEM: response["content"].pop("application/json")}
