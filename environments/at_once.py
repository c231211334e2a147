"""Attaching a machine in one call, as programs do it: the wizard's steps in a row, and the same answer when it is asked again.

Nothing stays behind after a refusal, with one exception: a key that the studio made waits in its draft, so that the next call can
sign in with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings

from environments import attaching
from environments import options as rules
from environments.attaching import Refused
from environments.doctor import Step, examine
from environments.models import ComputeTarget
from studio.accounts.models import User
from studio.workspaces.models import Workspace

MARK = "program"
"""Drafts of this module say so where the wizard keeps what was typed: the two never take over each other's."""
HOPS = 2


@dataclass(frozen=True)
class Wanted:
    """What is to be attached; the fields are those of ``attaching.update``."""

    name: str
    transport: str
    launcher: str
    options: Mapping[str, Any] = field(default_factory=dict)
    credentials: Mapping[str, str] = field(default_factory=dict)
    slots: int | None = None
    gpu_slots: int | None = None
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    """``host`` and ``jump``: the host keys' fingerprints, or the keys, as somebody has compared them."""

    @property
    def by_studio_key(self) -> bool:
        return self.transport == "ssh" and not {"password", "private_key"} & {
            k for k, v in self.credentials.items() if v
        }


class Unconfirmed(Exception):
    """A host showed a key that nobody has vouched for. ``hop``: host or jump; ``key``: type and base64; ``said``: what was expected."""

    def __init__(self, step: Step, said: str) -> None:
        self.hop, self.host = str(step.data["hop"]), str(step.data.get("host", ""))
        self.key, self.shown, self.said = str(step.data["key"]), str(step.data["shown"]), said
        super().__init__(f"{self.host} shows the host key {self.shown}.")


class NotPassed(Exception):
    """The connection test failed. ``public_key``: what has to be installed there first, where the studio made the key."""

    def __init__(self, steps: list[Step], public_key: str) -> None:
        self.steps, self.public_key = steps, public_key
        self.failed = steps[-1]
        super().__init__(f"{self.failed.title}: {self.failed.detail} {self.failed.fix}".strip())


def attach(workspace: Workspace, user: User, wanted: Wanted, *, anyway: bool = False) -> tuple[ComputeTarget, bool]:
    """Attach a machine after the connection test; the target, and whether this call attached it.

    A call that is repeated finds the target of the first. ``anyway``: attach also when a step after the host keys fails. Raises
    Refused, Unconfirmed, NotPassed.
    """
    if (existing := there(workspace, wanted)) is not None:
        return existing, False
    draft = attaching.begin(workspace, user)
    kept = False
    try:
        fill(draft, user, wanted)
        line = attaching.next_key(draft) if wanted.by_studio_key else ""
        kept = bool(line)
        steps = confirmed(draft, user, wanted.fingerprints)
        if any(step.needed and not step.ok for step in steps) and not anyway:
            raise NotPassed(steps, line)
        if wanted.slots is None:
            attaching.update(draft, user, slots=suggested_slots(draft.facts))
        attaching.finish(draft, user, anyway=anyway)
        kept = True
    except Refused:
        # The same call came twice at once, and the other one was first.
        if (existing := there(workspace, wanted)) is not None:
            return existing, False
        raise
    finally:
        if not kept:
            attaching.discard(draft)
    return draft, True


def there(workspace: Workspace, wanted: Wanted) -> ComputeTarget | None:
    """The target of this name, which is what is wanted; None when there is none. Raises Refused when it has other settings."""
    existing = ComputeTarget.objects.attached().filter(workspace=workspace, name=wanted.name).first()
    if existing is not None and not is_the_same(existing, wanted):
        rule = f"{wanted.name} is attached already, with other settings. Change it, or choose another name."
        raise Refused({"name": rule})
    return existing


