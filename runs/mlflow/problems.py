"""Refusals in MLflow's form: ``{"error_code", "message"}`` and the status that belongs to the code."""

from typing import Any

from django.http import JsonResponse

STATUS = {
    "INVALID_PARAMETER_VALUE": 400,
    "BAD_REQUEST": 400,
    "RESOURCE_ALREADY_EXISTS": 400,
    "INVALID_STATE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "RESOURCE_DOES_NOT_EXIST": 404,
    "ENDPOINT_NOT_FOUND": 404,
    "RESOURCE_CONFLICT": 409,
    # Not 429, which is how MLflow's own server says it: its client would send the same again for minutes.
    "REQUEST_LIMIT_EXCEEDED": 413,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL_ERROR": 500,
    "NOT_IMPLEMENTED": 501,
    "TEMPORARILY_UNAVAILABLE": 503,
}


class Problem(Exception):
    """A call that is refused. ``code`` is one of MLflow's error codes."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def response(self) -> JsonResponse:
        headers = {"WWW-Authenticate": "Bearer"} if self.code == "UNAUTHENTICATED" else {}
        body = {"error_code": self.code, "message": self.message}
        return JsonResponse(body, status=STATUS[self.code], headers=headers)


def invalid(name: str, value: Any, rule: str) -> Problem:
    """A field that breaks a rule; the value is shown cut."""
    return Problem("INVALID_PARAMETER_VALUE", f"Invalid value {repr(value)[:200]} for parameter '{name}': {rule}")


def missing(what: str, name: Any) -> Problem:
    return Problem("RESOURCE_DOES_NOT_EXIST", f"{what} with id={str(name)[:300]!r} does not exist in this workspace.")
