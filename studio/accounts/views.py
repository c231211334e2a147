"""The doors, and a person's own page."""

from django.contrib import messages
from django.contrib.auth import login, logout, update_session_auth_hash
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from studio.accounts.forms import PasswordForm, ProfileForm, SignInForm
from studio.accounts.links import owner_of, spend
from studio.accounts.models import Token, User
from studio.workspaces.access import public, signed_in

BACKEND = "django.contrib.auth.backends.ModelBackend"


def destination(request: HttpRequest) -> str:
    """Where to go after the sign-in: only ever a page of this studio."""
    wanted = request.POST.get("next") or request.GET.get("next") or "/"
    safe = url_has_allowed_host_and_scheme(wanted, {request.get_host()}, require_https=request.is_secure())
    return wanted if safe else "/"


@public
@never_cache
@sensitive_post_parameters("password")
@require_http_methods(["GET", "HEAD", "POST"])
def sign_in(request: HttpRequest) -> HttpResponse:
    if request.user.is_authenticated and request.method != "POST":
        return redirect(destination(request))
    form = SignInForm(request, request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid() and form.user is not None:
        login(request, form.user, backend=BACKEND)
        return redirect(destination(request))
    return render(request, "accounts/sign_in.html", {"form": form, "next": destination(request)})


@public
@never_cache
@require_safe
def open_link(request: HttpRequest, uid: str, token: str) -> HttpResponse:
    """Take the token out of the address, so that it is in no later request, referrer or log, and ask for one click."""
    if owner_of(uid, token) is None:
        return render(request, "accounts/link_void.html", status=410)
    request.session["sign_in_link"] = [uid, token]
    return redirect("accounts:use-link")


@public
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def use_link(request: HttpRequest) -> HttpResponse:
    """A page with one button: a program that only follows links does not spend the link."""
    user = owner_of(*request.session.get("sign_in_link", ["", ""]))
    if user is None or (request.method == "POST" and not spend(user)):
        request.session.pop("sign_in_link", None)
        return render(request, "accounts/link_void.html", status=410)
    if request.method != "POST":
        return render(request, "accounts/link.html", {"person": user})
    request.session.flush()
    login(request, user, backend=BACKEND)
    # Whoever came by a link may set a password without knowing the present one.
    request.session["came_by_link"] = True
    return redirect("/account?first=1" if not user.has_usable_password() else "/")


@signed_in
@require_POST
def sign_out(request: HttpRequest) -> HttpResponseBase:
    logout(request)
    return redirect("accounts:sign-in")


def _account(request: HttpRequest, user: User, profile: ProfileForm, secret: PasswordForm) -> HttpResponse:
    words = {
        "profile": profile,
        "secret": secret,
        "first": not user.has_usable_password(),
        "tokens": Token.objects.filter(user=user).count(),
    }
    status = 422 if profile.errors or secret.errors else 200
    return render(request, "accounts/account.html", words, status=status)


def _password_form(request: HttpRequest, user: User, data: object = None) -> PasswordForm:
    known = user.has_usable_password() and not request.session.get("came_by_link")
    return PasswordForm(user, data, known=known)


@signed_in
@require_http_methods(["GET", "HEAD", "POST"])
def account(request: HttpRequest) -> HttpResponseBase:
    user = request.user
    assert isinstance(user, User)
    profile = ProfileForm(request.POST if request.method == "POST" else None, instance=user)
    if request.method == "POST" and profile.is_valid():
        profile.save()
        messages.success(request, "Saved.")
        return redirect("accounts:account")
    return _account(request, user, profile, _password_form(request, user))


@signed_in
@sensitive_post_parameters("present", "new")
@require_POST
def password(request: HttpRequest) -> HttpResponseBase:
    """Set the password. All other sessions of the person end by it: Django ties a session to the password's hash."""
    user = request.user
    assert isinstance(user, User)
    form = _password_form(request, user, request.POST)
    if not form.is_valid():
        return _account(request, user, ProfileForm(instance=user), form)
    user.set_password(form.cleaned_data["new"])
    user.save(update_fields=["password"])
    if form.cleaned_data["revoke"]:
        Token.objects.filter(user=user).delete()
    request.session.pop("came_by_link", None)
    update_session_auth_hash(request, user)
    messages.success(request, "Password set. You are signed out everywhere else.")
    return redirect("accounts:account")
