"""Forms of the doors and of a person's own page."""

from typing import Any

from django import forms
from django.contrib.auth import authenticate
from django.contrib.auth.password_validation import validate_password
from django.http import HttpRequest

from studio.accounts.models import User

ZONES = [("UTC", "UTC"), ("local", "The browser's own")]


class SignInForm(forms.Form):
    email = forms.CharField(max_length=254)
    password = forms.CharField(max_length=1024, strip=False)

    def __init__(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.request = request
        self.user: User | None = None

    def clean(self) -> dict[str, Any]:
        data = self.cleaned_data
        if "email" in data and "password" in data:
            # axes reads the tried name from the credentials: one spelling, or the limit could be walked around.
            email = data["email"].strip().lower()
            self.user = authenticate(self.request, username=email, password=data["password"])
        if self.user is None:
            raise forms.ValidationError("That email and password do not match.")
        return data


class ProfileForm(forms.ModelForm):  # type: ignore[type-arg]
    density = forms.ChoiceField(choices=[("default", "Default"), ("compact", "Compact"), ("roomy", "Roomy")])
    zone = forms.ChoiceField(choices=ZONES)
    keys = forms.BooleanField(required=False)

    class Meta:
        model = User
        fields = ("name",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        chosen = self.instance.preferences
        self.fields["density"].initial = chosen.get("density", "default")
        self.fields["zone"].initial = chosen.get("zone", "UTC")
        self.fields["keys"].initial = chosen.get("keys") != "off"

    def save(self, commit: bool = True) -> User:
        data = self.cleaned_data
        choices = {"density": data["density"], "zone": data["zone"], "keys": "on" if data["keys"] else "off"}
        self.instance.preferences = {**self.instance.preferences, **choices}
        saved: User = super().save(commit)
        return saved


class PasswordForm(forms.Form):
    """``known`` says whether the present password must be given: not by someone who came in by a one-time link."""

    present = forms.CharField(max_length=1024, strip=False, required=False)
    new = forms.CharField(max_length=1024, strip=False)
    revoke = forms.BooleanField(required=False)

    def __init__(self, user: User, *args: Any, known: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user, self.known = user, known

    def clean_present(self) -> str:
        text: str = self.cleaned_data["present"]
        if self.known and not self.user.check_password(text):
            raise forms.ValidationError("That is not your present password.")
        return text

    def clean_new(self) -> str:
        text: str = self.cleaned_data["new"]
        validate_password(text, self.user)
        return text
