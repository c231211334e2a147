"""The studio asked as a tracking server of MLflow."""

from __future__ import annotations

import math
from urllib.parse import quote, urlencode

from .transport import ApiError, Transport

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Mlflow(Transport):
    """The studio as a tracking server of MLflow."""

    def __init__(self, url: str, workspace: str, token: str) -> None:
        super().__init__(url, workspace, token)
        self._root = self._root.replace("/api/v1/", "/%s/mlflow/api/2.0/" % workspace)

    def _address(self, path: str, query: Any) -> str:
        return self._root + path + ("?" + urlencode(query) if query else "")

    def call(self, name: str, /, **fields: Any) -> Any:
        """A call that changes something."""
        return self.request("POST", "mlflow/" + name, fields).json()

    def ask(self, name: str, /, **fields: Any) -> Any:
        """A call that reads; None when there is no such thing."""
        try:
            return self.request("GET", "mlflow/" + name, query=fields).json()
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def put(self, address: str, path: str) -> None:
        """Send a file to an artifact's address."""
        with open(path, "rb") as file:
            self.request("PUT", "mlflow-artifacts/artifacts/" + quote(address), file)

    def _checked(self, answer: Any) -> Any:
        try:
            return super()._checked(answer)
        except ApiError as error:
            if "message" not in error.problem:
                raise
            raise ApiError(error.status, {**error.problem, "detail": error.problem["message"]}) from None


def code(error: ApiError) -> str:
    return str(error.problem.get("error_code") or "")


def number(value: float) -> Any:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
