"""Ways to sign in to the reference's service. Here the token of `runstead login`, or RUNSTEAD_TOKEN, is the sign-in: these are accepted
as `auth`, and change nothing."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class InteractiveLoginAuthentication:
    """Accepted, and without effect."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass


class ServicePrincipalAuthentication(InteractiveLoginAuthentication):
    """Accepted, and without effect. In a CI job give the token as RUNSTEAD_TOKEN."""


class AzureCliAuthentication(InteractiveLoginAuthentication):
    """Accepted, and without effect."""


class MsiAuthentication(InteractiveLoginAuthentication):
    """Accepted, and without effect."""


class TokenAuthentication(InteractiveLoginAuthentication):
    """Accepted, and without effect: the token is that of `runstead login`."""
