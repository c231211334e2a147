"""A person is let in, or let in no more."""

from django.contrib.sessions.models import Session
from django.db import transaction
from django.utils import timezone

from studio import audit
from studio.accounts.models import Token, User


class Refused(Exception):
    """Nobody could let this person, or anybody, in again."""


def activate(user: User, by: User | None) -> None:
    with transaction.atomic():
        if User.objects.filter(pk=user.pk, is_active=False).update(is_active=True):
            audit.note(by, "user.activate", workspace=None, subject=user.email)
    user.is_active = True


def deactivate(user: User, by: User | None) -> None:
    """Let a person in no more: their sessions and tokens end, for good; what they made stays. Raises Refused."""
    if by is not None and by.pk == user.pk:
        raise Refused("You cannot deactivate yourself. Let another administrator do it.")
    with transaction.atomic():
        others = User.objects.select_for_update().filter(is_active=True, is_superuser=True).exclude(pk=user.pk)
        if user.is_superuser and not list(others):
            raise Refused(f"{user} is the last administrator. Make another person one first.")
        if User.objects.filter(pk=user.pk, is_active=True).update(is_active=False):
            tokens, _ = Token.objects.filter(user=user).delete()
            detail = f"with {sessions_ended(user)} sessions and {tokens} tokens"
            audit.note(by, "user.deactivate", workspace=None, subject=user.email, detail=detail)
    user.is_active = False


def sessions_ended(user: User) -> int:
    """End all sessions of a person; how many there were. Whose a session is stands inside it: all that hold are read."""
    ended = 0
    for session in Session.objects.filter(expire_date__gt=timezone.now()).iterator():
        if session.get_decoded().get("_auth_user_id") == str(user.pk):
            session.delete()
            ended += 1
    return ended
