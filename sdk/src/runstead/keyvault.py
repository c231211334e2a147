"""`Keyvault`: the workspace's secrets by the names of the reference. They go in; out they come in runs alone."""

from __future__ import annotations

import os
from urllib.parse import quote

from .errors import NotYet, UserError
from .needed import mapping, workspace_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Mapping, Sequence

    from .workspace import Workspace

_OUTSIDE = (
    "a secret never leaves the studio but for runs. Give it to a run: config.run_config.secrets['NAME'] = %r; its script reads the "
    "variable NAME, or run.get_secret(%r)."
)


class Keyvault:
    """The secrets of a workspace: `ws.get_default_keyvault()`."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace_of(workspace)

    def set_secret(self, name: str, value: str) -> None:
        """Keep a value under a name, instead of one that is there. An owner of the workspace may. Raises UserError, ApiError."""
        if not isinstance(value, str) or not value:
            raise UserError("value: a text is needed.")
        if not isinstance(name, str) or not name:
            raise UserError("name: the name of a secret is needed.")
        self.workspace.transport.request("PUT", "secrets/" + quote(name, safe=""), {"value": value})

    def set_secrets(self, secrets_batch: Mapping[str, str]) -> None:
        """Keep several: name → value. Raises UserError, ApiError."""
        for name, value in mapping("secrets_batch", secrets_batch).items():
            self.set_secret(name, value)

    def list_secrets(self) -> List[Dict[str, Any]]:
        """A dict with `name` and `updated_at` for each; no values."""
        return list(self.workspace.transport.request("GET", "secrets").json()["secrets"])

    def get_secret(self, name: str) -> str:
        """Raises NotYet: see `Run.get_secret`."""
        raise NotYet("get_secret: " + _OUTSIDE % (name, name))

    def get_secrets(self, secrets: Sequence[str]) -> Dict[str, str]:
        """Raises NotYet: see `Run.get_secret`."""
        raise NotYet("get_secrets: " + _OUTSIDE % (("name",) * 2))

    def delete_secret(self, name: str) -> None:
        """Raises NotYet: it is done on the studio's pages."""
        raise NotYet("delete_secret: remove it at %s/%s/settings/secrets." % (self.workspace.url, self.workspace.name))

    def __repr__(self) -> str:
        return "Keyvault(workspace=%r)" % self.workspace.name


def given(name: str) -> str:
    """The secret that this run was given under a variable of that name. Raises UserError."""
    value = os.environ.get(name, os.environ.get(name.replace("-", "_")))
    if value is None:
        raise UserError(
            "name: this run has no variable %s. Give the secret to it when it is submitted: config.run_config.secrets[%r] = %r."
            % (name.replace("-", "_"), name.replace("-", "_"), name)
        )
    return value


def outside(name: str) -> NotYet:
    """Why a run is not asked for a secret from outside."""
    return NotYet("get_secret: " + _OUTSIDE % (name, name))
