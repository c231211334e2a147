"""Attaching a machine, in four steps that each are a page: kind, address, access, test. The draft is a row from the second on."""

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from environments import attaching, doctor
from environments.at_once import suggested_slots
from environments.attaching import Refused
from environments.models import ComputeTarget
from environments.options import DEFAULT_ROOT, KINDS, TITLES, kind_of
from environments.target_forms import AccessForm, AddressForm, SlotsForm, TypedForm, posted, typed_address
from environments.views.testing import answer_test
from studio.workspaces.access import MemberRequest, fetch, member
from studio.workspaces.models import Role, Workspace

STEPS = (("kind", "Kind"), ("address", "Address"), ("access", "Access"), ("test", "Test"))
CHOICES = (
    ("ssh", "server", "Remote machine", "Any Linux machine that you can reach by SSH: a workstation, a server, a rented VM. Only Python 3.6 is needed there"),
    ("docker", "box", "Docker, this machine", "Each run in a container of its own on this machine's engine, with memory and processors limited"),
    ("docker-ssh", "box", "Docker, remote", "The same on another machine's engine, reached by SSH"),
    ("spark", "star", "Spark cluster, from here", "spark-submit on this machine sends runs to the cluster's master"),
    ("spark-ssh", "star", "Spark cluster, by SSH", "spark-submit on an edge node or a master, reached by SSH"),
    ("here", "home", "This machine", "Processes of the studio's own user here, with slots and a folder of their own"),
)  # fmt: skip


def drafts_of(workspace: Workspace) -> "QuerySet[ComputeTarget]":
    return ComputeTarget.objects.filter(workspace=workspace, attached_at=None).select_related("workspace")


def page_of(request: MemberRequest, target: ComputeTarget | None, step: str, **more: Any) -> dict[str, Any]:
    kind = kind_of(target.transport, target.launcher, target.options) if target else ""
    names = [name for name, _ in STEPS]
    here = names.index(step)
    skipped = target is not None and target.transport != "ssh"  # nobody signs in to this machine
    shown = [(name, title) for name, title in STEPS if not (skipped and name == "access")]
    steps = [
        {"number": number, "title": title, "done": names.index(name) < here, "current": name == step}
        for number, (name, title) in enumerate(shown, 1)
    ]
    return {
        "section": "compute",
        "target": target,
        "kind": kind,
        "kind_title": TITLES.get(kind, ""),
        "steps": steps,
        "step": step,
        **more,
    }


@require_http_methods(["GET", "HEAD", "POST"])
@member(Role.OWNER)
def begin(request: MemberRequest) -> HttpResponseBase:
    """The first step, before there is a draft."""
    return choose_kind(request, None)


@require_http_methods(["GET", "HEAD", "POST"])
@member(Role.OWNER)
def kind(request: MemberRequest, draft: int) -> HttpResponseBase:
    return choose_kind(request, fetch(drafts_of(request.workspace), pk=draft))


def choose_kind(request: MemberRequest, target: ComputeTarget | None) -> HttpResponseBase:
    wanted = str(request.POST.get("kind", "") or request.GET.get("kind", ""))
    error, status = "", 200
    if request.method == "POST":
        if wanted in KINDS:
            target = target or attaching.begin(request.workspace, request.user)
            transport, launcher = KINDS[wanted]
            # What was typed for Spark waits in the draft; its section alone is what makes it that kind.
            spark = (target.options.get("spark") or {}) if wanted.startswith("spark") else None
            attaching.update(target, request.user, transport=transport, launcher=launcher, options={"spark": spark})
            return redirect("environments:attach-address", request.workspace.slug, target.pk)
        error, status = "Choose one of these kinds.", 422
    elif target is not None:
        wanted = kind_of(target.transport, target.launcher, target.options)
    page = page_of(request, target, "kind", choices=CHOICES, wanted=wanted or "ssh", error=error)
    return render(request, "environments/attach_kind.html", page, status=status)


@require_http_methods(["GET", "HEAD", "POST"])
@member(Role.OWNER)
def address(request: MemberRequest, draft: int) -> HttpResponseBase:
    target = fetch(drafts_of(request.workspace), pk=draft)
    kind = kind_of(target.transport, target.launcher, target.options)
    form: Any
    if request.method == "POST":
        form = posted(AddressForm, request.POST)
        attaching.remember(target, "address", form.typed())
        if "back" in request.POST:
            return redirect("environments:attach-kind", request.workspace.slug, target.pk)
        readable, name, options = form.is_valid(), form.cleaned_data["name"], form.options(kind)
        kept = readable and keep(form, target, request, name=name, options=options)
        if readable and not name:
            form.take(attaching.check_name(target, name))
        if kept and form.is_valid():
            if target.transport == "ssh":
                attaching.make_key(target, request.user)  # the next step shows its line
            step = "access" if target.transport == "ssh" else "test"
            return redirect(f"environments:attach-{step}", request.workspace.slug, target.pk)
    else:
        form = AddressForm.of((target.options.get("typed") or {}).get("address") or typed_address(target))
    page = page_of(request, target, "address", form=form, **about(kind))
    return render(request, "environments/attach_address.html", page, status=422 if form.errors else 200)


def about(kind: str) -> dict[str, Any]:
    return {
        "is_ssh": kind.endswith("ssh"), "is_docker": kind.startswith("docker"), "is_spark": kind.startswith("spark"),
        "local_root": str(settings.LOCAL_ROOT),
    }  # fmt: skip


def keep(form: TypedForm, target: ComputeTarget, request: MemberRequest, **changes: Any) -> bool:
    """Put what was typed into the row; False when that is refused, with the reasons in the form."""
    try:
        attaching.update(target, request.user, **changes)
    except Refused as error:
        form.take(error.errors)
        return False
    return True


