"""Under which name the sign-in's rate limit counts."""

from collections.abc import Mapping

from django.http import HttpRequest


def tried_email(request: HttpRequest, credentials: Mapping[str, str] | None = None) -> str:
    """One spelling for all: upper case or blanks around must not open a second count."""
    given = (credentials or {}).get("username") or request.POST.get("email", "")
    return given.strip().lower()[:254]
