"""How a compute target comes to be, is changed, and goes. The pages, the REST API and the admin panel all call this.

Everything here decides and writes rows; only ``use_new_key`` and ``attach_containers`` talk to a target. Whatever is refused raises Refused with a message
per field. Every change leaves a line in the audit and rings the target's bell: its attendant connects anew.
"""

import copy
import json
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone

from environments import options as rules
from environments.doctor import examine
from environments.models import BuildStatus, ComputeTarget, Pool
from environments.option_rules import check_host_key, shown, without_secrets
from environments.target import accept_new_root as take_new_root
from environments.transports import keys
from environments.transports.connection import fingerprint
from environments.transports.keys import KeyProblem
from studio import audit
from studio.accounts.models import User
from studio.database import storable
from studio.queues import ring
from studio.workspaces.models import Workspace, name_rule

RESERVED_NAMES = {"attach", "new", "rows", "drafts", "pools"}
CREDENTIALS = ("password", "private_key", "passphrase", "jump_password", "jump_private_key", "jump_passphrase")
DRAFTS_KEPT = 20
MAX_SLOTS, MAX_GPUS = 10_000, 1024


class Refused(Exception):
    """``errors``: field, with dots as in ``environments.options`` → what is wrong and what to do."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{field}: {message}" for field, message in errors.items()))
        self.errors = dict(errors)


def begin(workspace: Workspace, user: User) -> ComputeTarget:
    """A draft: a row that no run may be sent to until it is finished. Of one person's old drafts the newest are kept."""
    drafts = ComputeTarget.objects.filter(workspace=workspace, created_by=user, attached_at=None).order_by("-pk")
    for old in drafts[DRAFTS_KEPT - 1 :]:
        old.delete()
    return ComputeTarget.objects.create(
        workspace=workspace, name="", transport="ssh", launcher="process", created_by=user, attached_at=None
    )


def update(
    target: ComputeTarget,
    user: User,
    *,
    name: str | None = None,
    transport: str | None = None,
    launcher: str | None = None,
    options: Mapping[str, Any] | None = None,
    credentials: Mapping[str, str | None] | None = None,
    slots: int | None = None,
    gpu_slots: "int | str | None" = None,
) -> ComputeTarget:
    """Change a draft or an attached target; what is None stays.

    ``options`` are merged into those that are there, section by section; a value of None takes one away. Of a draft only what is
    given is checked; ``finish`` checks all. ``credentials``: an absent or empty one keeps what is stored, None takes it away.
    ``gpu_slots``: "" means as many as the last probe found. A target's transport and launcher stay once it is attached. A changed
    address asks for its host key again.

    Raises Refused; then nothing is changed.
    """
    errors: dict[str, str] = {}
    fresh = copy.copy(target)
    draft = target.attached_at is None
    if target.detached_at is not None:
        raise Refused({"name": f"{target.name} is detached. Attach the machine anew."})
    if name is not None and (name or not draft):
        errors |= check_name(target, name)
        fresh.name = name
    for field, value in (("transport", transport), ("launcher", launcher)):
        if value is not None and value != getattr(target, field):
            if not draft:
                errors[field] = (
                    f"A target keeps its {field}. Attach the machine once more as another target, then detach this one."
                )
            setattr(fresh, field, value)
    if options is not None:
        fresh.options = merged(target.options, options)
        forget_host_keys(target.options, fresh.options)
    if options is not None or transport is not None or launcher is not None:
        try:
            typed = fresh.options.pop("typed", None)
            given = {name: fresh.options.get(name) for name in options or {}} if draft else fresh.options
            chosen = rules.of_kind(fresh.transport, fresh.launcher, given) if draft else given
            clean = rules.validate(
                fresh.transport, fresh.launcher, chosen, data_dir=str(settings.DATA_DIR), partial=draft
            )
            fresh.options = {**fresh.options, **clean} if draft else clean
            if typed is not None:
                fresh.options["typed"] = typed
        except rules.OptionsError as error:
            errors |= error.errors
    if credentials:
        errors |= keep_credentials(fresh, credentials)
    errors |= set_slots(fresh, slots, gpu_slots)
    if errors:
        if draft and fresh.credentials != target.credentials:
            kept = {"credentials": fresh.credentials, "options": fresh.options}
            ComputeTarget.objects.filter(pk=target.pk, attached_at=None).update(**kept)
        raise Refused(errors)
    save(target, fresh, user)
    return target


