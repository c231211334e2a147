"""One-time sign-in links: how a person without a password comes in.

The token is Django's own for password resets: it is bound to the password and the last sign-in, so that any sign-in makes
it void, and it is too old after ``PASSWORD_RESET_TIMEOUT``.
"""

from django.conf import settings
from django.contrib.auth.tokens import default_token_generator
from django.urls import reverse
from django.utils import timezone
from django.utils.encoding import force_str
from django.utils.http import urlsafe_base64_decode, urlsafe_base64_encode

from studio.accounts.models import User


def sign_in_link(user: User) -> str:
    """An absolute address that signs ``user`` in once."""
    uid = urlsafe_base64_encode(str(user.pk).encode())
    path = reverse("accounts:open-link", args=[uid, default_token_generator.make_token(user)])
    return settings.PUBLIC_URL.rstrip("/") + path


def owner_of(uid: str, token: str) -> User | None:
    """The active person whom a link that still holds belongs to, or None."""
    try:
        user = User.objects.filter(pk=int(force_str(urlsafe_base64_decode(uid))), is_active=True).first()
    except (ValueError, OverflowError):
        return None
    return user if user is not None and default_token_generator.check_token(user, token) else None


def spend(user: User) -> bool:
    """Make the link void. Of two that use it at the same moment one gets True."""
    return bool(User.objects.filter(pk=user.pk, last_login=user.last_login).update(last_login=timezone.now()))
