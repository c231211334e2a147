"""Workspaces, who belongs to them, and their secrets."""

from typing import ClassVar

from django.conf import settings
from django.core.validators import RegexValidator
from django.db import models
from django.utils import timezone

from studio import credentials

RESERVED_SLUGS = {
    "admin",
    "api",
    "ajax-api",
    "version",
    "health",
    "sign-in",
    "sign-out",
    "static",
    "media",
    "healthz",
    "account",
    "django-rq",
    "workspaces",
    "new",
    "attach",
}
slug_rule = RegexValidator(
    r"^[a-z0-9][a-z0-9-]{0,38}[a-z0-9]\Z|^[a-z0-9]\Z",
    "Use 1 to 40 lower-case letters, digits and hyphens, beginning and ending with a letter or digit.",
)
name_rule = RegexValidator(
    r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,254}\Z",
    "Use 1 to 255 letters, digits, '_', '-' and '.', beginning with a letter or digit.",
)


class Role(models.TextChoices):
    """What a member may do: a reader looks, a contributor also runs, an owner also manages."""

    READER = "reader"
    CONTRIBUTOR = "contributor"
    OWNER = "owner"

    @property
    def rank(self) -> int:
        return list(Role).index(self)


class Workspace(models.Model):
    """The top-level container: owns experiments, runs, targets and environments."""

    slug = models.CharField(max_length=40, unique=True, validators=[slug_rule])
    name = models.CharField(max_length=80)
    created_at = models.DateTimeField(default=timezone.now)
    last_number = models.PositiveBigIntegerField(default=0)
    """The number of the newest run. Numbers are never reused."""
    members = models.ManyToManyField(settings.AUTH_USER_MODEL, through="Membership", related_name="workspaces")

    def __str__(self) -> str:
        return self.slug

    def rename(self, slug: str) -> None:
        """Take another address; the old one leads here until another workspace takes it. The caller saves."""
        old = Workspace.objects.values_list("slug", flat=True).get(pk=self.pk)
        FormerSlug.objects.filter(slug=slug).delete()
        if old != slug:
            FormerSlug.objects.update_or_create(slug=old, defaults={"workspace": self})
        self.slug = slug

    def next_number(self) -> int:
        """Take the next run number. Call inside the transaction that makes the run."""
        return self.take_numbers(1)

    def take_numbers(self, count: int) -> int:
        """Take several; the last of them. Call inside the transaction that makes the runs."""
        Workspace.objects.filter(pk=self.pk).update(last_number=models.F("last_number") + count)
        return Workspace.objects.values_list("last_number", flat=True).get(pk=self.pk)


class FormerSlug(models.Model):
    """An address that a workspace had before it was renamed: pages of its members still find it."""

    slug = models.CharField(max_length=40, unique=True)
    workspace = models.ForeignKey(Workspace, models.CASCADE, related_name="former_slugs")

    def __str__(self) -> str:
        return f"{self.slug} → {self.workspace_id}"


class Membership(models.Model):
    workspace = models.ForeignKey(Workspace, models.CASCADE, related_name="memberships")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=16, choices=Role, default=Role.CONTRIBUTOR)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["workspace", "user"], name="one_membership")]

    def __str__(self) -> str:
        return f"{self.user} in {self.workspace}: {self.role}"

    def allows(self, role: Role) -> bool:
        return Role(self.role).rank >= role.rank


class Secret(models.Model):
    """A value that runs may use as a variable and that nobody can read back."""

    workspace = models.ForeignKey(Workspace, models.CASCADE, related_name="secrets")
    name = models.CharField(max_length=255, validators=[name_rule])
    ciphertext = models.BinaryField()
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["workspace", "name"], name="one_secret_of_a_name")]
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def seal(self, value: str) -> None:
        self.ciphertext = credentials.encrypt(value)

    def reveal(self) -> str:
        """The value in clear, for the environment of a run only."""
        return credentials.decrypt(bytes(self.ciphertext))
