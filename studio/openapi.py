"""The description of the REST API, made true: what checks and handlers add to every operation stands in each of them."""

from typing import Any

from ninja import NinjaAPI
from ninja.openapi.schema import OpenAPISchema

from studio.rest import Refusal

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
# What makes something that a second request would make again.
KEYED = ("/runs", "/runs/interactive", "/runs/{number}/records", "/models", "/tokens")


class Api(NinjaAPI):
    def get_openapi_schema(
        self, *, path_prefix: str | None = None, path_params: dict[str, Any] | None = None
    ) -> OpenAPISchema:
        schema = super().get_openapi_schema(path_prefix=path_prefix, path_params=path_params)
        schema["components"].setdefault("schemas", {}).setdefault("Refusal", Refusal.model_json_schema())
        for path, operations in schema["paths"].items():
            for method, operation in operations.items():
                complete(path, method, operation)
        return schema


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
