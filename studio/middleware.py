"""What every request and every answer goes through."""

from collections.abc import Callable

from django.db import DataError
from django.http import Http404, HttpRequest, HttpResponse

from studio import VERSION, errors

# No inline script anywhere. Inline style attributes are allowed for server-made widths of bars only.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src 'self'; connect-src 'self'; worker-src 'self'; manifest-src 'self'; form-action 'self'; "
    "frame-src 'self'; frame-ancestors 'none'; base-uri 'none'"
)
# The admin panel's own scripts evaluate the expressions of its templates. Only staff can open it, and it shows no run's text
# except escaped.
ADMIN_POLICY = POLICY.replace("script-src 'self'", "script-src 'self' 'unsafe-eval'")


class SecurityHeaders:
    """Set the content security policy unless the view set a stricter one of its own."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if "Content-Security-Policy" not in response.headers:
            inside = request.path.startswith("/admin/")
            response.headers["Content-Security-Policy"] = ADMIN_POLICY if inside else POLICY
            response.headers.setdefault("X-Frame-Options", "DENY")
        response.headers.setdefault("Cache-Control", "private, no-cache")
        if request.path.startswith("/api/"):
            response.headers["Runstead-Version"] = VERSION
        response.headers.setdefault("Permissions-Policy", "camera=(), microphone=(), geolocation=()")
        return response


class StorableText:
    """Refuse text that no row can hold, before a query does: PostgreSQL knows no NUL, so nothing can have that name."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if "\0" in request.path_info or "%00" in request.META.get("QUERY_STRING", ""):
            raise Http404
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """What a form brought past its fields, or a number beyond its column: a bad request, and no error of the studio."""
        return errors.unstorable(request) if isinstance(error, DataError) else None