@require_http_methods(["GET", "HEAD", "POST"])
@member(Role.OWNER)
def access(request: MemberRequest, draft: int) -> HttpResponseBase:
    target = fetch(drafts_of(request.workspace), pk=draft)
    if target.transport != "ssh":
        return redirect("environments:attach-test", request.workspace.slug, target.pk)
    line = attaching.next_key(target)
    form: Any
    if request.method == "POST":
        form = posted(AccessForm, request.POST)
        attaching.remember(target, "access", form.typed())
        going_back = "back" in request.POST
        if not going_back:
            form.missing(target)
        if form.is_valid() and save_access(form, target, request) and not going_back:
            return redirect("environments:attach-test", request.workspace.slug, target.pk)
        if going_back:
            return redirect("environments:attach-address", request.workspace.slug, target.pk)
    else:
        if not line:
            return redirect("environments:attach-address", request.workspace.slug, target.pk)  # which makes the key
        chosen = (target.options.get("ssh") or {}).get("access") or "studio"
        form = AccessForm.of((target.options.get("typed") or {}).get("access") or {"access": chosen})
    page = page_of(request, target, "access", form=form, **about_access(target, line))
    return render(request, "environments/attach_access.html", page, status=422 if form.errors else 200)


def about_access(target: ComputeTarget, line: str) -> dict[str, Any]:
    """What the fields show. Of what is stored only that it is, and only where the chosen way still uses it."""
    ssh = target.options.get("ssh") or {}
    used, stored = ssh.get("access", ""), target.get_credentials()
    needs = {"private_key": "key", "passphrase": "key", "password": "password"}
    return {
        "key_line": line,
        "key_command": key_command(line),
        "kept": {
            name: bool(value) and (name.startswith("jump_") or used == needs.get(name))
            for name, value in stored.items()
        },
        "ssh": ssh,
    }


def key_command(line: str) -> str:
    """What lets a key in, typed as the user who is to be signed in as."""
    return f"mkdir -p -m 700 ~/.ssh && echo '{line}' >> ~/.ssh/authorized_keys && chmod 600 ~/.ssh/authorized_keys"


def save_access(form: AccessForm, target: ComputeTarget, request: MemberRequest) -> bool:
    access = form.cleaned_data["access"] or "studio"
    if access == "studio":
        attaching.choose_studio_key(target, request.user)
        return keep(form, target, request, credentials=form.credentials())
    return keep(
        form, target, request, options={"ssh": {"access": access, "public_key": None}}, credentials=form.credentials()
    )


@require_GET
@member(Role.OWNER)
def test(request: MemberRequest, draft: int) -> HttpResponseBase:
    target = fetch(drafts_of(request.workspace), pk=draft)
    return render(request, "environments/attach_test.html", test_page(request, target))


def test_page(request: MemberRequest, target: ComputeTarget, form: SlotsForm | None = None) -> dict[str, Any]:
    form = form or SlotsForm(initial={"slots": suggested_slots(target.facts), "gpu_slots": ""})
    failed = next((step for step in target.steps if not step["ok"] and step.get("needed", True)), None)
    refused = failed is not None and failed["title"].startswith("Sign-in")
    studio_key = (target.options.get("ssh") or {}).get("access") == "studio"
    return page_of(
        request, target, "test", key_command=key_command(attaching.next_key(target)) if refused and studio_key else "",
        ssh=target.options.get("ssh") or {}, test_steps=target.steps, failed=failed, passed=bool(target.checked_at) and failed is None,
        form=form,
        local_root=DEFAULT_ROOT if target.transport == "ssh" else str(settings.LOCAL_ROOT),
    )  # fmt: skip


@require_POST
@member(Role.OWNER)
def check(request: MemberRequest, draft: int) -> HttpResponseBase:
    """The connection test of a draft; with ``confirm``, after pinning a host key that a person has compared."""
    target = fetch(drafts_of(request.workspace), pk=draft)
    if not pin(request, target):
        return redirect("environments:attach-test", request.workspace.slug, target.pk)
    return answer_test(
        request,
        doctor.examining(target),
        lambda: test_page(request, target),
        "environments/attach_test.html",
        "environments/_attach_tested.html",
    )


def pin(request: MemberRequest, target: ComputeTarget) -> bool:
    """Pin the key that was confirmed, if one was; False when it cannot be."""
    key = request.POST.get("confirm")
    if key:
        try:
            attaching.confirm_host_key(target, request.user, key, jump=request.POST.get("hop") == "jump")
        except Refused as error:
            messages.error(request, error.errors["host_key"])
            return False
    return True


@require_POST
@member(Role.OWNER)
def finish(request: MemberRequest, draft: int) -> HttpResponseBase:
    target = fetch(drafts_of(request.workspace), pk=draft)
    form: SlotsForm = posted(SlotsForm, request.POST)
    values = form.values()
    if form.is_valid() and keep(form, target, request, **values):
        try:
            attaching.finish(target, request.user, anyway="anyway" in request.POST)
        except Refused as error:
            form.take(error.errors)
        else:
            messages.success(request, f"{target.name} is attached. Runs may be sent there now.")
            return redirect("environments:target", request.workspace.slug, target.name)
    return render(request, "environments/attach_test.html", test_page(request, target, form), status=422)


@require_POST
@member(Role.OWNER)
def discard(request: MemberRequest, draft: int) -> HttpResponseBase:
    attaching.discard(fetch(drafts_of(request.workspace), pk=draft))
    messages.info(request, "The draft is thrown away, with what was typed into it.")
    return redirect("environments:compute", request.workspace.slug)
