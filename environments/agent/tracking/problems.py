"""Refusals in MLflow's form: `{"error_code", "message"}` and the status that belongs to the code."""

STATUS = {
    "INVALID_PARAMETER_VALUE": 400,
    "BAD_REQUEST": 400,
    "UNAUTHENTICATED": 401,
    "RESOURCE_DOES_NOT_EXIST": 404,
    "ENDPOINT_NOT_FOUND": 404,
    "RESOURCE_CONFLICT": 409,
    "REQUEST_LIMIT_EXCEEDED": 413,
    # Not 500: MLflow's client repeats that for minutes, and a full disk or a missing feature does not heal by
    # asking again.
    "IO_ERROR": 507,
    "NOT_IMPLEMENTED": 501,
}


class Problem(Exception):
    """A request that is refused. `code` is one of MLflow's error codes."""

    def __init__(self, code: str, message: str) -> None:
        Exception.__init__(self, message)
        self.code = code
        self.status = STATUS[code]


def invalid(name: str, value: object, rule: str) -> Problem:
    """A field that breaks a rule; the value is shown cut."""
    text = repr(value)
    return Problem("INVALID_PARAMETER_VALUE", "Invalid value %s for parameter '%s': %s" % (text[:200], name, rule))
