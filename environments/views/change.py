"""Changing an attached target: its address, its sign-in, its slots; draining it, and attaching containers with one press."""

from typing import Any

from django.contrib import messages
from django.http import HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from environments import attaching
from environments.attaching import Refused
from environments.models import ComputeTarget
from environments.options import TITLES, kind_of
from environments.target_forms import AccessForm, AddressForm, SlotsForm, posted, typed_address
from environments.views.attach import about, about_access, keep
from environments.views.compute import targets_of, whole_page
from studio.workspaces.access import MemberRequest, fetch, member
from studio.workspaces.models import Role


def back(request: MemberRequest, target: ComputeTarget) -> HttpResponseBase:
    return redirect("environments:target", request.workspace.slug, target.name)


def page_of(target: ComputeTarget, **more: Any) -> dict[str, Any]:
    kind = kind_of(target.transport, target.launcher, target.options)
    return {
        "section": "compute", "target": target, "kind_title": TITLES[kind], "live": attaching.live_runs(target), **about(kind), **more,
    }  # fmt: skip


@require_http_methods(["GET", "HEAD", "POST"])
@member(Role.OWNER)
def edit(request: MemberRequest, name: str) -> HttpResponseBase:
    target = fetch(targets_of(request.workspace), name=name)
    before = target.name
    form: Any
    if request.method == "POST":
        form = posted(AddressForm, request.POST)
        options = form.options(kind_of(target.transport, target.launcher, target.options))
        options = {"packages": None, "cleaning": None, **options}
        if form.is_valid() and keep(form, target, request, name=form.cleaned_data["name"], options=options):
            messages.success(request, "Saved. Test the connection: what was found out before may not hold any more.")
            return back(request, target)
    else:
        form = AddressForm.of(typed_address(target))
    page = page_of(target, form=form, before=before)
    return render(request, "environments/target_edit.html", page, status=422 if form.errors else 200)


@require_http_methods(["GET", "HEAD", "POST"])
@member(Role.OWNER)
def access(request: MemberRequest, name: str) -> HttpResponseBase:
    """How the studio signs in. A new key of the studio's is used only after it has been let in once."""
    target = fetch(targets_of(request.workspace), name=name)
    if target.transport != "ssh":
        return back(request, target)
    form: Any
    if request.method == "POST":
        form = posted(AccessForm, request.POST)
        if form.is_valid() and changed(form, target, request):
            return back(request, target)
    else:
        form = AccessForm.of({"access": (target.options.get("ssh") or {}).get("access") or "studio"})
    line = attaching.next_key(target)
    used = (target.options.get("ssh") or {}).get("public_key", "")
    page = page_of(target, form=form, pending=line, key_in_use=used, **about_access(target, line or used))
    return render(request, "environments/target_access.html", page, status=422 if form.errors else 200)


def changed(form: AccessForm, target: ComputeTarget, request: MemberRequest) -> bool:
    access = form.cleaned_data["access"]
    if access == "studio":
        if not keep(form, target, request, credentials=form.credentials()):
            return False
        try:
            if attaching.next_key(target):
                attaching.use_new_key(target, request.user)
                messages.success(
                    request, "The new key works, and is used from now on. The old line may be removed there."
                )
            return True
        except Refused as error:
            form.take({"access": error.errors["key"]})
            return False
    form.missing(target)
    if not form.is_valid():
        return False
    changes = {"ssh": {"access": access, "public_key": None}}
    return keep(form, target, request, options=changes, credentials=form.credentials())


@require_POST
@member(Role.OWNER)
def rotate(request: MemberRequest, name: str) -> HttpResponseBase:
    """Have a new key made; the page that follows shows its line."""
    target = fetch(targets_of(request.workspace), name=name)
    if target.transport == "ssh":
        attaching.make_key(target, request.user)
    return redirect("environments:target-access", request.workspace.slug, target.name)


@require_POST
@member(Role.OWNER)
def drain(request: MemberRequest, name: str) -> HttpResponseBase:
    """Drain or resume: what runs goes on, and nothing new starts until it is resumed."""
    target = fetch(targets_of(request.workspace), name=name)
    attaching.set_enabled(target, request.user, "resume" in request.POST)
    return back(request, target)


@require_POST
@member(Role.OWNER)
def accept_root(request: MemberRequest, name: str) -> HttpResponseBase:
    target = fetch(targets_of(request.workspace), name=name)
    attaching.accept_new_root(target, request.user)
    messages.success(request, "The folder that is there now is used. What was launched in the old one is given up.")
    return back(request, target)


@require_POST
@member(Role.OWNER)
def slots(request: MemberRequest, name: str) -> HttpResponseBase:
    target = fetch(targets_of(request.workspace), name=name)
    form = posted(SlotsForm, request.POST)
    values = form.values()
    if form.is_valid() and keep(form, target, request, **values):
        return back(request, target)
    return render(request, "environments/compute.html", {**whole_page(request, name), "form": form}, status=422)


@require_POST
@member(Role.OWNER)
def containers(request: MemberRequest) -> HttpResponseBase:
    """Attach this machine's engine, with one press: what a shared workspace should use rather than processes."""
    try:
        target = attaching.attach_containers(request.workspace, request.user)
    except Refused as error:
        messages.error(request, " ".join(error.errors.values()))
        return redirect("environments:compute", request.workspace.slug)
    messages.success(
        request, f"{target.name} is attached. New runs here are put into containers, unless somebody chooses otherwise."
    )
    return back(request, target)
