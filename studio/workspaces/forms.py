"""Forms of a workspace's settings."""

from datetime import timedelta
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db import transaction

from studio import audit
from studio.accounts.models import User
from studio.workspaces.models import RESERVED_SLUGS, Role, Secret, Workspace, name_rule

LIVES = {"7": "7 days", "30": "30 days", "90": "90 days", "365": "1 year", "": "No end"}
SECRET_MAX = 32 * 1024


class WorkspaceForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = Workspace
        fields = ("name", "slug")

    def clean_slug(self) -> str:
        slug: str = self.cleaned_data["slug"]
        if slug in RESERVED_SLUGS:
            raise ValidationError(f"'{slug}' is an address of the studio itself. Choose another one.")
        return slug


class MemberForm(forms.Form):
    email = forms.EmailField(max_length=254)
    role = forms.ChoiceField(choices=Role.choices, initial=Role.CONTRIBUTOR)

    def clean_email(self) -> str:
        return str(self.cleaned_data["email"]).strip().lower()


class RoleForm(forms.Form):
    role = forms.ChoiceField(choices=Role.choices)


class TokenForm(forms.Form):
    """The scope is a role: the token may do what that role may, and never more than its owner."""

    name = forms.CharField(max_length=80)
    scope = forms.ChoiceField(choices=Role.choices, initial=Role.CONTRIBUTOR)
    life = forms.ChoiceField(choices=list(LIVES.items()), required=False, initial="90")

    def __init__(self, role: Role, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        words = {Role.READER: "Read only", Role.CONTRIBUTOR: "Read and run", Role.OWNER: "All that you may do"}
        scope = self.fields["scope"]
        assert isinstance(scope, forms.ChoiceField)
        scope.choices = [(r.value, words[r]) for r in Role if r.rank <= role.rank]
        scope.initial = min(role, Role.CONTRIBUTOR, key=lambda r: r.rank)

    @property
    def lifetime(self) -> timedelta | None:
        days = self.cleaned_data["life"]
        return timedelta(days=int(days)) if days else None


class SecretForm(forms.Form):
    name = forms.CharField(max_length=255, validators=[name_rule])
    value = forms.CharField(max_length=SECRET_MAX, strip=False, widget=forms.Textarea)

    def clean_value(self) -> str:
        # Browsers send line ends of a text area as CRLF; a private key with these does not open.
        value = str(self.cleaned_data["value"]).replace("\r\n", "\n")
        if "\0" in value:
            raise ValidationError("A variable cannot hold a NUL. Remove it.")
        return value


def save_secret(form: SecretForm, row: Secret, user: User) -> None:
    action = "secret.create" if row.pk is None else "secret.change"
    row.created_by = user
    row.seal(form.cleaned_data["value"])
    with transaction.atomic():
        row.save()
        audit.note(user, action, workspace=row.workspace, subject=row.name)
