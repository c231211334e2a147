"""People and the tokens of their programs."""

import hashlib
import secrets
from datetime import datetime
from typing import Any, ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.db import models
from django.utils import timezone


class UserManager(BaseUserManager["User"]):
    def create_user(self, email: str, password: str | None = None, **extra: Any) -> "User":
        if not email:
            raise ValueError("email: required")
        user = self.model(email=self.normalize_email(email).lower(), **extra)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **extra: Any) -> "User":
        return self.create_user(email, password, is_staff=True, is_superuser=True, **extra)

    def get_by_natural_key(self, username: str | None) -> "User":
        return self.get(email=(username or "").strip().lower())


class User(AbstractBaseUser, PermissionsMixin):
    email = models.EmailField(unique=True)
    """What a person signs in with; lower case."""
    name = models.CharField(max_length=120, blank=True)
    is_staff = models.BooleanField(default=False)
    """May open the admin panel."""
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=timezone.now)
    preferences = models.JSONField(default=dict, blank=True)
    """Choices of the pages: row density, log wrap, time zone."""

    objects: ClassVar[UserManager] = UserManager()
    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    def __str__(self) -> str:
        return self.name or self.email

    @property
    def initials(self) -> str:
        words = (self.name or self.email.partition("@")[0]).replace(".", " ").replace("-", " ").split()
        return "".join(word[0] for word in words[:2]).upper() or "?"


class Token(models.Model):
    """A bearer token of one person's programs: shown once, kept as a hash."""

    PREFIX = "rst_"

    user = models.ForeignKey(User, models.CASCADE, related_name="tokens")
    workspace = models.ForeignKey("workspaces.Workspace", models.CASCADE, related_name="tokens")
    name = models.CharField(max_length=80)
    hint = models.CharField(max_length=12)
    """The first characters, so that a person recognises it."""
    digest = models.CharField(max_length=64, unique=True)
    scope = models.CharField(max_length=16, default="contributor")
    """The highest role it acts with, whatever its owner's role is; see ``access.membership_of_token``."""
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(null=True)
    last_used_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.name} ({self.hint}…)"

    @classmethod
    def issue(cls, *, expires_at: datetime | None = None, **fields: Any) -> tuple["Token", str]:
        """Make a token; return the row and the secret text, which is not kept."""
        secret = cls.PREFIX + secrets.token_urlsafe(32)
        row = cls.objects.create(hint=secret[:8], digest=cls.hashed(secret), expires_at=expires_at, **fields)
        return row, secret

    @staticmethod
    def hashed(secret: str) -> str:
        return hashlib.sha256(secret.encode()).hexdigest()

    @classmethod
    def find(cls, secret: str) -> "Token | None":
        """The live token with this text, of an active person, or None."""
        row = cls.objects.select_related("user", "workspace").filter(digest=cls.hashed(secret)).first()
        if row is None or not row.user.is_active or (row.expires_at and row.expires_at <= timezone.now()):
            return None
        return row

    @classmethod
    def ended(cls, secret: str) -> datetime | None:
        """When the token with this text ended, if it is one that has: who holds it may know."""
        row = cls.objects.filter(digest=cls.hashed(secret), expires_at__lte=timezone.now()).first()
        return row.expires_at if row is not None else None