def remember(target: ComputeTarget, step: str, typed: Mapping[str, str]) -> None:
    """Keep what was typed into a step of the wizard as it is, right or wrong, so that going back loses nothing.

    Never a secret; those go into the credentials.
    """
    kept = {**(target.options.get("typed") or {}), step: storable(dict(typed))}
    target.options = {**target.options, "typed": kept}
    ComputeTarget.objects.filter(pk=target.pk, attached_at=None).update(options=target.options)


def make_key(target: ComputeTarget, user: User) -> str:
    """Have the studio make a key for the target; return the line for ``~/.ssh/authorized_keys``.

    What the target signs in with stays until ``use_new_key``, or for a draft ``choose_studio_key``. Asked again, it is the same key.
    """
    stored = target.get_credentials()
    if stored.get("next_public_key"):
        return stored["next_public_key"]
    with transaction.atomic():
        # Locked: of two that ask at once the second gets the key of the first.
        by_now = ComputeTarget.objects.select_for_update().get(pk=target.pk).get_credentials()
        if by_now.get("next_public_key"):
            target.set_credentials(by_now)
            return by_now["next_public_key"]
        stored["next_private_key"], stored["next_public_key"] = keys.make_key()
        target.set_credentials(stored)
        target.save(update_fields=["credentials"])
        if target.attached_at is not None:
            line = stored["next_public_key"]
            audit.note(user, "target.make_key", workspace=target.workspace, subject=target.name, detail=line)
    return stored["next_public_key"]


def next_key(target: ComputeTarget) -> str:
    """The line of the key that the studio made and that is not in use yet; empty when there is none."""
    return target.get_credentials().get("next_public_key", "")


def choose_studio_key(target: ComputeTarget, user: User) -> None:
    """Have a draft sign in with the key that the studio made for it. Raises Refused."""
    line = make_key(target, user)
    fresh = copy.copy(target)
    stored = target.get_credentials()
    fresh.set_credentials(
        {
            **{name: value for name, value in stored.items() if name not in {"password", "passphrase"}},
            "private_key": stored["next_private_key"],
        }
    )
    fresh.options = merged(target.options, {"ssh": {"access": "studio", "public_key": line}})
    if target.options.get("ssh") != fresh.options["ssh"] or stored != fresh.get_credentials():
        save(target, fresh, user)


def use_new_key(target: ComputeTarget, user: User) -> None:
    """Sign in with the key that ``make_key`` made; if that works it replaces what was used before. Raises Refused."""
    stored = target.get_credentials()
    private, line = stored.pop("next_private_key", ""), stored.pop("next_public_key", "")
    if not private:
        raise Refused({"key": "No new key is waiting. Make one first."})
    trial = copy.copy(target)
    trial.set_credentials({**without_access(stored), "private_key": private})
    steps = examine(trial, keep=False)
    failed = next((step for step in steps if not step.ok and step.needed), None)
    if failed is not None:
        raise Refused({"key": f"{failed.title}: {failed.detail} {failed.fix} The old key stays in use."})
    fresh = copy.copy(target)
    fresh.options = merged(target.options, {"ssh": {"access": "studio", "public_key": line}})
    fresh.credentials = trial.credentials
    save(target, fresh, user, action="target.rotate_key", detail=line)


def confirm_host_key(target: ComputeTarget, user: User, key: str, *, jump: bool = False) -> None:
    """Pin a host key (``type base64``) that a person has compared with the machine's."""
    hop = target.options.get("ssh") or {}
    if jump:
        hop = hop.get("jump") or {}
    if not hop:
        raise Refused({"host_key": "This target has no such host."})
    try:
        key = check_host_key(key)
    except ValueError as error:
        raise Refused({"host_key": str(error)}) from error
    before = hop.get("host_key", "")
    change = {"jump": {"host_key": key}} if jump else {"host_key": key}
    fresh = copy.copy(target)
    fresh.options = merged(target.options, {"ssh": change})
    detail = f"{hop.get('host')}: {fingerprint(key)}" + (f", before {fingerprint(before)}" if before else "")
    save(target, fresh, user, action="target.host_key", detail=detail)