def fill(draft: ComputeTarget, user: User, wanted: Wanted) -> None:
    """Put what is wanted into the draft. Raises Refused."""
    attaching.update(draft, user, transport=wanted.transport, launcher=wanted.launcher)
    attaching.update(
        draft, user, name=wanted.name, options=dict(wanted.options), credentials=dict(wanted.credentials), slots=wanted.slots,
        gpu_slots=wanted.gpu_slots,
    )  # fmt: skip
    rest = attaching.check_name(draft, wanted.name)
    try:  # all of it now: a person is to hear of a missing field before anybody connects
        rules.validate(wanted.transport, wanted.launcher, wanted.options, data_dir=str(settings.DATA_DIR))
    except rules.OptionsError as error:
        rest |= error.errors
    if rest:
        raise Refused(rest)
    attaching.remember(draft, MARK, {})
    if wanted.by_studio_key:
        take_over_key(draft)
        attaching.choose_studio_key(draft, user)
    elif wanted.transport == "ssh":
        access = "key" if wanted.credentials.get("private_key") else "password"
        attaching.update(draft, user, options={"ssh": {"access": access}})


def take_over_key(draft: ComputeTarget) -> None:
    """The key that the studio made when the same person asked for the same name before: its line may be installed by now."""
    drafts = ComputeTarget.objects.filter(workspace=draft.workspace, created_by=draft.created_by, attached_at=None)
    for old in drafts.filter(name=draft.name).exclude(pk=draft.pk).order_by("pk"):
        if MARK not in (old.options.get("typed") or {}):
            continue
        stored = old.get_credentials()
        key = {name: value for name, value in stored.items() if name.startswith("next_")}
        draft.set_credentials({**draft.get_credentials(), **key})
        draft.save(update_fields=["credentials"])
        attaching.discard(old)


def confirmed(target: ComputeTarget, user: User, fingerprints: Mapping[str, str]) -> list[Step]:
    """The connection test; on its way the host keys that somebody has vouched for are pinned. Raises Unconfirmed."""
    for _ in range(HOPS + 1):
        steps = examine(target)
        last = steps[-1]
        if last.ok or "key" not in last.data:
            break
        said = fingerprints.get(last.data["hop"], "").strip()
        if not vouched(said, last):
            raise Unconfirmed(last, said)
        attaching.confirm_host_key(target, user, last.data["key"], jump=last.data["hop"] == "jump")
    return steps


def vouched(said: str, step: Step) -> bool:
    """Whether ``said`` means the key that was shown: its fingerprint, with or without the type, or the key itself."""
    if not said:
        return False
    words, key = said.split(), str(step.data["key"]).split()
    shown = str(step.data["shown"]).split(":")[-1]
    return words[:2] == key[:2] or words[-1].removeprefix("SHA256:") == shown


def is_the_same(target: ComputeTarget, wanted: Wanted) -> bool:
    """Whether a target that is there is what is wanted; what only the test found out does not count."""
    try:
        options = rules.validate(wanted.transport, wanted.launcher, wanted.options, data_dir=str(settings.DATA_DIR))
    except rules.OptionsError as error:
        raise Refused(error.errors) from error
    stored = target.get_credentials()
    return (
        (target.transport, target.launcher) == (wanted.transport, wanted.launcher)
        and without_keys(target.options) == without_keys(options)
        and all(stored.get(name, "") == value for name, value in wanted.credentials.items() if value)
        and wanted.slots in (None, target.slots)
        and wanted.gpu_slots in (None, target.gpu_slots)
    )


def without_keys(options: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: value for name, value in options.items() if name != "typed"}
    if ssh := found.get("ssh"):
        found["ssh"] = {name: value for name, value in ssh.items() if name not in {"host_key", "access", "public_key"}}
        if jump := ssh.get("jump"):
            found["ssh"]["jump"] = {name: value for name, value in jump.items() if name != "host_key"}
    return found


def suggested_slots(facts: Mapping[str, Any]) -> int:
    """A run for each GPU; without any, for every second processor."""
    gpus = len(facts.get("gpus") or [])
    return max(1, gpus or int(facts.get("cpus") or 2) // 2)
