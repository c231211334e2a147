"""What can go wrong, in two kinds: what the caller can mend, and the rest. One base for all."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Mapping, Optional


class RunsteadError(Exception):
    """Something did not work. The text, also `message`, says what, and what to try."""

    def __init__(self, message: str = "", *rest: Any) -> None:
        super().__init__(message, *rest)
        self.message = message


class UserError(RunsteadError, ValueError):
    """The call itself is wrong: the text names the argument, the rule and the fix."""


class NotYet(RunsteadError, NotImplementedError):
    """A name of the reference that does nothing here yet. The text says what to use meanwhile."""


class ServiceException(RunsteadError):
    """The studio refused a request."""


class RunFailed(RunsteadError):
    """The run that was waited for ended as Failed. `details` are those of `get_details()`."""

    def __init__(self, message: str, details: Optional[Dict[str, Any]] = None) -> None:
        self.details = details or {}
        super().__init__(message)


class RunEnvironmentException(RunsteadError):
    """This process does not belong to a run."""


class ComputeTargetException(UserError):
    """There is no such target, or it cannot be attached. `steps`: the connection test, where that failed; `fingerprint`: of the host
    key that nobody has confirmed; `public_key`: the line to install there, where the studio made the key.
    """

    def __init__(self, message: str, problem: Optional[Mapping[str, Any]] = None) -> None:
        super().__init__(message)
        found = problem or {}
        self.steps: List[Dict[str, Any]] = found.get("steps") or []
        self.fingerprint: str = found.get("fingerprint") or ""
        self.hop: str = found.get("hop") or ""
        self.public_key: str = found.get("public_key") or ""


class WorkspaceException(UserError):
    """There is no such workspace, or no way to it."""


class ModelNotFoundException(UserError):
    """There is no such model, or no such version of it."""


class ModelPathNotFoundException(UserError):
    """The run has no artifact of this path."""


class SnapshotException(RunsteadError):
    """The folder cannot be sent, or a snapshot cannot be had."""


# The names that scripts of Azure Machine Learning catch.
AzureMLException = RunsteadError
UserErrorException = UserError
ActivityFailedException = ExperimentExecutionException = TrainingException = RunFailed
RunConfigurationException = ProjectSystemException = UserError
WebserviceException = NotYet