def finish(target: ComputeTarget, user: User, *, anyway: bool = False) -> ComputeTarget:
    """Attach a draft. The last connection test must have passed since the last change; ``anyway`` attaches without, and notes what
    failed. Raises Refused."""
    if target.attached_at is not None:
        raise Refused({"name": f"{target.name} is attached already."})
    errors = check_name(target, target.name)
    fresh = copy.copy(target)
    try:
        chosen = rules.of_kind(target.transport, target.launcher, target.options)
        fresh.options = rules.validate(target.transport, target.launcher, chosen, data_dir=str(settings.DATA_DIR))
    except rules.OptionsError as error:
        errors |= error.errors
    if target.transport == "ssh" and not {"password", "private_key"} & set(target.get_credentials()):
        errors["access"] = "Choose how to sign in: a key that the studio makes, your own key, or a password."
    failed = [step for step in target.steps if not step["ok"] and step.get("needed", True)]
    if not errors and not anyway:
        if not target.checked_at:
            errors["test"] = "The connection was not tested since the last change. Test it first."
        elif failed:
            errors["test"] = f"{failed[0]['title']} failed. Mend it and test again, or attach anyway."
    if errors:
        raise Refused(errors)
    stored = {name: value for name, value in target.get_credentials().items() if name in CREDENTIALS}
    fresh.set_credentials(stored if target.transport == "ssh" else {})
    fresh.attached_at = timezone.now()
    fresh.detached_at = None
    detail = f"{rules.TITLES[rules.kind_of(fresh.transport, fresh.launcher, fresh.options)]}{address(fresh)}"
    if failed:
        detail += f"; attached although {failed[0]['title']} failed: {failed[0]['detail']}"
    elif anyway and not target.checked_at:
        detail += "; attached untested"
    save(target, fresh, user, action="target.attach", detail=detail)
    return target


def attach_containers(workspace: Workspace, user: User) -> ComputeTarget:
    """This machine's engine as the target ``local-docker``, with the slots of the process target that it stands beside. Raises
    Refused when the engine does not answer as it should."""
    beside = ComputeTarget.objects.attached().filter(workspace=workspace, transport="local", launcher="process").first()
    target = begin(workspace, user)
    try:
        update(
            target, user, name="local-docker", transport="local", launcher="docker", options={"docker": {}},
            slots=beside.slots if beside else 1,
        )  # fmt: skip
        examine(target)
        return finish(target, user)
    except Refused:
        discard(target)
        raise


def discard(target: ComputeTarget) -> None:
    """Throw a draft away, with its credentials."""
    ComputeTarget.objects.filter(pk=target.pk, attached_at=None).delete()


def set_enabled(target: ComputeTarget, user: User, enabled: bool) -> None:
    """Drain or resume: what runs goes on, and nothing new starts until it is resumed. Resuming lifts a quarantine."""
    fields: dict[str, Any] = {"enabled": enabled}
    if enabled:
        fields |= {"quarantined_at": None, "quarantine_reason": "", "failures": []}
    with transaction.atomic():
        ComputeTarget.objects.filter(pk=target.pk).update(**fields)
        action = "target.resume" if enabled else "target.drain"
        detail = f"after the quarantine: {target.quarantine_reason}" if enabled and target.quarantined_at else ""
        audit.note(user, action, workspace=target.workspace, subject=target.name, detail=detail)
        ring(target.pk)
    for name, value in fields.items():
        setattr(target, name, value)


def accept_new_root(target: ComputeTarget, user: User) -> None:
    """Another folder is where the target's root was, and is meant: what was launched in the old one is given up."""
    with transaction.atomic():
        take_new_root(target)
        audit.note(user, "target.root", workspace=target.workspace, subject=target.name, detail=target.last_error)


def live_runs(target: ComputeTarget) -> int:
    """How many of its runs have not ended."""
    return int(target.runs.filter(ended_at__isnull=True).count())


