"""What every part of the REST API shares: who may call, how a refusal reads, how a body is read.

Errors are ``application/problem+json``. ``errors`` lists what was wrong: each with the field (or the path of
a file), the rule, and the fix.
"""

import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from difflib import get_close_matches
from http import HTTPStatus
from typing import Any, ClassVar, TypeVar

from django.conf import settings
from django.core.cache import cache
from django.db.models import IntegerField, Model, QuerySet
from django.http import HttpRequest, JsonResponse, UnreadablePostError
from django.middleware.csrf import CsrfViewMiddleware
from django.utils import timezone
from ninja import Schema
from ninja.security.base import AuthBase
from pydantic import ConfigDict, model_validator

from studio.accounts.models import Token, User
from studio.database import storable
from studio.workspaces.access import MemberRequest, adopt, membership_of, membership_of_token
from studio.workspaces.models import Role, Workspace

T = TypeVar("T")
M = TypeVar("M", bound=Model)
BLOCK = 256 * 1024
BAD_TOKENS = 60
BAD_TOKENS_SECONDS = 60
USED_SECONDS = 60
MAX_PAGE = 200
ROWS = 1000
GZIP = 31  # zlib's code for the gzip container


class Problem(Exception):
    """A refusal. ``errors`` are dicts with ``field``, ``rule`` and ``fix``, and where it is in a text, ``line`` and ``text``."""

    def __init__(self, status: int, detail: str, errors: "list[dict[str, Any]] | None" = None, **extra: Any) -> None:
        self.status = status
        self.detail = detail
        self.errors = errors or []
        self.extra = extra
        self.headers: dict[str, str] = {}
        super().__init__(detail)

    @classmethod
    def of(cls, status: int, field: str, rule: str, fix: str, **extra: Any) -> "Problem":
        """A refusal with one reason."""
        detail = f"{field}: {rule} {fix}" if field else f"{rule} {fix}"
        return cls(status, detail, [{"field": field, "rule": rule, "fix": fix}], **extra)

    def response(self) -> JsonResponse:
        body = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "errors": self.errors,
            **self.extra,
        }
        headers = {"WWW-Authenticate": "Bearer"} if self.status == HTTPStatus.UNAUTHORIZED else {}
        headers |= self.headers
        return JsonResponse(body, status=self.status, content_type="application/problem+json", headers=headers)


REFUSED = frozenset({400, 401, 403, 404, 409, 413, 415, 422, 429})


class Mistake(Schema):
    """One thing that was wrong: the field (or the path of a file), the rule, and the fix."""

    field: str
    rule: str
    fix: str


class Refusal(Schema):
    """``application/problem+json``. Beside these fields a refusal may hold what helps to mend it."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[Mistake]


class Body(Schema):
    """What a program sends as JSON: known fields only, and text that every database takes.

    JSON can spell NUL and halves of surrogate pairs. ``BYTES`` are fields that a program may receive as any bytes and that are
    checked, and kept, by rules of their own.
    """

    model_config = ConfigDict(extra="forbid", strict=True)
    BYTES: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _is_text(cls, values: Any) -> Any:
        if isinstance(values, Mapping):
            if strangers := unknown(values, cls.model_fields, "field"):
                raise Problem(422, "; ".join(f"{e['field']}: {e['rule']} {e['fix']}" for e in strangers), strangers)
            wrong = (unstorable(value, name) for name, value in values.items() if name not in cls.BYTES)
            if field := next(filter(None, wrong), ""):
                rule = "It holds a character that no text can have: NUL, or half of a surrogate pair."
                raise Problem.of(422, field, rule, "Remove it, or type it anew.")
        return values


def unknown(given: Iterable[Any], known: Collection[str], what: str) -> list[dict[str, Any]]:
    """A mistake for each name that is none of the known ones, with those that may have been meant."""
    errors = []
    for name in (str(name) for name in given if name not in known):
        close = get_close_matches(name, known, n=3)
        fix = f"Did you mean {' or '.join(close)}?" if close else f"There are: {', '.join(sorted(known)) or 'none'}."
        errors.append({"field": name[:100], "rule": f"There is no such {what}.", "fix": fix})
    return errors


def unstorable(value: Any, where: str) -> str:
    """Where a JSON value holds text that no database takes, with dots; empty when it holds none. However deep it is nested."""
    left = [(where, value)]
    while left:
        where, value = left.pop()
        if isinstance(value, str) and storable(value) != value:
            return where
        if isinstance(value, Mapping):
            left += [(where, name) for name in value]
            left += [(f"{where}.{name}", part) for name, part in value.items()]
        elif isinstance(value, list):
            left += [(f"{where}.{place}", part) for place, part in enumerate(value)]
    return ""


class Member(AuthBase):
    """Lets members of at least a role call an operation; the address names the workspace as ``slug``.

    A person comes with the session's cookie, and then with the CSRF token; a program with ``Authorization:
    Bearer``. This runs before anything of the request is parsed, so a foreign workspace answers 404 whatever
    was sent.
    """

    openapi_type = "http"
    openapi_scheme = "bearer"

    def __init__(self, role: Role) -> None:
        self.role = role
        super().__init__()

    def __call__(self, request: HttpRequest) -> User:
        token = bearer(request)
        user = token.user if token else session_user(request)
        slug = str(request.resolver_match.kwargs["slug"]) if request.resolver_match else ""
        if token is None:
            membership = membership_of(user, slug)
        else:
            membership = membership_of_token(token) if token.workspace.slug == slug else None
        if membership is None:
            raise not_found("workspace")
        if not membership.allows(self.role):
            rule = f"This needs the role {self.role.label.lower()}; yours is {membership.role}."
            fix = "Ask an owner."
            if token is not None and (own := membership_of(user, slug)) and own.allows(self.role):
                fix = f"You have it, your token has not: make one for the role {self.role.label.lower()} in Settings, Tokens."
            raise Problem.of(403, "", rule, fix)
        if token is None:
            check_csrf(request)
        request.user = user
        request.token = token  # type: ignore[attr-defined]
        adopt(request, membership)
        return user


class Person(AuthBase):
    """Lets anybody in who is signed in or comes with a token, for what is about themselves and not about a workspace."""

    openapi_type = "http"
    openapi_scheme = "bearer"

    def __call__(self, request: HttpRequest) -> User:
        token = bearer(request)
        user = token.user if token else session_user(request)
        if token is None:
            check_csrf(request)
        request.user = user
        request.token = token  # type: ignore[attr-defined]
        return user


def bearer(request: HttpRequest) -> Token | None:
    """The token that a program came with; None when there is none. Raises Problem for a bad one."""
    kind, _, secret = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() != "bearer":
        return None
    token = Token.find(secret.strip())
    if token is None:
        if too_many_wrong(request):
            raise Problem.of(429, "Authorization", "Too many wrong tokens came from here.", "Wait a minute.")
        ended = Token.ended(secret.strip())
        rule = f"The token ended on {ended:%Y-%m-%d}." if ended else "The token is not valid."
        raise Problem.of(401, "Authorization", rule, "Make a new one in Settings, Tokens.")
    now = timezone.now()
    if token.last_used_at is None or (now - token.last_used_at).total_seconds() > USED_SECONDS:
        Token.objects.filter(pk=token.pk).update(last_used_at=now)
    return token


def too_many_wrong(request: HttpRequest) -> bool:
    """Count one more wrong token from this address; whether there were too many within a minute. A good one is never refused for
    them: many people may share an address. Each process of the web server counts for itself."""
    key = f"bad-tokens:{request.META.get('REMOTE_ADDR', '')}"
    cache.add(key, 0, BAD_TOKENS_SECONDS)
    return cache.incr(key) > BAD_TOKENS


def session_user(request: HttpRequest) -> User:
    """The signed-in person. Raises Problem when nobody is."""
    if not request.user.is_authenticated:
        raise Problem.of(401, "Authorization", "Nobody is signed in.", "Send 'Authorization: Bearer <token>'.")
    return request.user


def check_csrf(request: HttpRequest) -> None:
    """Raises Problem when a request of a session would change something and lacks the CSRF token."""
    if request.method in {"GET", "HEAD", "OPTIONS"}:
        return
    # Django would look for the token in a posted form first and read the whole body for it.
    if request.content_type in {"multipart/form-data", "application/x-www-form-urlencoded"}:
        raise Problem.of(415, "Content-Type", "Forms are not taken here.", "Send JSON, or bytes as documented.")
    check = CsrfViewMiddleware(lambda _: JsonResponse({}))
    request.csrf_processing_done = False  # type: ignore[attr-defined]  # the middleware passed this view by
    check.process_request(request)
    if check.process_view(request, _unused, (), {}) is not None:
        raise Problem.of(403, "X-CSRFToken", "The CSRF token is missing or wrong.", "Reload the page.")


def _unused(request: HttpRequest) -> JsonResponse:
    """Stands for a view that is not exempt from the check."""
    return JsonResponse({})


def not_found(what: str) -> Problem:
    return Problem.of(404, what, f"There is no such {what}.", "Check the address.")


def refused(errors: Mapping[str, str]) -> Problem:
    """422 from messages per field, as forms and configurations give them: the rule, then how to mend it."""
    listed = [mistake(name, message) for name, message in errors.items()]
    return Problem(422, "; ".join(f"{name}: {message}" for name, message in errors.items()), listed)


def mistake(field: str, message: str) -> dict[str, Any]:
    """One of a refusal's ``errors``, from a message that says the rule and then the fix."""
    rule, stop, fix = message.partition(". ")
    return {"field": field, "rule": rule + stop.strip(), "fix": fix}


class CutShort(Exception):
    """The connection ended before the body did: what came is not what was sent."""