def detach(target: ComputeTarget, user: User) -> None:
    """Take a target out of use for good: its credentials are wiped, its row, runs and their results stay. Nothing is changed on the
    machine itself. Raises Refused while runs live there; ``runs.detaching`` ends them first."""
    with transaction.atomic():
        row = ComputeTarget.objects.select_for_update().get(pk=target.pk)
        if row.attached_at is None or row.detached_at is not None:
            raise Refused({"target": f"{target.name} is not attached."})
        live = live_runs(row)
        if live:
            are = "1 run has" if live == 1 else f"{live} runs have"
            raise Refused({"runs": f"{are} not ended on {row.name}. Cancel them, or drain it and wait."})
        row.detached_at = timezone.now()
        row.enabled = False
        row.credentials = None
        row.save(update_fields=["detached_at", "enabled", "credentials"])
        unbuilt = row.builds.filter(status__in=[BuildStatus.WAITING, BuildStatus.BUILDING])
        unbuilt.update(status=BuildStatus.FAILED, ended_at=row.detached_at, error="Its target was detached.")
        audit.note(user, "target.detach", workspace=row.workspace, subject=row.name)
        ring(row.pk)
    target.detached_at, target.enabled, target.credentials = row.detached_at, False, None


# -- what these are made of


def check_name(target: ComputeTarget, name: str) -> dict[str, str]:
    """What is wrong with a target's name; empty when nothing is."""
    if not name:
        return {"name": "Name the target, for example gpu-box-3."}
    try:
        name_rule(name)
    except ValidationError as error:
        return {"name": error.messages[0]}
    if name.lower() in RESERVED_NAMES:
        return {"name": f"'{name}' is an address of the studio itself. Choose another name."}
    others = ComputeTarget.objects.attached().filter(workspace_id=target.workspace_id, name__iexact=name)
    if others.exclude(pk=target.pk).exists():
        return {"name": f"{name} is attached already. Choose another name."}
    if Pool.objects.there().filter(workspace_id=target.workspace_id, name__iexact=name).exists():
        return {"name": f"{name} is the name of a pool. Choose another name."}
    return {}


def hold_names(workspace_id: int) -> None:
    """Let nobody else give away a name of the workspace's targets and pools before this transaction has ended."""
    Workspace.objects.select_for_update(no_key=True).get(pk=workspace_id)