def incoming(request: HttpRequest) -> Iterator[bytes]:
    """The body as it comes, never more than a block in memory and never less than was announced. Raises CutShort."""
    meta = request.META
    chunked = "chunked" in meta.get("HTTP_TRANSFER_ENCODING", "").lower() and not meta.get("CONTENT_LENGTH")
    stream = request.environ["wsgi.input"] if chunked else request  # type: ignore[attr-defined]
    came = 0
    try:
        while block := stream.read(BLOCK):
            came += len(block)
            yield block
    except (UnreadablePostError, OSError) as error:
        raise CutShort(f"The connection was cut after {came:,} bytes.") from error
    announced = 0 if chunked else int(meta.get("CONTENT_LENGTH") or 0)
    if came < announced:  # an early end looks like the end
        raise CutShort(f"The connection was cut after {came:,} of {announced:,} bytes.")


def blocks(request: HttpRequest) -> Iterator[bytes]:
    """The same for the REST API. Raises Problem when the connection is cut."""
    try:
        yield from incoming(request)
    except CutShort as error:
        raise Problem.of(400, "body", str(error), "Send it again.") from error


def read_body(request: HttpRequest, limit: int) -> bytes:
    """The whole body, unpacked when it is gzip. Raises Problem 413 over ``limit`` bytes, however small it was
    packed."""
    encoding = request.headers.get("Content-Encoding", "identity")
    if encoding not in {"identity", "gzip"}:
        raise Problem.of(415, "Content-Encoding", f"{encoding!r} is not known.", "Use gzip or none.")
    unpack = zlib.decompressobj(GZIP) if encoding == "gzip" else None
    body = bytearray()
    try:
        for block in blocks(request):
            body += unpack.decompress(block, limit + 1 - len(body)) if unpack else block
            if len(body) > limit:
                raise Problem.of(413, "body", f"It has more than {limit:,} bytes.", "Send less.")
    except zlib.error as error:
        raise Problem.of(400, "body", f"It is no gzip ({error}).", "Pack it again.") from None
    if unpack and not unpack.eof:
        raise Problem.of(400, "body", "The gzip ends early.", "Send it again.")
    return bytes(body)


class Position(Schema):
    """Where a page of a list begins: ``next`` of the one before, or nothing. ``limit``: how many rows it has at most, up to 1,000."""

    after: str = ""
    limit: int = ROWS


def paged(limit: int, most: int = MAX_PAGE) -> int:
    """How many rows a page has. Raises Problem."""
    if limit < 1:
        raise Problem.of(422, "limit", "It is no number of rows.", f"Use 1 to {most:,}.")
    return min(limit, most)


def page_of(rows: "QuerySet[M]", field: str, position: Position, *, newest: bool = False) -> tuple[list[M], str | None]:
    """A page of rows in the order of a field that no two share, and where the next one begins. Raises Problem."""
    limit = paged(position.limit, ROWS)
    rows = rows.order_by(f"-{field}" if newest else field)
    if position.after:
        place: str | int = position.after
        if isinstance(rows.model._meta.get_field(field.split("__", maxsplit=1)[0]), IntegerField):
            place = number_of(position.after)
        rows = rows.filter(**{f"{field}__{'lt' if newest else 'gt'}": place})
    page = list(rows[: limit + 1])
    return page[:limit], str(value_of(page[limit - 1], field)) if len(page) > limit else None


def slice_of(rows: list[T], key: Callable[[T], str], position: Position) -> tuple[list[T], str | None]:
    """The same of rows that are at hand, in the order of a key that no two share."""
    limit = paged(position.limit, ROWS)
    page = sorted((row for row in rows if not position.after or key(row) > position.after), key=key)[: limit + 1]
    return page[:limit], key(page[limit - 1]) if len(page) > limit else None


def number_of(after: str) -> int:
    """Raises Problem."""
    if not after.isascii() or not after.isdigit() or len(after) > 18:
        raise Problem.of(422, "after", "It is no place in this list.", "Send 'next' of the page before, or nothing.")
    return int(after)


def value_of(row: Any, field: str) -> Any:
    for part in field.split("__"):
        row = getattr(row, part)
    return row


def sends(kind: str) -> dict[str, Any]:
    """What the description of an operation adds that answers bytes of this content type."""
    return {"responses": {200: {"content": {kind: {"schema": {"type": "string", "format": "binary"}}}}}}


def person(request: HttpRequest) -> User:
    """Who calls: the signed-in person, or the owner of the token."""
    return request.user  # type: ignore[return-value]  # signed in: Member saw to it


def workspace_of(request: HttpRequest) -> Workspace:
    found: Workspace = request.workspace  # type: ignore[attr-defined]
    return found


def idempotency_key(request: HttpRequest) -> str | None:
    """What the header ``Idempotency-Key`` says. Raises Problem."""
    key = request.headers.get("Idempotency-Key")
    if key is not None and (not 1 <= len(key) <= 64 or not key.isascii() or not key.isprintable()):
        raise Problem.of(422, "Idempotency-Key", "It is no printable text of 1 to 64 characters.", "Use a UUID.")
    return key


def page_url(request: MemberRequest, path: str) -> str:
    """The address of a page of this studio, as a program may show it."""
    return f"{settings.PUBLIC_URL}/{request.workspace.slug}/{path}"