def merged(before: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """``change`` over ``before``: sections field by field, the maps and lists in them as a whole; None takes away."""
    found = copy.deepcopy(dict(before))
    for name, value in change.items():
        if value is None:
            found.pop(name, None)
        elif name in {"ssh", "jump", "docker", "spark", "packages", "cleaning"} and isinstance(value, Mapping):
            found[name] = merged(found.get(name) or {}, value)
        else:
            found[name] = copy.deepcopy(value)
    return found


def forget_host_keys(before: Mapping[str, Any], after: dict[str, Any]) -> None:
    """Another host has another key: a changed address asks for it again."""
    old, new = before.get("ssh") or {}, after.get("ssh") or {}
    if not isinstance(new, dict):  # what is no section is refused right after this
        return
    hops = [(old, new)]
    if isinstance(new.get("jump"), dict):
        hops.append((old.get("jump") or {}, new["jump"]))
    for was, now in hops:
        moved = any(was.get(part) != now.get(part) for part in ("host", "port"))
        if was.get("host_key") and moved and now.get("host_key") == was["host_key"]:
            now["host_key"] = ""


def keep_credentials(target: ComputeTarget, given: Mapping[str, str | None]) -> dict[str, str]:
    """Put credentials into the row's encrypted field; what is wrong with them, by field."""
    errors: dict[str, str] = {}
    stored = target.get_credentials()
    for name, value in given.items():
        if name not in CREDENTIALS:
            errors[name] = f"{shown(name)} is not a credential. Use: {', '.join(CREDENTIALS)}."
        elif value is None:
            stored.pop(name, None)
        elif value:
            stored[name] = value
    for key, phrase in (("private_key", "passphrase"), ("jump_private_key", "jump_passphrase")):
        if stored.get(key) and (given.get(key) or given.get(phrase)):
            try:
                keys.check_key(stored[key], stored.get(phrase, ""))
            except KeyProblem as error:
                errors[key if error.code == "key_unreadable" else phrase] = f"{error} {error.fix}"
    for name in ("password", "jump_password"):
        if any(c in stored.get(name, "") for c in "\0\r\n"):
            errors[name] = "A password is one line, without NUL. Type it anew."
    if not errors or (target.attached_at is None and set(errors) <= {"passphrase", "jump_passphrase"}):
        target.set_credentials(stored)  # a draft's key waits for its passphrase: nobody has to paste it twice
    return errors


def without_access(stored: Mapping[str, str]) -> dict[str, str]:
    """Credentials without those of the target itself; a jump host that used the same ones keeps them as its own."""
    kept = {name: value for name, value in stored.items() if name.startswith("jump_")}
    return kept or {f"jump_{name}": value for name, value in stored.items() if name in CREDENTIALS}


def set_slots(target: ComputeTarget, slots: int | None, gpu_slots: "int | str | None") -> dict[str, str]:
    errors = {}
    if slots is not None:
        if not 1 <= slots <= MAX_SLOTS:
            errors["slots"] = (
                f"{slots} is out of range. Use 1 to {MAX_SLOTS:,}; to start nothing new, drain the target."
            )
        target.slots = slots
    if gpu_slots is not None:
        if gpu_slots == "":
            target.gpu_slots = None
        elif not isinstance(gpu_slots, int) or not 0 <= gpu_slots <= MAX_GPUS:
            errors["gpu_slots"] = (
                f"{gpu_slots} is out of range. Use 0 to {MAX_GPUS:,}, or nothing: as many as are found."
            )
        else:
            target.gpu_slots = gpu_slots
    return errors


def save(
    target: ComputeTarget, fresh: ComputeTarget, user: User, action: str = "target.edit", detail: str = ""
) -> None:
    """Write ``fresh`` over ``target``, with its line in the audit. How it is reached has changed: the last test says nothing now."""
    ways = ("transport", "launcher", "options", "credentials")
    changed = [name for name in (*ways, "name", "slots", "gpu_slots") if getattr(fresh, name) != getattr(target, name)]
    reached = {name for name in changed if name in ways and ways_differ(target, fresh, name)}
    if reached and action not in {"target.attach"}:
        fresh.steps, fresh.checked_at = [], None
    fields = [*ways, "name", "slots", "gpu_slots", "steps", "checked_at", "attached_at", "detached_at"]
    try:
        with transaction.atomic():
            fresh.save(update_fields=fields)
            if {"name", "attached_at"} & {n for n in fields if getattr(fresh, n) != getattr(target, n)} and fresh.name:
                hold_names(fresh.workspace_id)
                if errors := check_name(fresh, fresh.name):
                    raise Refused(errors)
            if fresh.attached_at is not None and (changed or action != "target.edit"):
                words = detail or ", ".join(described(target, fresh, changed))
                audit.note(user, action, workspace=fresh.workspace, subject=fresh.name, detail=words)
                ring(fresh.pk)
    except IntegrityError:
        raise Refused({"name": f"{fresh.name} is attached already. Choose another name."}) from None
    for name in fields:
        setattr(target, name, getattr(fresh, name))


def ways_differ(target: ComputeTarget, fresh: ComputeTarget, name: str) -> bool:
    if name != "options":
        return True
    kept = [{key: value for key, value in row.options.items() if key != "typed"} for row in (target, fresh)]
    return kept[0] != kept[1]


def described(before: ComputeTarget, after: ComputeTarget, changed: list[str]) -> list[str]:
    """What an edit changed, in words; of credentials only that. Everybody in the workspace may read it."""
    found = []
    for name in changed:
        if name == "credentials":
            found.append("credentials changed")
        elif name == "options":
            old, new = flat(before.options), flat(after.options)
            told, tells = flat(without_secrets(before.options)), flat(without_secrets(after.options))
            found += [
                f"{field}: {told.get(field, '–')} → {tells.get(field, '–')}"
                for field in sorted(old.keys() | new.keys())
                if old.get(field) != new.get(field)
            ]
        else:
            found.append(f"{name}: {getattr(before, name)} → {getattr(after, name)}")
    return found


def flat(options: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in options.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        elif name != "typed":
            found[prefix + name] = value if isinstance(value, str) else json.dumps(value)
    return found


def address(target: ComputeTarget) -> str:
    ssh = target.options.get("ssh") if target.transport == "ssh" else None
    return f", {ssh['user']}@{ssh['host']}:{ssh['port']}" if ssh else ""
